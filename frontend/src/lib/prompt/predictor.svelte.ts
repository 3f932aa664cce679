/** Predictions for a prompt as it is typed: asked for after a pause, one at a time, stale answers dropped. */

import { connection } from "../api/connection.svelte";
import { type Failure, RequestFailed } from "../api/failure";
import { predict } from "../api/prompts";
import type { Predictions, PromptSource } from "../api/promptTypes";

const PAUSE_MS = 180;
export const SHOWN = 12;

export interface Question {
  readonly run: string;
  readonly source: PromptSource;
  readonly positions: "last" | "all";
  readonly q?: string;
}

export type PredictorState =
  | { readonly kind: "empty" }
  | { readonly kind: "waiting"; readonly before: Predictions | null }
  | { readonly kind: "ready"; readonly data: Predictions }
  | { readonly kind: "failed"; readonly failure: Failure; readonly before: Predictions | null };

export class Predictor {
  state: PredictorState = $state.raw({ kind: "empty" });

  /** Follows `question`; `null` is nothing to ask. The first question is asked at once. */
  constructor(question: () => Question | null) {
    let first = true;
    $effect(() => {
      void connection.epoch;
      const asked = question();
      if (asked === null) {
        this.state = { kind: "empty" };
        return;
      }
      this.state = { kind: "waiting", before: this.#known() };
      const abort = new AbortController();
      const timer = setTimeout(() => void this.#ask(asked, abort.signal), first ? 0 : PAUSE_MS);
      first = false;
      return () => {
        clearTimeout(timer);
        abort.abort();
      };
    });
  }

  /** What is on screen: the newest answer, or the one before it while a newer is awaited. */
  get shown(): Predictions | null {
    return this.state.kind === "ready"
      ? this.state.data
      : this.state.kind === "empty"
        ? null
        : this.state.before;
  }

  #last: Predictions | null = null;

  #known(): Predictions | null {
    return this.#last;
  }

  async #ask(asked: Question, signal: AbortSignal): Promise<void> {
    const options = {
      k: SHOWN,
      positions: asked.positions,
      ...(asked.q === undefined || asked.q === "" ? {} : { q: asked.q }),
    };
    try {
      const data = await predict(asked.run, asked.source, options, signal);
      if (signal.aborted) return;
      this.#last = data;
      this.state = { kind: "ready", data };
    } catch (error) {
      if (signal.aborted) return;
      if (!(error instanceof RequestFailed)) throw error;
      this.state = { kind: "failed", failure: error.failure, before: this.#last };
    }
  }
}
