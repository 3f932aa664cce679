/**
 * How much of the outputs flows through each edge. Every output begins with its probability (a custom target
 * with 1); a target hands what it has to its sources in proportion to |strength|, layer by layer down to the
 * embeddings. A ranking, not an attribution: it decides what is shown first, and no number of it is written
 * on screen.
 */

import type { GraphData, GraphMetric } from "../graph/data";
import type { Shown } from "../graph/filters";
import { edgesAt, orderByMagnitude, strengths } from "../graph/strength";

export interface Influence {
  readonly metric: GraphMetric;
  /** Of each edge. */
  readonly flow: Float32Array;
  /** Edges by falling flow. */
  readonly order: Uint32Array;
}

const known = new WeakMap<GraphData, Partial<Record<GraphMetric, Influence>>>();

/** Remembered for as long as the graph is. */
export function influence(data: GraphData, metric: GraphMetric): Influence {
  const measured = known.get(data) ?? {};
  known.set(data, measured);
  return (measured[metric] ??= measure(data, metric));
}

function measure(data: GraphData, metric: GraphMetric): Influence {
  const strength = strengths(data, metric);
  const has = new Float64Array(data.nodes);
  for (let node = 0; node < data.nodes; node += 1) {
    const address = data.addresses[data.site[node] ?? -1];
    if (address === "output") has[node] = Math.max(1e-6, data.probability[node] ?? 0) || 1e-6;
    if (address === "target") has[node] = 1;
  }
  const flow = new Float32Array(data.edges);
  // Addresses are in the order of computation: every edge leads from an earlier to a later one.
  const places = [...data.site.keys()].sort((a, b) => rank(data, b) - rank(data, a));
  for (const target of places) {
    const here = has[target] ?? 0;
    if (here === 0) continue;
    const edges = edgesAt(strength.incoming, target);
    let total = 0;
    for (const edge of edges) total += Math.abs(strength.value[edge] ?? 0);
    if (total === 0) continue;
    for (const edge of edges) {
      const share = (here * Math.abs(strength.value[edge] ?? 0)) / total;
      const source = data.source[edge] ?? 0;
      flow[edge] = share;
      has[source] = (has[source] ?? 0) + share;
    }
  }
  return { metric, flow, order: orderByMagnitude(flow) };
}

/** Outputs and targets last, whatever their place among the addresses. */
function rank(data: GraphData, node: number): number {
  const site = data.site[node] ?? 0;
  const address = data.addresses[site];
  return address === "output" || address === "target" ? data.addresses.length + site : site;
}

/**
 * Of what is shown, the `most` edges through which most of the outputs flows; those through which nothing
 * flows go in any case. Counts what that hides, as the filters do.
 */
export function towardsOutputs(
  data: GraphData,
  metric: GraphMetric,
  shown: Shown,
  most: number | null,
): Shown {
  const { flow, order } = influence(data, metric);
  const strength = strengths(data, metric);
  const edges = new Uint8Array(data.edges);
  const nodes = new Uint8Array(data.nodes);
  let left = most ?? data.edges;
  let kept = 0;
  for (const edge of order) {
    if (left === 0 || flow[edge] === 0) break;
    if (shown.edges[edge] === 0) continue;
    edges[edge] = 1;
    nodes[data.source[edge] ?? 0] = 1;
    nodes[data.target[edge] ?? 0] = 1;
    kept += 1;
    left -= 1;
  }
  let hidden = 0;
  for (const edge of shown.order) if (edges[edge] === 0) hidden += Math.abs(strength.value[edge] ?? 0);
  const nodeCount = nodes.reduce((count, one) => count + one, 0);
  const step = {
    step: "strongest" as const,
    edges: shown.order.length - kept,
    nodes: shown.nodeCount - nodeCount,
    share: strength.total > 0 ? hidden / strength.total : 0,
  };
  return {
    order: shown.order.filter((edge) => edges[edge] === 1),
    edges,
    nodes,
    nodeCount,
    steps: [...shown.steps.filter((one) => one.step !== "strongest"), step],
    hidden: {
      edges: shown.hidden.edges + step.edges,
      nodes: shown.hidden.nodes + step.nodes,
      share: shown.hidden.share + step.share,
    },
  };
}

/** The same with some nodes in sight whatever their edges: those that somebody selected. */
export function withNodes(shown: Shown, wanted: Iterable<number>): Shown {
  const missing = [...wanted].filter((node) => shown.nodes[node] === 0);
  if (missing.length === 0) return shown;
  const nodes = shown.nodes.slice();
  for (const node of missing) nodes[node] = 1;
  return {
    ...shown,
    nodes,
    nodeCount: shown.nodeCount + missing.length,
    hidden: { ...shown.hidden, nodes: shown.hidden.nodes - missing.length },
  };
}
