import { describe, expect, it } from "vitest";

import { type LabelContent } from "./api";
import { NOTHING, merge, shortWords, stepWords, tidy } from "./content";

const label = (name: string, text = "", rating: number | null = null): LabelContent => ({
  name,
  text,
  rating,
});

describe("merge", () => {
  const base = label("plural", "a note", 3);

  it("lets two changes of different fields both hold", () => {
    const merged = merge(base, label("plural nouns", "a note", 3), label("plural", "a note", 5));
    expect(merged).toEqual({ kind: "merged", content: label("plural nouns", "a note", 5) });
  });

  it("takes what the other changed where nothing was changed here, also to nothing", () => {
    expect(merge(base, base, NOTHING)).toEqual({ kind: "merged", content: NOTHING });
  });

  it("keeps what both changed alike", () => {
    const both = label("plurals", "a note", 3);
    expect(merge(base, both, both)).toEqual({ kind: "merged", content: both });
  });

  it("names the fields about which somebody must choose", () => {
    const mine = label("mine", "my note", 4);
    const theirs = label("theirs", "a note", 5);
    expect(merge(base, mine, theirs)).toEqual({ kind: "conflict", fields: ["name", "rating"] });
  });
});

describe("tidy", () => {
  it("is what the server makes of it", () => {
    expect(tidy(label("  plural\n\tnouns\u0000 ", "\r\n first\r\nsecond\u0007 \n"))).toEqual(
      label("plural nouns", "first\nsecond"),
    );
  });
});

describe("words", () => {
  it("stand for a component by its name, else by how its note begins", () => {
    expect(shortWords(label("plurals", "note"))).toBe("plurals");
    expect(shortWords(label("", "first line\nsecond"))).toBe("first line");
    expect(shortWords(label("", "x".repeat(80)))).toBe(`${"x".repeat(59)}…`);
    expect(shortWords(label("", "", 4))).toBe("");
  });

  it("say what a step did", () => {
    expect(stepWords({ before: NOTHING, after: label("a", "", 4) })).toBe("name “a”, rating 4");
    expect(stepWords({ before: label("a", "", 4), after: label("b", "n", 2) })).toBe(
      "name “a” → “b”, note “n”, rating 4 → 2",
    );
    expect(stepWords({ before: label("a", "n", 2), after: NOTHING })).toBe(
      "name “a” taken away, note “n” taken away, no rating any more",
    );
  });
});
