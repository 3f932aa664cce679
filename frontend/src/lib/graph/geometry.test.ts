import { describe, expect, it } from "vitest";

import {
  CURVE_OVERHANG,
  curveInto,
  curveX,
  curveY,
  distanceTo,
  fit,
  hold,
  inSight,
  mayTouch,
  newCurve,
  panned,
  reveal,
  toDrawingX,
  toDrawingY,
  toScreenX,
  toScreenY,
  toView,
  toViewport,
  zoomed,
} from "./geometry";
import { random } from "./testing";

const drawing = { width: 2000, height: 900 };
const window = { width: 1200, height: 700 };
const view = { x: 700, y: 300, scale: 1.7 };

describe("views", () => {
  it("fit shows everything", () => {
    const fitted = fit(drawing, window);
    const sight = inSight(fitted, window);
    expect(sight.left).toBeLessThan(0);
    expect(sight.top).toBeLessThan(0);
    expect(sight.right).toBeGreaterThan(drawing.width);
    expect(sight.bottom).toBeGreaterThan(drawing.height);
    expect(fit({ width: 0, height: 0 }, { width: 0, height: 0 }).scale).toBeGreaterThan(0);
  });

  it("there and back", () => {
    expect(toDrawingX(view, window, toScreenX(view, window, 123))).toBeCloseTo(123);
    expect(toDrawingY(view, window, toScreenY(view, window, 45))).toBeCloseTo(45);
    const again = toView(toViewport(view, drawing, window), drawing, window);
    expect([again.x, again.y, again.scale]).toEqual([
      expect.closeTo(view.x),
      expect.closeTo(view.y),
      expect.closeTo(view.scale),
    ]);
  });

  it("zoom keeps the point under the pointer", () => {
    const after = zoomed(view, window, 1.5, 200, 600);
    expect(toDrawingX(after, window, 200)).toBeCloseTo(toDrawingX(view, window, 200));
    expect(toDrawingY(after, window, 600)).toBeCloseTo(toDrawingY(view, window, 600));
  });

  it("pan moves by pixels", () => {
    const after = panned(view, 30, -20);
    expect(toScreenX(after, window, 500)).toBeCloseTo(toScreenX(view, window, 500) + 30);
    expect(toScreenY(after, window, 500)).toBeCloseTo(toScreenY(view, window, 500) - 20);
  });

  it("hold keeps the drawing in reach", () => {
    const far = hold({ x: -1e9, y: 1e9, scale: 1e9 }, drawing, window);
    expect(far.scale).toBe(16);
    const sight = inSight(far, window);
    expect(sight.left * far.scale).toBeCloseTo(-0.2 * window.width);
    expect((sight.bottom - drawing.height) * far.scale).toBeCloseTo(0.2 * window.height);
    expect(hold(view, drawing, window)).toEqual(view);
    const small = { x: 0, y: 0, scale: fit(drawing, window).scale / 2 };
    expect(hold(small, drawing, window)).toEqual({ ...small, x: 1000, y: 450 });
    expect(hold({ x: 5, y: 5, scale: 0 }, drawing, window).scale).toBe(fit(drawing, window).scale / 2);
  });

  it("reveal moves only as far as it must", () => {
    expect(reveal(view, window, view.x, view.y, 60)).toEqual(view);
    const after = reveal(view, window, 1900, 300, 60);
    expect(toScreenX(after, window, 1900)).toBeCloseTo(window.width - 60);
    expect(after.y).toBe(view.y);
  });
});

describe("curves", () => {
  it("begin and end at their nodes, positive to the right of negative", () => {
    const positive = { ...curveInto(newCurve(), 10, 200, 60, 20, true) };
    const negative = { ...curveInto(newCurve(), 10, 200, 60, 20, false) };
    for (const curve of [positive, negative]) {
      expect([curveX(curve, 0), curveY(curve, 0)]).toEqual([10, 200]);
      expect([curveX(curve, 1), curveY(curve, 1)]).toEqual([60, 20]);
    }
    expect(curveX(positive, 0.5)).toBeGreaterThan(curveX(negative, 0.5) + 4);
  });

  it("never leave the box that culling assumes", () => {
    const next = random(4);
    const curve = newCurve();
    for (let n = 0; n < 500; n++) {
      const [sx, sy, tx] = [next() * 900, next() * 900, next() * 900];
      const ty = sy - next() * 900;
      curveInto(curve, sx, sy, tx, ty, next() < 0.5);
      for (let t = 0; t <= 1; t += 0.05) {
        expect(curveX(curve, t)).toBeGreaterThanOrEqual(Math.min(sx, tx) - CURVE_OVERHANG);
        expect(curveX(curve, t)).toBeLessThanOrEqual(Math.max(sx, tx) + CURVE_OVERHANG);
        expect(curveY(curve, t)).toBeGreaterThanOrEqual(Math.min(sy, ty) - CURVE_OVERHANG);
        expect(curveY(curve, t)).toBeLessThanOrEqual(Math.max(sy, ty) + CURVE_OVERHANG);
        const [x, y] = [curveX(curve, t), curveY(curve, t)];
        const spot = { left: x - 1, top: y - 1, right: x + 1, bottom: y + 1 };
        expect(mayTouch(spot, sx, sy, tx, ty)).toBe(true);
        expect(distanceTo(curve, x, y)).toBeLessThan(6);
      }
    }
  });

  it("are culled only where they cannot be seen", () => {
    const rect = { left: 0, top: 0, right: 100, bottom: 100 };
    expect(mayTouch(rect, 200, 50, 400, 20)).toBe(false);
    expect(mayTouch(rect, -200, 150, 400, -50)).toBe(true);
    expect(mayTouch(rect, NaN, 50, 50, 20)).toBe(false);
  });

  it("know how far a point is", () => {
    const curve = curveInto(newCurve(), 0, 100, 0, 0, true);
    expect(distanceTo(curve, 50, 50)).toBeGreaterThan(40);
    expect(distanceTo(curve, 0, 130)).toBeCloseTo(30);
  });
});
