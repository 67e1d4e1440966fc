// Everything that can go wrong, as one tree. Each has `code`, `message`, `details` and `requestId`.
//
//   VigilError
//     NoAnswer        nothing came back: whether the server did it is not known
//     BadAnswer       something came back that is no answer of this API
//     ApiError        the server said no: `status`, and `retryAfterMs` where it told one
//       SessionGone   404 or 410: the session is no more, begin a new one

export type Details = Record<string, unknown>;

export class VigilError extends Error {
  /** Whether an earlier try of the same call went without an answer. */
  isRepeat = false;

  constructor(
    message: string,
    readonly code: string,
    readonly details: Details = {},
    readonly requestId: string | null = null,
  ) {
    super(message);
    this.name = new.target.name;
  }
}

export class NoAnswer extends VigilError {
  constructor(message: string, code = "NO_ANSWER") {
    super(message, code);
  }
}

export class BadAnswer extends VigilError {
  constructor(message: string, requestId: string | null = null) {
    super(message, "BAD_ANSWER", {}, requestId);
  }
}

export class ApiError extends VigilError {
  constructor(
    message: string,
    code: string,
    readonly status: number,
    details: Details = {},
    requestId: string | null = null,
    readonly retryAfterMs: number | null = null,
  ) {
    super(message, code, details, requestId);
  }
}

export class SessionGone extends ApiError {}

/** The error that the body of a refusal tells. */
export function errorOf(
  body: unknown,
  status: number,
  requestId: string | null = null,
  retryAfterMs: number | null = null,
): ApiError {
  const told = (body ?? {}) as { code?: unknown; message?: unknown; details?: unknown };
  if (typeof told.code !== "string") {
    const message = `Something between here and the server answered ${status}`;
    return new ApiError(message, `HTTP_${status}`, status, {}, requestId, retryAfterMs);
  }
  const isGone = told.code === "SESSION_NOT_FOUND" || told.code === "SESSION_EXPIRED";
  const details = (told.details ?? {}) as Details;
  const message = String(told.message ?? "");
  return new (isGone ? SessionGone : ApiError)(message, told.code, status, details, requestId, retryAfterMs);
}
