import { describe, expect, it } from "vitest";

import { edgesAt, measure, orderByMagnitude, strengths, strengthsOf } from "./strength";
import { madeGraph, random } from "./testing";

describe("order by magnitude", () => {
  it("is the order of a comparing sort, ties by number", () => {
    for (let seed = 0; seed < 20; seed++) {
      const next = random(seed);
      const values = Float32Array.from({ length: 500 }, () =>
        next() < 0.1 ? 0 : (next() - 0.5) * 10 ** Math.floor(next() * 60 - 30),
      );
      const expected = [...values.keys()].sort(
        (a, b) => Math.abs(values[b] ?? 0) - Math.abs(values[a] ?? 0) || a - b,
      );
      expect([...orderByMagnitude(values)]).toEqual(expected);
    }
  });

  it("takes nothing, negative zero and the smallest numbers", () => {
    expect([...orderByMagnitude(new Float32Array())]).toEqual([]);
    expect([...orderByMagnitude(Float32Array.of(-0, 1e-45, 0, 3e38))]).toEqual([3, 1, 0, 2]);
  });
});

describe("strengths", () => {
  const data = madeGraph({ nodes: 300, edges: 2000 });

  it("are values times the scale of the target", () => {
    for (const metric of ["attr", "attr_abs"] as const) {
      const column = metric === "attr" ? data.attr : data.attrAbs;
      const expected = [...data.target].map((target, edge) =>
        Math.fround((column[edge] ?? 0) * (data.scale[target] ?? 0)),
      );
      expect([...strengthsOf(data, metric)]).toEqual(expected);
    }
  });

  it("group the edges of every node, strongest first, each edge once a side", () => {
    const made = measure(data, "attr");
    for (const [side, ends] of [
      [made.incoming, data.target],
      [made.outgoing, data.source],
    ] as const) {
      let seen = 0;
      for (let node = 0; node < data.nodes; node++) {
        const edges = [...edgesAt(side, node)];
        seen += edges.length;
        expect(edges.every((edge) => ends[edge] === node)).toBe(true);
        const sizes = edges.map((edge) => Math.abs(made.value[edge] ?? 0));
        expect(sizes).toEqual([...sizes].sort((a, b) => b - a));
      }
      expect(seen).toBe(data.edges);
    }
    const through = made.through.reduce((sum, value) => sum + value, 0);
    expect(through / (2 * made.total)).toBeCloseTo(1, 5);
  });

  it("are measured once for a graph and metric", () => {
    expect(strengths(data, "attr")).toBe(strengths(data, "attr"));
    expect(strengths(data, "attr_abs")).not.toBe(strengths(data, "attr"));
  });
});
