/** Answers kept by name, the oldest dropped first. Requests in flight are joined, failures are not kept. */

export class AnswerCache {
  readonly #capacity: number;
  readonly #answers = new Map<string, unknown>();
  readonly #inFlight = new Map<string, Promise<unknown>>();
  #generation = 0;

  constructor(capacity: number) {
    this.#capacity = capacity;
  }

  /** What is known already; `undefined` where nothing is. A name belongs to one type of answer. */
  peek<T>(name: string): T | undefined {
    const answer = this.#answers.get(name) as T | undefined;
    if (answer !== undefined) {
      this.#answers.delete(name);
      this.#answers.set(name, answer);
    }
    return answer;
  }

  put(name: string, answer: unknown): void {
    this.#answers.delete(name);
    this.#answers.set(name, answer);
    for (const oldest of this.#answers.keys()) {
      if (this.#answers.size <= this.#capacity) break;
      this.#answers.delete(oldest);
    }
  }

  async get<T>(name: string, ask: () => Promise<T>): Promise<T> {
    const known = this.peek<T>(name);
    if (known !== undefined) return known;
    const pending = this.#inFlight.get(name) as Promise<T> | undefined;
    if (pending !== undefined) return pending;
    const generation = this.#generation;
    const promise = ask()
      .then((answer) => {
        if (generation === this.#generation) this.put(name, answer);
        return answer;
      })
      .finally(() => {
        if (this.#inFlight.get(name) === promise) this.#inFlight.delete(name);
      });
    this.#inFlight.set(name, promise);
    return promise;
  }

  /** Forget the answers whose names begin so; answers in flight are not kept either. */
  forget(beginning: string): void {
    this.#generation += 1;
    for (const name of this.#answers.keys()) if (name.startsWith(beginning)) this.#answers.delete(name);
    for (const name of this.#inFlight.keys()) if (name.startsWith(beginning)) this.#inFlight.delete(name);
  }

  /** Forget everything; answers to requests still in flight are not kept either. */
  clear(): void {
    this.#generation += 1;
    this.#answers.clear();
    this.#inFlight.clear();
  }
}
