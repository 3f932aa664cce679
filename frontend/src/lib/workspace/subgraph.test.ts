import { describe, expect, it } from "vitest";

import { madeGraph } from "../graph/testing";
import { strengthsOf } from "../graph/strength";
import { type Contents, EMPTY } from "./model";
import { pinnedSubgraph } from "./subgraph";

const data = madeGraph({ nodes: 120, edges: 900 });
const strength = strengthsOf(data, "attr");
const strengthAbs = strengthsOf(data, "attr_abs");
const busy = [...Array(data.nodes).keys()]
  .map((node) => ({
    node,
    edges: [...data.source].filter((end, edge) => end === node || data.target[edge] === node).length,
  }))
  .sort((a, b) => b.edges - a.edges)
  .slice(0, 24)
  .map(({ node }) => node)
  .sort((a, b) => a - b);
const key = (node: number): string => data.key(node);

/** Σ strength over edges from one set of nodes to another, the slow and obvious way. */
function flow(values: Float32Array, from: readonly number[], to: readonly number[]): number {
  let sum = 0;
  for (let edge = 0; edge < data.edges; edge += 1)
    if (from.includes(data.source[edge] ?? -1) && to.includes(data.target[edge] ?? -1))
      sum += values[edge] ?? 0;
  return sum;
}

describe("the pinned subgraph", () => {
  it("has the pinned nodes, their values and the edges between them, unchanged", () => {
    const contents: Contents = { ...EMPTY, pins: busy.map(key).reverse() };
    const { data: sub, members, missing } = pinnedSubgraph(data, contents, false);
    expect([...Array(sub.nodes).keys()].map((node) => sub.key(node))).toEqual(busy.map(key));
    expect(members).toEqual(busy.map((node) => [node]));
    expect(missing).toEqual([]);
    const wanted = [...Array(data.edges).keys()].filter(
      (edge) => busy.includes(data.source[edge] ?? -1) && busy.includes(data.target[edge] ?? -1),
    );
    expect(wanted.length).toBeGreaterThan(5);
    const name = (from: number, to: number): string => `${from} ${to}`;
    const found = new Map(
      [...Array(sub.edges).keys()].map((edge) => [
        name(busy[sub.source[edge] ?? -1] ?? -1, busy[sub.target[edge] ?? -1] ?? -1),
        [sub.attr[edge], sub.attrAbs[edge]],
      ]),
    );
    expect(found.size).toBe(wanted.length);
    for (const edge of wanted)
      expect(found.get(name(data.source[edge] ?? 0, data.target[edge] ?? 0))).toEqual([
        data.attr[edge],
        data.attrAbs[edge],
      ]);
    expect(sub.scale[3]).toBe(data.scale[busy[3] ?? 0]);
    expect(sub.find(key(busy[2] ?? 0))).toBe(2);
    expect(sub.find("nothing")).toBeNull();
  });

  it("merges groups: strengths between them are the sums over their members", () => {
    const [first, second, rest] = [busy.slice(0, 8), busy.slice(8, 16), busy.slice(16)];
    const contents: Contents = {
      pins: rest.map(key),
      groups: [
        { id: "1", name: "early", members: first.map(key) },
        { id: "2", name: "late", members: second.map(key) },
      ],
      notes: [],
    };
    const { data: sub, members, place, inside } = pinnedSubgraph(data, contents, true);
    expect(sub.nodes).toBe(2 + rest.length);
    expect([sub.key(0), sub.label(0), sub.scale[0]]).toEqual(["early (8 nodes)", null, 1]);
    expect([sub.name?.(1), sub.name?.(2)]).toEqual(["late", null]);
    expect(sub.find("late (8 nodes)")).toBe(1);
    expect([place.get(first[5] ?? -1), place.get(rest[0] ?? -1)]).toEqual([0, 2]);
    const merged = strengthsOf(sub, "attr");
    const mergedAbs = strengthsOf(sub, "attr_abs");
    let total = 0;
    for (let edge = 0; edge < sub.edges; edge += 1) {
      const from = members[sub.source[edge] ?? -1] ?? [];
      const to = members[sub.target[edge] ?? -1] ?? [];
      expect(merged[edge]).toBeCloseTo(flow(strength, from, to), 5);
      expect(mergedAbs[edge]).toBeCloseTo(flow(strengthAbs, from, to), 5);
      total += merged[edge] ?? 0;
    }
    const within = flow(strength, first, first) + flow(strength, second, second);
    expect(total + within).toBeCloseTo(flow(strength, busy, busy), 4);
    expect(inside.edges).toBeGreaterThan(0);
  });

  it("a node in two groups belongs to the first, and members are in without being pinned", () => {
    const shared = key(busy[0] ?? 0);
    const groups = [
      { id: "1", name: "a", members: [shared] },
      { id: "2", name: "b", members: [shared] },
    ];
    expect(pinnedSubgraph(data, { ...EMPTY, groups }, true).data.nodes).toBe(1);
    expect(pinnedSubgraph(data, { ...EMPTY, groups }, false).data.key(0)).toBe(shared);
  });

  it("groups of one name keep apart", () => {
    const groups = [0, 1].map((n) => ({ id: String(n), name: "same", members: [key(busy[n] ?? 0)] }));
    const { data: sub } = pinnedSubgraph(data, { ...EMPTY, groups }, true);
    expect([sub.key(0), sub.key(1), sub.find("same (1 node) #2")]).toEqual([
      "same (1 node)",
      "same (1 node) #2",
      1,
    ]);
  });

  it("says which pins the graph does not have", () => {
    const contents: Contents = { ...EMPTY, pins: ["0.attn.q:0:999999", key(busy[0] ?? 0)] };
    const { data: sub, missing } = pinnedSubgraph(data, contents, true);
    expect([sub.nodes, missing]).toEqual([1, ["0.attn.q:0:999999"]]);
  });

  it("of nothing is nothing", () => {
    const { data: sub } = pinnedSubgraph(data, EMPTY, true);
    expect([sub.nodes, sub.edges]).toEqual([0, 0]);
  });
});
