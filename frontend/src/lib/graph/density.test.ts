import { describe, expect, it } from "vitest";

import { DensityField } from "./density";
import { curveInto, newCurve } from "./geometry";

const curve = newCurve();

function sum(field: DensityField): { positive: number; negative: number } {
  const all = { positive: 0, negative: 0 };
  for (let y = 0; y < field.height; y++)
    for (let x = 0; x < field.width; x++) {
      all.positive += field.at(x, y).positive;
      all.negative += field.at(x, y).negative;
    }
  return all;
}

describe("density", () => {
  it("a curve adds its weight once a pixel along its way", () => {
    const field = new DensityField(60, 220);
    field.add(curveInto(curve, 20, 210, 20, 10, true), 0.5, true);
    for (let y = 10; y < 210; y++) {
      let row = 0;
      for (let x = 0; x < 60; x++) row += field.at(x, y).positive;
      expect(row).toBeCloseTo(0.5, 5);
    }
    expect(sum(field).positive).toBeCloseTo(100, 3);
    expect(sum(field).negative).toBe(0);
    field.clear();
    expect(sum(field).positive).toBe(0);
  });

  it("is cut at the border, wherever the curve goes", () => {
    const field = new DensityField(50, 50);
    for (const [sx, sy, tx, ty] of [
      [-100, 200, 150, -100],
      [25, 1e4, 25, -1e4],
      [-1e4, 30, 1e4, 20],
      [200, 200, 300, 100],
      [NaN, 0, 10, 10],
    ] as const)
      field.add(curveInto(curve, sx, sy, tx, ty, false), 1, false);
    const { negative } = sum(field);
    expect(negative).toBeGreaterThan(90);
    expect(negative).toBeLessThan(200);
  });

  it("mixes hues by their parts, and never hides what lies behind", () => {
    const field = new DensityField(40, 40);
    const line = { x0: 20, y0: 40, x1: 20, y1: 30, x2: 20, y2: 10, x3: 20, y3: 0 };
    for (let n = 0; n < 500; n++) field.add(line, 1, n % 2 === 0);
    const pixels = new Uint8ClampedArray(4 * 40 * 40);
    field.write(pixels, [0, 0, 1], [1, 0, 0], 0, 40);
    const at = 4 * (20 * 40 + 20);
    expect([...pixels.slice(at, at + 3)]).toEqual([128, 0, 128]);
    expect(pixels[at + 3]).toBeLessThan(170);
    expect(pixels[at + 3]).toBeGreaterThan(120);
    expect(pixels[3]).toBe(0);
  });
});
