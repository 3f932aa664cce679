/** What was written and could not be sent yet, in the browser's own storage. */

import type { Kept, Keeper } from "./draft";

function isKept(value: unknown): value is Kept {
  if (typeof value !== "object" || value === null) return false;
  return "version" in value && "base" in value && "content" in value && typeof value.content === "object";
}

export function browserKeeper(run: string, key: string): Keeper {
  const name = `tributary-label ${run} ${key}`;
  return {
    read() {
      try {
        const value: unknown = JSON.parse(localStorage.getItem(name) ?? "null");
        return isKept(value) ? value : null;
      } catch {
        return null;
      }
    },
    write(kept) {
      try {
        if (kept === null) localStorage.removeItem(name);
        else localStorage.setItem(name, JSON.stringify(kept));
      } catch {
        // A browser that keeps nothing still saves on the server.
      }
    },
  };
}
