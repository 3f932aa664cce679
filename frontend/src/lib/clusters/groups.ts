/**
 * Nodes of a prompt graph by cluster. A group holds the nodes of one cluster at one position: what is needed
 * together in the text is put together in the picture, and where attention moves from one position to
 * another stays in sight.
 */

import { DELTA, type GraphData } from "../graph/data";
import { type Contents, type Group, NAME_LIMIT } from "../workspace/model";
import type { ClusterBook } from "./book";

/** Groups of two nodes or more among `nodes`, the largest first. */
export function clusterGroups(data: GraphData, nodes: Iterable<number>, book: ClusterBook): readonly Group[] {
  const members = new Map<string, { cluster: number; position: number; keys: string[] }>();
  for (const node of nodes) {
    const index = data.index[node] ?? DELTA;
    if (index < 0) continue;
    const placement = book.of(`${data.addresses[data.site[node] ?? 0] ?? ""}:${index}`);
    if (placement.kind !== "cluster") continue;
    const position = data.position[node] ?? 0;
    const { cluster } = placement.cluster;
    const id = `cluster-${cluster}-${position}`;
    const group = members.get(id) ?? { cluster, position, keys: [] };
    group.keys.push(data.key(node));
    members.set(id, group);
  }
  return [...members]
    .filter(([, { keys }]) => keys.length > 1)
    .sort(([, a], [, b]) => b.keys.length - a.keys.length || a.cluster - b.cluster || a.position - b.position)
    .map(([id, { cluster, position, keys }]) => ({
      id,
      name: `Cluster ${cluster} at ${position}`.slice(0, NAME_LIMIT),
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

/** The whole graph, with the nodes of each group as one. */
export function foldedContents(data: GraphData, groups: readonly Group[]): Contents {
  const pins = Array.from({ length: data.nodes }, (_, node) => data.key(node));
  return { pins, groups, notes: [] };
}
