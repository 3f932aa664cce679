/**
 * Which component the pointer rests on or the keyboard has reached, and its small card. Every element
 * with `data-key` takes part; nobody else needs to know.
 */

import { AnswerCache } from "../api/cache";
import { getCards } from "../api/client";
import { connection } from "../api/connection.svelte";
import type { ComponentCard } from "../api/types";
import { location } from "../location/location.svelte";
import { runOf } from "../location/view";
import { Batcher } from "./batcher";
import type { Box } from "./place";

/** Entries a list in the small card. */
export const SMALL_K = 3;
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

interface Asked {
  readonly run: string;
  readonly metric: ComponentCard["metric"];
  readonly raw: boolean;
  readonly subrun: string | null;
}

class Hover {
  state: HoverState = $state.raw({ kind: "closed" });
  #cards = new AnswerCache(300);
  #batcher: { readonly name: string; readonly batcher: Batcher<ComponentCard> } | null = null;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #abort = new AbortController();
  #epoch = 0;

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
    if (this.#epoch !== connection.epoch) {
      this.#cards.clear();
      this.#epoch = connection.epoch;
    }
    this.#abort.abort();
    const abort = new AbortController();
    this.#abort = abort;
    const asked: Asked = { run, metric: view.metric, raw: view.raw, subrun: view.subrun };
    const settings = JSON.stringify(asked);
    const name = `${settings} ${key}`;
    const known = this.#cards.peek<ComponentCard>(name);
    if (known !== undefined) {
      this.state = { kind: "ready", ...anchored, card: known };
      return;
    }
    this.state = { kind: "loading", ...anchored };
    const card = await this.#batcherFor(settings, asked)
      .ask(key, abort.signal)
      .catch(() => null);
    if (card !== null) this.#cards.put(name, card);
    if (abort.signal.aborted) return;
    this.state = card === null ? { kind: "none", ...anchored } : { kind: "ready", ...anchored, card };
  }

  #batcherFor(name: string, asked: Asked): Batcher<ComponentCard> {
    if (this.#batcher?.name !== name) {
      const { run, ...settings } = asked;
      const batcher = new Batcher<ComponentCard>({
        fetch: (keys) => getCards(run, keys, SMALL_K, settings),
        gatherMs: 20,
        maximum: 50,
      });
      this.#batcher = { name, batcher };
    }
    return this.#batcher.batcher;
  }
}

export const hover = new Hover();
