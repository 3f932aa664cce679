/** An answer that follows what is typed: asked for after a pause, one at a time, stale answers dropped. */

import { connection } from "./connection.svelte";
import { type Failure, RequestFailed } from "./failure";

const PAUSE_MS = 180;

export type LiveState<T> =
  | { readonly kind: "empty" }
  | { readonly kind: "waiting"; readonly before: T | null }
  | { readonly kind: "ready"; readonly data: T }
  | { readonly kind: "failed"; readonly failure: Failure; readonly before: T | null };

export class Live<Question, Answer> {
  state: LiveState<Answer> = $state.raw({ kind: "empty" });
  readonly #send: (question: Question, signal: AbortSignal) => Promise<Answer>;
  #last: Answer | null = null;

  /** Follows `question`; `null` is nothing to ask. The first question is asked at once. */
  constructor(
    question: () => Question | null,
    send: (question: Question, signal: AbortSignal) => Promise<Answer>,
  ) {
    this.#send = send;
    let first = true;
    $effect(() => {
      void connection.epoch;
      const asked = question();
      if (asked === null) {
        this.state = { kind: "empty" };
        return;
      }
      this.state = { kind: "waiting", before: this.#last };
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
  get shown(): Answer | null {
    return this.state.kind === "ready"
      ? this.state.data
      : this.state.kind === "empty"
        ? null
        : this.state.before;
  }

  async #ask(asked: Question, signal: AbortSignal): Promise<void> {
    try {
      const data = await this.#send(asked, signal);
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
