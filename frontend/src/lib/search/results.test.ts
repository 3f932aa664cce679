import { describe, expect, it } from "vitest";

import { PAGE_SIZE, type Found, edgeMarked, limitWords, pageOf, pagesOf, totalWords } from "./results";

const found = (total: number, ended: Found["ended"] = "complete", searched = 1): Found => ({
  total,
  ended,
  searched,
  seconds_limit: 3,
});

describe("what is said of hits", () => {
  it("counts exactly only where everything was searched", () => {
    expect(totalWords(found(0))).toBe("No hits");
    expect(totalWords(found(1))).toBe("1 hit");
    expect(totalWords(found(1234))).toBe("1,234 hits");
    expect(totalWords(found(10_000, "many"))).toBe("More than 10,000 hits");
    expect(totalWords(found(7, "time", 0.4))).toBe("More than 7 hits");
    expect(totalWords(found(0, "time", 0.4))).toBe("No hits so far");
  });

  it("says what a count leaves out", () => {
    expect(limitWords(found(3))).toBe("");
    expect(limitWords(found(10_000, "many"))).toContain("The first 10,000");
    expect(limitWords(found(7, "time", 0.4321))).toBe("Stopped after 3 s, with 43.2 % of the text searched.");
  });
});

describe("pages", () => {
  it("are as many as the hits fill, and never none", () => {
    expect([0, 1, PAGE_SIZE, PAGE_SIZE + 1].map(pagesOf)).toEqual([1, 1, 1, 2]);
    expect([0, PAGE_SIZE - 1, PAGE_SIZE].map(pageOf)).toEqual([1, 1, 2]);
  });
});

describe("a match", () => {
  it("shows the spaces at its edges", () => {
    expect(edgeMarked(" the sea ")).toBe("␣the sea␣");
    expect(edgeMarked("  ")).toBe("␣␣");
    expect(edgeMarked("sea")).toBe("sea");
  });
});
