/** The components that match a filter, fetched page by page as far as they are looked at. */

import { untrack } from "svelte";

import { type ComponentFilter, getComponents } from "../api/client";
import { type Failure, RequestFailed } from "../api/failure";
import type { ComponentPage, ComponentSummary } from "../api/types";

const PAGE = 500;

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

  constructor(run: string, filter: ComponentFilter) {
    this.#run = run;
    this.#filter = filter;
    untrack(() => void this.#advance());
  }

  /** Make sure that the first `count` rows are fetched, or will be. */
  want(count: number): void {
    this.#wanted = Math.max(this.#wanted, count);
    void this.#advance();
  }

  async #advance(): Promise<void> {
    if (this.#busy || this.state.kind === "failed") return;
    this.#busy = true;
    try {
      while (!this.#complete && this.rows.length < this.#wanted) {
        const page = await getComponents(this.#run, this.#filter, this.#cursor, PAGE);
        this.rows = [...this.rows, ...page.components];
        this.#cursor = page.next_cursor;
        this.#complete = page.next_cursor === null;
        this.state = { kind: "ready", whole: page };
      }
    } catch (error) {
      if (!(error instanceof RequestFailed)) throw error;
      this.state = { kind: "failed", failure: error.failure };
    } finally {
      this.#busy = false;
    }
  }
}
