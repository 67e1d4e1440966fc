// An answer as it is made, whole even when the connection breaks in the middle.

import type { Message, SentMessage } from "./types.js";
import { BadAnswer, NoAnswer, errorOf } from "./errors.js";
import { Attempts, type Call, type Http, Patience, parsed, pause, requestId } from "./http.js";

export type Part = { type: "piece"; text: string } | { type: "message"; message: Message };
export type Opener = (open: () => Promise<Response>) => Promise<Response>;

/** `for await`: pieces, then the message. `sent` is the stored message of the user. */
export class Stream implements AsyncIterable<Part> {
  sent: SentMessage | null = null;
  answer: Message | null = null;
  private said = "";

  constructor(
    private readonly http: Http,
    private readonly call: () => Call,
    private readonly whileItLives: Opener,
  ) {}

  async *[Symbol.asyncIterator](): AsyncGenerator<Part, void, undefined> {
    const attempts = new Attempts(this.http);
    while (this.answer === null) {
      const call = this.call();
      const patience = new Patience(this.http.patienceMs(call), call.signal);
      let pauseMs: number;
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
  async *text(): AsyncGenerator<string, void, undefined> {
    for await (const part of this) if (part.type === "piece") yield part.text;
  }

  /** The whole answer, when it is there. */
  async message(): Promise<Message> {
    for await (const _ of this);
    if (this.answer === null) throw new BadAnswer("The agent did not answer: its kind is one that never does");
    return this.answer;
  }

  /** What one connection brings of what is not known yet. A second one leaves its pieces to the message. */
  private async *connection(call: Call, patience: Patience): AsyncGenerator<Part, void, undefined> {
    const open = (): Promise<Response> => this.http.open(this.call(), patience);
    const isAgain = this.sent !== null;
    const response = await (isAgain ? open() : this.whileItLives(open));
    for await (const { event, data } of serverSent(response, call, patience)) {
      const body = parsed(data) as never;
      if (event === "error") throw errorOf(body, 0, requestId(response));
      if (event === "userMessage") this.sent = body;
      if (event === "chunk" && !isAgain) yield this.say((body as { text: string }).text);
      if (event === "agentResponse") return yield* this.end(body);
    }
    if (this.sent === null || this.said !== "") throw new NoAnswer("The stream ended in the middle of an answer");
  }

  private *end(message: Message): Generator<Part, void, undefined> {
    if (message.content !== this.said && message.content.startsWith(this.said)) {
      yield this.say(message.content.slice(this.said.length));
    }
    this.answer = message;
    yield { type: "message", message };
  }

  private say(text: string): Part {
    this.said += text;
    return { type: "piece", text };
  }
}

async function* serverSent(
  response: Response,
  call: Call,
  patience: Patience,
): AsyncGenerator<{ event: string; data: string }, void, undefined> {
  const reader = (response.body as ReadableStream<Uint8Array>).getReader();
  const decoder = new TextDecoder();
  let rest = "";
  let event = "";
  let data: string[] = [];
  try {
    for (;;) {
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
    await reader.cancel().catch(() => undefined); // whoever stops early hangs up
  }
}
