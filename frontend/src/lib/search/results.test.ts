import { describe, expect, it } from "vitest";

import {
  PAGE_SIZE,
  type Found,
  edgeMarked,
  limitWords,
  pageOf,
  pagesOf,
  passageOf,
  piecesOf,
  sidesOf,
  totalWords,
} from "./results";

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

describe("a hit's text in pieces", () => {
  const span = (term: number, start: number, end: number) => ({ term, start, end });
  // A face is one code point, and two units of a string.
  const hit = {
    left: "😀 wine and ",
    match: "bread",
    right: ", wine.",
    spans: [span(1, 2, 6), span(0, 11, 16)],
  };

  it("tells every term apart, counted in code points", () => {
    expect(piecesOf({ ...hit, spans: [...hit.spans, span(1, 18, 22)] })).toEqual([
      { text: "😀 ", term: null },
      { text: "wine", term: 1 },
      { text: " and ", term: null },
      { text: "bread", term: 0 },
      { text: ", ", term: null },
      { text: "wine", term: 1 },
      { text: ".", term: null },
    ]);
    expect(sidesOf(hit)).toEqual({
      before: [
        { text: "😀 ", term: null },
        { text: "wine", term: 1 },
        { text: " and ", term: null },
      ],
      after: [{ text: ", wine.", term: null }],
    });
  });

  it("gives what two terms have to the first, and loses nothing", () => {
    const both = { left: "", match: "seaside", right: "", spans: [span(0, 0, 7), span(1, 0, 7)] };
    expect(piecesOf(both)).toEqual([{ text: "seaside", term: 0 }]);
    const crossing = { left: "a b", match: "", right: " c", spans: [span(2, 0, 3), span(1, 2, 5)] };
    expect(piecesOf(crossing)).toEqual([
      { text: "a ", term: 2 },
      { text: "b", term: 1 },
      { text: " c", term: 1 },
    ]);
    expect(piecesOf({ left: "", match: "x", right: "", spans: [] }, 1)).toEqual([]);
  });

  it("shows a passage from before the first term to after the last, cut between words", () => {
    expect(passageOf(hit)).toEqual(piecesOf(hit));
    const words = "word ".repeat(100);
    const long = { left: words, match: "bread", right: ` ${words}`, spans: [span(0, 500, 505)] };
    const passage = passageOf(long);
    const text = passage.map((piece) => piece.text).join("");
    expect(passage.filter((piece) => piece.term === 0)).toEqual([{ text: "bread", term: 0 }]);
    expect(text).toMatch(/^…(word )+bread( word)+…$/);
    expect(text.length).toBeGreaterThan(150);
    expect(text.length).toBeLessThan(200);
  });
});
