import { describe, expect, test } from "vitest";

import type { RunSummary } from "../api/types";
import { missing } from "./missing";

type Has = RunSummary["capabilities"];
const ALL: Has = { model: true, tokenizer: true, text: true, attributions: true, harvest: true };

function run(lacks: Partial<Has>, kind: RunSummary["kind"] = "model"): RunSummary {
  return {
    name: "one",
    title: "One",
    kind,
    family: kind === "model" ? "llama" : null,
    n_blocks: 1,
    n_components: 10,
    n_decomposed: 7,
    n_modules: 7,
    vocab_size: 100,
    capabilities: { ...ALL, ...lacks },
    has_attributions: lacks.attributions ?? true,
    has_evaluation: false,
  };
}

describe("what a run lacks", () => {
  test("nothing: no words", () => {
    for (const need of ["model", "text", "search", "harvest", "attributions", "tokens"] as const)
      expect(missing(run({}), need)).toBeNull();
  });

  test("what was not computed yet is one command away", () => {
    expect(missing(run({ harvest: false }), "harvest")?.commands).toEqual(["tributary harvest one"]);
    expect(missing(run({ attributions: false }), "attributions")?.commands).toEqual([
      "tributary attribute one",
    ]);
  });

  test("without text the text comes first", () => {
    const bare = run({ text: false, harvest: false, attributions: false });
    expect(missing(bare, "text")?.commands).toEqual(["tributary text one FILE"]);
    expect(missing(bare, "harvest")?.commands).toEqual(["tributary text one FILE", "tributary harvest one"]);
    expect(missing(bare, "attributions")?.commands).toEqual([
      "tributary text one FILE",
      "tributary attribute one",
    ]);
    expect(missing(bare, "model")).toBeNull();
  });

  test("without a tokenizer either, it has to be imported again", () => {
    const bare = run({ text: false, tokenizer: false, harvest: false });
    expect(missing(bare, "harvest")?.commands).toHaveLength(1);
    expect(missing(bare, "harvest")?.commands[0]).toContain("--tokenizer");
    // A text of ids can be read and computed over, but not searched.
    const ids = run({ tokenizer: false });
    expect(missing(ids, "text")).toBeNull();
    expect(missing(ids, "search")?.title).toBe("This run came without a tokenizer");
  });

  test("attributions that were computed elsewhere need no text here", () => {
    expect(missing(run({ text: false, harvest: false }), "attributions")).toBeNull();
  });

  test("without a model no command computes anything", () => {
    const alone = run({ model: false, tokenizer: false, text: false, harvest: false }, "attributions");
    expect(missing(alone, "model")?.title).toBe("This run came without its model");
    expect(missing(alone, "harvest")?.commands.join(" ")).not.toContain("harvest");
    expect(missing(alone, "text")?.commands).toEqual([]);
    expect(missing(alone, "attributions")).toBeNull();
    expect(missing(alone, "tokens")).toBeNull();
  });

  test("a toy model has none of these pages", () => {
    const toy = run({ text: false, tokenizer: false, harvest: false, attributions: false }, "toy");
    for (const need of ["model", "text", "search", "harvest", "attributions", "tokens"] as const)
      expect(missing(toy, need)?.title).toBe("A toy model reads no text");
  });
});
