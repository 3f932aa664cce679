/**
 * The nodes of a prompt graph told apart by cluster. The clusters with the most nodes in the whole graph have
 * the hues, so that no filter changes a colour; all others share the neutral. Who is alone and who is unknown
 * to the clustering are two things more, each with a look of its own.
 */

import { type Colouring, HUES, type NodeClass } from "../graph/colouring";
import type { GraphData } from "../graph/data";
import { count } from "../format/numbers";
import { datasetKey, isComponent } from "../workspace/nodes";
import { type ClusterBook, type Placement, placementWords, unknownWords } from "./book";

/** Where a node's component is; `null` for what is no component, such as a token or a bias. */
function placementOf(data: GraphData, node: number, book: ClusterBook): Placement | null {
  const key = isComponent(data, node) ? datasetKey(data, node) : null;
  return key === null ? null : book.of(key);
}

/** Numbers of the clusters of a graph, those with the most nodes first. */
export function rankedClusters(data: GraphData, book: ClusterBook): readonly number[] {
  const sizes = new Map<number, number>();
  for (let node = 0; node < data.nodes; node += 1) {
    const placement = placementOf(data, node, book);
    if (placement?.kind !== "cluster") continue;
    const { cluster } = placement.cluster;
    sizes.set(cluster, (sizes.get(cluster) ?? 0) + 1);
  }
  return [...sizes].sort(([a, m], [b, n]) => n - m || a - b).map(([cluster]) => cluster);
}

/** `ranked`: the clusters in the order of their hues. `data` may have nodes of other clusters too. */
export function clusterColouring(
  data: GraphData,
  book: ClusterBook,
  ranked: readonly number[] = rankedClusters(data, book),
): Colouring {
  const hued = ranked.slice(0, HUES);
  const others = new Set<number>();
  const placements = Array.from({ length: data.nodes }, (_, node) => placementOf(data, node, book));
  const ids = placements.map((placement) => {
    if (placement?.kind !== "cluster") return placement?.kind ?? null;
    const { cluster } = placement.cluster;
    if (hued.includes(cluster)) return `cluster ${cluster}`;
    others.add(cluster);
    return "other";
  });
  const present = new Set(ids);
  const classes = [
    ...hued.map((cluster, ink): NodeClass => ({
      id: `cluster ${cluster}`,
      words: `cluster ${cluster}`,
      means: `${count(book.cluster(cluster)?.size ?? 0)} components of the run`,
      ink,
    })),
    {
      id: "other",
      words: others.size === 1 ? "1 other cluster" : `${count(others.size)} other clusters`,
      means: `Clusters beyond the ${hued.length} that have the most nodes in this graph`,
      ink: "neutral",
    } as const,
    { id: "alone", words: "alone", means: "Looked at, and joined to no other", ink: "ink" } as const,
    {
      id: "unknown",
      words: "unknown",
      means: `The clustering says nothing of them: ${unknownWords(book.detail.clustering)}`,
      ink: "cross",
    } as const,
  ].filter((one) => present.has(one.id));
  const place = new Map(classes.map((one, n) => [one.id, n]));
  return {
    words: `nodes by cluster (${clusteringWords(book)})`,
    classes,
    of: Int16Array.from(ids, (id) => (id === null ? -1 : (place.get(id) ?? -1))),
    own: placements.map((placement) => (placement === null ? null : placementWords(placement))),
  };
}

function clusteringWords({ detail }: ClusterBook): string {
  const { subrun, kind } = detail.clustering;
  return kind === "imported" ? `${subrun}, imported` : `${subrun} after ${count(detail.iteration)} merges`;
}
