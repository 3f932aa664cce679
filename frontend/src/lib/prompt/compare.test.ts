import { describe, expect, it } from "vitest";

import { parseGraph } from "../graph/data";
import { madeAnswers } from "../graph/testing";
import { strengths } from "../graph/strength";
import { compare } from "./compare";

const made = madeAnswers({ nodes: 80, edges: 300, seed: 3 });
const graph = parseGraph(made.detail, made.edges);

/** The same graph with some edges left out and one made stronger. */
function altered(drop: (edge: number) => boolean, factor: (edge: number) => number) {
  const kept = Array.from({ length: graph.edges }, (_, edge) => edge).filter((edge) => !drop(edge));
  const pick = (column: Float32Array) =>
    Float32Array.from(kept, (edge) => (column[edge] ?? 0) * factor(edge));
  return {
    ...graph,
    edges: kept.length,
    source: Uint32Array.from(kept, (edge) => graph.source[edge] ?? 0),
    target: Uint32Array.from(kept, (edge) => graph.target[edge] ?? 0),
    attr: pick(graph.attr),
    attrAbs: pick(graph.attrAbs),
  };
}

describe("two graphs", () => {
  it("that are the same differ in nothing", () => {
    const found = compare(
      graph,
      altered(
        () => false,
        () => 1,
      ),
      "attr",
    );
    expect(found.unchanged).toBe(graph.edges);
    expect(found.data.edges).toBe(0);
    expect([found.appeared, found.vanished]).toEqual([[], []]);
  });

  it("are told apart edge by edge, in both directions", () => {
    const second = altered(
      (edge) => edge < 5,
      (edge) => (edge === 9 ? 3 : 1),
    );
    const found = compare(graph, second, "attr");
    expect(found.edges.vanished.total).toBe(5);
    expect(found.edges.appeared.total).toBe(0);
    expect(found.edges.changed.total).toBe(1);
    const change = found.edges.changed.top[0];
    expect(change?.after).toBeCloseTo(3 * (change?.before ?? 0), 5);
    expect(found.unchanged).toBe(graph.edges - 6);
    // Drawn: what grew is the difference in strength.
    const { value } = strengths(found.data, "attr");
    const drawn = Array.from(value, Math.abs).reduce((sum, one) => sum + one, 0);
    expect(drawn).toBeCloseTo(found.edges.vanished.size + found.edges.changed.size, 3);
    const back = compare(second, graph, "attr");
    expect(back.edges.appeared.total).toBe(5);
    expect(back.edges.appeared.size).toBeCloseTo(found.edges.vanished.size, 4);
  });

  it("keep the first's node numbers; what only the second has follows", () => {
    const nodes = made.detail["nodes"] as Record<string, number[]>;
    const shorter = Object.fromEntries(
      Object.entries(nodes).map(([name, column]) => [name, column.slice(0, -1)]),
    );
    const last = graph.nodes - 1;
    const labels = Object.fromEntries(
      Object.entries(made.detail["labels"] as Record<string, string>).filter(([node]) => Number(node) < last),
    );
    const without = altered(
      (edge) => graph.source[edge] === last || graph.target[edge] === last,
      () => 1,
    );
    const buffer = new ArrayBuffer(24);
    new Uint8Array(buffer).set(new TextEncoder().encode("TRIBGRF1"));
    const small = { ...parseGraph({ ...made.detail, nodes: shorter, labels }, buffer), ...edgesOf(without) };
    const found = compare(small, graph, "attr");
    expect(found.appeared).toEqual([last]);
    expect(found.data.key(last)).toBe(graph.key(last));
    expect(compare(graph, small, "attr").vanished).toEqual([last]);
  });
});

function edgesOf({ edges, source, target, attr, attrAbs }: ReturnType<typeof altered>) {
  return { edges, source, target, attr, attrAbs };
}
