import { describe, expect, it } from "vitest";

import { madeGraph } from "../graph/testing";
import { EMPTY } from "../workspace/model";
import { pinnedSubgraph } from "../workspace/subgraph";
import { type Asked, filterDrawn, fromDrawn, toDrawn } from "./drawn";

const data = madeGraph({ nodes: 300, edges: 1500, tokens: [" a", " b", " c"] });
const ASKED: Asked = {
  metric: "attr",
  cut: { kind: "top", n: 100 },
  scope: "all",
  layers: [],
  tokens: [],
  found: null,
  selection: new Set(),
};
const EVERY = { kind: "least", value: 0 } as const;
const shown = (change: Partial<Asked>): number[] => [...filterDrawn(data, { ...ASKED, ...change }).order];
const ends = (edge: number): number[] => [data.source[edge] ?? -1, data.target[edge] ?? -1];

describe("what is drawn", () => {
  it("is the strongest of all, and only what touches the tokens and layers that are chosen", () => {
    expect(shown({})).toHaveLength(100);
    const site = data.site[data.source[0] ?? 0] ?? 0;
    const layer = data.addresses[site] ?? "";
    const all = shown({ cut: EVERY });
    const at = all.filter((edge) => ends(edge).some((node) => data.position[node] === 1));
    const of = all.filter((edge) => ends(edge).some((node) => data.site[node] === site));
    for (const some of [at, of]) expect(some.length).toBeLessThan(all.length);
    expect(shown({ tokens: [1], cut: EVERY })).toEqual(at);
    expect(shown({ layers: [layer], cut: EVERY })).toEqual(of);
  });

  it("keeps to what is found or near only where that is asked for", () => {
    const node = data.source[0] ?? 0;
    const only = new Set([node]);
    const all = shown({ cut: EVERY });
    const touching = all.filter((edge) => ends(edge).includes(node));
    const asked = { found: only, selection: only, cut: EVERY };
    expect(touching.length).toBeLessThan(all.length);
    expect(shown(asked)).toEqual(all);
    expect(shown({ ...asked, scope: "matches" })).toEqual(touching);
    expect(shown({ ...asked, scope: "near" })).toEqual(expect.arrayContaining(touching));
    expect(shown({ ...asked, scope: "matches", found: null })).toEqual(all);
  });
});

describe("nodes that stand for several", () => {
  const keys = [3, 4, 5].map((node) => data.key(node));
  const group = { id: "g", name: "Three", members: keys };
  const folded = pinnedSubgraph(data, { ...EMPTY, pins: [data.key(9)], groups: [group] }, true);

  it("are found from their members and back; what is not drawn is left out", () => {
    const [three] = toDrawn(folded, [4]);
    expect(toDrawn(folded, [3, 4, 5])).toEqual(new Set([three]));
    expect([...fromDrawn(folded, three ?? -1)].sort((a, b) => a - b)).toEqual([3, 4, 5]);
    expect(toDrawn(folded, [9, 100])).toEqual(new Set([folded.place.get(9)]));
    expect(fromDrawn(folded, 999)).toEqual([]);
  });

  it("are none where the graph itself is drawn", () => {
    expect(toDrawn(null, [7, 7, 8])).toEqual(new Set([7, 8]));
    expect(fromDrawn(null, 7)).toEqual([7]);
  });
});
