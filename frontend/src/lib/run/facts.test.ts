import { describe, expect, test } from "vitest";

import type { RunDetail, RunSummary } from "../api/types";
import { runFacts, subrunWords } from "./facts";

const RUN: RunSummary = {
  name: "one",
  title: "One",
  kind: "model",
  family: "llama",
  n_blocks: 4,
  n_components: 1200,
  n_decomposed: 28,
  n_modules: 28,
  vocab_size: 512,
  capabilities: { model: true, tokenizer: true, text: true, attributions: true, harvest: true },
  has_attributions: true,
  has_evaluation: true,
};

describe("what the list of runs says of a run", () => {
  test("a whole one", () => {
    expect(runFacts(RUN)).toEqual([
      "llama type, 4 blocks",
      "1,200 components",
      "512 tokens",
      "attributions",
      "evaluated",
    ]);
  });

  test("an imported one says which parts are missing", () => {
    const capabilities = { model: true, tokenizer: false, text: false, attributions: false, harvest: false };
    expect(runFacts({ ...RUN, n_blocks: 1, n_decomposed: 3, capabilities, has_evaluation: false })).toEqual([
      "llama type, 1 block",
      "3 of 28 matrices decomposed",
      "1,200 components",
      "512 tokens",
      "no tokenizer",
      "no text",
      "no attributions yet",
      "not evaluated",
    ]);
  });

  test("without a model nothing is said of what only a model has", () => {
    const capabilities = { model: false, tokenizer: false, text: false, attributions: true, harvest: false };
    const run = { ...RUN, kind: "attributions" as const, family: null, capabilities, has_evaluation: false };
    expect(runFacts(run)).toEqual([
      "attributions without their model",
      "1,200 components",
      "512 tokens",
      "no tokenizer",
      "attributions",
    ]);
    expect(runFacts({ ...run, kind: "toy", vocab_size: null })).toEqual(["toy model", "1,200 components"]);
  });
});

test("subruns are told apart by what they rest on, and one that is damaged is named too", () => {
  const own = { subrun: "20260102-000000", tokens: 2048, delta: "node", imported_from: null };
  const imported = { subrun: "20260101-000000", tokens: 512, delta: "off", imported_from: "four-edge" };
  const run = { subrun_infos: [own, imported] as unknown as RunDetail["subrun_infos"] };
  expect(subrunWords(run, "20260102-000000")).toBe("20260102-000000 · 2,048 tokens · delta: node");
  expect(subrunWords(run, "20260101-000000")).toBe(
    "20260101-000000 · 512 tokens · delta: off · imported, four-edge",
  );
  expect(subrunWords(run, "20250101-000000")).toBe("20250101-000000 · damaged");
});
