/**
 * Joins requests for small cards: keys asked for within a moment travel together, one request is under
 * way at a time, and keys nobody waits for any more are never sent.
 */

export interface BatcherOptions<T> {
  readonly fetch: (keys: readonly string[]) => Promise<ReadonlyMap<string, T>>;
  readonly gatherMs: number;
  readonly maximum: number;
}

interface Wish<T> {
  readonly key: string;
  readonly signal: AbortSignal;
  readonly resolve: (answer: T | null) => void;
  readonly reject: (reason: unknown) => void;
}

export class Batcher<T> {
  readonly #options: BatcherOptions<T>;
  #wishes: Wish<T>[] = [];
  #timer: ReturnType<typeof setTimeout> | undefined;
  #busy = false;

  constructor(options: BatcherOptions<T>) {
    this.#options = options;
  }

  /** The card of a key; `null` where there is none, or once `signal` is aborted. */
  ask(key: string, signal: AbortSignal): Promise<T | null> {
    return new Promise((resolve, reject) => {
      this.#wishes.push({ key, signal, resolve, reject });
      this.#schedule();
    });
  }

  #schedule(): void {
    if (this.#busy || this.#timer !== undefined || this.#wishes.length === 0) return;
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      void this.#send();
    }, this.#options.gatherMs);
  }

  async #send(): Promise<void> {
    for (const wish of this.#wishes) if (wish.signal.aborted) wish.resolve(null);
    const live = this.#wishes.filter((wish) => !wish.signal.aborted);
    const keys = [...new Set(live.map((wish) => wish.key))].slice(0, this.#options.maximum);
    const served = live.filter((wish) => keys.includes(wish.key));
    this.#wishes = live.filter((wish) => !keys.includes(wish.key));
    if (served.length === 0) return;
    this.#busy = true;
    try {
      const answers = await this.#options.fetch(keys);
      for (const wish of served) wish.resolve(answers.get(wish.key) ?? null);
    } catch (error) {
      for (const wish of served) wish.reject(error);
    } finally {
      this.#busy = false;
      this.#schedule();
    }
  }
}
