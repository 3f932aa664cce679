/** Finding nodes by what can be read about them: key, token, label, note. */

import { visible } from "../format/tokens";
import type { GraphData } from "./data";

const haystacks = new WeakMap<GraphData, readonly string[]>();

function haystack(data: GraphData): readonly string[] {
  const known = haystacks.get(data);
  if (known !== undefined) return known;
  const tokens = data.tokens.map(({ text }) => `${text} ${visible(text)}`);
  const made = Array.from({ length: data.nodes }, (_, node) => {
    const label = data.label(node);
    const shown = label === null ? "" : `${label} ${visible(label)}`;
    return `${data.key(node)} ${tokens[data.position[node] ?? 0] ?? ""} ${shown}`.toLowerCase();
  });
  haystacks.set(data, made);
  return made;
}

/**
 * The nodes in which every word of `query` occurs: in the key, in the text of the token at its position, in
 * its label (embeddings, outputs, custom targets) or in its note. `null` where nothing is asked. Whitespace
 * separates words; write ␣ for a space inside a token.
 */
export function search(
  data: GraphData,
  query: string,
  notes: ReadonlyMap<string, string> = new Map(),
): ReadonlySet<number> | null {
  const words = query.toLowerCase().split(/\s+/).filter(Boolean);
  if (words.length === 0) return null;
  const noted = new Map<number, string>();
  for (const [key, text] of notes) {
    const node = data.find(key);
    if (node !== null) noted.set(node, text.toLowerCase());
  }
  const found = new Set<number>();
  haystack(data).forEach((text, node) => {
    const note = noted.get(node);
    if (words.every((word) => text.includes(word) || note?.includes(word) === true)) found.add(node);
  });
  return found;
}
