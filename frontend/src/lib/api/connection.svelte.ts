/**
 * Whether the server answers. Asked every few seconds while the page is visible, and at once when a
 * request got no answer; `epoch` counts the times it came back, and what failed meanwhile is asked for
 * again by whoever depends on it.
 */

const CALM_MS = 5000;
const RETRY_MS = [500, 1000, 2000, 3000] as const;

export type ConnectionState =
  { readonly kind: "online" } | { readonly kind: "offline"; readonly since: Date };

class Connection {
  state: ConnectionState = $state.raw({ kind: "online" });
  epoch = $state(0);
  #attempts = 0;
  #timer: ReturnType<typeof setTimeout> | undefined;

  start(): void {
    document.addEventListener("visibilitychange", () => {
      if (document.visibilityState === "visible") this.#schedule(0);
      else clearTimeout(this.#timer);
    });
    this.#schedule(CALM_MS);
  }

  /** A request got no answer. */
  lost(): void {
    if (this.state.kind === "offline") return;
    this.state = { kind: "offline", since: new Date() };
    this.#attempts = 0;
    this.#schedule(RETRY_MS[0]);
  }

  retryNow(): void {
    this.#schedule(0);
  }

  #schedule(delay: number): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => void this.#ask(), delay);
  }

  async #ask(): Promise<void> {
    const answers = await fetch("/api/health", { cache: "no-store", signal: AbortSignal.timeout(4000) }).then(
      (response) => response.ok,
      () => false,
    );
    if (answers) {
      if (this.state.kind === "offline") {
        this.state = { kind: "online" };
        this.epoch += 1;
      }
      this.#schedule(CALM_MS);
    } else {
      if (this.state.kind === "online") this.lost();
      const delay = RETRY_MS[Math.min(this.#attempts, RETRY_MS.length - 1)] ?? CALM_MS;
      this.#attempts += 1;
      this.#schedule(delay);
    }
  }
}

export const connection = new Connection();
