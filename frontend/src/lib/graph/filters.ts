/**
 * What of a graph is shown, and exactly what is not. Filters are steps taken in a fixed order, each on what
 * the one before it left; every step reports the edges, the nodes and the share of Σ|strength| it hides, so
 * that the steps add up to all that is hidden.
 *
 * A node is shown while one of its edges is. A node that never had an edge, or was chosen by hand (`only`,
 * `near`), is shown while no step excludes the node itself.
 */

import { type GraphData, type GraphMetric } from "./data";
import { type Adjacency, type Strengths, edgesAt, strengths } from "./strength";

export interface Filter {
  /** Only edges with an end (or, with `within`, both ends) in these sites, positions, matches; `null`: any. */
  readonly sites: ReadonlySet<number> | null;
  readonly positions: ReadonlySet<number> | null;
  readonly matching: ReadonlySet<number> | null;
  readonly within: boolean;
  /** Only these nodes and the edges between them: the pinned subgraph. */
  readonly only: ReadonlySet<number> | null;
  readonly sign: "both" | "positive" | "negative";
  /** |strength| at least this. */
  readonly minimum: number;
  /** At most this many edges, the strongest of those left. */
  readonly strongest: number | null;
  /** Only what lies up to `hops` edges upstream or downstream of some nodes, along edges still there. */
  readonly near: { readonly nodes: ReadonlySet<number>; readonly hops: number } | null;
}

export const NO_FILTER: Filter = {
  sites: null,
  positions: null,
  matching: null,
  within: false,
  only: null,
  sign: "both",
  minimum: 0,
  strongest: null,
  near: null,
};

export type StepName =
  "only" | "sites" | "positions" | "matching" | "sign" | "minimum" | "strongest" | "near";

/** What one step, or all of them, hide; `share` is of Σ|strength| over all edges of the data. */
export interface Hidden {
  readonly edges: number;
  readonly nodes: number;
  readonly share: number;
}

export interface Shown {
  /** Edges that are shown, strongest first. */
  readonly order: Uint32Array;
  /** 1 for an edge that is shown. */
  readonly edges: Uint8Array;
  /** 1 for a node that is shown. */
  readonly nodes: Uint8Array;
  readonly nodeCount: number;
  readonly steps: readonly (Hidden & { readonly step: StepName })[];
  readonly hidden: Hidden;
}

type Step = readonly [StepName, (edge: number) => boolean, ((node: number) => boolean)?];

/** Nodes up to `hops` edges away against or along the edges that are still there. */
function reach(
  data: GraphData,
  side: Adjacency,
  next: Uint32Array,
  from: ReadonlySet<number>,
  hops: number,
  edges: Uint8Array,
): { readonly nodes: Set<number>; readonly edges: Set<number> } {
  const seen = new Set(from);
  const walked = new Set<number>();
  let frontier = [...from].filter((node) => node < data.nodes);
  for (let hop = 0; hop < hops && frontier.length > 0; hop++) {
    const found: number[] = [];
    for (const node of frontier)
      for (const edge of edgesAt(side, node)) {
        if (edges[edge] === 0) continue;
        walked.add(edge);
        const other = next[edge] ?? 0;
        if (seen.has(other)) continue;
        seen.add(other);
        found.push(other);
      }
    frontier = found;
  }
  return { nodes: seen, edges: walked };
}

function nodeStep(data: GraphData, step: StepName, within: boolean, holds: (node: number) => boolean): Step {
  const edge = (n: number): boolean => {
    const [source, target] = [holds(data.source[n] ?? 0), holds(data.target[n] ?? 0)];
    return within ? source && target : source || target;
  };
  return [step, edge, holds];
}

function steps(data: GraphData, strength: Strengths, filter: Filter): Step[] {
  const result: Step[] = [];
  const { sites, positions, matching, only } = filter;
  if (only !== null) result.push(nodeStep(data, "only", true, (node) => only.has(node)));
  if (sites !== null)
    result.push(nodeStep(data, "sites", filter.within, (node) => sites.has(data.site[node] ?? -1)));
  if (positions !== null)
    result.push(
      nodeStep(data, "positions", filter.within, (node) => positions.has(data.position[node] ?? -1)),
    );
  if (matching !== null) result.push(nodeStep(data, "matching", filter.within, (node) => matching.has(node)));
  if (filter.sign !== "both") {
    const sign = filter.sign === "positive" ? 1 : -1;
    result.push(["sign", (edge) => (strength.value[edge] ?? 0) * sign > 0]);
  }
  if (filter.minimum > 0)
    result.push(["minimum", (edge) => Math.abs(strength.value[edge] ?? 0) >= filter.minimum]);
  return result;
}

/** Apply a filter: O(edges) per step, for when the filter changes; never while the pointer moves. */
export function applyFilter(data: GraphData, metric: GraphMetric, filter: Filter): Shown {
  const strength = strengths(data, metric);
  const edges = new Uint8Array(data.edges).fill(1);
  const nodes = new Uint8Array(data.nodes).fill(1);
  const hasEdges = (node: number): boolean =>
    strength.incoming.start[node] !== strength.incoming.start[node + 1] ||
    strength.outgoing.start[node] !== strength.outgoing.start[node + 1];
  // What was chosen by hand stays, with or without edges.
  const held = (node: number): boolean =>
    (filter.only !== null || filter.near !== null) &&
    (filter.only?.has(node) ?? true) &&
    (filter.near?.nodes.has(node) ?? true);
  const reports: (Hidden & { step: StepName })[] = [];

  const take = (
    step: StepName,
    keeps: (edge: number) => boolean,
    keepsNode?: (node: number) => boolean,
  ): void => {
    let hiddenEdges = 0;
    let hiddenNodes = 0;
    let sum = 0;
    const touched = new Uint8Array(data.nodes);
    for (const edge of strength.order) {
      if (edges[edge] === 0) continue;
      if (keeps(edge)) {
        touched[data.source[edge] ?? 0] = 1;
        touched[data.target[edge] ?? 0] = 1;
        continue;
      }
      edges[edge] = 0;
      hiddenEdges++;
      sum += Math.abs(strength.value[edge] ?? 0);
    }
    for (let node = 0; node < data.nodes; node++) {
      if (nodes[node] === 0 || touched[node] === 1) continue;
      if ((held(node) || !hasEdges(node)) && (keepsNode?.(node) ?? true)) continue;
      nodes[node] = 0;
      hiddenNodes++;
    }
    reports.push({
      step,
      edges: hiddenEdges,
      nodes: hiddenNodes,
      share: strength.total > 0 ? sum / strength.total : 0,
    });
  };

  for (const step of steps(data, strength, filter)) take(...step);
  if (filter.strongest !== null) {
    let left = filter.strongest;
    take("strongest", () => left-- > 0);
  }
  if (filter.near !== null) {
    const { nodes: from, hops } = filter.near;
    const up = reach(data, strength.incoming, data.source, from, hops, edges);
    const down = reach(data, strength.outgoing, data.target, from, hops, edges);
    take(
      "near",
      (edge) => up.edges.has(edge) || down.edges.has(edge),
      (node) => from.has(node),
    );
  }
  return { ...gather(strength, edges, nodes), steps: reports, hidden: sum(reports) };
}

function gather(
  strength: Strengths,
  edges: Uint8Array,
  nodes: Uint8Array,
): Pick<Shown, "order" | "edges" | "nodes" | "nodeCount"> {
  return {
    order: strength.order.filter((edge) => edges[edge] === 1),
    edges,
    nodes,
    nodeCount: nodes.reduce((count, shown) => count + shown, 0),
  };
}

function sum(reports: readonly Hidden[]): Hidden {
  return reports.reduce<Hidden>(
    (all, one) => ({
      edges: all.edges + one.edges,
      nodes: all.nodes + one.nodes,
      share: all.share + one.share,
    }),
    { edges: 0, nodes: 0, share: 0 },
  );
}

export function showAll(data: GraphData, metric: GraphMetric): Shown {
  return applyFilter(data, metric, NO_FILTER);
}

/** The |strength| that the n-th strongest edge has: the minimum that keeps n edges (more where some are equal). */
export function minimumForRank(data: GraphData, metric: GraphMetric, rank: number): number {
  const { order, value } = strengths(data, metric);
  const edge = order[Math.min(Math.max(1, rank), order.length) - 1];
  return edge === undefined ? 0 : Math.abs(value[edge] ?? 0);
}
