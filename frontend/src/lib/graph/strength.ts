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
 * order of the numbers. A million take 30 ms; a comparing sort takes a second. The keys move along with the
 * numbers: looking them up at random places would take most of the time.
 */
export function orderByMagnitude(values: Float32Array): Uint32Array {
  const count = values.length;
  let keys = new Uint32Array(Float32Array.from(values).buffer);
  let order = new Uint32Array(count);
  const digits = Array.from({ length: Math.ceil(32 / DIGIT) }, () => new Uint32Array(BUCKETS));
  for (let n = 0; n < count; n++) {
    // Falling order: the complement rises. Without the sign bit, it is that of |value|.
    const key = 0x7fffffff - ((keys[n] ?? 0) & 0x7fffffff);
    keys[n] = key;
    order[n] = n;
    for (let pass = 0; pass < digits.length; pass++) {
      const counts = digits[pass] as Uint32Array;
      const digit = (key >>> (pass * DIGIT)) & (BUCKETS - 1);
      counts[digit] = (counts[digit] ?? 0) + 1;
    }
  }
  let movedKeys = new Uint32Array(count);
  let movedOrder = new Uint32Array(count);
  for (const [pass, next] of digits.entries()) {
    let start = 0;
    for (let digit = 0; digit < BUCKETS; digit++) {
      const size = next[digit] ?? 0;
      next[digit] = start;
      start += size;
    }
    const shift = pass * DIGIT;
    for (let n = 0; n < count; n++) {
      const key = keys[n] ?? 0;
      const digit = (key >>> shift) & (BUCKETS - 1);
      const place = next[digit] ?? 0;
      movedKeys[place] = key;
      movedOrder[place] = order[n] ?? 0;
      next[digit] = place + 1;
    }
    [keys, movedKeys] = [movedKeys, keys];
    [order, movedOrder] = [movedOrder, order];
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
