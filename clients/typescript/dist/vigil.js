// src/errors.ts
var VigilError = class extends Error {
  constructor(message, code, details = {}, requestId2 = null) {
    super(message);
    this.code = code;
    this.details = details;
    this.requestId = requestId2;
    this.name = new.target.name;
  }
  code;
  details;
  requestId;
  /** Whether an earlier try of the same call went without an answer. */
  isRepeat = false;
};
var NoAnswer = class extends VigilError {
  constructor(message, code = "NO_ANSWER") {
    super(message, code);
  }
};
var BadAnswer = class extends VigilError {
  constructor(message, requestId2 = null) {
    super(message, "BAD_ANSWER", {}, requestId2);
  }
};
var ApiError = class extends VigilError {
  constructor(message, code, status, details = {}, requestId2 = null, retryAfterMs = null) {
    super(message, code, details, requestId2);
    this.status = status;
    this.retryAfterMs = retryAfterMs;
  }
  status;
  retryAfterMs;
};
var SessionGone = class extends ApiError {
};
function errorOf(body, status, requestId2 = null, retryAfterMs = null) {
  const told = body ?? {};
  if (typeof told.code !== "string") {
    const message2 = `Something between here and the server answered ${status}`;
    return new ApiError(message2, `HTTP_${status}`, status, {}, requestId2, retryAfterMs);
  }
  const isGone = told.code === "SESSION_NOT_FOUND" || told.code === "SESSION_EXPIRED";
  const details = told.details ?? {};
  const message = String(told.message ?? "");
  return new (isGone ? SessionGone : ApiError)(message, told.code, status, details, requestId2, retryAfterMs);
}

// src/http.ts
var BASE = "/api/messaging/sessions";
var FIRST_PAUSE_MS = 100;
var LONGEST_PAUSE_MS = 5e3;
var PASSING = /* @__PURE__ */ new Set(["RATE_LIMITED", "OVERLOADED", "STORE_UNAVAILABLE", "IDEMPOTENCY_CONFLICT"]);
var PASSING_OF_PROXIES = /* @__PURE__ */ new Set(["HTTP_502", "HTTP_503", "HTTP_504"]);
var Http = class {
  constructor(url, options) {
    this.url = url;
    this.options = options;
    this.retries = options.retries ?? 3;
    this.maxWaitMs = options.maxWaitMs ?? 3e4;
    this.timeoutMs = options.timeoutMs ?? 3e4;
    this.answerTimeoutMs = options.answerTimeoutMs ?? 3e5;
    this.send = options.fetch ?? ((input, init) => globalThis.fetch(input, init));
  }
  url;
  options;
  /** How fast the server's time runs, as its last answer told. */
  timeScale = 1;
  retries;
  maxWaitMs;
  timeoutMs;
  answerTimeoutMs;
  send;
  /** The answer's JSON. Throws the last try's error when there is none to be had. */
  async ask(call) {
    const attempts = new Attempts(this);
    for (; ; ) {
      try {
        return await this.askOnce(call);
      } catch (error) {
        await pause(attempts.pauseAfter(error), call.signal);
      }
    }
  }
  async askOnce(call) {
    const patience = new Patience(this.patienceMs(call), call.signal);
    try {
      const response = await this.open(call, patience);
      return await json(response, call, patience);
    } finally {
      patience.end();
    }
  }
  /** A good answer that is still to be read, tried once. */
  async open(call, patience) {
    const credentials = call.token ?? this.options.apiKey;
    const headers = { ...call.headers };
    if (credentials !== void 0) headers["Authorization"] = `Bearer ${credentials}`;
    if (call.body !== void 0) headers["Content-Type"] = "application/json";
    const body = call.body === void 0 ? null : JSON.stringify(call.body);
    const init = { method: call.method, headers, body, signal: patience.signal };
    const response = await patience.during(this.send(this.address(call), init), call);
    this.timeScale = Number(response.headers.get("Vigil-Time-Scale")) || 1;
    if (response.ok || response.status === call.goodStatus) return response;
    throw await this.refusal(response, call, patience);
  }
  patienceMs(call) {
    return call.waitsForAgent ? this.answerTimeoutMs : this.timeoutMs;
  }
  address(call) {
    const query = new URLSearchParams();
    for (const [name, value] of Object.entries(call.query ?? {})) {
      if (value !== void 0) query.set(name, String(value));
    }
    return this.url + call.path + (query.size ? `?${query}` : "");
  }
  async refusal(response, call, patience) {
    const text = await patience.during(response.text(), call);
    const retryAfter = response.headers.get("Retry-After");
    const seconds = retryAfter === null ? Number.NaN : Number(retryAfter);
    const retryAfterMs = Number.isFinite(seconds) ? seconds * 1e3 / this.timeScale : null;
    return errorOf(parsed(text), response.status, requestId(response), retryAfterMs);
  }
};
var Patience = class {
  constructor(silenceMs, caller) {
    this.silenceMs = silenceMs;
    this.caller = caller;
    caller?.throwIfAborted();
    caller?.addEventListener("abort", this.abort);
    this.renew();
  }
  silenceMs;
  caller;
  controller = new AbortController();
  timer;
  abort = () => this.controller.abort(this.caller?.reason);
  get signal() {
    return this.controller.signal;
  }
  renew() {
    clearTimeout(this.timer);
    const late = new NoAnswer(`The server did not answer within ${this.silenceMs} ms`, "TIMED_OUT");
    this.timer = setTimeout(() => this.controller.abort(late), this.silenceMs);
  }
  end() {
    clearTimeout(this.timer);
    this.caller?.removeEventListener("abort", this.abort);
  }
  /** What the network says, as this client's errors. An abort of the caller stays what it is. */
  async during(promise, call) {
    try {
      return await promise;
    } catch (error) {
      if (this.signal.aborted) throw this.signal.reason;
      throw new NoAnswer(`${call.method} ${call.path}: ${error.message}`);
    }
  }
};
var Attempts = class {
  constructor(limits) {
    this.limits = limits;
  }
  limits;
  failed = 0;
  waitedMs = 0;
  unanswered = false;
  /** How long to wait before the next try. Throws the error itself when there is to be none. */
  pauseAfter(error) {
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
};
function isPassing(error) {
  return error instanceof NoAnswer || PASSING.has(error.code) || PASSING_OF_PROXIES.has(error.code);
}
function backoffMs(failed) {
  return Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** failed) * (0.5 + Math.random() / 2);
}
function pause(ms, signal) {
  return new Promise((resolve, reject) => {
    signal?.throwIfAborted();
    const stop = () => {
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
function requestId(response) {
  return response.headers.get("X-Request-Id");
}
function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return void 0;
  }
}
async function json(response, call, patience) {
  const body = parsed(await patience.during(response.text(), call));
  if (body !== void 0) return body;
  throw new BadAnswer(`${call.path} answered what is no JSON: is this a Vigil server?`, requestId(response));
}
function askedFor(error) {
  return error instanceof ApiError ? error.retryAfterMs : null;
}

// src/events.ts
var OVER = 1e3;
var BROKEN = 1006;
var BEYOND_ALL_IDS = Number.MAX_SAFE_INTEGER;
var ENDS = ["sessionExpired", "sessionEnded"];
var Events = class {
  constructor(http, path, token, look, listening) {
    this.http = http;
    this.path = path;
    this.token = token;
    this.look = look;
    this.listening = listening;
    this.lastEventId = listening.lastEventId;
    listening.signal?.addEventListener("abort", this.abort);
    if (listening.signal?.aborted) this.abort();
    this.opened = this.begin();
    this.opened.catch(() => void 0);
  }
  http;
  path;
  token;
  look;
  listening;
  lastEventId;
  /** Resolves when it listens; rejects when that cannot be. */
  opened;
  came = [];
  wake = () => void 0;
  socket;
  isOver = false;
  error;
  abort = () => this.fail(this.listening.signal?.reason);
  [Symbol.asyncIterator]() {
    return this;
  }
  async next() {
    for (; ; ) {
      const event = this.came.shift();
      if (event) return { done: false, value: event };
      if (this.error !== void 0) {
        const error = this.error;
        this.error = void 0;
        throw error;
      }
      if (this.isOver) return { done: true, value: void 0 };
      await new Promise((resolve) => this.wake = resolve);
    }
  }
  async return() {
    this.came.length = 0;
    this.finish();
    return { done: true, value: void 0 };
  }
  async begin() {
    try {
      const connection = await this.connect();
      void this.goOn(connection);
    } catch (error) {
      this.fail(error);
      throw error;
    }
  }
  /** Connection after connection, until it is over. */
  async goOn(first) {
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
  async connect() {
    const until = Date.now() + (this.listening.patienceMs ?? 3e5);
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
  async giveUpIfItMust(error) {
    if (!(error instanceof NoAnswer)) throw error;
    try {
      await this.look();
    } catch (refusal) {
      if (!(refusal instanceof VigilError && isPassing(refusal))) throw refusal;
    }
  }
  open() {
    const Socket = this.http.options.WebSocket ?? globalThis.WebSocket;
    if (!Socket) throw new Error("There is no WebSocket here: use Node 22, or give one as the option WebSocket");
    const socket = new Socket(this.address(), this.subprotocols());
    this.socket = socket;
    let isPlaced = this.lastEventId !== void 0;
    let closedWith = () => void 0;
    const closed = new Promise((resolve) => closedWith = resolve);
    const opened = new Promise((resolve, reject) => {
      socket.onopen = () => isPlaced && resolve();
      socket.onmessage = ({ data }) => {
        const event = JSON.parse(String(data));
        if (isPlaced) return this.take(event);
        isPlaced = true;
        this.lastEventId = "id" in event ? event.id : 0;
        resolve();
      };
      const end = (code) => {
        reject(new NoAnswer(`The events were closed with ${code}`));
        closedWith(code);
      };
      socket.onerror = () => end(BROKEN);
      socket.onclose = ({ code }) => end(code);
    });
    return { opened, closed };
  }
  take(event) {
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
  end(gone) {
    const sessionId = String(gone.details["sessionId"] ?? "");
    const at = String(gone.details["expiresAt"] ?? (/* @__PURE__ */ new Date()).toISOString());
    const reason = gone.details["reason"];
    const expired = { type: "sessionExpired", data: { expiredAt: at, reason } };
    const ended = { type: "sessionEnded", data: { endedAt: at } };
    const what = gone.code === "SESSION_EXPIRED" ? expired : ended;
    this.came.push({ sessionId, at, ...what });
    this.finish();
  }
  fail(error) {
    if (!this.isOver) this.error = error;
    this.finish();
  }
  finish() {
    this.isOver = true;
    this.listening.signal?.removeEventListener("abort", this.abort);
    this.socket?.close();
    this.wake();
  }
  address() {
    const lastEventId = this.lastEventId ?? BEYOND_ALL_IDS;
    return `${this.http.url.replace(/^http/, "ws")}${this.path}?lastEventId=${lastEventId}`;
  }
  /** Browsers cannot set headers on a WebSocket. */
  subprotocols() {
    const credentials = this.token ?? this.http.options.apiKey;
    return credentials === void 0 ? ["vigil.v1"] : ["vigil.v1", `bearer.${credentials}`];
  }
};

// src/keep-alive.ts
var MINUTE_MS = 6e4;
var LONGEST_INTERVAL_MS = 5 * MINUTE_MS;
var SOON_MS = 5e3;
var LOST = /* @__PURE__ */ new Set([401, 403, 404, 410]);
var KeepAlive = class {
  constructor(heartbeat, timeScale, keeping) {
    this.heartbeat = heartbeat;
    this.timeScale = timeScale;
    this.keeping = keeping;
    this.timer = setTimeout(() => void this.beat(), 0);
  }
  heartbeat;
  timeScale;
  keeping;
  /** What the last heartbeat answered. */
  session = null;
  hasWarned = false;
  isStopped = false;
  timer;
  stop() {
    this.isStopped = true;
    clearTimeout(this.timer);
  }
  async beat() {
    let nextMs;
    try {
      this.session = await this.heartbeat();
      nextMs = this.intervalMs(this.session);
      if (!this.isStopped) this.warn(this.session);
    } catch (error) {
      if (error instanceof ApiError && LOST.has(error.status)) return this.lose(error);
      nextMs = Math.min(SOON_MS, this.keeping.everyMs ?? SOON_MS);
    }
    if (!this.isStopped) this.timer = setTimeout(() => void this.beat(), nextMs);
  }
  warn(session) {
    if (session.isNearExpiration && !this.hasWarned) this.keeping.onWarning?.(session);
    this.hasWarned = session.isNearExpiration;
  }
  lose(error) {
    if (this.isStopped) return;
    this.stop();
    this.keeping.onLost?.(error);
  }
  intervalMs(session) {
    const quarterMs = session.timeoutConfig.timeoutMinutes * MINUTE_MS / 4;
    return this.keeping.everyMs ?? Math.min(LONGEST_INTERVAL_MS, quarterMs) / this.timeScale();
  }
};

// src/stream.ts
var Stream = class {
  constructor(http, call, whileItLives) {
    this.http = http;
    this.call = call;
    this.whileItLives = whileItLives;
  }
  http;
  call;
  whileItLives;
  sent = null;
  answer = null;
  said = "";
  async *[Symbol.asyncIterator]() {
    const attempts = new Attempts(this.http);
    while (this.answer === null) {
      const call = this.call();
      const patience = new Patience(this.http.patienceMs(call), call.signal);
      let pauseMs;
      try {
        yield* this.connection(call, patience);
        return;
      } catch (error) {
        pauseMs = attempts.pauseAfter(error);
      } finally {
        patience.end();
      }
      await pause(pauseMs, call.signal);
    }
  }
  /** The text alone, in pieces. */
  async *text() {
    for await (const part of this) if (part.type === "piece") yield part.text;
  }
  /** The whole answer, when it is there. */
  async message() {
    for await (const _ of this) ;
    if (this.answer === null) throw new BadAnswer("The agent did not answer: its kind is one that never does");
    return this.answer;
  }
  /** What one connection brings of what is not known yet. A second one leaves its pieces to the message. */
  async *connection(call, patience) {
    const open = () => this.http.open(this.call(), patience);
    const isAgain = this.sent !== null;
    const response = await (isAgain ? open() : this.whileItLives(open));
    for await (const { event, data } of serverSent(response, call, patience)) {
      const body = parsed(data);
      if (event === "error") throw errorOf(body, 0, requestId(response));
      if (event === "userMessage") this.sent = body;
      if (event === "chunk" && !isAgain) yield this.say(body.text);
      if (event === "agentResponse") return yield* this.end(body);
    }
    if (this.sent === null || this.said !== "") throw new NoAnswer("The stream ended in the middle of an answer");
  }
  *end(message) {
    if (message.content !== this.said && message.content.startsWith(this.said)) {
      yield this.say(message.content.slice(this.said.length));
    }
    this.answer = message;
    yield { type: "message", message };
  }
  say(text) {
    this.said += text;
    return { type: "piece", text };
  }
};
async function* serverSent(response, call, patience) {
  const reader = response.body.getReader();
  const decoder = new TextDecoder();
  let rest = "";
  let event = "";
  let data = [];
  try {
    for (; ; ) {
      const { done, value } = await patience.during(reader.read(), call);
      if (done) return;
      patience.renew();
      const lines = (rest + decoder.decode(value, { stream: true })).split("\n");
      rest = lines.pop() ?? "";
      for (const line of lines) {
        const text = line.replace(/\r$/, "");
        if (text.startsWith("event:")) event = text.slice(6).trimStart();
        else if (text.startsWith("data:")) data.push(text.slice(5).replace(/^ /, ""));
        else if (text === "" && data.length > 0) {
          yield { event, data: data.join("\n") };
          event = "";
          data = [];
        }
      }
    }
  } finally {
    await reader.cancel().catch(() => void 0);
  }
}

// src/session.ts
var LONGEST_PAGE = 100;
var SessionHandle = class {
  constructor(http, id, token) {
    this.http = http;
    this.id = id;
    this.token = token;
  }
  http;
  id;
  token;
  /** What create answered, if this client began it. */
  created = null;
  /** Begins another one like it. */
  beginAnother = null;
  beginning = null;
  /** The session as it stands. Looking at it keeps nobody alive. */
  get(options = {}) {
    return this.http.ask(this.call("GET", "", options));
  }
  /** Store a message: it is on disk when this resolves. With `wait`, `agentResponse` is the agent's answer. */
  send(content, options = {}) {
    const transport = options.wait ? "http" : void 0;
    const call = this.sending(content, transport, options);
    return this.whileItLives(() => this.http.ask(call()));
  }
  /** Send a message, and `for await` its answer: pieces as they are made, then the whole message. */
  stream(content, options = {}) {
    return new Stream(this.http, this.sending(content, "sse", options), (open) => this.whileItLives(open));
  }
  /** One page, newest first. `messages` goes through all of them. */
  history(options = {}) {
    const { signal, ...query } = options;
    return this.http.ask({ ...this.call("GET", "/messages", { signal }), query });
  }
  /** Every message once, page by page. */
  async *messages(options = {}) {
    const { oldestFirst = false, ...rest } = options;
    let from = oldestFirst ? { after: 0 } : {};
    for (; ; ) {
      const page = await this.history({ limit: LONGEST_PAGE, ...from, ...rest });
      yield* oldestFirst ? [...page.messages].reverse() : page.messages;
      if (!page.hasMore) return;
      from = oldestFirst ? { after: page.cursors.after } : { before: page.cursors.before };
    }
  }
  renew(options = {}) {
    return this.http.ask(this.call("POST", "/renew", options));
  }
  /** Change how long it lives; what is left out stays as it is. */
  retime(config, options = {}) {
    return this.http.ask({ ...this.call("PATCH", "/timeout", options), body: config });
  }
  /** Say that the user is still there. */
  heartbeat(options = {}) {
    return this.whileItLives(() => this.http.ask(this.call("POST", "/heartbeat", options)));
  }
  /** End it; its messages are gone with it. */
  async end(options = {}) {
    try {
      await this.http.ask(this.call("DELETE", "", options));
    } catch (error) {
      const isDone = error instanceof VigilError && error.isRepeat && error.code === "SESSION_NOT_FOUND";
      if (!isDone) throw error;
    }
  }
  /** Stop the agent's turn on a message. What it has said so far is kept. */
  cancel(messageId, options = {}) {
    return this.http.ask(this.call("POST", `/messages/${encodeURIComponent(messageId)}/cancel`, options));
  }
  /** What moved its deadline and why it ended. */
  ledger(options = {}) {
    return this.http.ask(this.call("GET", "/ledger", options));
  }
  /** `for await` what happens, until the session ends. A connection that breaks is made again where it was. */
  events(options = {}) {
    return new Events(this.http, this.path("/events"), this.token, () => this.get(), options);
  }
  /** Send heartbeats until `stop()` is called on it, or the session is lost. */
  keepAlive(options = {}) {
    return new KeepAlive(() => this.heartbeat(), () => this.http.timeScale, options);
  }
  sending(content, transport, options) {
    const { signal, idempotencyKey = crypto.randomUUID(), ...rest } = options;
    const { attachments, metadata, whenBusy } = rest;
    const body = { content, transport, attachments, metadata, whenBusy };
    const headers = { "Idempotency-Key": idempotencyKey };
    const waitsForAgent = transport !== void 0;
    return () => ({ ...this.call("POST", "/messages", { signal }), body, headers, waitsForAgent });
  }
  /** Do it; with `recreate`, when the session turns out to be gone, do it in another one. */
  async whileItLives(act) {
    const atFirst = this.id;
    try {
      return await act();
    } catch (error) {
      if (!(error instanceof SessionGone) || this.beginAnother === null) throw error;
    }
    if (this.id === atFirst) await (this.beginning ??= this.move().finally(() => this.beginning = null));
    return act();
  }
  async move() {
    if (this.beginAnother === null) return;
    this.created = await this.beginAnother();
    this.id = this.created.sessionId;
    this.token = this.created.sessionToken;
  }
  call(method, path, options) {
    return { method, path: this.path(path), token: this.token, signal: options.signal };
  }
  path(rest) {
    return `${BASE}/${encodeURIComponent(this.id)}${rest}`;
  }
};

// src/index.ts
var LONGEST_PAGE2 = 1e3;
var LAST_OFFSET = 1e4;
var Vigil = class {
  http;
  constructor(url, options = {}) {
    if (!/^https?:\/\//.test(url)) throw new TypeError(`${url} is no address of a server: it begins with http://`);
    this.http = new Http(url.replace(/\/+$/, ""), options);
  }
  /** Begin a session. What is left out of its timeouts is as the agent's config says. */
  async create(options) {
    const { idempotencyKey, recreate = false, signal, ...body } = options;
    const begin = (key = crypto.randomUUID()) => this.http.ask({ method: "POST", path: BASE, body, headers: { "Idempotency-Key": key }, signal });
    const created = await begin(idempotencyKey);
    const session = this.session(created.sessionId, created.sessionToken);
    session.created = created;
    if (recreate) session.beginAnother = () => begin();
    return session;
  }
  /** A session that exists. With its own token no API key is needed. Nothing is sent yet. */
  session(id, token) {
    return new SessionHandle(this.http, id, token);
  }
  /** One page, newest first. `sessions` goes through all of them. */
  list(options = {}) {
    const { signal, ...query } = options;
    return this.http.ask({ method: "GET", path: BASE, query, signal });
  }
  /** Every session once, newest first, page by page. The server lists the newest 11 000; filter for the rest. */
  async *sessions(options = {}) {
    const seen = /* @__PURE__ */ new Set();
    for (let offset = 0; offset <= LAST_OFFSET; offset += LONGEST_PAGE2) {
      const page = await this.list({ ...options, limit: LONGEST_PAGE2, offset });
      for (const session of page.sessions) {
        if (!seen.has(session.sessionId)) yield session;
        seen.add(session.sessionId);
      }
      if (offset + LONGEST_PAGE2 >= page.total) return;
    }
  }
  /** How the service is. An unhealthy one is an answer, not an error. */
  health(options = {}) {
    return this.http.ask({ method: "GET", path: `${BASE}/health`, goodStatus: 503, signal: options.signal });
  }
};
export {
  ApiError,
  BadAnswer,
  Events,
  KeepAlive,
  NoAnswer,
  SessionGone,
  SessionHandle,
  Stream,
  Vigil,
  VigilError,
  errorOf
};
