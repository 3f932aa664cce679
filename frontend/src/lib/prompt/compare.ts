/**
 * Two graphs of one prompt side by side: what only the first has (vanished), what only the second has
 * (appeared), and how the edges of both changed; and a graph of the differences, to be drawn like any other.
 *
 * Edges are compared by strength, value times scale of the target. In the graph of differences an edge's
 * value is the second's strength minus the first's and every scale is 1. Its nodes begin with the first
 * graph's, under the same numbers; those that only the second has follow.
 */

import type { Failure } from "../api/failure";
import type { GraphDetail } from "../api/promptTypes";
import { type GraphData, type GraphMetric, type GraphTarget } from "../graph/data";
import { strengthsOf } from "../graph/strength";

export interface EdgeChange {
  /** Node numbers in the graph of differences. */
  readonly source: number;
  readonly target: number;
  readonly before: number;
  readonly after: number;
}

export interface EdgeChanges {
  readonly total: number;
  /** Σ |after − before|. */
  readonly size: number;
  /** The largest differences. */
  readonly top: readonly EdgeChange[];
}

export interface Comparison {
  readonly data: GraphData;
  /** Nodes of the graph of differences that only the second or only the first has. */
  readonly appeared: readonly number[];
  readonly vanished: readonly number[];
  readonly shared: number;
  readonly edges: Readonly<Record<"appeared" | "vanished" | "changed", EdgeChanges>>;
  /** Shared edges whose strength is the same to six digits. */
  readonly unchanged: number;
}

export type Compared =
  | { readonly kind: "none" }
  | { readonly kind: "loading" }
  | { readonly kind: "failed"; readonly failure: Failure }
  | { readonly kind: "ready"; readonly other: GraphDetail; readonly comparison: Comparison };

/** Equal to within what storing in 32 bits leaves. */
const SAME = 1e-6;

/** A custom target is the same where its terms are, whatever its number. */
function identity(data: GraphData, node: number): string {
  if (data.addresses[data.site[node] ?? -1] !== "target") return data.key(node);
  const target = data.targets[data.index[node] ?? -1];
  return `target:${data.position[node]}:${JSON.stringify(target?.terms ?? node)}`;
}

function join(first: GraphData, second: GraphData): { addresses: string[]; targets: GraphTarget[] } {
  const addresses = [...new Set([...first.addresses, ...second.addresses])];
  const targets = [...first.targets];
  const known = new Set(first.targets.map((target) => JSON.stringify(target.terms)));
  for (const target of second.targets) if (!known.has(JSON.stringify(target.terms))) targets.push(target);
  return { addresses, targets };
}

function changesOf(changes: EdgeChange[], most: number): EdgeChanges {
  const difference = (change: EdgeChange): number => Math.abs(change.after - change.before);
  changes.sort((a, b) => difference(b) - difference(a));
  return {
    total: changes.length,
    size: changes.reduce((sum, change) => sum + difference(change), 0),
    top: changes.slice(0, most),
  };
}

export function compare(first: GraphData, second: GraphData, metric: GraphMetric, most = 50): Comparison {
  const byIdentity = new Map(Array.from({ length: first.nodes }, (_, node) => [identity(first, node), node]));
  // Where each node of the second lies in the graph of differences.
  const place = new Int32Array(second.nodes);
  const added: number[] = [];
  const kept = new Uint8Array(first.nodes);
  for (let node = 0; node < second.nodes; node += 1) {
    const same = byIdentity.get(identity(second, node));
    if (same === undefined) {
      place[node] = first.nodes + added.length;
      added.push(node);
    } else {
      place[node] = same;
      kept[same] = 1;
    }
  }
  const nodes = first.nodes + added.length;

  const before = { attr: strengthsOf(first, "attr"), attr_abs: strengthsOf(first, "attr_abs") };
  const after = { attr: strengthsOf(second, "attr"), attr_abs: strengthsOf(second, "attr_abs") };
  const pair = (source: number, target: number): number => target * nodes + source;
  const rest = new Map<number, number>();
  for (let edge = 0; edge < first.edges; edge += 1)
    rest.set(pair(first.source[edge] ?? 0, first.target[edge] ?? 0), edge);

  const columns: { source: number[]; target: number[]; attr: number[]; attrAbs: number[] } = {
    source: [],
    target: [],
    attr: [],
    attrAbs: [],
  };
  const lists: Record<"appeared" | "vanished" | "changed", EdgeChange[]> = {
    appeared: [],
    vanished: [],
    changed: [],
  };
  let unchanged = 0;
  const add = (source: number, target: number, old: number | null, fresh: number | null): void => {
    const value = (which: GraphMetric): { before: number; after: number } => ({
      before: old === null ? 0 : (before[which][old] ?? 0),
      after: fresh === null ? 0 : (after[which][fresh] ?? 0),
    });
    const [attr, attrAbs] = [value("attr"), value("attr_abs")];
    const wanted = metric === "attr" ? attr : attrAbs;
    const size = Math.max(Math.abs(wanted.before), Math.abs(wanted.after));
    if (old !== null && fresh !== null && Math.abs(wanted.after - wanted.before) <= SAME * size) {
      unchanged += 1;
      return;
    }
    columns.source.push(source);
    columns.target.push(target);
    columns.attr.push(attr.after - attr.before);
    columns.attrAbs.push(attrAbs.after - attrAbs.before);
    const list = old === null ? lists.appeared : fresh === null ? lists.vanished : lists.changed;
    list.push({ source, target, ...wanted });
  };
  for (let edge = 0; edge < second.edges; edge += 1) {
    const source = place[second.source[edge] ?? 0] ?? 0;
    const target = place[second.target[edge] ?? 0] ?? 0;
    const old = rest.get(pair(source, target));
    rest.delete(pair(source, target));
    add(source, target, old ?? null, edge);
  }
  for (const edge of rest.values()) add(first.source[edge] ?? 0, first.target[edge] ?? 0, edge, null);

  return {
    data: differences(first, second, added, columns),
    appeared: added.map((_, n) => first.nodes + n),
    vanished: [...kept.keys()].filter((node) => kept[node] === 0),
    shared: kept.reduce((sum, one) => sum + one, 0),
    edges: {
      appeared: changesOf(lists.appeared, most),
      vanished: changesOf(lists.vanished, most),
      changed: changesOf(lists.changed, most),
    },
    unchanged,
  };
}

function differences(
  first: GraphData,
  second: GraphData,
  added: readonly number[],
  edges: { source: number[]; target: number[]; attr: number[]; attrAbs: number[] },
): GraphData {
  const nodes = first.nodes + added.length;
  const { addresses, targets } = join(first, second);
  const column = (mine: Float32Array, theirs: Float32Array): Float32Array =>
    Float32Array.from([...mine, ...added.map((node) => theirs[node] ?? NaN)]);
  const siteOf = (data: GraphData, node: number): number =>
    addresses.indexOf(data.addresses[data.site[node] ?? -1] ?? "");
  const indexOf = (node: number): number => {
    const index = second.index[node] ?? 0;
    if (second.addresses[second.site[node] ?? -1] !== "target") return index;
    const terms = JSON.stringify(second.targets[index]?.terms);
    return targets.findIndex((target) => JSON.stringify(target.terms) === terms);
  };
  const site = Int16Array.from([
    ...Array.from(first.site, (_, node) => siteOf(first, node)),
    ...added.map((node) => siteOf(second, node)),
  ]);
  const position = Int16Array.from([...first.position, ...added.map((node) => second.position[node] ?? 0)]);
  const index = Int32Array.from([...first.index, ...added.map(indexOf)]);
  const key = (node: number): string => {
    if (node < first.nodes) return first.key(node);
    const other = added[node - first.nodes] ?? 0;
    const theirs = second.key(other);
    return addresses[site[node] ?? -1] === "target" ? `target:${position[node]}:${index[node]}` : theirs;
  };
  const byKey = new Map(Array.from({ length: nodes }, (_, node) => [key(node), node]));
  return {
    tokens: first.tokens,
    addresses,
    targets,
    nodes,
    site,
    position,
    index,
    ci: column(first.ci, second.ci),
    activation: column(first.activation, second.activation),
    scale: new Float32Array(nodes).fill(1),
    probability: column(first.probability, second.probability),
    logit: column(first.logit, second.logit),
    ciProbability: column(first.ciProbability, second.ciProbability),
    ciLogit: column(first.ciLogit, second.ciLogit),
    edges: edges.source.length,
    source: Uint32Array.from(edges.source),
    target: Uint32Array.from(edges.target),
    attr: Float32Array.from(edges.attr),
    attrAbs: Float32Array.from(edges.attrAbs),
    unsent: { edges: 0, share: 0 },
    omitted: { edges: 0, share: 0, shareAbs: 0 },
    key,
    find: (wanted) => byKey.get(wanted) ?? null,
    label: (node) => (node < first.nodes ? first.label(node) : second.label(added[node - first.nodes] ?? 0)),
  };
}
