/** Whether this tab came with the owner's link. */

import { takeSecret } from "./owner";

class Right {
  secret: string | null = $state.raw(null);

  /** Look at the address now, and whenever a link is opened in a tab that is there already. */
  watch(): void {
    this.#take();
    window.addEventListener("hashchange", () => this.#take());
  }

  #take(): void {
    this.secret = takeSecret(window.location, history, sessionStorage);
  }
}

export const right = new Right();

export function rightHeaders(): Readonly<Record<string, string>> {
  return right.secret === null ? {} : { "X-Tributary-Owner": right.secret };
}
