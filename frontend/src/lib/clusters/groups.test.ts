import { describe, expect, it } from "vitest";

import { madeGraph } from "../graph/testing";
import { EMPTY } from "../workspace/model";
import { ClusterBook } from "./book";
import { clusterGroups, foldedGraph, withGroups } from "./groups";

const data = madeGraph({ nodes: 900, edges: 3000, tokens: [" a", " b", " c"] });
const every = [...Array(data.nodes).keys()];
const componentOf = (node: number): string => `${data.addresses[data.site[node] ?? 0]}:${data.index[node]}`;
const isComponent = (node: number): boolean =>
  (data.index[node] ?? -1) >= 0 && /^\d/.test(data.addresses[data.site[node] ?? 0] ?? "");

/** Two clusters: the components of even and of odd index in the first block; the rest is unknown. */
const members = (rest: number): string[] => [
  ...new Set(
    every
      .filter(
        (node) =>
          isComponent(node) && componentOf(node).startsWith("0.") && (data.index[node] ?? 0) % 2 === rest,
      )
      .map(componentOf),
  ),
];
const book = new ClusterBook({
  run: "toy",
  clustering: {
    subrun: "s",
    kind: "computed",
    created: "",
    notes: "",
    n_positions: 1,
    iterations: 0,
    default_iteration: 0,
    settings: {},
    provenance: {},
  },
  iteration: 0,
  description_length: 0,
  clusters: [0, 1].map((number) => ({
    cluster: number,
    size: members(number).length,
    density: null,
    members: members(number),
  })),
  alone: [],
  n_unknown: 0,
  seconds: 0,
});

describe("nodes by cluster", () => {
  const groups = clusterGroups(data, every, book);

  it("puts together what is of one cluster at one position, and nothing else", () => {
    expect(groups.length).toBeGreaterThan(1);
    const expected = new Map<string, string[]>();
    for (const node of every) {
      if (!isComponent(node) || !componentOf(node).startsWith("0.")) continue;
      const name = `Cluster ${(data.index[node] ?? 0) % 2} at ${data.position[node]}`;
      expected.set(name, [...(expected.get(name) ?? []), data.key(node)]);
    }
    const wanted = [...expected].filter(([, keys]) => keys.length > 1);
    expect(new Map(groups.map((group) => [group.name, group.members]))).toEqual(new Map(wanted));
    const sizes = groups.map((group) => group.members.length);
    expect(sizes).toEqual([...sizes].sort((a, b) => b - a));
  });

  it("looks at the nodes it is given only", () => {
    const first = groups[0]?.members.map((key) => data.find(key) ?? -1) ?? [];
    expect(clusterGroups(data, first, book).map((group) => group.name)).toEqual([groups[0]?.name]);
    expect(clusterGroups(data, first.slice(0, 1), book)).toEqual([]);
  });

  it("adds groups beside those of a person, and members to groups of the same name", () => {
    const [first, second] = groups;
    if (first === undefined || second === undefined) throw new Error("two groups are needed");
    const mine = { id: "mine", name: "Mine", members: ["embed:0:1"] };
    const before = { ...EMPTY, groups: [mine, { id: "old", name: first.name, members: ["embed:0:2"] }] };
    const after = withGroups(before, [first, second], "x");
    expect(after.groups.map((group) => group.name)).toEqual(["Mine", first.name, second.name]);
    expect(after.groups[1]).toEqual({
      id: "old",
      name: first.name,
      members: ["embed:0:2", ...first.members],
    });
    expect(new Set(after.groups.map((group) => group.id)).size).toBe(3);
    expect(withGroups(after, [first, second], "y")).toEqual(after);
  });

  it("folds the whole graph: every node is drawn, each group as one", () => {
    const folded = foldedGraph(data, book, "attr");
    const layered = clusterGroups(data, every, book, true);
    expect(new Set(layered.map((group) => group.name)).size).toBe(layered.length);
    for (const group of layered)
      expect(new Set(group.members.map((key) => data.site[data.find(key) ?? 0])).size).toBe(1);
    const inGroups = layered.reduce((sum, group) => sum + group.members.length, 0);
    expect(folded.data.nodes).toBe(data.nodes - inGroups + layered.length);
    expect(folded.missing).toEqual([]);
    expect(folded.groups.map((group, node) => [group === null, folded.data.name?.(node)])).toEqual(
      folded.groups.map((group) =>
        group === null ? [true, null] : [false, group.name.slice("Cluster ".length).split(" ")[0]],
      ),
    );
    expect(folded.members.flat().sort((a, b) => a - b)).toEqual(every);
  });
});
