import { describe, expect, it } from "vitest";

import { type Filter, NO_FILTER, type Shown, applyFilter, minimumForRank, showAll } from "./filters";
import { strengths } from "./strength";
import { madeGraph, random } from "./testing";

const data = madeGraph({ nodes: 400, edges: 3000 });
const strength = strengths(data, "attr");

function size(edge: number): number {
  return Math.abs(strength.value[edge] ?? 0);
}

/** What every answer must hold, whatever the filter. */
function consistent(shown: Shown): void {
  expect(shown.order.length + shown.hidden.edges).toBe(data.edges);
  expect(shown.nodeCount + shown.hidden.nodes).toBe(data.nodes);
  const kept = [...shown.order].reduce((sum, edge) => sum + size(edge), 0) / strength.total;
  expect(kept + shown.hidden.share).toBeCloseTo(1, 6);
  const sizes = [...shown.order].map(size);
  expect(sizes).toEqual([...sizes].sort((a, b) => b - a));
  const edges = shown.edges.reduce((sum, one) => sum + one, 0);
  expect(edges).toBe(shown.order.length);
  for (const edge of shown.order) {
    expect(shown.nodes[data.source[edge] ?? 0]).toBe(1);
    expect(shown.nodes[data.target[edge] ?? 0]).toBe(1);
  }
}

function filtered(change: Partial<Filter>): Shown {
  const shown = applyFilter(data, "attr", { ...NO_FILTER, ...change });
  consistent(shown);
  return shown;
}

describe("filters", () => {
  it("without any, everything is shown", () => {
    const shown = showAll(data, "attr");
    consistent(shown);
    expect(shown.hidden).toEqual({ edges: 0, nodes: 0, share: 0 });
    expect(shown.steps).toEqual([]);
  });

  it("by strength and by rank agree", () => {
    const minimum = minimumForRank(data, "attr", 100);
    const byRank = filtered({ strongest: 100 });
    expect([...filtered({ minimum }).order]).toEqual([...byRank.order]);
    expect([...byRank.order]).toEqual([...strength.order.slice(0, 100)]);
    expect(filtered({ strongest: 0 }).order.length).toBe(0);
    expect(filtered({ minimum: Infinity }).hidden.share).toBeCloseTo(1, 6);
  });

  it("by sign", () => {
    const positive = filtered({ sign: "positive" }).order;
    const negative = filtered({ sign: "negative" }).order;
    expect([...positive].every((edge) => (strength.value[edge] ?? 0) > 0)).toBe(true);
    expect(positive.length + negative.length).toBe(data.edges);
  });

  it("by position and site: one end, or both", () => {
    const at = (node: number | undefined): boolean => data.position[node ?? 0] === 3;
    const any = filtered({ positions: new Set([3]) });
    const both = filtered({ positions: new Set([3]), within: true });
    expect([...any.order].every((edge) => at(data.source[edge]) || at(data.target[edge]))).toBe(true);
    expect([...both.order].every((edge) => at(data.source[edge]) && at(data.target[edge]))).toBe(true);
    expect(any.order.length).toBeGreaterThan(both.order.length);
    const site = filtered({ sites: new Set([2]), positions: new Set([3]) });
    expect(site.steps.map(({ step }) => step)).toEqual(["sites", "positions"]);
  });

  it("only some nodes: they stay, with or without edges between them", () => {
    const only = new Set([0, 1, 2, 399]);
    const shown = filtered({ only, minimum: Infinity });
    expect(shown.order.length).toBe(0);
    expect([...shown.nodes.keys()].filter((node) => shown.nodes[node] === 1)).toEqual(
      [...only].filter((n) => n < data.nodes),
    );
  });

  it("near a node: exactly the edges on paths of so many steps from or to it", () => {
    const node = data.target[strength.order[0] ?? 0] ?? 0;
    const one = filtered({ near: { nodes: new Set([node]), hops: 1 } });
    expect([...one.order].sort((a, b) => a - b)).toEqual(
      [...data.source.keys()].filter((edge) => data.source[edge] === node || data.target[edge] === node),
    );
    const two = filtered({ near: { nodes: new Set([node]), hops: 2 } });
    const sources = new Set([...one.order].map((edge) => data.source[edge] ?? 0));
    const targets = new Set([...one.order].map((edge) => data.target[edge] ?? 0));
    const expected = [...data.source.keys()].filter(
      (edge) =>
        one.edges[edge] === 1 ||
        (sources.has(data.target[edge] ?? 0) &&
          [...one.order].some((e) => data.target[e] === node && data.source[e] === data.target[edge])) ||
        (targets.has(data.source[edge] ?? 0) &&
          [...one.order].some((e) => data.source[e] === node && data.target[e] === data.source[edge])),
    );
    expect([...two.order].sort((a, b) => a - b)).toEqual(expected);
    expect(filtered({ near: { nodes: new Set([node]), hops: 0 } }).nodeCount).toBe(1);
  });

  it("any combination adds up", () => {
    for (let seed = 0; seed < 40; seed++) {
      const next = random(seed);
      const pick = (count: number, of: number): Set<number> =>
        new Set(Array.from({ length: count }, () => Math.floor(next() * of)));
      filtered({
        sites: next() < 0.3 ? pick(6, data.addresses.length) : null,
        positions: next() < 0.3 ? pick(6, data.tokens.length) : null,
        matching: next() < 0.3 ? pick(80, data.nodes) : null,
        only: next() < 0.2 ? pick(150, data.nodes) : null,
        within: next() < 0.5,
        sign: (["both", "positive", "negative"] as const)[Math.floor(next() * 3)] ?? "both",
        minimum: next() < 0.5 ? next() ** 3 : 0,
        strongest: next() < 0.5 ? Math.floor(next() * 500) : null,
        near: next() < 0.4 ? { nodes: pick(3, data.nodes), hops: Math.floor(next() * 4) } : null,
      });
    }
  });
});
