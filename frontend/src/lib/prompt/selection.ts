/** A selection as the address holds it: a few keys, or many nodes as ranges of their numbers. */

import type { GraphData } from "../graph/data";

/** More nodes than this are written as numbers, so that the address stays short. */
const KEYS_AT_MOST = 12;
const RANGE = /^(0|[1-9]\d{0,8})(?:-([1-9]\d{0,8}))?$/;

export function printSelection(data: GraphData, nodes: Iterable<number>): string[] {
  const sorted = [...nodes].sort((a, b) => a - b);
  if (sorted.length <= KEYS_AT_MOST) return sorted.map((node) => data.key(node));
  const ranges: string[] = [];
  for (let n = 0; n < sorted.length; n += 1) {
    const first = sorted[n] ?? 0;
    let last = first;
    while (sorted[n + 1] === last + 1) {
      last += 1;
      n += 1;
    }
    ranges.push(first === last ? String(first) : `${first}-${last}`);
  }
  return ranges;
}

/** The nodes of the graph that are named; what it does not have is left out. */
export function parseSelection(data: GraphData, items: readonly string[]): ReadonlySet<number> {
  const nodes = new Set<number>();
  for (const item of items) {
    const range = RANGE.exec(item);
    if (range === null) {
      const node = data.find(item);
      if (node !== null) nodes.add(node);
      continue;
    }
    const first = Number(range[1]);
    const last = Math.min(range[2] === undefined ? first : Number(range[2]), data.nodes - 1);
    for (let node = first; node <= last; node += 1) nodes.add(node);
  }
  return nodes;
}
