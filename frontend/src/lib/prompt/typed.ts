/** What is typed for a model to read: text, or token ids where the run has no tokenizer. Pure. */

import type { PromptSource } from "../api/promptTypes";

/** Ids parted by spaces or commas, with or without `#`; `null` where something else stands among them. */
export function readIds(typed: string): number[] | null {
  const words = typed.split(/[\s,]+/).filter((word) => word !== "");
  if (!words.every((word) => /^#?\d{1,9}$/.test(word))) return null;
  return words.map((word) => Number(word.replace("#", "")));
}

export function printIds(ids: readonly number[]): string {
  return ids.join(" ");
}

/** What to ask the server about; `null`: nothing, "wrong": ids are wanted, and this is something else. */
export function sourceOf(typed: string, tokenizer: boolean): PromptSource | "wrong" | null {
  if (typed.trim() === "" && (!tokenizer || typed === "")) return null;
  if (tokenizer) return { text: typed };
  const ids = readIds(typed);
  return ids === null ? "wrong" : { token_ids: ids };
}

export const IDS_WANTED =
  "Token ids are wanted, such as 17 4 256: this run has no tokenizer to read text with.";
