import { describe, expect, it } from "vitest";

import { cellAt, layOut, proportionFor } from "./layout";
import { PITCH } from "./layout";
import { strengths } from "./strength";
import { madeGraph } from "./testing";

const OPTIONS = { order: "strength", proportion: 1.7, include: null } as const;
const data = madeGraph({ nodes: 3500, edges: 4000, seed: 2 });
const layout = layOut(data, OPTIONS);

describe("layout", () => {
  it("puts embeddings at the bottom, blocks upwards in order, outputs on top", () => {
    const names = layout.rows.map((row) => (row.block === null ? row.name : `${row.block}.${row.name}`));
    const block = (n: number): string[] =>
      ["down", "up", "gate", "o", "v", "k", "q"].map((name) => `${n}.${name}`);
    expect(names).toEqual(["output", ...block(3), ...block(2), ...block(1), ...block(0), "embed"]);
    expect(layout.bands.map((band) => band.block)).toEqual([null, 3, 2, 1, 0, null]);
  });

  it("puts every node inside its cell, and no two in the same place", () => {
    const places = new Set<string>();
    for (let node = 0; node < data.nodes; node++) {
      const row = layout.rows[layout.rowOf[data.site[node] ?? 0] ?? -1];
      const column = layout.columns[layout.columnOf[data.position[node] ?? 0] ?? -1];
      const [x, y] = [layout.x[node] ?? NaN, layout.y[node] ?? NaN];
      expect(x).toBeGreaterThanOrEqual((column?.left ?? NaN) + PITCH / 2);
      expect(x).toBeLessThanOrEqual((column?.left ?? NaN) + (column?.width ?? NaN) - PITCH / 2);
      expect(y).toBeGreaterThanOrEqual((row?.top ?? NaN) + PITCH / 2);
      expect(y).toBeLessThanOrEqual((row?.top ?? NaN) + (row?.height ?? NaN) - PITCH / 2);
      places.add(`${x} ${y}`);
    }
    expect(places.size).toBe(data.nodes);
  });

  it("sorts a cell by strength or key, deltas and biases last", () => {
    const { through } = strengths(data, "attr");
    for (const order of ["strength", "key"] as const) {
      const made = layOut(data, { ...OPTIONS, order });
      for (let row = 0; row < made.rows.length; row++) {
        const cell = [...cellAt(made, row, 5)];
        const components = cell.filter((node) => (data.index[node] ?? 0) >= 0);
        expect(cell.slice(0, components.length)).toEqual(components);
        const measure = components.map((node) =>
          order === "key" ? -(data.index[node] ?? 0) : (through[node] ?? 0),
        );
        expect(measure).toEqual([...measure].sort((a, b) => b - a));
      }
    }
  });

  it("keeps to the proportions of the window", () => {
    for (const proportion of [0.8, 1.1, 1.4, 1.7, 2.1]) {
      const made = layOut(data, { ...OPTIONS, proportion });
      expect(made.width / made.height / proportion).toBeGreaterThan(0.75);
      expect(made.width / made.height / proportion).toBeLessThan(1.34);
    }
    expect(proportionFor({ width: 1300, height: 760 })).toBe(1.7);
    expect(proportionFor({ width: 0, height: 0 })).toBe(0.8);
  });

  it("finds room for two hundred nodes in a cell", () => {
    const crowd = madeGraph({ nodes: 12_000, edges: 0, tokens: ["a", " b"], blocks: 2 });
    const made = layOut(crowd, OPTIONS);
    const places = new Set(Array.from(made.x, (x, node) => `${x} ${made.y[node] ?? 0}`));
    expect(places.size).toBe(crowd.nodes);
  });

  it("lays out a part alone, without the rows and columns that it does not need", () => {
    const include = new Uint8Array(data.nodes);
    const some = [0, 50, 700, data.nodes - 1];
    for (const node of some) include[node] = 1;
    const made = layOut(data, { ...OPTIONS, include });
    expect(made.cellNodes.length).toBe(4);
    expect(made.rows.length).toBe(new Set(some.map((node) => data.site[node])).size);
    expect(made.columns.length).toBe(new Set(some.map((node) => data.position[node])).size);
    expect(made.x[1]).toBeNaN();
  });

  it("is empty for an empty graph", () => {
    const made = layOut(madeGraph({ tokens: [], nodes: 0, edges: 0, outputs: 0 }), OPTIONS);
    expect([made.width, made.cellNodes.length]).toEqual([0, 0]);
  });
});
