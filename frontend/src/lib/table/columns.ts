/** Which columns the table shows: as many as fit, in the order of their worth, or those that were chosen. Pure. */

import type { Sort } from "../location/view";

/** Columns that may be left out; the key comes first, what it is about last. */
export const CHOICES = ["mean_ci", "density", "max_ci", "activation_rms", "cluster"] as const;
export type ColumnId = (typeof CHOICES)[number];

const WIDTHS: Readonly<Record<ColumnId, number>> = {
  mean_ci: 60,
  density: 60,
  max_ci: 60,
  activation_rms: 76,
  cluster: 56,
};
const GAP = 12;
/** Space on both sides of a row, and the scroll bar. */
const SIDES = 40;
/** What the last column says, and the least width that says it beside a key's width. */
export type Last = "tokens" | "source" | "target" | "fires";
/** A value and what stands between it and the key of an end. */
const VALUE = 68;

function lastWidth(last: Last, key: number): number {
  if (last === "tokens") return 100;
  return last === "fires" ? 190 : VALUE + key;
}
/** One character of a key, with some room for rounding. */
const CHARACTER = 7.9;

export function keyWidth(longest: number): number {
  return Math.max(116, Math.ceil(longest * CHARACTER));
}

/** The width that these columns need at least. */
export function leastWidth(columns: readonly ColumnId[], key: number, last: Last): number {
  const inner = columns.reduce((sum, column) => sum + WIDTHS[column] + GAP, 0);
  return SIDES + key + GAP + inner + lastWidth(last, key);
}

export function template(columns: readonly ColumnId[], key: number): string {
  return [`${key}px`, ...columns.map((column) => `${WIDTHS[column]}px`), "minmax(0, 1fr)"].join(" ");
}

function inOrder(columns: readonly ColumnId[], clustered: boolean): ColumnId[] {
  return CHOICES.filter((column) => columns.includes(column) && (clustered || column !== "cluster"));
}

/** What fits into a width: what the table is sorted by first, then the cluster, then the rest. */
export function fitting(
  width: number,
  key: number,
  clustered: boolean,
  sort: Sort,
  last: Last = "tokens",
): ColumnId[] {
  const sorted = CHOICES.filter((column) => sort === column || sort === `-${column}`);
  const worth: ColumnId[] = [...sorted, "cluster", "mean_ci", "density", "max_ci", "activation_rms"];
  let kept: ColumnId[] = [];
  for (const column of inOrder(worth, clustered).sort((a, b) => worth.indexOf(a) - worth.indexOf(b))) {
    const more = [...kept, column];
    if (leastWidth(more, key, last) > width) break;
    kept = more;
  }
  return inOrder(kept, clustered);
}

/** Columns as they are kept in the browser; `null`: as many as fit. */
export function readColumns(stored: string | null): ColumnId[] | null {
  if (stored === null) return null;
  const names = stored.split(",");
  return CHOICES.filter((column) => names.includes(column));
}

export function shownColumns(
  chosen: readonly ColumnId[] | null,
  width: number,
  key: number,
  clustered: boolean,
  sort: Sort,
  last: Last = "tokens",
): ColumnId[] {
  return chosen === null ? fitting(width, key, clustered, sort, last) : inOrder(chosen, clustered);
}
