// Sends calls and tries again what is worth it. Knows no operation of the API.

import { ApiError, BadAnswer, NoAnswer, VigilError, errorOf } from "./errors.js";

export const BASE = "/api/messaging/sessions";
const FIRST_PAUSE_MS = 100;
const LONGEST_PAUSE_MS = 5000;
const PASSING = new Set(["RATE_LIMITED", "OVERLOADED", "STORE_UNAVAILABLE", "IDEMPOTENCY_CONFLICT"]);
const PASSING_OF_PROXIES = new Set(["HTTP_502", "HTTP_503", "HTTP_504"]);

export interface Options {
  /** For everything but sessions that are opened by their own tokens. */
  apiKey?: string;
  /** Further tries of a call that had no answer, or a refusal that will pass; 0 turns them off. */
  retries?: number;
  /** All pauses of one call together. */
  maxWaitMs?: number;
  /** How long a quick answer may take. */
  timeoutMs?: number;
  /** How long an agent may be silent. */
  answerTimeoutMs?: number;
  fetch?: typeof fetch;
  /** Node has one of its own from version 22 on, and version 20 with --experimental-websocket. */
  WebSocket?: typeof WebSocket;
}

export interface Call {
  method: string;
  path: string;
  token?: string | undefined;
  query?: Record<string, string | number | undefined> | undefined;
  body?: unknown;
  headers?: Record<string, string>;
  waitsForAgent?: boolean;
  goodStatus?: number;
  signal?: AbortSignal | undefined;
}

export class Http {
  /** How fast the server's time runs, as its last answer told. */
  timeScale = 1;
  readonly retries: number;
  readonly maxWaitMs: number;
  private readonly timeoutMs: number;
  private readonly answerTimeoutMs: number;
  private readonly send: typeof fetch;

  constructor(
    readonly url: string,
    readonly options: Options,
  ) {
    this.retries = options.retries ?? 3;
    this.maxWaitMs = options.maxWaitMs ?? 30_000;
    this.timeoutMs = options.timeoutMs ?? 30_000;
    this.answerTimeoutMs = options.answerTimeoutMs ?? 300_000;
    this.send = options.fetch ?? ((input, init) => globalThis.fetch(input, init));
  }

  /** The answer's JSON. Throws the last try's error when there is none to be had. */
  async ask<T>(call: Call): Promise<T> {
    const attempts = new Attempts(this);
    for (;;) {
      try {
        return await this.askOnce<T>(call);
      } catch (error) {
        await pause(attempts.pauseAfter(error), call.signal);
      }
    }
  }

  private async askOnce<T>(call: Call): Promise<T> {
    const patience = new Patience(this.patienceMs(call), call.signal);
    try {
      const response = await this.open(call, patience);
      return (await json(response, call, patience)) as T;
    } finally {
      patience.end();
    }
  }

  /** A good answer that is still to be read, tried once. */
  async open(call: Call, patience: Patience): Promise<Response> {
    const credentials = call.token ?? this.options.apiKey;
    const headers: Record<string, string> = { ...call.headers };
    if (credentials !== undefined) headers["Authorization"] = `Bearer ${credentials}`;
    if (call.body !== undefined) headers["Content-Type"] = "application/json";
    const body = call.body === undefined ? null : JSON.stringify(call.body);
    const init = { method: call.method, headers, body, signal: patience.signal };
    const response = await patience.during(this.send(this.address(call), init), call);
    this.timeScale = Number(response.headers.get("Vigil-Time-Scale")) || 1;
    if (response.ok || response.status === call.goodStatus) return response;
    throw await this.refusal(response, call, patience);
  }

  patienceMs(call: Call): number {
    return call.waitsForAgent ? this.answerTimeoutMs : this.timeoutMs;
  }

  private address(call: Call): string {
    const query = new URLSearchParams();
    for (const [name, value] of Object.entries(call.query ?? {})) {
      if (value !== undefined) query.set(name, String(value));
    }
    return this.url + call.path + (query.size ? `?${query}` : "");
  }

  private async refusal(response: Response, call: Call, patience: Patience): Promise<ApiError> {
    const text = await patience.during(response.text(), call);
    const retryAfter = response.headers.get("Retry-After");
    const seconds = retryAfter === null ? Number.NaN : Number(retryAfter);
    const retryAfterMs = Number.isFinite(seconds) ? (seconds * 1000) / this.timeScale : null;
    return errorOf(parsed(text), response.status, requestId(response), retryAfterMs);
  }
}

/** Ends a request when the caller wants that, or when it has been silent for too long. */
export class Patience {
  private readonly controller = new AbortController();
  private timer: ReturnType<typeof setTimeout> | undefined;
  private readonly abort = (): void => this.controller.abort(this.caller?.reason);

  constructor(
    private readonly silenceMs: number,
    private readonly caller?: AbortSignal,
  ) {
    caller?.throwIfAborted();
    caller?.addEventListener("abort", this.abort);
    this.renew();
  }

  get signal(): AbortSignal {
    return this.controller.signal;
  }

  renew(): void {
    clearTimeout(this.timer);
    const late = new NoAnswer(`The server did not answer within ${this.silenceMs} ms`, "TIMED_OUT");
    this.timer = setTimeout(() => this.controller.abort(late), this.silenceMs);
  }

  end(): void {
    clearTimeout(this.timer);
    this.caller?.removeEventListener("abort", this.abort);
  }

  /** What the network says, as this client's errors. An abort of the caller stays what it is. */
  async during<T>(promise: Promise<T>, call: Call): Promise<T> {
    try {
      return await promise;
    } catch (error) {
      if (this.signal.aborted) throw this.signal.reason;
      throw new NoAnswer(`${call.method} ${call.path}: ${(error as Error).message}`);
    }
  }
}

/** The tries of one call. */
export class Attempts {
  private failed = 0;
  private waitedMs = 0;
  private unanswered = false;

  constructor(private readonly limits: { retries: number; maxWaitMs: number }) {}

  /** How long to wait before the next try. Throws the error itself when there is to be none. */
  pauseAfter(error: unknown): number {
    if (!(error instanceof VigilError)) throw error;
    error.isRepeat = this.unanswered;
    this.unanswered ||= error instanceof NoAnswer;
    const pauseMs = askedFor(error) ?? backoffMs(this.failed);
    this.failed += 1;
    this.waitedMs += pauseMs;
    const isSpent = this.failed > this.limits.retries || this.waitedMs > this.limits.maxWaitMs;
    if (isSpent || !isPassing(error)) throw error;
    return pauseMs;
  }
}

export function isPassing(error: VigilError): boolean {
  return error instanceof NoAnswer || PASSING.has(error.code) || PASSING_OF_PROXIES.has(error.code);
}

export function backoffMs(failed: number): number {
  return Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** failed) * (0.5 + Math.random() / 2);
}

export function pause(ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    signal?.throwIfAborted();
    const stop = (): void => {
      clearTimeout(timer);
      reject(signal?.reason);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", stop);
      resolve();
    }, ms);
    signal?.addEventListener("abort", stop, { once: true });
  });
}

export function requestId(response: Response): string | null {
  return response.headers.get("X-Request-Id");
}

export function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

async function json(response: Response, call: Call, patience: Patience): Promise<unknown> {
  const body = parsed(await patience.during(response.text(), call));
  if (body !== undefined) return body;
  throw new BadAnswer(`${call.path} answered what is no JSON: is this a Vigil server?`, requestId(response));
}

function askedFor(error: VigilError): number | null {
  return error instanceof ApiError ? error.retryAfterMs : null;
}
