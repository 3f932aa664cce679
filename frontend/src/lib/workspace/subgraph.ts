/**
 * The pinned subgraph as a graph of its own: the pinned nodes, the members of groups merged into one node
 * for each group where that is wanted, and the edges between them.
 *
 * Edges between the same two ends are summed. A sum into a merged node needs one unit, so its edges hold
 * strengths (value times scale of the target that each had) and its scale is 1; the strength of every edge
 * stays what it was. Edges inside a merged node are not drawn; how many and how strong is reported.
 */

import { type GraphData, type GraphMetric } from "../graph/data";
import { strengthsOf } from "../graph/strength";
import type { Contents, Group } from "./model";

export interface Subgraph {
  readonly data: GraphData;
  /** The nodes of the whole graph that a node of this one stands for. */
  readonly members: readonly (readonly number[])[];
  /** The group that a node of this one is, or `null`. */
  readonly groups: readonly (Group | null)[];
  /** Node of the whole graph → node of this one. */
  readonly place: ReadonlyMap<number, number>;
  /** Pinned keys that the graph does not have: pinned in another graph's file, or below its threshold. */
  readonly missing: readonly string[];
  readonly inside: { readonly edges: number; readonly strength: number };
}

function numbersOf(data: GraphData, keys: readonly string[]): number[] {
  return keys.map((key) => data.find(key)).filter((node) => node !== null);
}

/** The nodes that belong to the subgraph: pins, and members of groups. */
export function chosenKeys(contents: Contents): ReadonlySet<string> {
  return new Set([...contents.pins, ...contents.groups.flatMap((group) => group.members)]);
}

interface Ends {
  /** Index of `members` by node of the whole graph; −1 where it is not in. */
  readonly of: Int32Array;
  readonly members: number[][];
  readonly groups: (Group | null)[];
}

/** Who stands for whom. A node in several groups belongs to the first of them. */
function standIns(data: GraphData, contents: Contents, merge: boolean): Ends {
  const of = new Int32Array(data.nodes).fill(-1);
  const members: number[][] = [];
  const groups: (Group | null)[] = [];
  const take = (nodes: readonly number[], group: Group | null): void => {
    const free = nodes.filter((node) => of[node] === -1);
    if (free.length === 0) return;
    for (const node of free) of[node] = members.length;
    members.push([...new Set(free)]);
    groups.push(group);
  };
  if (merge) for (const group of contents.groups) take(numbersOf(data, group.members), group);
  const rest = numbersOf(data, [...chosenKeys(contents)]).sort((a, b) => a - b);
  for (const node of rest) take([node], null);
  return { of, members, groups };
}

/** The member with the strongest edges to and from the rest of the graph. */
function principal(nodes: readonly number[], through: Float64Array): number {
  return nodes.reduce(
    (best, node) => ((through[node] ?? 0) > (through[best] ?? 0) ? node : best),
    nodes[0] ?? 0,
  );
}

function throughOf(data: GraphData, strength: Float32Array): Float64Array {
  const through = new Float64Array(data.nodes);
  for (let edge = 0; edge < data.edges; edge++) {
    const size = Math.abs(strength[edge] ?? 0);
    for (const end of [data.source[edge] ?? 0, data.target[edge] ?? 0])
      through[end] = (through[end] ?? 0) + size;
  }
  return through;
}

/** Those of the graph; a merged node is called by its group's name and size, told apart where two are alike. */
function keysOf(
  data: GraphData,
  heads: readonly number[],
  members: readonly (readonly number[])[],
  groups: readonly (Group | null)[],
): readonly string[] {
  const seen = new Map<string, number>();
  return heads.map((head, node) => {
    const group = groups[node];
    if (!group) return data.key(head);
    const size = members[node]?.length ?? 0;
    const name = `${group.name} (${size} ${size === 1 ? "node" : "nodes"})`;
    const before = seen.get(name) ?? 0;
    seen.set(name, before + 1);
    return before === 0 ? name : `${name} #${before + 1}`;
  });
}

/** `merge`: groups become one node each; otherwise their members stand alone. */
export function pinnedSubgraph(
  data: GraphData,
  contents: Contents,
  merge: boolean,
  metric: GraphMetric = "attr",
): Subgraph {
  const { of, members, groups } = standIns(data, contents, merge);
  const strength = strengthsOf(data, "attr");
  const strengthAbs = strengthsOf(data, "attr_abs");
  const count = members.length;

  // Sums by pair of ends; a pair's number is target · count + source, so that keys sort by target.
  const sums = new Map<number, { attr: number; attrAbs: number }>();
  let insideEdges = 0;
  let insideStrength = 0;
  const wanted = metric === "attr" ? strength : strengthAbs;
  for (let edge = 0; edge < data.edges; edge++) {
    const source = of[data.source[edge] ?? 0] ?? -1;
    const target = of[data.target[edge] ?? 0] ?? -1;
    if (source < 0 || target < 0) continue;
    if (source === target) {
      insideEdges += 1;
      insideStrength += Math.abs(wanted[edge] ?? 0);
      continue;
    }
    const merged = groups[target] !== null;
    const pair = target * count + source;
    const sum = sums.get(pair) ?? { attr: 0, attrAbs: 0 };
    sum.attr += (merged ? strength[edge] : data.attr[edge]) ?? 0;
    sum.attrAbs += (merged ? strengthAbs[edge] : data.attrAbs[edge]) ?? 0;
    sums.set(pair, sum);
  }
  const pairs = [...sums].sort(([a], [b]) => a - b);

  const through = throughOf(data, strength);
  const heads = members.map((nodes) => principal(nodes, through));
  const column = (values: Float32Array, ofGroup: number): Float32Array =>
    Float32Array.from(heads, (head, node) => (groups[node] === null ? (values[head] ?? NaN) : ofGroup));
  const keys = keysOf(data, heads, members, groups);
  const key = (node: number): string => keys[node] ?? "";
  const byKey = new Map(keys.map((one, node) => [one, node]));
  const missing = [...chosenKeys(contents)].filter((one) => data.find(one) === null);

  const sub: GraphData = {
    ...data,
    nodes: count,
    site: Int16Array.from(heads, (head) => data.site[head] ?? 0),
    position: Int16Array.from(heads, (head) => data.position[head] ?? 0),
    index: Int32Array.from(heads, (head) => data.index[head] ?? 0),
    ci: column(data.ci, NaN),
    activation: column(data.activation, NaN),
    scale: column(data.scale, 1),
    probability: column(data.probability, NaN),
    logit: column(data.logit, NaN),
    ciProbability: column(data.ciProbability, NaN),
    ciLogit: column(data.ciLogit, NaN),
    edges: pairs.length,
    source: Uint32Array.from(pairs, ([pair]) => pair % count),
    target: Uint32Array.from(pairs, ([pair]) => Math.floor(pair / count)),
    attr: Float32Array.from(pairs, ([, sum]) => sum.attr),
    attrAbs: Float32Array.from(pairs, ([, sum]) => sum.attrAbs),
    key,
    find: (wantedKey) => byKey.get(wantedKey) ?? null,
    name: (node) => groups[node]?.name ?? null,
    label: (node) => (groups[node] === null ? data.label(heads[node] ?? 0) : null),
  };
  const place = new Map(members.flatMap((nodes, node) => nodes.map((one) => [one, node] as const)));
  return {
    data: sub,
    members,
    groups,
    place,
    missing,
    inside: { edges: insideEdges, strength: insideStrength },
  };
}
