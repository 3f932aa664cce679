/** Components that were chosen elsewhere to be labelled: too many for an address, and asked for once. */

import { getComponents, type ComponentFilter } from "../api/client";

/** More than this are not labelled from a list; the form takes the most important ones. */
export const MOST_CHOSEN = 5000;
const PAGE = 500;

let chosen: { readonly run: string; readonly keys: readonly string[] } | null = null;

/** The keys of all components that a filter of the table leaves, in its order. */
export async function keysOfFilter(run: string, filter: ComponentFilter): Promise<string[]> {
  const keys: string[] = [];
  let cursor: string | null = null;
  do {
    const page = await getComponents(run, filter, cursor, PAGE);
    keys.push(...page.components.map((component) => component.key));
    cursor = page.next_cursor;
  } while (cursor !== null && keys.length < MOST_CHOSEN);
  return keys.slice(0, MOST_CHOSEN);
}

export function choose(run: string, keys: readonly string[]): void {
  chosen = { run, keys };
}

/** What was chosen for a run; once. */
export function takeChosen(run: string): readonly string[] {
  const found = chosen !== null && chosen.run === run ? chosen.keys : [];
  chosen = null;
  return found;
}
