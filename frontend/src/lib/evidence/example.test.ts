import { describe, expect, it } from "vitest";

import { partsOf, promptOf, snippet } from "./example";

const token = (text: string, id: number) => ({ id, text });
/** A firing at the second token of its document: the window reaches beyond the document's start. */
const example = {
  left: 3,
  tokens: [null, null, token("In", 5), token(" the", 7), token(" be", 8), token("ginning", 9), null],
  ci: [null, null, 0, 0.75, 0.25, 0, null],
  activation: [null, null, 0.1, -1.5, 2, 0, null],
};

describe("the parts of an example", () => {
  it("puts the firing token between its contexts and leaves out what was not seen", () => {
    const parts = partsOf(example);
    expect(parts.before.map(({ token: { text } }) => text)).toEqual(["In"]);
    expect(parts.firing).toEqual({ token: token(" the", 7), ci: 0.75, activation: -1.5 });
    expect(parts.after.map(({ ci }) => ci)).toEqual([0.25, 0]);
  });

  it("survives a window without its firing token", () => {
    const parts = partsOf({ left: 0, tokens: [null], ci: [null], activation: [null] });
    expect(parts).toEqual({ before: [], firing: null, after: [] });
  });
});

describe("an example as a prompt", () => {
  it("is its tokens, and their text beside them", () => {
    expect(promptOf(example.tokens)).toEqual({ text: "In the beginning", ids: [5, 7, 8, 9] });
  });
});

describe("a snippet", () => {
  it("keeps what is nearest to the firing token", () => {
    const long = partsOf({
      left: 3,
      tokens: ["aa", "bb", "cc", "X", "dd", "eeee", "f"].map(token),
      ci: [],
      activation: [],
    });
    const short = snippet(long, 4);
    expect(short.before.map(({ token: { text } }) => text)).toEqual(["bb", "cc"]);
    expect(short.after.map(({ token: { text } }) => text)).toEqual(["dd"]);
  });
});
