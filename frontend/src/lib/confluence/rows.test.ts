import { describe, expect, it } from "vitest";

import { flowsOf, placeRows, restOf } from "./rows";
import { list, unavailable } from "./testing";

describe("restOf", () => {
  it("says how much is not shown, and what part of the sign's sum that is", () => {
    const rest = restOf(list("negative", [-3, -2], { total: 40, total_value: -20, shown_value: -5 }));
    expect(rest).toEqual({ shown: 2, total: 40, value: -15, share: 0.75 });
  });

  it("leaves no rest where all entries are shown, however the sums are rounded", () => {
    const rest = restOf(list("positive", [1, 2], { total: 2, total_value: 3.0000001, shown_value: 3 }));
    expect(rest.value).toBe(0);
  });
});

describe("placeRows", () => {
  it("puts headings, entries and rests one below the other without gaps inside a list", () => {
    const side = placeRows(list("positive", [2, 1]), list("negative", [-1]));
    expect(side.rows.map((row) => row.kind)).toEqual([
      "heading",
      "entry",
      "entry",
      "rest",
      "heading",
      "entry",
      "rest",
    ]);
    const tops = side.rows.map((row) => row.top);
    expect(tops).toEqual([...tops].sort((a, b) => a - b));
    expect(new Set(tops).size).toBe(tops.length);
    expect(side.height).toBeGreaterThan(tops.at(-1) ?? 0);
  });

  it("gives a reason that both signs share once", () => {
    const side = placeRows(unavailable("positive", "not computed"), unavailable("negative", "not computed"));
    expect(side.rows.map((row) => row.kind)).toEqual(["heading", "reason"]);
    expect(flowsOf(side)).toEqual([]);
  });
});

describe("flowsOf", () => {
  it("has one band for each entry and one for each rest", () => {
    const side = placeRows(
      list("positive", [2, 1], { total: 9, total_value: 10, shown_value: 3 }),
      list("negative", [-4]),
    );
    expect(flowsOf(side).map(({ id, sign, magnitude, rest }) => ({ id, sign, magnitude, rest }))).toEqual([
      { id: "0.attn.q:0", sign: "positive", magnitude: 2, rest: false },
      { id: "0.attn.q:1", sign: "positive", magnitude: 1, rest: false },
      { id: "rest positive", sign: "positive", magnitude: 7, rest: true },
      { id: "0.attn.q:0", sign: "negative", magnitude: 4, rest: false },
    ]);
  });
});
