// A session's events, one after another, whatever happens to the connection.

import type { SessionEvent } from "./types.js";
import { NoAnswer, SessionGone, VigilError } from "./errors.js";
import { type Http, backoffMs, isPassing, pause } from "./http.js";

const OVER = 1000;
const BROKEN = 1006;
const BEYOND_ALL_IDS = Number.MAX_SAFE_INTEGER; // answered with a resync, which names the newest id
const ENDS: readonly string[] = ["sessionExpired", "sessionEnded"];

export interface Listening {
  /** Go on after this event; 0 is from the beginning. Left out: from now on. */
  lastEventId?: number;
  /** How long to try without a connection. */
  patienceMs?: number;
  signal?: AbortSignal;
}

/** Open; `closed` resolves to its close code. */
interface Connection {
  closed: Promise<number>;
}

/** `for await`. It listens from `await events.opened` on, and until the session ends or the loop is left. */
export class Events implements AsyncIterableIterator<SessionEvent> {
  lastEventId: number | undefined;
  /** Resolves when it listens; rejects when that cannot be. */
  readonly opened: Promise<void>;
  private readonly came: SessionEvent[] = [];
  private wake: () => void = () => undefined;
  private socket: WebSocket | undefined;
  private isOver = false;
  private error: unknown;
  private readonly abort = (): void => this.fail(this.listening.signal?.reason);

  constructor(
    private readonly http: Http,
    private readonly path: string,
    private readonly token: string | undefined,
    private readonly look: () => Promise<unknown>,
    private readonly listening: Listening,
  ) {
    this.lastEventId = listening.lastEventId;
    listening.signal?.addEventListener("abort", this.abort);
    if (listening.signal?.aborted) this.abort();
    this.opened = this.begin();
    this.opened.catch(() => undefined); // the loop says it, too
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  async next(): Promise<IteratorResult<SessionEvent, undefined>> {
    for (;;) {
      const event = this.came.shift();
      if (event) return { done: false, value: event };
      if (this.error !== undefined) {
        const error = this.error;
        this.error = undefined;
        throw error;
      }
      if (this.isOver) return { done: true, value: undefined };
      await new Promise<void>((resolve) => (this.wake = resolve));
    }
  }

  async return(): Promise<IteratorResult<SessionEvent, undefined>> {
    this.came.length = 0;
    this.finish();
    return { done: true, value: undefined };
  }

  private async begin(): Promise<void> {
    try {
      const connection = await this.connect();
      void this.goOn(connection);
    } catch (error) {
      this.fail(error);
      throw error;
    }
  }

  /** Connection after connection, until it is over. */
  private async goOn(first: Connection): Promise<void> {
    try {
      let code = await first.closed;
      for (let losses = 0; !this.isOver && code !== OVER; losses += 1) {
        await pause(backoffMs(losses), this.listening.signal);
        code = await (await this.connect()).closed;
      }
      this.finish();
    } catch (error) {
      if (error instanceof SessionGone) this.end(error);
      else this.fail(error);
    }
  }

  /** A connection, tried for as long as the patience lasts. */
  private async connect(): Promise<Connection> {
    const until = Date.now() + (this.listening.patienceMs ?? 300_000);
    for (let failed = 0; ; failed += 1) {
      if (this.isOver) return { closed: Promise.resolve(OVER) };
      const opening = this.open();
      try {
        await opening.opened;
        return { closed: opening.closed };
      } catch (error) {
        await this.giveUpIfItMust(error);
        const pauseMs = backoffMs(failed);
        if (Date.now() + pauseMs > until) throw error;
        await pause(pauseMs, this.listening.signal);
      }
    }
  }

  /** A browser does not say why a WebSocket was refused: asking for the session does. */
  private async giveUpIfItMust(error: unknown): Promise<void> {
    if (!(error instanceof NoAnswer)) throw error;
    try {
      await this.look();
    } catch (refusal) {
      if (!(refusal instanceof VigilError && isPassing(refusal))) throw refusal;
    }
  }

  private open(): { opened: Promise<void>; closed: Promise<number> } {
    const Socket = this.http.options.WebSocket ?? globalThis.WebSocket;
    if (!Socket) throw new Error("There is no WebSocket here: use Node 22, or give one as the option WebSocket");
    const socket = new Socket(this.address(), this.subprotocols());
    this.socket = socket;
    let isPlaced = this.lastEventId !== undefined;
    let closedWith: (code: number) => void = () => undefined;
    const closed = new Promise<number>((resolve) => (closedWith = resolve));
    const opened = new Promise<void>((resolve, reject) => {
      socket.onopen = () => isPlaced && resolve();
      socket.onmessage = ({ data }) => {
        const event = JSON.parse(String(data)) as SessionEvent;
        if (isPlaced) return this.take(event);
        isPlaced = true;
        this.lastEventId = "id" in event ? event.id : 0;
        resolve();
      };
      const end = (code: number): void => {
        reject(new NoAnswer(`The events were closed with ${code}`));
        closedWith(code);
      };
      socket.onerror = () => end(BROKEN); // Node 20 lets no close follow
      socket.onclose = ({ code }) => end(code);
    });
    return { opened, closed };
  }

  private take(event: SessionEvent): void {
    if (this.isOver) return;
    if ("id" in event) {
      if (event.id <= (this.lastEventId ?? 0) && event.type !== "resync") return;
      this.lastEventId = event.id;
    }
    this.came.push(event);
    if (ENDS.includes(event.type)) this.finish();
    else this.wake();
  }

  /** It ended while there was no connection: the refusal tells what is known of it. */
  private end(gone: SessionGone): void {
    const sessionId = String(gone.details["sessionId"] ?? "");
    const at = String(gone.details["expiresAt"] ?? new Date().toISOString());
    const reason = gone.details["reason"];
    const expired = { type: "sessionExpired", data: { expiredAt: at, reason } };
    const ended = { type: "sessionEnded", data: { endedAt: at } };
    const what = gone.code === "SESSION_EXPIRED" ? expired : ended;
    this.came.push({ sessionId, at, ...what } as SessionEvent);
    this.finish();
  }

  private fail(error: unknown): void {
    if (!this.isOver) this.error = error;
    this.finish();
  }

  private finish(): void {
    this.isOver = true;
    this.listening.signal?.removeEventListener("abort", this.abort);
    this.socket?.close();
    this.wake();
  }

  private address(): string {
    const lastEventId = this.lastEventId ?? BEYOND_ALL_IDS;
    return `${this.http.url.replace(/^http/, "ws")}${this.path}?lastEventId=${lastEventId}`;
  }

  /** Browsers cannot set headers on a WebSocket. */
  private subprotocols(): string[] {
    const credentials = this.token ?? this.http.options.apiKey;
    return credentials === undefined ? ["vigil.v1"] : ["vigil.v1", `bearer.${credentials}`];
  }
}
