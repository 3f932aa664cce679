import { describe, expect, it } from "vitest";

import { type Flow, type Frame, layOut, ribbon } from "./geometry";

const frame: Frame = { width: 240, height: 400, trunkWidth: 28, thickest: 18, restLimit: 36 };

function flow(id: string, sign: Flow["sign"], magnitude: number, y: number, rest = false): Flow {
  return { id, sign, magnitude, y, rest };
}

const left = [
  flow("a", "positive", 2, 40),
  flow("b", "positive", 1, 64),
  flow("rest", "positive", 30, 96, true),
  flow("c", "negative", 0.5, 200),
];
const right = [flow("d", "positive", 0.25, 40), flow("e", "negative", 1, 220)];

describe("layOut", () => {
  const picture = layOut(left, right, frame);
  const bands = [...picture.left, ...picture.right];
  const band = (id: string) => bands.find((one) => one.id === id);

  it("draws each side in one scale, its largest entry as thick as allowed", () => {
    expect(picture.scale).toEqual({ left: 9, right: 18 });
    expect(band("a")?.thickness).toBe(18);
    expect(band("b")?.thickness).toBe(9);
    expect(band("e")?.thickness).toBe(18);
    expect(band("d")?.thickness).toBe(4.5);
  });

  it("cuts a rest that would hide everything else, and says so", () => {
    expect(band("rest")).toMatchObject({ thickness: 36, cut: true });
    expect(bands.filter((one) => one.cut)).toHaveLength(1);
  });

  it("stacks bands at the trunk without gaps or overlaps, signs on their side of the waterline", () => {
    for (const side of [picture.left, picture.right]) {
      const sorted = [...side].sort((a, b) => a.trunkY - b.trunkY);
      for (const [n, one] of sorted.entries()) {
        const next = sorted[n + 1];
        if (next === undefined) continue;
        expect(one.trunkY + one.thickness / 2).toBeCloseTo(next.trunkY - next.thickness / 2, 9);
      }
      for (const one of side) {
        const inner = one.sign === "positive" ? one.thickness / 2 : -one.thickness / 2;
        if (one.sign === "positive") expect(one.trunkY + inner).toBeLessThanOrEqual(picture.waterline + 1e-9);
        else expect(one.trunkY + inner).toBeGreaterThanOrEqual(picture.waterline - 1e-9);
      }
    }
  });

  it("keeps the order of the rows, so that bands of a side never cross", () => {
    for (const side of [picture.left, picture.right]) {
      const byRow = [...side].sort((a, b) => a.y - b.y).map((one) => one.trunkY);
      expect(byRow).toEqual([...byRow].sort((a, b) => a - b));
    }
  });

  it("fits the frame and the trunk spans what flows through it", () => {
    const { top, bottom } = picture.trunk;
    for (const one of bands) {
      expect(one.trunkY - one.thickness / 2).toBeGreaterThanOrEqual(top - 1e-9);
      expect(one.trunkY + one.thickness / 2).toBeLessThanOrEqual(bottom + 1e-9);
    }
    expect(top).toBeGreaterThanOrEqual(0);
    expect(bottom).toBeLessThanOrEqual(frame.height);
  });

  it("draws nothing out of nothing", () => {
    const empty = layOut([], [flow("zero", "positive", 0, 10)], frame);
    expect(empty.scale).toEqual({ left: 0, right: 0 });
    expect(empty.left).toEqual([]);
    expect(empty.right).toEqual([]);
  });

  it("never draws an edge too thin to see", () => {
    const thin = layOut([flow("big", "positive", 1, 10), flow("tiny", "positive", 1e-9, 34)], [], frame);
    expect(thin.left.find((one) => one.id === "tiny")?.thickness).toBe(1);
  });

  it("takes the rest as measure where nothing else is shown", () => {
    expect(layOut([flow("rest", "negative", 5, 10, true)], [], frame).left[0]).toMatchObject({
      thickness: 18,
    });
  });
});

describe("ribbon", () => {
  it("is as thick at its end as at its beginning", () => {
    expect(ribbon(0, 10, 100, 50, 8)).toBe("M0 6C50 6 50 46 100 46L100 54C50 54 50 14 0 14Z");
  });
});
