/** The rows of the graph as a table, in the order asked for. Pure numbers: node and edge numbers. */

import type { Colouring } from "./colouring";
import type { GraphData } from "./data";
import type { Shown } from "./filters";
import { type Strengths, edgesAt } from "./strength";

export type EdgeSort = "strength" | "attr" | "attr_abs" | "source" | "target";
export type NodeSort = "through" | "place" | "activation" | "ci" | "probability" | "edges" | "class";

/** Shown edges; by value the largest first, by an end in the graph's own order and then by strength. */
export function edgeRows(
  data: GraphData,
  shown: Shown,
  values: { readonly attr: Float32Array; readonly attr_abs: Float32Array },
  sort: EdgeSort,
): Uint32Array {
  switch (sort) {
    case "strength":
      return shown.order;
    case "attr":
    case "attr_abs": {
      const column = values[sort];
      return shown.order.slice().sort((a, b) => (column[b] ?? 0) - (column[a] ?? 0));
    }
    case "source":
    case "target": {
      // A stable sort keeps the order by strength among the edges of one node.
      const ends = data[sort];
      return shown.order.slice().sort((a, b) => (ends[a] ?? 0) - (ends[b] ?? 0));
    }
  }
}

/** How many shown edges end and begin in a node. */
export function degrees(
  strength: Strengths,
  shown: Shown,
  node: number,
): { sources: number; targets: number } {
  const count = (edges: Uint32Array): number =>
    edges.reduce((sum, edge) => sum + (shown.edges[edge] ?? 0), 0);
  return {
    sources: count(edgesAt(strength.incoming, node)),
    targets: count(edgesAt(strength.outgoing, node)),
  };
}

/** Shown nodes; those that have no such value last. */
export function nodeRows(
  data: GraphData,
  shown: Shown,
  strength: Strengths,
  sort: NodeSort,
  colouring: Colouring | null = null,
): Uint32Array {
  const nodes = Uint32Array.from({ length: data.nodes }, (_, node) => node).filter(
    (node) => shown.nodes[node] === 1,
  );
  if (sort === "place") return nodes;
  const degree = (node: number): number => {
    const { sources, targets } = degrees(strength, shown, node);
    return sources + targets;
  };
  const column: Float32Array | number[] = {
    through: strength.through,
    activation: data.activation.map(Math.abs),
    ci: data.ci,
    probability: data.probability,
    edges: sort === "edges" ? Array.from({ length: data.nodes }, (_, node) => degree(node)) : [],
    // The first class first, what is in none last.
    class: sort === "class" ? Array.from(colouring?.of ?? [], (place) => (place < 0 ? NaN : -place)) : [],
  }[sort];
  const value = (node: number): number => {
    const found = column[node] ?? Number.NaN;
    return Number.isNaN(found) ? -Infinity : found;
  };
  // −∞ − −∞ is no number: compare, do not subtract.
  return nodes.sort((a, b) => (value(a) === value(b) ? a - b : value(b) > value(a) ? 1 : -1));
}
