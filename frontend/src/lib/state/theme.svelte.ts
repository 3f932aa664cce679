/** Light, dark, or as the system says; remembered in this browser. */

export const THEMES = ["system", "light", "dark"] as const;
export type Theme = (typeof THEMES)[number];

const STORED_AS = "tributary-theme";

function remembered(): Theme {
  const stored = localStorage.getItem(STORED_AS);
  return THEMES.find((theme) => theme === stored) ?? "system";
}

class ThemeChoice {
  #theme: Theme = $state(remembered());

  constructor() {
    this.#apply();
  }

  get current(): Theme {
    return this.#theme;
  }

  next(): void {
    this.#theme = THEMES[(THEMES.indexOf(this.#theme) + 1) % THEMES.length] ?? "system";
    if (this.#theme === "system") localStorage.removeItem(STORED_AS);
    else localStorage.setItem(STORED_AS, this.#theme);
    this.#apply();
  }

  #apply(): void {
    if (this.#theme === "system") delete document.documentElement.dataset["theme"];
    else document.documentElement.dataset["theme"] = this.#theme;
  }
}

export const theme = new ThemeChoice();
