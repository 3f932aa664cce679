import { describe, expect, it } from "vitest";

import {
  NO_TARGETS,
  type Term,
  customTargets,
  finish,
  targetName,
  toggle,
  weightOf,
  withTarget,
} from "./targets";

const cat: Term = { position: 4, token_id: 7, weight: 1, text: " cat" };
const dog: Term = { position: 4, token_id: 9, weight: -1, text: " dog" };

describe("making a target by clicking", () => {
  it("two clicks are a logit difference", () => {
    const draft = toggle(toggle(NO_TARGETS, cat), dog);
    expect(customTargets(draft)).toEqual([
      {
        name: "␣cat − ␣dog",
        terms: [
          { position: 4, token_id: 7, weight: 1 },
          { position: 4, token_id: 9, weight: -1 },
        ],
      },
    ]);
    expect(weightOf(draft, 4, 9)).toBe(-1);
    expect(weightOf(draft, 3, 9)).toBe(0);
  });

  it("the same again takes a token away, the other sign turns it round", () => {
    const both = toggle(toggle(NO_TARGETS, cat), dog);
    expect(toggle(both, dog).targets).toEqual([[cat]]);
    expect(toggle(both, { ...dog, weight: 1 }).targets).toEqual([[cat, { ...dog, weight: 1 }]]);
    expect(toggle(toggle(NO_TARGETS, cat), cat).targets).toEqual([]);
  });

  it("a finished target is left alone; the next click begins another", () => {
    const draft = toggle(finish(toggle(NO_TARGETS, cat)), dog);
    expect(draft.targets).toEqual([[cat], [dog]]);
    expect(withTarget(draft, 0, []).targets).toEqual([[dog]]);
    // The one in the making is gone: the other stays as it was finished.
    expect(toggle(withTarget(draft, 1, []), dog).targets).toEqual([[cat], [dog]]);
  });

  it("names carry weights and, where they differ, positions", () => {
    expect(
      targetName([
        { ...dog, weight: -2 },
        { ...cat, position: 1 },
      ]),
    ).toBe("−2·␣dog@4 + ␣cat@1");
  });
});
