/**
 * Which component the pointer rests on or the keyboard has reached, and its small card. Every element
 * with `data-key` takes part; nobody else needs to know.
 */

import { connection } from "../api/connection.svelte";
import type { ComponentCard } from "../api/types";
import { location } from "../location/location.svelte";
import { runOf } from "../location/view";
import { smallCards } from "./cards";
import type { Box } from "./place";

export { SMALL_K } from "./cards";
const REST_MS = 140;
const LINGER_MS = 160;

export type HoverState =
  | { readonly kind: "closed" }
  | ({ readonly kind: "loading" } & Anchored)
  | ({ readonly kind: "ready"; readonly card: ComponentCard } & Anchored)
  | ({ readonly kind: "none" } & Anchored);

interface Anchored {
  readonly key: string;
  readonly anchor: Element;
  /** What the card is placed beside, in the window. */
  readonly box: Box;
}

class Hover {
  state: HoverState = $state.raw({ kind: "closed" });
  #timer: ReturnType<typeof setTimeout> | undefined;
  #abort = new AbortController();

  /** Show the card of an element's key after a moment of rest. */
  enter(anchor: Element, key: string, box: Box): void {
    clearTimeout(this.#timer);
    if (this.state.kind !== "closed" && this.state.anchor === anchor) return;
    this.#timer = setTimeout(() => void this.#show({ anchor, key, box }), REST_MS);
  }

  leave(): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.close(), LINGER_MS);
  }

  /** The pointer moved onto the card itself: it stays. */
  stay(): void {
    clearTimeout(this.#timer);
  }

  close(): void {
    clearTimeout(this.#timer);
    this.#abort.abort();
    this.state = { kind: "closed" };
  }

  async #show(anchored: Anchored): Promise<void> {
    const { anchor, key } = anchored;
    const { view } = location;
    const run = runOf(view.page);
    if (run === null || !anchor.isConnected || connection.state.kind === "offline") return;
    this.#abort.abort();
    const abort = new AbortController();
    this.#abort = abort;
    const asked = { run, metric: view.metric, raw: view.raw, subrun: view.subrun };
    const known = smallCards.peek(asked, key);
    if (known !== undefined) {
      this.state = { kind: "ready", ...anchored, card: known };
      return;
    }
    this.state = { kind: "loading", ...anchored };
    const card = await smallCards.ask(asked, key, abort.signal);
    if (abort.signal.aborted) return;
    this.state = card === null ? { kind: "none", ...anchored } : { kind: "ready", ...anchored, card };
  }
}

export const hover = new Hover();
