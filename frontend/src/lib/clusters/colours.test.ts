import { describe, expect, it } from "vitest";

import { classAt, sizesOf } from "../graph/colouring";
import { madeGraph } from "../graph/testing";
import { datasetKey, isComponent } from "../workspace/nodes";
import { ClusterBook } from "./book";
import { clusterColouring, rankedClusters } from "./colours";

const data = madeGraph({ nodes: 900, edges: 3000, tokens: [" a", " b", " c"] });
const every = [...Array(data.nodes).keys()];
const components = every.filter((node) => isComponent(data, node));
const keyOf = (node: number): string => datasetKey(data, node) ?? "";

/** How many nodes the components of a cluster have in the graph. */
function nodesOf(keys: readonly string[]): number {
  return components.filter((node) => keys.includes(keyOf(node))).length;
}

function bookOf(clusters: readonly (readonly string[])[], alone: readonly string[]): ClusterBook {
  return new ClusterBook({
    run: "toy",
    clustering: {
      subrun: "20260101-000000",
      kind: "computed",
      created: "",
      notes: "",
      n_positions: 1000,
      iterations: 1500,
      default_iteration: 1500,
      settings: { least: "1" },
      provenance: {},
    },
    iteration: 1500,
    description_length: 0,
    clusters: clusters.map((members, n) => ({
      cluster: 10 * n,
      size: members.length,
      density: null,
      members: [...members],
    })),
    alone: [...alone],
    n_unknown: 0,
    seconds: 0,
  });
}

/** Keys of the graph's components, each once. */
const keys = [...new Set(components.map(keyOf))];
/** Ten clusters of 2, 4, 6 … components, then five that are alone; the rest is unknown. */
const sizes = [...Array(10).keys()].map((n) => 2 * (n + 1));
const starts = sizes.map((_, n) => sizes.slice(0, n).reduce((sum, size) => sum + size, 0));
const clusters = sizes.map((size, n) => keys.slice(starts[n], (starts[n] ?? 0) + size));
const alone = keys.slice(110, 115);
const book = bookOf(clusters, alone);

describe("nodes by cluster", () => {
  const colouring = clusterColouring(data, book);

  it("gives the hues to the clusters with the most nodes, and says how many are beyond", () => {
    expect(keys.length).toBeGreaterThan(120);
    const ranked = clusters
      .map((members, n) => ({ cluster: 10 * n, nodes: nodesOf(members) }))
      .sort((a, b) => b.nodes - a.nodes || a.cluster - b.cluster)
      .map(({ cluster }) => cluster);
    expect(rankedClusters(data, book)).toEqual(ranked);
    expect(colouring.classes.map(({ id, ink }) => [id, ink])).toEqual([
      ...ranked.slice(0, 8).map((cluster, ink) => [`cluster ${cluster}`, ink]),
      ["other", "neutral"],
      ["alone", "ink"],
      ["unknown", "cross"],
    ]);
    expect(colouring.classes[8]?.words).toBe("2 other clusters");
    expect(colouring.words).toBe("nodes by cluster (20260101-000000 after 1,500 merges)");
  });

  it("tells apart who is alone, who is unknown, and what is no component", () => {
    const kind = (node: number): string | null => classAt(colouring, node)?.id ?? null;
    for (const node of every) {
      const key = keyOf(node);
      const cluster = clusters.findIndex((members) => members.includes(key));
      if (!components.includes(node)) expect(kind(node)).toBeNull();
      else if (alone.includes(key)) expect(kind(node)).toBe("alone");
      else if (cluster < 0) expect(kind(node)).toBe("unknown");
      else expect([`cluster ${10 * cluster}`, "other"]).toContain(kind(node));
    }
    const other = components.find((node) => kind(node) === "other") ?? 0;
    const cluster = clusters.findIndex((members) => members.includes(keyOf(other)));
    expect(colouring.own[other]).toBe(`cluster ${10 * cluster}`);
    expect(sizesOf(colouring).reduce((sum, size) => sum + size)).toBe(components.length);
  });

  it("leaves out what the graph does not have", () => {
    const all = clusterColouring(data, bookOf([keys], []));
    expect(all.classes.map(({ id }) => id)).toEqual(["cluster 0"]);
    expect(all.classes[0]?.means).toBe(`${keys.length} components of the run`);
    expect(clusterColouring(data, bookOf([], keys)).classes.map(({ id }) => id)).toEqual(["alone"]);
  });

  it("keeps the hues of another graph's order", () => {
    const [first = 0, second = 0] = rankedClusters(data, book);
    const other = clusterColouring(data, book, [second, first]);
    expect(other.classes.slice(0, 2).map(({ id }) => id)).toEqual([`cluster ${second}`, `cluster ${first}`]);
    expect(other.classes[2]?.words).toBe("8 other clusters");
  });
});
