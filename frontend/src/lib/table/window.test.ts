import { describe, expect, it } from "vitest";

import { scrollToRow, visibleRows } from "./window";

describe("visibleRows", () => {
  it("covers what is in sight and little more, however long the list", () => {
    const { start, end } = visibleRows(28_000, 560, 28, 1_000_000);
    expect(start).toBeLessThanOrEqual(1000);
    expect(end).toBeGreaterThanOrEqual(1020);
    expect(end - start).toBeLessThan(60);
  });

  it("stays inside the list", () => {
    expect(visibleRows(0, 560, 28, 5)).toEqual({ start: 0, end: 5 });
    expect(visibleRows(9999, 560, 28, 5)).toEqual({ start: 5, end: 5 });
    expect(visibleRows(0, 560, 28, 0)).toEqual({ start: 0, end: 0 });
  });
});

describe("scrollToRow", () => {
  it("moves as little as needed", () => {
    expect(scrollToRow(10, 200, 280, 28)).toBe(200);
    expect(scrollToRow(2, 200, 280, 28)).toBe(56);
    expect(scrollToRow(30, 200, 280, 28)).toBe(588);
  });
});
