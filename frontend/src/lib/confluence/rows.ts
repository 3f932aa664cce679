/**
 * The rows beside the picture: for each side the positive list above the negative one, each with a
 * heading, its entries and a last row for what is not shown. One place decides where a row lies, so that
 * lists and bands cannot drift apart.
 */

import type { Entry, EntryList, Unavailable } from "../api/types";
import type { Flow, Sign } from "./geometry";

export const ROW = 24;
export const HEADING = 32;
/** The last row of a list is higher, so that its band can be thicker than an entry's. */
export const REST_ROW = 44;
const GAP = 8;

export type Row =
  | {
      readonly kind: "heading";
      readonly sign: Sign;
      readonly list: EntryList | Unavailable;
      readonly top: number;
    }
  | { readonly kind: "entry"; readonly sign: Sign; readonly entry: Entry; readonly top: number }
  | { readonly kind: "rest"; readonly sign: Sign; readonly rest: Rest; readonly top: number }
  | { readonly kind: "reason"; readonly sign: Sign; readonly reason: string; readonly top: number };

/** What a list leaves out. `share` is its part of the sum of all values of the sign. */
export interface Rest {
  readonly shown: number;
  readonly total: number;
  readonly value: number;
  readonly share: number;
}

export interface Side {
  readonly rows: readonly Row[];
  readonly height: number;
}

export function restOf(list: EntryList): Rest {
  const value = list.total_value - list.shown_value;
  const complete = list.entries.length >= list.total || list.total_value === 0;
  return {
    shown: list.entries.length,
    total: list.total,
    value: complete ? 0 : value,
    share: complete ? 0 : Math.min(1, Math.max(0, value / list.total_value)),
  };
}

/** Place one side. A reason that both signs share is said once. */
export function placeRows(positive: EntryList | Unavailable, negative: EntryList | Unavailable): Side {
  const rows: Row[] = [];
  let top = 0;
  const place = (row: Row, height: number): void => {
    rows.push(row);
    top += height;
  };
  const once =
    positive.status === "unavailable" &&
    negative.status === "unavailable" &&
    positive.reason === negative.reason;
  for (const [sign, list] of [
    ["positive", positive],
    ["negative", negative],
  ] as const) {
    if (sign === "negative") {
      if (once) break;
      top += GAP;
    }
    place({ kind: "heading", sign, list, top }, HEADING);
    if (list.status === "unavailable") {
      place({ kind: "reason", sign, reason: list.reason, top }, 4 * ROW);
      continue;
    }
    for (const entry of list.entries) place({ kind: "entry", sign, entry, top }, ROW);
    place({ kind: "rest", sign, rest: restOf(list), top }, REST_ROW);
  }
  return { rows, height: top };
}

/** The bands that start at the rows of a side. */
export function flowsOf(side: Side): Flow[] {
  const flows: Flow[] = [];
  for (const row of side.rows) {
    if (row.kind === "entry") {
      const y = row.top + ROW / 2;
      flows.push({ id: row.entry.key, sign: row.sign, magnitude: Math.abs(row.entry.value), y, rest: false });
    } else if (row.kind === "rest" && row.rest.value !== 0) {
      const y = row.top + REST_ROW / 2;
      flows.push({
        id: `rest ${row.sign}`,
        sign: row.sign,
        magnitude: Math.abs(row.rest.value),
        y,
        rest: true,
      });
    }
  }
  return flows;
}

export function entriesOf(side: Side): Entry[] {
  return side.rows.flatMap((row) => (row.kind === "entry" ? [row.entry] : []));
}
