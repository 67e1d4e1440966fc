// The client of Vigil, a Sessions API server, for browsers and Node 20 or newer. Without dependencies.

import type { CreatedSession, Health, ListStatus, ListedSession, Metadata, SessionList, TimeoutFields } from "./types.js";
import { BASE, Http, type Options } from "./http.js";
import { type Cancelling, SessionHandle } from "./session.js";

export * from "./errors.js";
export * from "./types.js";
export { Events, type Listening } from "./events.js";
export type { Options } from "./http.js";
export { KeepAlive, type Keeping } from "./keep-alive.js";
export { type Cancelling, type Sending, SessionHandle } from "./session.js";
export { type Part, Stream } from "./stream.js";

const LONGEST_PAGE = 1000;
const LAST_OFFSET = 10_000;

export interface Creating extends Cancelling {
  agentId: string;
  userId: string;
  metadata?: Metadata;
  timeoutConfig?: TimeoutFields;
  idempotencyKey?: string;
  /** A message, stream or heartbeat that finds the session gone (404, 410) begins another one and goes there. */
  recreate?: boolean;
}

export interface Filter extends Cancelling {
  agentId?: string;
  userId?: string;
  status?: ListStatus;
}

/** A Vigil server at a URL. Every create and send has an idempotency key, so a second try does nothing twice. */
export class Vigil {
  private readonly http: Http;

  constructor(url: string, options: Options = {}) {
    if (!/^https?:\/\//.test(url)) throw new TypeError(`${url} is no address of a server: it begins with http://`);
    this.http = new Http(url.replace(/\/+$/, ""), options);
  }

  /** Begin a session. What is left out of its timeouts is as the agent's config says. */
  async create(options: Creating): Promise<SessionHandle> {
    const { idempotencyKey, recreate = false, signal, ...body } = options;
    const begin = (key: string = crypto.randomUUID()): Promise<CreatedSession> =>
      this.http.ask({ method: "POST", path: BASE, body, headers: { "Idempotency-Key": key }, signal });
    const created = await begin(idempotencyKey);
    const session = this.session(created.sessionId, created.sessionToken);
    session.created = created;
    if (recreate) session.beginAnother = () => begin();
    return session;
  }

  /** A session that exists. With its own token no API key is needed. Nothing is sent yet. */
  session(id: string, token?: string): SessionHandle {
    return new SessionHandle(this.http, id, token);
  }

  /** One page, newest first. `sessions` goes through all of them. */
  list(options: Filter & { limit?: number; offset?: number } = {}): Promise<SessionList> {
    const { signal, ...query } = options;
    return this.http.ask({ method: "GET", path: BASE, query, signal });
  }

  /** Every session once, newest first, page by page. The server lists the newest 11 000; filter for the rest. */
  async *sessions(options: Filter = {}): AsyncGenerator<ListedSession, void, undefined> {
    const seen = new Set<string>();
    for (let offset = 0; offset <= LAST_OFFSET; offset += LONGEST_PAGE) {
      const page = await this.list({ ...options, limit: LONGEST_PAGE, offset });
      for (const session of page.sessions) {
        if (!seen.has(session.sessionId)) yield session;
        seen.add(session.sessionId);
      }
      if (offset + LONGEST_PAGE >= page.total) return;
    }
  }

  /** How the service is. An unhealthy one is an answer, not an error. */
  health(options: Cancelling = {}): Promise<Health> {
    return this.http.ask({ method: "GET", path: `${BASE}/health`, goodStatus: 503, signal: options.signal });
  }
}
