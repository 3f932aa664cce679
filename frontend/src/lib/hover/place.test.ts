import { describe, expect, it } from "vitest";

import { placeBeside } from "./place";

const window = { width: 1000, height: 800 };
const size = { width: 400, height: 200 };

describe("placeBeside", () => {
  it("lies below its anchor where there is room", () => {
    const place = placeBeside({ x: 100, y: 100, width: 80, height: 20 }, size, window, "below");
    expect(place).toEqual({ x: 100, y: 128 });
  });

  it("lies above where there is none below", () => {
    const place = placeBeside({ x: 100, y: 700, width: 80, height: 20 }, size, window, "below");
    expect(place).toEqual({ x: 100, y: 492 });
  });

  it("leaves a list free in which the pointer moves up and down", () => {
    const row = { x: 100, y: 300, width: 200, height: 24 };
    expect(placeBeside(row, size, window, "right").x).toBe(308);
    expect(placeBeside({ ...row, x: 600 }, size, window, "left").x).toBe(192);
    expect(placeBeside({ ...row, y: 790 }, size, window, "right").y).toBe(592);
  });

  it("takes another side where the preferred one has no room", () => {
    const row = { x: 500, y: 300, width: 400, height: 24 };
    expect(placeBeside(row, size, window, "right")).toEqual({ x: 500, y: 332 });
    expect(placeBeside({ ...row, x: 100 }, size, window, "left")).toEqual({ x: 100, y: 332 });
  });

  it("stays in the window on the right", () => {
    expect(placeBeside({ x: 900, y: 100, width: 80, height: 20 }, size, window, "below").x).toBe(592);
  });

  it("stays in the window even where it has room on no side", () => {
    const place = placeBeside(
      { x: 0, y: 90, width: 10, height: 10 },
      size,
      { width: 300, height: 220 },
      "below",
    );
    expect(place).toEqual({ x: 8, y: 12 });
  });
});
