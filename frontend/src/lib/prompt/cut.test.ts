import { describe, expect, it } from "vitest";

import { madeGraph } from "../graph/testing";
import { READABLE, STEPS, cutFilter, range, rankAt, stepOfRank, stepOfValue, valueAt } from "./cut";

describe("the slider of edges", () => {
  it("goes from the strongest edge to all of them, and finds its place again", () => {
    expect([rankAt(0, 90_000), rankAt(STEPS, 90_000)]).toEqual([1, 90_000]);
    for (const step of [0, 300, 617, 999, STEPS]) {
      expect(Math.abs(stepOfRank(rankAt(step, 1e6), 1e6) - step)).toBeLessThanOrEqual(step < 200 ? 60 : 1);
    }
    expect(rankAt(500, 0)).toBe(0);
  });

  it("goes by strength as well; its end shows everything", () => {
    const data = madeGraph({ nodes: 60, edges: 400 });
    const found = range(data, "attr");
    expect(valueAt(STEPS, found)).toBe(0);
    const value = valueAt(400, found);
    expect(value).toBeLessThan(found.most);
    expect(stepOfValue(value, found)).toBe(400);
  });

  it("by itself shows what can be read", () => {
    expect(cutFilter({ kind: "strongest" }, READABLE + 1)).toEqual({ minimum: 0, strongest: READABLE });
    expect(cutFilter({ kind: "strongest" }, 5)).toEqual({ minimum: 0, strongest: null });
    expect(cutFilter({ kind: "top", n: 9 }, 5).strongest).toBeNull();
    expect(cutFilter({ kind: "least", value: 0.5 }, 5)).toEqual({ minimum: 0.5, strongest: null });
  });
});
