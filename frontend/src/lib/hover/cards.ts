/** Small cards of components, asked for in batches and remembered until the server comes back from an absence. */

import { AnswerCache } from "../api/cache";
import { getCards } from "../api/client";
import { connection } from "../api/connection.svelte";
import type { ComponentCard } from "../api/types";
import { Batcher } from "./batcher";

/** Entries a list in the small card. */
export const SMALL_K = 3;

export interface Asked {
  readonly run: string;
  readonly metric: ComponentCard["metric"];
  readonly raw: boolean;
  readonly subrun: string | null;
}

class SmallCards {
  #cards = new AnswerCache(300);
  #batcher: { readonly name: string; readonly batcher: Batcher<ComponentCard> } | null = null;
  #epoch = 0;

  peek(asked: Asked, key: string): ComponentCard | undefined {
    if (this.#epoch !== connection.epoch) {
      this.#cards.clear();
      this.#epoch = connection.epoch;
    }
    return this.#cards.peek<ComponentCard>(`${JSON.stringify(asked)} ${key}`);
  }

  /** `null` where the run knows nothing of the key, or once `signal` is aborted. */
  async ask(asked: Asked, key: string, signal: AbortSignal): Promise<ComponentCard | null> {
    const settings = JSON.stringify(asked);
    const card = await this.#batcherFor(settings, asked)
      .ask(key, signal)
      .catch(() => null);
    if (card !== null) this.#cards.put(`${settings} ${key}`, card);
    return card;
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

export const smallCards = new SmallCards();
