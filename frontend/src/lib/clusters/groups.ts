/**
 * Nodes of a prompt graph by cluster. A group that a person gets holds the nodes of one cluster at one
 * position: what is needed together is put together, and where attention moves from one position to another
 * stays in sight. Where the whole graph is folded, a node also stays in its layer: a cluster that is needed
 * everywhere reaches through all layers, and has no place in any one of them.
 */

import { DELTA, type GraphData, type GraphMetric } from "../graph/data";
import { type Contents, type Group, NAME_LIMIT } from "../workspace/model";
import { type Subgraph, pinnedSubgraph } from "../workspace/subgraph";
import type { ClusterBook } from "./book";

/** Groups of two nodes or more among `nodes`, the largest first; `layers`: none reaches over two layers. */
export function clusterGroups(
  data: GraphData,
  nodes: Iterable<number>,
  book: ClusterBook,
  layers = false,
): readonly Group[] {
  const members = new Map<string, { cluster: number; where: string; keys: string[] }>();
  for (const node of nodes) {
    const index = data.index[node] ?? DELTA;
    if (index < 0) continue;
    const address = data.addresses[data.site[node] ?? 0] ?? "";
    const placement = book.of(`${address}:${index}`);
    if (placement.kind !== "cluster") continue;
    const { cluster } = placement.cluster;
    const where = `${layers ? `${address}:` : ""}${data.position[node] ?? 0}`;
    const id = `cluster-${cluster}-${where}`;
    const group = members.get(id) ?? { cluster, where, keys: [] };
    group.keys.push(data.key(node));
    members.set(id, group);
  }
  return [...members]
    .filter(([, { keys }]) => keys.length > 1)
    .sort(([, a], [, b]) => b.keys.length - a.keys.length || a.cluster - b.cluster)
    .map(([id, { cluster, where, keys }]) => ({
      id,
      name: `Cluster ${cluster} at ${where}`.slice(0, NAME_LIMIT),
      members: keys,
    }));
}

/** The contents with these groups added; a group of the same name takes the members in. `mark` tells ids apart. */
export function withGroups(contents: Contents, groups: readonly Group[], mark: string): Contents {
  const taken = new Set(contents.groups.map((group) => group.name));
  const merged = contents.groups.map((group) => {
    const more = groups.find((one) => one.name === group.name);
    return more === undefined
      ? group
      : { ...group, members: [...new Set([...group.members, ...more.members])] };
  });
  const added = groups.filter((group) => !taken.has(group.name));
  return {
    ...contents,
    groups: [...merged, ...added.map((group) => ({ ...group, id: `${group.id}-${mark}` }))],
  };
}

/** The whole graph, the nodes of each cluster in one layer at one position as one; beside its mark stands the cluster's number. */
export function foldedGraph(data: GraphData, book: ClusterBook, metric: GraphMetric): Subgraph {
  const nodes = Array.from({ length: data.nodes }, (_, node) => node);
  const contents: Contents = {
    pins: nodes.map((node) => data.key(node)),
    groups: clusterGroups(data, nodes, book, true),
    notes: [],
  };
  const folded = pinnedSubgraph(data, contents, true, metric);
  const number = (node: number): string | null => {
    const group = folded.groups[node];
    return group ? (/\d+/.exec(group.name)?.[0] ?? null) : null;
  };
  return { ...folded, data: { ...folded.data, name: number } };
}
