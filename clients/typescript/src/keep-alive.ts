// Heartbeats: warns once, and again only after the session was renewed; stops when it is lost.

import type { Session } from "./types.js";
import { ApiError } from "./errors.js";

const MINUTE_MS = 60_000;
const LONGEST_INTERVAL_MS = 5 * MINUTE_MS;
const SOON_MS = 5000;
const LOST = new Set([401, 403, 404, 410]);

export interface Keeping {
  /** By default a quarter of the session's timeout, at most 5 minutes. */
  everyMs?: number;
  onWarning?: (session: Session) => void;
  onLost?: (error: unknown) => void;
}

export class KeepAlive {
  /** What the last heartbeat answered. */
  session: Session | null = null;
  private hasWarned = false;
  private isStopped = false;
  private timer: ReturnType<typeof setTimeout> | undefined;

  constructor(
    private readonly heartbeat: () => Promise<Session>,
    private readonly timeScale: () => number,
    private readonly keeping: Keeping,
  ) {
    this.timer = setTimeout(() => void this.beat(), 0);
  }

  stop(): void {
    this.isStopped = true;
    clearTimeout(this.timer);
  }

  private async beat(): Promise<void> {
    let nextMs: number;
    try {
      this.session = await this.heartbeat();
      nextMs = this.intervalMs(this.session);
      if (!this.isStopped) this.warn(this.session);
    } catch (error) {
      if (error instanceof ApiError && LOST.has(error.status)) return this.lose(error);
      nextMs = Math.min(SOON_MS, this.keeping.everyMs ?? SOON_MS); // what failed is made up for
    }
    if (!this.isStopped) this.timer = setTimeout(() => void this.beat(), nextMs);
  }

  private warn(session: Session): void {
    if (session.isNearExpiration && !this.hasWarned) this.keeping.onWarning?.(session);
    this.hasWarned = session.isNearExpiration;
  }

  private lose(error: unknown): void {
    if (this.isStopped) return;
    this.stop();
    this.keeping.onLost?.(error);
  }

  private intervalMs(session: Session): number {
    const quarterMs = (session.timeoutConfig.timeoutMinutes * MINUTE_MS) / 4;
    return this.keeping.everyMs ?? Math.min(LONGEST_INTERVAL_MS, quarterMs) / this.timeScale();
  }
}
