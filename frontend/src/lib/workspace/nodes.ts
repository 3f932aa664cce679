/** What panels say about nodes of a graph. */

import { parseSite } from "../address";
import type { GraphData } from "../graph/data";

/** The node's component over the whole run, as the explorer names it; `null` for custom targets and groups. */
export function datasetKey(data: GraphData, node: number): string | null {
  if (typeof data.name?.(node) === "string") return null;
  const address = data.addresses[data.site[node] ?? -1] ?? "target";
  if (address === "target") return null;
  const key = data.key(node);
  return `${address}:${key.slice(key.lastIndexOf(":") + 1)}`;
}

/** Whether it is a component: what regimes select among. */
export function isComponent(data: GraphData, node: number): boolean {
  return parseSite(data.addresses[data.site[node] ?? -1] ?? "") !== null && (data.index[node] ?? -1) >= 0;
}

/** Whether its contribution can be scaled: everything but outputs and targets. */
export function isChangeable(data: GraphData, node: number): boolean {
  const address = data.addresses[data.site[node] ?? -1] ?? "target";
  return address !== "output" && address !== "target";
}

export function numbersOf(data: GraphData, keys: Iterable<string>): number[] {
  const found: number[] = [];
  for (const key of keys) {
    const node = data.find(key);
    if (node !== null) found.push(node);
  }
  return found;
}

/** "12 components at 4 positions, and 2 nodes that are none". */
export function setWords(data: GraphData, nodes: readonly number[]): string {
  const components = nodes.filter((node) => isComponent(data, node));
  const positions = new Set(components.map((node) => data.position[node])).size;
  const others = nodes.length - components.length;
  const some = (count: number, one: string): string => `${count} ${one}${count === 1 ? "" : "s"}`;
  const words = `${some(components.length, "component")} at ${some(positions, "position")}`;
  if (others === 0) return words;
  return `${words}; ${some(others, "node")} that ${others === 1 ? "is no component is" : "are no components are"} left out`;
}
