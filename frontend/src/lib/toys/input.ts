/** An input that is tried: a few features that are not zero, as they are written in the address. Pure. */

/** Values by feature, in the order in which they were switched on. */
export type Input = ReadonlyMap<number, number>;

const PART = /^(\d{1,4}):(-?\d+(?:\.\d+)?(?:e[+-]?\d{1,2})?)$/i;
/** The largest value that the server takes. */
export const LARGEST = 1e6;

/** Read `3:0.75,7:1`; what makes no sense, or names no feature, is left out. */
export function parseInput(text: string, features: number): Input {
  const input = new Map<number, number>();
  for (const part of text.split(",")) {
    const [, feature, value] = PART.exec(part.trim()) ?? [];
    if (feature === undefined || Number(feature) >= features) continue;
    const number = Number(value);
    if (Math.abs(number) <= LARGEST) input.set(Number(feature), number);
  }
  return input;
}

export function printInput(input: Input): string {
  return [...input].map(([feature, value]) => `${feature}:${value}`).join(",");
}

/** One number for each feature. */
export function dense(input: Input, features: number): number[] {
  return Array.from({ length: features }, (_, feature) => input.get(feature) ?? 0);
}

export function withFeature(input: Input, feature: number, value: number | null): Input {
  const changed = new Map(input);
  if (value === null) changed.delete(feature);
  else changed.set(feature, value);
  return changed;
}

/** The features of which something is shown: those switched on, and where an output is not close to zero. */
export function notable(rows: readonly (readonly number[])[], least: number): number[] {
  const found = new Set<number>();
  for (const row of rows) row.forEach((value, place) => Math.abs(value) >= least && found.add(place));
  return [...found].sort((a, b) => a - b);
}
