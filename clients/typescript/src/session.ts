// One session and what it can do.

import type {
  Attachment, Cancelled, CreatedSession, History, Ledger, Message, Metadata, SentMessage, Session, TimeoutFields,
  WhenBusy,
} from "./types.js";
import { SessionGone, VigilError } from "./errors.js";
import { Events, type Listening } from "./events.js";
import { BASE, type Call, type Http } from "./http.js";
import { KeepAlive, type Keeping } from "./keep-alive.js";
import { Stream } from "./stream.js";

const LONGEST_PAGE = 100;

export interface Cancelling {
  signal?: AbortSignal;
}

export interface Sending extends Cancelling {
  attachments?: Attachment[];
  metadata?: Metadata;
  /** While an earlier turn waits or runs: enqueue this one (the default), reject it, or interrupt what runs. */
  whenBusy?: WhenBusy;
  idempotencyKey?: string;
}

/** A session by its id. Made by `create` and `session` of the client. */
export class SessionHandle {
  /** What create answered, if this client began it. */
  created: CreatedSession | null = null;
  /** Begins another one like it. */
  beginAnother: (() => Promise<CreatedSession>) | null = null;
  private beginning: Promise<void> | null = null;

  constructor(
    private readonly http: Http,
    public id: string,
    public token: string | undefined,
  ) {}

  /** The session as it stands. Looking at it keeps nobody alive. */
  get(options: Cancelling = {}): Promise<Session> {
    return this.http.ask(this.call("GET", "", options));
  }

  /** Store a message: it is on disk when this resolves. With `wait`, `agentResponse` is the agent's answer. */
  send(content: string, options: Sending & { wait?: boolean } = {}): Promise<SentMessage> {
    const transport = options.wait ? "http" : undefined;
    const call = this.sending(content, transport, options);
    return this.whileItLives(() => this.http.ask(call()));
  }

  /** Send a message, and `for await` its answer: pieces as they are made, then the whole message. */
  stream(content: string, options: Sending = {}): Stream {
    return new Stream(this.http, this.sending(content, "sse", options), (open) => this.whileItLives(open));
  }

  /** One page, newest first. `messages` goes through all of them. */
  history(options: { limit?: number; before?: number; after?: number } & Cancelling = {}): Promise<History> {
    const { signal, ...query } = options;
    return this.http.ask({ ...this.call("GET", "/messages", { signal }), query });
  }

  /** Every message once, page by page. */
  async *messages(options: { oldestFirst?: boolean } & Cancelling = {}): AsyncGenerator<Message, void, undefined> {
    const { oldestFirst = false, ...rest } = options;
    let from: { before?: number; after?: number } = oldestFirst ? { after: 0 } : {};
    for (;;) {
      const page = await this.history({ limit: LONGEST_PAGE, ...from, ...rest });
      yield* oldestFirst ? [...page.messages].reverse() : page.messages;
      if (!page.hasMore) return;
      from = oldestFirst ? { after: page.cursors.after } : { before: page.cursors.before };
    }
  }

  renew(options: Cancelling = {}): Promise<Session> {
    return this.http.ask(this.call("POST", "/renew", options));
  }

  /** Change how long it lives; what is left out stays as it is. */
  retime(config: TimeoutFields, options: Cancelling = {}): Promise<Session> {
    return this.http.ask({ ...this.call("PATCH", "/timeout", options), body: config });
  }

  /** Say that the user is still there. */
  heartbeat(options: Cancelling = {}): Promise<Session> {
    return this.whileItLives(() => this.http.ask(this.call("POST", "/heartbeat", options)));
  }

  /** End it; its messages are gone with it. */
  async end(options: Cancelling = {}): Promise<void> {
    try {
      await this.http.ask(this.call("DELETE", "", options));
    } catch (error) {
      const isDone = error instanceof VigilError && error.isRepeat && error.code === "SESSION_NOT_FOUND";
      if (!isDone) throw error; // else an earlier try has ended it, and its answer was lost
    }
  }

  /** Stop the agent's turn on a message. What it has said so far is kept. */
  cancel(messageId: string, options: Cancelling = {}): Promise<Cancelled> {
    return this.http.ask(this.call("POST", `/messages/${encodeURIComponent(messageId)}/cancel`, options));
  }

  /** What moved its deadline and why it ended. */
  ledger(options: Cancelling = {}): Promise<Ledger> {
    return this.http.ask(this.call("GET", "/ledger", options));
  }

  /** `for await` what happens, until the session ends. A connection that breaks is made again where it was. */
  events(options: Listening = {}): Events {
    return new Events(this.http, this.path("/events"), this.token, () => this.get(), options);
  }

  /** Send heartbeats until `stop()` is called on it, or the session is lost. */
  keepAlive(options: Keeping = {}): KeepAlive {
    return new KeepAlive(() => this.heartbeat(), () => this.http.timeScale, options);
  }

  private sending(content: string, transport: string | undefined, options: Sending): () => Call {
    const { signal, idempotencyKey = crypto.randomUUID(), ...rest } = options;
    const { attachments, metadata, whenBusy } = rest;
    const body = { content, transport, attachments, metadata, whenBusy };
    const headers = { "Idempotency-Key": idempotencyKey };
    const waitsForAgent = transport !== undefined;
    return () => ({ ...this.call("POST", "/messages", { signal }), body, headers, waitsForAgent });
  }

  /** Do it; with `recreate`, when the session turns out to be gone, do it in another one. */
  private async whileItLives<T>(act: () => Promise<T>): Promise<T> {
    const atFirst = this.id;
    try {
      return await act();
    } catch (error) {
      if (!(error instanceof SessionGone) || this.beginAnother === null) throw error;
    }
    if (this.id === atFirst) await (this.beginning ??= this.move().finally(() => (this.beginning = null)));
    return act();
  }

  private async move(): Promise<void> {
    if (this.beginAnother === null) return;
    this.created = await this.beginAnother();
    this.id = this.created.sessionId;
    this.token = this.created.sessionToken;
  }

  private call(method: string, path: string, options: { signal?: AbortSignal | undefined }): Call {
    return { method, path: this.path(path), token: this.token, signal: options.signal };
  }

  private path(rest: string): string {
    return `${BASE}/${encodeURIComponent(this.id)}${rest}`;
  }
}
