import { describe, expect, it } from "vitest";

import { type Colouring, HUES, classAt, colourOf, nodesOf, sizesOf, standingFor } from "./colouring";
import { DARK, LIGHT } from "./palette";

const CLASSES = [
  { id: "cluster 4", words: "cluster 4", means: "", ink: 0 },
  { id: "alone", words: "alone", means: "", ink: "ink" },
  { id: "unknown", words: "unknown", means: "", ink: "cross" },
] as const;
/** Nodes 0 to 6. */
const colouring: Colouring = {
  words: "",
  classes: CLASSES,
  of: Int16Array.of(-1, 0, 0, 1, 2, 0, -1),
  own: [null, "cluster 4", "cluster 4", "alone", "unknown", "cluster 4", null],
};

describe("nodes told apart", () => {
  it("have a class or none", () => {
    expect([0, 1, 3, 4, 99].map((node) => classAt(colouring, node)?.id ?? null)).toEqual([
      null,
      "cluster 4",
      "alone",
      "unknown",
      null,
    ]);
    expect(classAt(null, 1)).toBeNull();
  });

  it("are counted, all or those shown", () => {
    expect(sizesOf(colouring)).toEqual([3, 1, 1]);
    const shown = Uint8Array.of(1, 0, 1, 1, 0, 1, 1);
    expect(sizesOf(colouring, shown)).toEqual([2, 1, 0]);
    expect(nodesOf(colouring, "cluster 4", shown)).toEqual([2, 5]);
    expect(nodesOf(colouring, "unknown", shown)).toEqual([]);
    expect(nodesOf(colouring, "cluster 5", shown)).toEqual([]);
  });

  it("keep their class where one stands for several of the same, and have none where they differ", () => {
    const members = [[0], [1, 2, 5], [3], [1, 3], [0, 1], []];
    const folded = standingFor(colouring, members);
    expect([...folded.of]).toEqual([-1, 0, 1, -1, -1, -1]);
    expect(folded.own).toEqual([null, "cluster 4", "alone", null, null, null]);
  });

  it("are called by their class where they stand for different things of one class", () => {
    const others = {
      words: "",
      classes: [{ id: "other", words: "2 other clusters", means: "", ink: "neutral" as const }],
      of: Int16Array.of(0, 0, 0),
      own: ["cluster 7", "cluster 7", "cluster 9"],
    };
    expect(standingFor(others, [[0, 1], [1, 2], [2]]).own).toEqual([
      "cluster 7",
      "2 other clusters",
      "cluster 9",
    ]);
  });

  it.each([LIGHT, DARK])("no two ways of painting share a colour", (palette) => {
    const inks = [...Array(HUES).keys(), "neutral", "ink", "cross"] as const;
    expect(new Set(inks.map((ink) => colourOf(ink, palette))).size).toBe(inks.length);
    expect(palette.hues).toHaveLength(HUES);
  });
});
