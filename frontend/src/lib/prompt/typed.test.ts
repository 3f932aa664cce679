import { expect, test } from "vitest";

import { printIds, readIds, sourceOf } from "./typed";

test("ids are read in the forms in which they are shown and printed", () => {
  expect(readIds("17 4,256\n#9 ")).toEqual([17, 4, 256, 9]);
  expect(readIds("")).toEqual([]);
  expect(readIds("17 four")).toBeNull();
  expect(readIds("-3")).toBeNull();
  expect(readIds("9999999999")).toBeNull();
  expect(readIds(printIds([5, 0, 12]))).toEqual([5, 0, 12]);
});

test("with a tokenizer text is sent as it stands, without one ids", () => {
  expect(sourceOf("17 4", true)).toEqual({ text: "17 4" });
  expect(sourceOf(" ", true)).toEqual({ text: " " });
  expect(sourceOf("", true)).toBeNull();
  expect(sourceOf("17 4", false)).toEqual({ token_ids: [17, 4] });
  expect(sourceOf("  ", false)).toBeNull();
  expect(sourceOf("a word", false)).toBe("wrong");
});
