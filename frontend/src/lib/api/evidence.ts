/** Requests that compute something on a text, live. None is kept: each is asked once. */

import { send } from "./http";
import type { PromptSource } from "./promptTypes";
import type { Firings } from "./types";

/** `text` or `token_ids`, and what is wanted of them. */
export interface FiringSettings {
  /** Components whose values are wanted at each token. */
  readonly keys: readonly string[];
  /** How many of the components that fire most on the text. */
  readonly k: number;
  /** How many of the strongest at each token. */
  readonly per_token: number;
  /** What "most" and "strongest" mean: the CI, or how far it is above the component's usual one. */
  readonly order: "sum" | "excess";
}

export function fire(
  run: string,
  question: PromptSource & FiringSettings,
  signal?: AbortSignal,
): Promise<Firings> {
  return send("POST", `/api/runs/${encodeURIComponent(run)}/firings`, question, signal);
}
