/** The components that match a filter, fetched page by page as far as they are looked at. */

import { untrack } from "svelte";

import { type ComponentFilter, getComponents } from "../api/client";
import { type Failure, RequestFailed } from "../api/failure";
import type { ComponentPage, ComponentSummary } from "../api/types";

const PAGE = 500;
/** What the table is sorted or filtered by may have to be worked out first: until then the server says it is busy. */
const BUSY = 503;
const AGAIN_MS = 2000;

/** What every page of a list says of the whole of it. */
export type Reading = Pick<
  ComponentPage,
  "total" | "tokens" | "fires_on" | "strongest_source" | "strongest_target"
>;

export type ListState =
  | { readonly kind: "loading" }
  | { readonly kind: "ready"; readonly whole: Reading }
  | { readonly kind: "failed"; readonly failure: Failure };

export class ComponentPages {
  state: ListState = $state.raw({ kind: "loading" });
  rows: readonly ComponentSummary[] = $state.raw([]);
  readonly #run: string;
  readonly #filter: ComponentFilter;
  #cursor: string | null = null;
  #complete = false;
  #wanted = 1;
  #busy = false;
  #again: ReturnType<typeof setTimeout> | undefined;
  #stopped = false;

  readonly #ask: typeof getComponents;

  constructor(run: string, filter: ComponentFilter, ask = getComponents) {
    this.#ask = ask;
    this.#run = run;
    this.#filter = filter;
    untrack(() => void this.#advance());
  }

  /** Make sure that the first `count` rows are fetched, or will be. */
  want(count: number): void {
    this.#wanted = Math.max(this.#wanted, count);
    void this.#advance();
  }

  /** Nobody looks at it any more. */
  stop(): void {
    this.#stopped = true;
    clearTimeout(this.#again);
  }

  async #advance(again = false): Promise<void> {
    if (this.#busy || (this.state.kind === "failed" && !again)) return;
    this.#busy = true;
    try {
      while (!this.#complete && this.rows.length < this.#wanted) {
        const page = await this.#ask(this.#run, this.#filter, this.#cursor, PAGE);
        this.rows = [...this.rows, ...page.components];
        this.#cursor = page.next_cursor;
        this.#complete = page.next_cursor === null;
        this.state = { kind: "ready", whole: page };
      }
    } catch (error) {
      if (!(error instanceof RequestFailed)) throw error;
      const { failure } = error;
      this.state = { kind: "failed", failure };
      if (failure.kind === "refused" && failure.status === BUSY && !this.#stopped)
        this.#again = setTimeout(() => void this.#advance(true), AGAIN_MS);
    } finally {
      this.#busy = false;
    }
  }
}
