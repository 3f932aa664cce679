/** Provenance as a page shows it: short values as they are, long ones folded. Pure. */

import { count } from "../format/numbers";

export interface Entry {
  readonly name: string;
  readonly value: string;
  /** Too long to stand open: how many lines it has when it is printed. */
  readonly lines: number | null;
}

const LONGEST = 200;

/** JSON printed with indentation; any other text as it stands. */
function printed(value: string): string {
  if (!/^\s*[[{]/.test(value)) return value;
  try {
    return JSON.stringify(JSON.parse(value), null, 2);
  } catch {
    return value;
  }
}

export function entriesOf(provenance: Readonly<Record<string, string>>): Entry[] {
  return Object.entries(provenance).map(([name, value]) => {
    const words = name.replaceAll("_", " ");
    if (value.length <= LONGEST && !value.includes("\n")) return { name: words, value, lines: null };
    const text = printed(value);
    return { name: words, value: text, lines: text.split("\n").length };
  });
}

/** "s-1234, model_400000.pth, step 400000" of an imported run; `null` for others. */
export function importedFrom(provenance: Readonly<Record<string, string>>): string | null {
  const { source, source_checkpoint: file, source_step: step } = provenance;
  if (source === undefined) return null;
  return [source, file, step === undefined ? undefined : `step ${count(Number(step))}`]
    .filter((part, n) => part !== undefined && (n === 0 || part !== source))
    .join(", ");
}
