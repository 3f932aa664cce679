/**
 * A prompt graph in typed arrays: what the server says about its nodes (JSON) and its edges (binary).
 * Nothing here is an object per edge.
 *
 * Edges arrive as `TRIBGRF1`, then n and total (u32), the share of Σ|attr·scale[target]| that was not
 * sent (f64), then the columns source u32[n], target u32[n], attr f32[n], attr_abs f32[n], all
 * little-endian. Whatever does not fit this exactly is refused with a `GraphFormatError`: a graph that is
 * drawn is the graph that was computed.
 */

export type GraphMetric = "attr" | "attr_abs";

export interface GraphToken {
  readonly id: number;
  readonly text: string;
}

export interface GraphTerm {
  readonly position: number;
  readonly token_id: number;
  readonly weight: number;
}

export interface GraphTarget {
  readonly name: string;
  readonly terms: readonly GraphTerm[];
}

/** What was left out of something, of how much: shares are of Σ|attr·scale[target]|, between 0 and 1. */
export interface Omitted {
  readonly edges: number;
  readonly share: number;
  readonly shareAbs: number;
}

/** `index` of a node that is no component. */
export const DELTA = -1;
export const BIAS = -2;

export interface GraphData {
  readonly tokens: readonly GraphToken[];
  /** Addresses that `site` points into. */
  readonly addresses: readonly string[];
  readonly targets: readonly GraphTarget[];

  readonly nodes: number;
  readonly site: Int16Array;
  readonly position: Int16Array;
  /** Component or token id, or `DELTA`, `BIAS`. */
  readonly index: Int32Array;
  /** NaN where a node has none: only components have a causal importance, only outputs a probability. */
  readonly ci: Float32Array;
  readonly activation: Float32Array;
  /** ‖U_c‖ of components, 1 elsewhere. An edge's strength is attr · scale[target]. */
  readonly scale: Float32Array;
  readonly probability: Float32Array;
  readonly logit: Float32Array;
  readonly ciProbability: Float32Array;
  readonly ciLogit: Float32Array;

  readonly edges: number;
  readonly source: Uint32Array;
  readonly target: Uint32Array;
  readonly attr: Float32Array;
  readonly attrAbs: Float32Array;
  /** Stored edges that were not asked for, and their share. */
  readonly unsent: { readonly edges: number; readonly share: number };
  /** Edges that the computation itself left out, by threshold or cap. */
  readonly omitted: Omitted;

  /** `0.attn.q:3:17`. */
  key(node: number): string;
  /** The number of the node with this key, if the graph has it. */
  find(key: string): number | null;
  /** The token's text of an embedding or output, the name of a custom target, else `null`. */
  label(node: number): string | null;
  /** The name that somebody gave to a node that stands for a group; it is always written beside its mark. */
  readonly name?: (node: number) => string | null;
}

export class GraphFormatError extends Error {
  override readonly name = "GraphFormatError";
}

interface EdgeColumns {
  readonly source: Uint32Array;
  readonly target: Uint32Array;
  readonly attr: Float32Array;
  readonly attrAbs: Float32Array;
  readonly unsent: { readonly edges: number; readonly share: number };
}

const MAGIC = "TRIBGRF1";
const HEADER_BYTES = 24;
const BYTES_PER_EDGE = 16;

function refuse(what: string): never {
  throw new GraphFormatError(what);
}

/** The columns of an edge file; views into `buffer`, nothing is copied. */
export function parseEdges(buffer: ArrayBuffer, nodes: number): EdgeColumns {
  if (buffer.byteLength < HEADER_BYTES) refuse(`The edges end after ${buffer.byteLength} bytes`);
  const magic = String.fromCharCode(...new Uint8Array(buffer, 0, MAGIC.length));
  if (magic !== MAGIC) refuse("The edges are not in the format TRIBGRF1");
  const header = new DataView(buffer);
  const count = header.getUint32(8, true);
  const total = header.getUint32(12, true);
  const share = header.getFloat64(16, true);
  const expected = HEADER_BYTES + BYTES_PER_EDGE * count;
  if (buffer.byteLength !== expected)
    refuse(`${count} edges need ${expected} bytes; there are ${buffer.byteLength}`);
  if (total < count) refuse(`${count} edges of only ${total}`);
  if (!(share >= 0 && share <= 1)) refuse(`The share of the edges not sent is ${share}`);
  // Typed arrays have the machine's byte order; every browser runs on little-endian machines.
  const column = (n: number): [ArrayBuffer, number, number] => [buffer, HEADER_BYTES + 4 * count * n, count];
  const source = new Uint32Array(...column(0));
  const target = new Uint32Array(...column(1));
  const attr = new Float32Array(...column(2));
  const attrAbs = new Float32Array(...column(3));
  for (let edge = 0; edge < count; edge++) {
    if ((source[edge] ?? nodes) >= nodes || (target[edge] ?? nodes) >= nodes)
      refuse(`Edge ${edge} joins node ${source[edge]} and ${target[edge]} of ${nodes}`);
    if (!Number.isFinite(attr[edge]) || !Number.isFinite(attrAbs[edge]))
      refuse(`Edge ${edge} has a value that is no number`);
  }
  return { source, target, attr, attrAbs, unsent: { edges: total - count, share } };
}

/** The same bytes as the server sends, for files that the page writes itself. */
export function printEdges(data: GraphData): ArrayBuffer {
  const buffer = new ArrayBuffer(HEADER_BYTES + BYTES_PER_EDGE * data.edges);
  const header = new DataView(buffer);
  for (let n = 0; n < MAGIC.length; n++) header.setUint8(n, MAGIC.charCodeAt(n));
  header.setUint32(8, data.edges, true);
  header.setUint32(12, data.edges + data.unsent.edges, true);
  header.setFloat64(16, data.unsent.share, true);
  const at = (n: number): number => HEADER_BYTES + 4 * data.edges * n;
  new Uint32Array(buffer, at(0), data.edges).set(data.source);
  new Uint32Array(buffer, at(1), data.edges).set(data.target);
  new Float32Array(buffer, at(2), data.edges).set(data.attr);
  new Float32Array(buffer, at(3), data.edges).set(data.attrAbs);
  return buffer;
}

type Fields = Readonly<Record<string, unknown>>;

function fields(value: unknown, what: string): Fields {
  if (typeof value !== "object" || value === null || Array.isArray(value)) refuse(`${what} is no object`);
  return value as Fields;
}

function list(value: unknown, what: string): readonly unknown[] {
  return Array.isArray(value) ? value : refuse(`${what} is no list`);
}

function text(value: unknown, what: string): string {
  return typeof value === "string" ? value : refuse(`${what} is no text`);
}

function numeric(value: unknown, what: string): number {
  return typeof value === "number" && Number.isFinite(value) ? value : refuse(`${what} is no number`);
}

function whole(value: unknown, what: string, from: number, to: number): number {
  const found = numeric(value, what);
  if (!Number.isInteger(found) || found < from || found > to)
    refuse(`${what} is ${found}, not a whole number from ${from} to ${to}`);
  return found;
}

function wholes<T extends Int16Array | Int32Array>(
  nodes: Fields,
  name: string,
  into: T,
  from: number,
  to: number,
): T {
  const values = list(nodes[name], `nodes.${name}`);
  if (values.length !== into.length) refuse(`nodes.${name} has ${values.length} entries of ${into.length}`);
  values.forEach((value, node) => (into[node] = whole(value, `nodes.${name}[${node}]`, from, to)));
  return into;
}

/** A column of numbers in which `null` stands for "has none". */
function numbers(nodes: Fields, name: string, count: number): Float32Array {
  const values = list(nodes[name], `nodes.${name}`);
  if (values.length !== count) refuse(`nodes.${name} has ${values.length} entries of ${count}`);
  return Float32Array.from(values, (value, node) =>
    value === null ? Number.NaN : numeric(value, `nodes.${name}[${node}]`),
  );
}

function parseTarget(value: unknown, n: number): GraphTarget {
  const target = fields(value, `targets[${n}]`);
  return {
    name: text(target["name"], `targets[${n}].name`),
    terms: list(target["terms"], `targets[${n}].terms`).map((term, m) => {
      const what = `targets[${n}].terms[${m}]`;
      const found = fields(term, what);
      return {
        position: whole(found["position"], `${what}.position`, 0, 32767),
        token_id: whole(found["token_id"], `${what}.token_id`, 0, 2 ** 31 - 1),
        weight: numeric(found["weight"], `${what}.weight`),
      };
    }),
  };
}

function indexText(index: number): string {
  if (index === DELTA) return "delta";
  return index === BIAS ? "bias" : String(index);
}

/** A graph from the server's two answers; `detail` is the JSON, not trusted to have any shape. */
export function parseGraph(detail: unknown, edges: ArrayBuffer): GraphData {
  const graph = fields(detail, "The graph");
  const tokens = list(graph["tokens"], "tokens").map((value, n) => {
    const token = fields(value, `tokens[${n}]`);
    return {
      id: whole(token["id"], `tokens[${n}].id`, 0, 2 ** 31 - 1),
      text: text(token["text"], `tokens[${n}].text`),
    };
  });
  const addresses = list(graph["addresses"], "addresses").map((value, n) => text(value, `addresses[${n}]`));
  const targets = list(graph["targets"] ?? [], "targets").map(parseTarget);
  const columns = fields(graph["nodes"], "nodes");
  const count = list(columns["site"], "nodes.site").length;
  const site = wholes(columns, "site", new Int16Array(count), 0, addresses.length - 1);
  const position = wholes(columns, "position", new Int16Array(count), 0, tokens.length - 1);
  const index = wholes(columns, "index", new Int32Array(count), BIAS, 2 ** 31 - 1);
  const scale = numbers(columns, "scale", count);
  scale.forEach((value, node) => {
    if (!(value >= 0)) refuse(`nodes.scale[${node}] is ${value}`);
  });
  const labels = new Map<number, string>();
  for (const [node, label] of Object.entries(fields(graph["labels"] ?? {}, "labels")))
    labels.set(whole(Number(node), "A node of labels", 0, count - 1), text(label, `labels[${node}]`));
  const left = fields(graph["omitted"], "omitted");

  const key = (node: number): string =>
    `${addresses[site[node] ?? -1] ?? "?"}:${position[node]}:${indexText(index[node] ?? 0)}`;
  let byKey: Map<string, number> | null = null;
  return {
    tokens,
    addresses,
    targets,
    nodes: count,
    site,
    position,
    index,
    ci: numbers(columns, "ci", count),
    activation: numbers(columns, "activation", count),
    scale,
    probability: numbers(columns, "probability", count),
    logit: numbers(columns, "logit", count),
    ciProbability: numbers(columns, "ci_probability", count),
    ciLogit: numbers(columns, "ci_logit", count),
    ...parseEdges(edges, count),
    edges: (edges.byteLength - HEADER_BYTES) / BYTES_PER_EDGE,
    omitted: {
      edges: whole(left["edges"], "omitted.edges", 0, Number.MAX_SAFE_INTEGER),
      share: numeric(left["share"], "omitted.share"),
      shareAbs: numeric(left["share_abs"], "omitted.share_abs"),
    },
    key,
    find: (wanted) => {
      byKey ??= new Map(Array.from({ length: count }, (_, node) => [key(node), node]));
      return byKey.get(wanted) ?? null;
    },
    label: (node) => {
      if (addresses[site[node] ?? -1] === "target") return targets[index[node] ?? -1]?.name ?? null;
      return labels.get(node) ?? null;
    },
  };
}
