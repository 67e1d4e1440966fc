// The API's bodies and events, as its OpenAPI document has them (`api.ts` is made from it).

import type { components } from "./api.js";

type Schemas = components["schemas"];

export type Session = Schemas["Session"];
export type CreatedSession = Schemas["CreatedSession"];
export type ListedSession = Schemas["ListedSession"];
export type SessionList = Schemas["SessionList"];
export type Message = Schemas["Message"];
export type SentMessage = Schemas["SentMessage"];
export type History = Schemas["History"];
export type Health = Schemas["Health"];
export type Attachment = Schemas["Attachment"];
export type SessionEvent = Schemas["Event"];
export type TimeoutFields = Partial<Schemas["TimeoutConfig"]>;
export type Metadata = Record<string, unknown>;
export type ListStatus = "active" | "expired" | "all";
export type WhenBusy = "enqueue" | "reject" | "interrupt";

/** What became of a turn: `none` if no turn was wanted. */
export interface Cancelled {
  messageId: string;
  status: "cancelled" | "answered" | "failed" | "none";
}

/** What moved the session's deadline and why it ended, oldest first. */
export interface Ledger {
  sessionId: string;
  status: string;
  entries: { at: string; kind: string; by: string; details: Record<string, unknown> }[];
  renewedByActivity: unknown;
}
