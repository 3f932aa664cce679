import { describe, expect, it } from "vitest";

import { amount, parsePercent, pmiWords, printPercent, reachOf, shareWords, whiskerOf } from "./associations";

const row = (pmi: number, pmi_low: number, pmi_high: number) => ({
  count: 3,
  recall: 0.5,
  precision: 0.25,
  pmi,
  pmi_low,
  pmi_high,
});

describe("a PMI on its axis", () => {
  it("stands left or right of the middle, its interval around it", () => {
    const whisker = whiskerOf(row(2, 1, 3), 4);
    expect(whisker).toEqual({ at: 0.75, low: 0.625, high: 0.875, cutLow: false, cutHigh: false });
    expect(whiskerOf(row(-2, -3, -1), 4).at).toBe(0.25);
  });

  it("is cut, and says so, where the interval goes beyond the axis", () => {
    const whisker = whiskerOf(row(-2, -Infinity, -1), 4);
    expect(whisker).toMatchObject({ low: 0, cutLow: true, cutHigh: false });
  });

  it("has an axis that fits all its rows, whatever one interval does", () => {
    expect(reachOf([row(2, 1, 3), row(-4, -100, -3)])).toBe(5);
    expect(reachOf([])).toBe(1);
    expect(reachOf([row(-Infinity, -Infinity, 0)])).toBe(1);
  });
});

describe("words", () => {
  it("give the interval with the value", () => {
    expect(pmiWords(row(3.214, 2.95, 3.4))).toBe("PMI +3.214, 95 % interval +2.950 to +3.400");
    expect(pmiWords(row(-3, -Infinity, -1))).toBe("PMI −3.000, 95 % interval −∞ to −1.000");
  });

  it("write counts whole and mass with as many digits as it is worth", () => {
    expect([37, 0, 12345, 0.5, 12.34, 123.4, 1234.5].map(amount)).toEqual([
      "37",
      "0",
      "12,345",
      "0.50",
      "12.3",
      "123",
      "1,235",
    ]);
    expect(shareWords(37, 41, 37 / 41, "occurrences")).toBe("37 of 41 occurrences: 90.2 %");
  });
});

describe("a share that a person writes", () => {
  it("is read as per cent", () => {
    expect(["0.5", "0.5 %", "0,5", "1e-3%", "100", "0"].map(parsePercent)).toEqual([
      0.005, 0.005, 0.005, 0.00001, 1, 0,
    ]);
    expect(["", " ", "-1", "101", "x", "5 % or so"].map(parsePercent)).toEqual(Array(6).fill(null));
  });

  it("comes back as it was written", () => {
    for (const text of ["0.7", "12.5", "0.003", "100", "0"])
      expect(printPercent(parsePercent(text))).toBe(text);
    expect(printPercent(null)).toBe("");
  });
});
