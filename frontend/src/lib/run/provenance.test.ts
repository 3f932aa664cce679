import { expect, test } from "vitest";

import { entriesOf, importedFrom } from "./provenance";

test("short values stand open, long ones are folded, JSON is printed with indentation", () => {
  const settings = JSON.stringify({ n_steps: 400_000, pattern: "h.*.mlp.c_fc".repeat(20) });
  expect(
    entriesOf({
      git_commit: "abc",
      original_settings: settings,
      log: "one\ntwo\nthree",
      broken: "{".repeat(300),
    }),
  ).toEqual([
    { name: "git commit", value: "abc", lines: null },
    { name: "original settings", value: JSON.stringify(JSON.parse(settings), null, 2), lines: 4 },
    { name: "log", value: "one\ntwo\nthree", lines: 3 },
    { name: "broken", value: "{".repeat(300), lines: 1 },
  ]);
});

test("where a run was imported from", () => {
  expect(importedFrom({ git_commit: "abc" })).toBeNull();
  expect(importedFrom({ source: "s-1", source_checkpoint: "model_400000.pth", source_step: "400000" })).toBe(
    "s-1, model_400000.pth, step 400,000",
  );
  expect(importedFrom({ source: "dataset_attributions.pt" })).toBe("dataset_attributions.pt");
});
