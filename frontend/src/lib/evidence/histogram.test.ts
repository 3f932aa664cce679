import { describe, expect, it } from "vitest";

import { drawHistogram, roundTicks, tickWords } from "./histogram";

describe("round numbers on an axis", () => {
  it("are 1, 2 or 5 times a power of ten", () => {
    expect(roundTicks(0, 10, 5)).toEqual([0, 2, 4, 6, 8, 10]);
    expect(roundTicks(-0.31, 0.52, 5)).toEqual([-0.2, 0, 0.2, 0.4]);
    expect(roundTicks(0.001, 0.0032, 5)).toEqual([0.001, 0.0015, 0.002, 0.0025, 0.003]);
  });

  it("are written without decimals that they do not need", () => {
    expect([-2, 0, 0.25].map(tickWords)).toEqual(["\u22122", "0", "0.25"]);
  });

  it("exist for a single value and for none", () => {
    expect(roundTicks(3, 3, 5)).toEqual([3]);
    expect(roundTicks(NaN, NaN, 5)).toEqual([]);
  });
});

describe("a histogram", () => {
  it("is as high as its highest bar, and knows the sign of each", () => {
    const drawing = drawHistogram([-2, -1, 0, 1, 2], [1, 0, 4, 2]);
    expect(drawing.bars.map(({ height }) => height)).toEqual([0.25, 0, 1, 0.5]);
    expect(drawing.bars.map(({ sign }) => sign)).toEqual(["negative", "negative", "positive", "positive"]);
    expect(drawing.bars[1]).toMatchObject({ x: 0.25, width: 0.25 });
    expect(drawing).toMatchObject({ zero: 0.5, highest: 4, total: 7 });
  });

  it("has no zero where all activations have one sign", () => {
    expect(drawHistogram([1, 2, 3], [1, 1]).zero).toBeNull();
  });

  it("draws nothing where it never fires", () => {
    expect(drawHistogram([], []).bars).toEqual([]);
    expect(drawHistogram([0, 1], [0]).bars).toEqual([]);
  });

  it("puts a single value in the middle", () => {
    expect(drawHistogram([2, 2], [3]).bars).toEqual([
      { x: 0.5, width: 0, height: 1, count: 3, from: 2, to: 2, sign: "positive" },
    ]);
  });
});
