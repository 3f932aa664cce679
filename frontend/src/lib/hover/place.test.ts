import { describe, expect, it } from "vitest";

import { placeBeside } from "./place";

const window = { width: 1000, height: 800 };
const size = { width: 400, height: 200 };

describe("placeBeside", () => {
  it("lies below its anchor where there is room", () => {
    expect(placeBeside({ x: 100, y: 100, width: 80, height: 20 }, size, window)).toEqual({ x: 100, y: 128 });
  });

  it("lies above where there is none below", () => {
    expect(placeBeside({ x: 100, y: 700, width: 80, height: 20 }, size, window)).toEqual({ x: 100, y: 492 });
  });

  it("stays in the window on the right", () => {
    expect(placeBeside({ x: 900, y: 100, width: 80, height: 20 }, size, window).x).toBe(592);
  });

  it("stays in the window even where it has room on neither side", () => {
    const place = placeBeside({ x: 0, y: 90, width: 10, height: 10 }, size, { width: 300, height: 220 });
    expect(place).toEqual({ x: 8, y: 12 });
  });
});
