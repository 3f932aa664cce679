/** Finding nodes by what can be read about them: key, token, label, note, what people call the component. */

import { visible } from "../format/tokens";
import { datasetKey } from "../workspace/nodes";
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

const components = new WeakMap<GraphData, readonly (string | null)[]>();

/** Each node's component over the whole run. */
function componentsOf(data: GraphData): readonly (string | null)[] {
  const known = components.get(data);
  if (known !== undefined) return known;
  const made = Array.from({ length: data.nodes }, (_, node) => datasetKey(data, node));
  components.set(data, made);
  return made;
}

/**
 * The nodes in which every word of `query` occurs: in the key, in the text of the token at its position, in
 * its label (embeddings, outputs, custom targets), in its note, or in what is `written` about its component
 * over the whole run. `null` where nothing is asked. Whitespace
 * separates words; write ␣ for a space inside a token.
 */
export function search(
  data: GraphData,
  query: string,
  notes: ReadonlyMap<string, string> = new Map(),
  written: ReadonlyMap<string, string> = new Map(),
): ReadonlySet<number> | null {
  const words = query.toLowerCase().split(/\s+/).filter(Boolean);
  if (words.length === 0) return null;
  const noted = new Map<number, string>();
  for (const [key, text] of notes) {
    const node = data.find(key);
    if (node !== null) noted.set(node, text.toLowerCase());
  }
  const about = written.size === 0 ? [] : componentsOf(data);
  const found = new Set<number>();
  haystack(data).forEach((text, node) => {
    const note = noted.get(node);
    const said = written.get(about[node] ?? "");
    const within = [text, note, said];
    if (words.every((word) => within.some((one) => one?.includes(word) === true))) found.add(node);
  });
  return found;
}
