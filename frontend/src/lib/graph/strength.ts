/**
 * How strong edges are, in which order, and which edges touch which node. Built once per graph and metric;
 * afterwards nothing needs to look at all edges again.
 *
 * An edge's strength is its value times the scale of its target: in units of the target's shown
 * activation, in logits for outputs.
 */

import type { GraphData, GraphMetric } from "./data";

/** Edges around each node, strongest first: those of node n are `edges[start[n]] … edges[start[n + 1] - 1]`. */
export interface Adjacency {
  readonly start: Uint32Array;
  readonly edges: Uint32Array;
}

export interface Strengths {
  readonly metric: GraphMetric;
  readonly value: Float32Array;
  /** Edge numbers by falling |strength|; equal ones by number. */
  readonly order: Uint32Array;
  /** Σ|strength| of all edges of the data. */
  readonly total: number;
  /** Edges that end in a node. */
  readonly incoming: Adjacency;
  /** Edges that begin in a node. */
  readonly outgoing: Adjacency;
  /** Σ|strength| of the edges that touch a node. */
  readonly through: Float32Array;
}

export function strengthsOf(data: GraphData, metric: GraphMetric): Float32Array {
  const values = metric === "attr" ? data.attr : data.attrAbs;
  const result = new Float32Array(data.edges);
  for (let edge = 0; edge < data.edges; edge++)
    result[edge] = (values[edge] ?? 0) * (data.scale[data.target[edge] ?? 0] ?? 1);
  return result;
}

const DIGIT = 11;
const BUCKETS = 1 << DIGIT;

/**
 * Numbers of the entries by falling |value|: a radix sort on the bits, which of non-negative floats have the
 * order of the numbers. A hundred thousand take a few milliseconds; a comparing sort takes a hundred.
 */
export function orderByMagnitude(values: Float32Array): Uint32Array {
  const count = values.length;
  const bits = new Uint32Array(Float32Array.from(values, Math.abs).buffer);
  // Falling order: the complement rises. The sign bit is 0.
  for (let n = 0; n < count; n++) bits[n] = 0x7fffffff - (bits[n] ?? 0);
  let order = Uint32Array.from(bits, (_, n) => n);
  let sorted = new Uint32Array(count);
  for (let shift = 0; shift < 32; shift += DIGIT) {
    const next = new Uint32Array(BUCKETS + 1);
    const digit = (n: number): number => ((bits[n] ?? 0) >>> shift) & (BUCKETS - 1);
    for (let n = 0; n < count; n++) {
      const bucket = digit(n) + 1;
      next[bucket] = (next[bucket] ?? 0) + 1;
    }
    for (let bucket = 1; bucket < BUCKETS; bucket++)
      next[bucket] = (next[bucket] ?? 0) + (next[bucket - 1] ?? 0);
    for (let n = 0; n < count; n++) {
      const entry = order[n] ?? 0;
      const bucket = digit(entry);
      const place = next[bucket] ?? 0;
      sorted[place] = entry;
      next[bucket] = place + 1;
    }
    [order, sorted] = [sorted, order];
  }
  return order;
}

/** Group edges by one of their ends, keeping their order. */
function around(ends: Uint32Array, order: Uint32Array, nodes: number): Adjacency {
  const start = new Uint32Array(nodes + 1);
  for (const end of ends) start[end + 1] = (start[end + 1] ?? 0) + 1;
  for (let node = 0; node < nodes; node++) start[node + 1] = (start[node + 1] ?? 0) + (start[node] ?? 0);
  const next = start.slice();
  const edges = new Uint32Array(ends.length);
  for (const edge of order) {
    const end = ends[edge] ?? 0;
    const place = next[end] ?? 0;
    edges[place] = edge;
    next[end] = place + 1;
  }
  return { start, edges };
}

export function measure(data: GraphData, metric: GraphMetric): Strengths {
  const value = strengthsOf(data, metric);
  const order = orderByMagnitude(value);
  const through = new Float32Array(data.nodes);
  let total = 0;
  for (let edge = 0; edge < data.edges; edge++) {
    const size = Math.abs(value[edge] ?? 0);
    const [source, target] = [data.source[edge] ?? 0, data.target[edge] ?? 0];
    total += size;
    through[source] = (through[source] ?? 0) + size;
    through[target] = (through[target] ?? 0) + size;
  }
  return {
    metric,
    value,
    order,
    total,
    incoming: around(data.target, order, data.nodes),
    outgoing: around(data.source, order, data.nodes),
    through,
  };
}

const known = new WeakMap<GraphData, Partial<Record<GraphMetric, Strengths>>>();

/** `measure`, remembered for as long as the graph is. */
export function strengths(data: GraphData, metric: GraphMetric): Strengths {
  const measured = known.get(data) ?? {};
  known.set(data, measured);
  return (measured[metric] ??= measure(data, metric));
}

/** The edges on one side of a node, strongest first. */
export function edgesAt(adjacency: Adjacency, node: number): Uint32Array {
  return adjacency.edges.subarray(adjacency.start[node] ?? 0, adjacency.start[node + 1] ?? 0);
}
