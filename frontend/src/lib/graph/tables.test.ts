import { describe, expect, it } from "vitest";

import { showAll } from "./filters";
import { strengths } from "./strength";
import { degrees, edgeRows, nodeRows } from "./tables";
import { madeGraph } from "./testing";

const data = madeGraph({ nodes: 300, edges: 1500 });
const shown = showAll(data, "attr");
const strength = strengths(data, "attr");
const values = { attr: strength.value, attr_abs: strengths(data, "attr_abs").value };

const falling = (list: readonly number[]): boolean =>
  list.every((value, n) => n === 0 || (list[n - 1] ?? 0) >= value);

describe("rows of the tables", () => {
  it("edges in every order, none lost", () => {
    for (const sort of ["strength", "attr", "attr_abs", "source", "target"] as const)
      expect(new Set(edgeRows(data, shown, values, sort)).size).toBe(data.edges);
    expect(edgeRows(data, shown, values, "strength")).toEqual(strength.order);
    expect(falling([...edgeRows(data, shown, values, "attr")].map((edge) => values.attr[edge] ?? 0))).toBe(
      true,
    );
    const bySource = [...edgeRows(data, shown, values, "source")];
    expect(falling(bySource.map((edge) => -(data.source[edge] ?? 0)))).toBe(true);
    const first = bySource.filter((edge) => data.source[edge] === data.source[bySource[0] ?? 0]);
    expect(falling(first.map((edge) => Math.abs(values.attr[edge] ?? 0)))).toBe(true);
  });

  it("nodes in every order, those without a value last", () => {
    for (const sort of ["through", "place", "activation", "ci", "probability", "edges"] as const)
      expect(new Set(nodeRows(data, shown, strength, sort)).size).toBe(data.nodes);
    const likely = [...nodeRows(data, shown, strength, "probability")].map(
      (node) => data.probability[node] ?? NaN,
    );
    expect(likely.slice(0, 5).some(Number.isNaN)).toBe(false);
    expect(falling(likely.slice(0, 5))).toBe(true);
    expect(likely.slice(5).every(Number.isNaN)).toBe(true);
  });

  it("nodes by what they are told apart by, in the order of the classes, those in none last", () => {
    const of = Int16Array.from({ length: data.nodes }, (_, node) => (node % 4) - 1);
    const rows = [...nodeRows(data, shown, strength, "class", { words: "", classes: [], of, own: [] })];
    const places = rows.map((node) => of[node] ?? NaN);
    expect(places).toEqual([...of].sort((a, b) => (a < 0 ? 9 : a) - (b < 0 ? 9 : b)));
  });

  it("degrees count what is shown", () => {
    const total = Array.from({ length: data.nodes }, (_, node) => degrees(strength, shown, node));
    expect(total.reduce((sum, { sources }) => sum + sources, 0)).toBe(data.edges);
    expect(total.reduce((sum, { targets }) => sum + targets, 0)).toBe(data.edges);
  });
});
