/** Predictions for a prompt as it is typed. */

import { Live } from "../api/live.svelte";
import { predict } from "../api/prompts";
import type { Predictions, PromptSource } from "../api/promptTypes";

export const SHOWN = 12;

export interface Question {
  readonly run: string;
  readonly source: PromptSource;
  readonly positions: "last" | "all";
  readonly q?: string;
}

function send(asked: Question, signal: AbortSignal): Promise<Predictions> {
  const options = {
    k: SHOWN,
    positions: asked.positions,
    ...(asked.q === undefined || asked.q === "" ? {} : { q: asked.q }),
  };
  return predict(asked.run, asked.source, options, signal);
}

export class Predictor extends Live<Question, Predictions> {
  /** Follows `question`; `null` is nothing to ask. */
  constructor(question: () => Question | null) {
    super(question, send);
  }
}
