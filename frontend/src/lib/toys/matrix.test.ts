import { describe, expect, it } from "vitest";

import { LIGHT } from "../graph/palette";
import {
  actingColumns,
  axisTicks,
  belowZero,
  cellAt,
  cellColours,
  largest,
  moved,
  strongest,
} from "./matrix";

describe("the picture of answers", () => {
  it("leaves out the columns at its end in which nothing acts", () => {
    const importance = [
      [1, 0, 0.05, 0, 0],
      [0, 0, 0, 0.2, 0.1],
    ];
    expect(actingColumns(importance, 0)).toBe(4);
    expect(actingColumns(importance, 5)).toBe(5);
    expect(actingColumns([[0, 0, 0]], 2)).toBe(2);
    expect(actingColumns([[0, 0]], 0)).toBe(1);
    expect(actingColumns([], 3)).toBe(0);
  });

  it("colours by sign, and by size against the largest", () => {
    expect(largest([[1, -4]])).toBe(4);
    const [paper, positive, negative] = [0xfb, 0x1c, 0xa9];
    const pixels = cellColours([[0, 4, -4, 2]], 4, 4, LIGHT);
    expect([pixels[0], pixels[4], pixels[8]]).toEqual([paper, positive, negative]);
    expect(Math.abs((pixels[12] ?? 0) - (paper + positive) / 2)).toBeLessThanOrEqual(1);
    expect([...cellColours([[0, 0]], 1, 0, LIGHT)]).toEqual([0xfb, 0xfa, 0xf6, 255]);
  });

  it("marks what is below zero", () => {
    expect(
      belowZero(
        [
          [1, -2, -0.1],
          [-3, 0, -9],
        ],
        2,
        0.5,
      ),
    ).toEqual([
      { row: 0, column: 1 },
      { row: 1, column: 0 },
    ]);
  });

  it("knows the cell that is pointed at", () => {
    expect(cellAt(0.5, 0.99, 4, 10)).toEqual({ row: 3, column: 5 });
    expect(cellAt(1, 0, 4, 10)).toBeNull();
    expect(cellAt(0, -0.01, 4, 10)).toBeNull();
  });

  it("is walked through with the keyboard, and not left", () => {
    const at = { row: 0, column: 2 };
    expect(moved(at, "ArrowRight", 3, 4)).toEqual({ row: 0, column: 3 });
    expect(moved(at, "ArrowUp", 3, 4)).toEqual(at);
    expect(moved(at, "PageDown", 3, 4)).toEqual({ row: 2, column: 2 });
    expect(moved(at, "End", 3, 4)).toEqual({ row: 0, column: 3 });
    expect(moved(at, "x", 3, 4)).toBeNull();
  });

  it("has round numbers at its axes", () => {
    expect(axisTicks(5, 200)).toEqual([0, 1, 2, 3, 4]);
    expect(axisTicks(100, 300)).toEqual([0, 10, 20, 30, 40, 50, 60, 70, 80, 90]);
  });

  it("names the strongest", () => {
    expect(strongest([0, -3, 2, 0.001], 2, 0.01)).toEqual([
      { place: 1, value: -3 },
      { place: 2, value: 2 },
    ]);
  });
});
