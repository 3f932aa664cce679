/** The address bar: the only module that reads or writes it. Everything else reads `location.view`. */

import { parseView, printView, type View } from "./view";

interface Options {
  /** Replace the current entry of the history in place of adding one. */
  readonly replace?: boolean;
  /** Consecutive changes of one name, such as the letters of a search, are one entry of the history. */
  readonly merge?: string;
}

class AppLocation {
  #view: View = $state.raw(parseView(window.location.pathname, window.location.search));
  #lastMerge: string | null = null;
  /** Nothing was followed yet: what is on screen is what the address asked for. */
  untouched = true;

  constructor() {
    window.addEventListener("popstate", () => {
      this.#lastMerge = null;
      this.untouched = false;
      this.#view = parseView(window.location.pathname, window.location.search);
    });
  }

  get view(): View {
    return this.#view;
  }

  go(view: View, options: Options = {}): void {
    const address = printView(view);
    const here = window.location.pathname + window.location.search;
    const merge = options.merge ?? null;
    if (options.replace === true || (merge !== null && merge === this.#lastMerge)) {
      history.replaceState(null, "", address);
    } else if (address !== here) {
      history.pushState(null, "", address);
    }
    this.#lastMerge = merge;
    this.untouched = false;
    this.#view = view;
  }

  /** The whole address of what is on screen, to be copied. */
  get link(): string {
    return window.location.origin + printView(this.#view);
  }
}

export const location = new AppLocation();

/**
 * Let a link be followed within the page. Clicks that ask for a new tab or window stay the browser's.
 * Returns whether the click was taken over.
 */
export function follow(event: MouseEvent, view: View): boolean {
  if (event.defaultPrevented || event.button !== 0) return false;
  if (event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return false;
  event.preventDefault();
  location.go(view);
  return true;
}
