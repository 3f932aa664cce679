import { describe, expect, test } from "vitest";

import type { RunDetail } from "../api/types";
import { laterWords, wholeWords } from "./importance";

const run = (more: Partial<RunDetail>): RunDetail =>
  ({ kind: "model", n_decomposed: 12, n_modules: 12, importance: null, ...more }) as RunDetail;

describe("what is peculiar to a run", () => {
  test("nothing of most runs", () => {
    expect(wholeWords(run({}))).toBeNull();
    expect(laterWords(run({}))).toBeNull();
  });

  test("matrices left whole are counted", () => {
    expect(wholeWords(run({ n_decomposed: 5 }))).toContain("7 of 12 matrices have no components");
    expect(wholeWords(run({ kind: "attributions", n_decomposed: 5 }))).toBeNull();
  });
});
