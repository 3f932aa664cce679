import { describe, expect, it } from "vitest";

import { USUAL, bytesWords, durationWords, settingsWords, typed } from "./settings";

describe("settings in words", () => {
  it("say what is explained and what is left out", () => {
    expect(settingsWords(USUAL)).toBe(
      "Explains the 5 likeliest tokens of at least 1 % at the last position; delta is a node of its own; every edge.",
    );
    const narrow = settingsWords({
      ...USUAL,
      targets: [{ name: "cat − dog", terms: [{ position: 3, token_id: 5, weight: 1 }] }],
      outputs_at_most: 0,
      alive_above: 0.1,
      threshold: 0.05,
      max_edges: 20_000,
      delta: "off",
    });
    expect(narrow).toBe(
      "Explains cat − dog; components with CI above 0.1; delta is left out; edges of at least 0.05; the 20,000 strongest edges.",
    );
    expect(settingsWords({ ...USUAL, output_positions: [2, 5], outputs_at_most: 1 })).toContain(
      "the likeliest token of at least 1 % at position 2, 5",
    );
  });
});

describe("numbers that are typed", () => {
  it("are taken where they make sense", () => {
    expect(typed(" 0.5 ", 0, 1)).toBe(0.5);
    expect(typed("1e-3", 0, 1)).toBe(0.001);
    for (const wrong of ["", "x", "-1", "2", "NaN"]) expect(typed(wrong, 0, 1)).toBeNull();
    expect(typed("1.5", 0, 9, true)).toBeNull();
    expect(typed("7", 0, 9, true)).toBe(7);
  });
});

it("sizes and durations are said as somebody would", () => {
  expect([12, 1500, 2_340_000, 8_000_000_000].map(bytesWords)).toEqual([
    "12 bytes",
    "1.500 kB",
    "2.340 MB",
    "8.000 GB",
  ]);
  expect([0.0001, 0.3, 3.21, 42, 600, 7200].map(durationWords)).toEqual([
    "1 ms",
    "300 ms",
    "3.2 s",
    "42 s",
    "10 min",
    "2.0 h",
  ]);
});
