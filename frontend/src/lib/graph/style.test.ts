import { describe, expect, it } from "vitest";

import { CLASSES, MASS_FROM, alphaOf, classOf, markRadius, widthOf } from "./style";

describe("edge classes", () => {
  it("cover all ranks, in order", () => {
    expect(classOf(0)).toBe(0);
    for (const [n, edgeClass] of CLASSES.entries()) {
      expect(classOf(edgeClass.from)).toBe(n);
      if (n > 0) expect(classOf(edgeClass.from - 1)).toBe(n - 1);
    }
    expect(classOf(1e9)).toBe(CLASSES.length - 1);
  });

  it("get thinner and fainter with rank, whatever the number of edges and the zoom", () => {
    for (const count of [1, 100, 1000, 6000, 20_000, 100_000, 1_000_000])
      for (let n = 1; n < CLASSES.length; n++) {
        const [stronger, weaker] = [CLASSES[n - 1], CLASSES[n]];
        if (stronger === undefined || weaker === undefined) throw new Error();
        expect(alphaOf(weaker, count)).toBeLessThanOrEqual(alphaOf(stronger, count));
        expect(alphaOf(weaker, count)).toBeGreaterThan(0);
        expect(alphaOf(stronger, count)).toBeLessThanOrEqual(0.95);
        expect(widthOf(weaker, 2, 1)).toBeLessThan(widthOf(stronger, 2, 1));
      }
  });

  it("the mass begins where a class does, and is not dashed", () => {
    expect(CLASSES.some(({ from }) => from === MASS_FROM)).toBe(true);
    expect(CLASSES.filter(({ from }) => from >= MASS_FROM).every(({ dashed }) => !dashed)).toBe(true);
  });

  it("a few edges are all drawn strongly", () => {
    const weakest = CLASSES.at(-1);
    if (weakest === undefined) throw new Error();
    expect(alphaOf(weakest, 10)).toBeGreaterThan(0.7);
  });
});

describe("marks", () => {
  it("stay visible far out and apart close up", () => {
    for (const place of [0, 0.5, 1]) {
      expect(markRadius(place, 0.05)).toBeGreaterThanOrEqual(0.5);
      // Half the distance between neighbours is 4 units.
      for (const scale of [0.5, 1, 2, 4, 8, 16]) expect(markRadius(place, scale)).toBeLessThan(4 * scale);
    }
    expect(markRadius(0, 2)).toBeGreaterThan(markRadius(1, 2));
  });
});
