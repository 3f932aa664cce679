/** Why a request brought no data. */

import type { ErrorBody } from "./types";

export type Failure =
  /** The server answered, and said why not. */
  | { readonly kind: "refused"; readonly status: number; readonly body: ErrorBody }
  /** No answer at all: the server is stopped or cannot be reached. */
  | { readonly kind: "offline" };

/** An answer that is no ErrorBody comes from something between the page and the server. */
export function refusal(status: number, body: unknown): Failure {
  if (typeof body === "object" && body !== null && "code" in body && "message" in body && "hint" in body) {
    const { code, message, hint } = body;
    return {
      kind: "refused",
      status,
      body: { code: String(code), message: String(message), hint: String(hint) },
    };
  }
  if (status === 502 || status === 504) return { kind: "offline" };
  return {
    kind: "refused",
    status,
    body: {
      code: "unreadable_answer",
      message: `The server answered with status ${status} and nothing this page can read.`,
      hint: "Look at the log of tributary serve.",
    },
  };
}

/** Why no answer was read to its end: what is no JSON was sent by something else, all other ends are a lost server. */
export function unread(error: unknown): Failure {
  return error instanceof SyntaxError ? refusal(200, null) : { kind: "offline" };
}

export class RequestFailed extends Error {
  readonly failure: Failure;

  constructor(failure: Failure) {
    super(failure.kind === "offline" ? "The server does not answer" : failure.body.message);
    this.failure = failure;
  }
}
