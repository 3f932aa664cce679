/** One piece of data on screen, from the moment it is wanted. */

import { untrack } from "svelte";

import { connection } from "./connection.svelte";
import { type Failure, RequestFailed } from "./failure";

export type Loadable<T> =
  | { readonly kind: "loading"; readonly before: T | null }
  | { readonly kind: "ready"; readonly data: T }
  | { readonly kind: "failed"; readonly failure: Failure; readonly before: T | null };

/** Data to show: what is there, else what was there before it was asked for anew. */
export function shown<T>(state: Loadable<T>): T | null {
  return state.kind === "ready" ? state.data : state.before;
}

/**
 * Follows a request that depends on reactive values: asks again when they change, and when the server
 * comes back. `before` keeps the last data, so that the screen need not go blank in between.
 */
export class Resource<T> {
  state: Loadable<T> = $state.raw({ kind: "loading", before: null });

  constructor(ask: () => Promise<T>) {
    $effect(() => {
      void connection.epoch;
      const request = ask();
      const before = untrack(() => shown(this.state));
      this.state = { kind: "loading", before };
      let current = true;
      request.then(
        (data) => {
          if (current) this.state = { kind: "ready", data };
        },
        (error: unknown) => {
          if (!current) return;
          if (!(error instanceof RequestFailed)) throw error;
          this.state = { kind: "failed", failure: error.failure, before };
        },
      );
      return () => {
        current = false;
      };
    });
  }
}
