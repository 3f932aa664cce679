/** Associations with tokens and with other components, as rows of one kind of table. */

import { count, inScale, percent, scaleOf } from "../format/numbers";

/** Associations a list that a card asks for; the first of them are shown at once. */
export const ASSOCIATIONS = 40;

/** What the API says of a token or a component that goes together with this one. */
export interface Association {
  readonly count: number;
  readonly recall: number;
  readonly precision: number;
  readonly pmi: number;
  readonly pmi_low: number;
  readonly pmi_high: number;
}

/** How a PMI and its interval are drawn: shares of the width, 0 in the middle. */
export interface Whisker {
  readonly at: number;
  readonly low: number;
  readonly high: number;
  /** The interval goes on beyond the drawing. */
  readonly cutLow: boolean;
  readonly cutHigh: boolean;
}

/** Half the width of the axis: room for all values and for the interval ends that are near them. */
export function reachOf(rows: readonly Association[]): number {
  const values = rows.map((row) => Math.abs(row.pmi)).filter(Number.isFinite);
  const largest = Math.max(0, ...values);
  return largest > 0 ? largest * 1.25 : 1;
}

export function whiskerOf(row: Association, reach: number): Whisker {
  const place = (value: number): number => Math.max(0, Math.min(1, 0.5 + value / (2 * reach)));
  return {
    at: place(row.pmi),
    low: place(row.pmi_low),
    high: place(row.pmi_high),
    cutLow: row.pmi_low < -reach,
    cutHigh: row.pmi_high > reach,
  };
}

/** "PMI +3.21, 95 % interval +2.95 to +3.47". */
export function pmiWords(row: Association): string {
  const scale = scaleOf([row.pmi, row.pmi_low, row.pmi_high].filter(Number.isFinite));
  const say = (value: number): string =>
    Number.isFinite(value) ? inScale(value, scale) : value < 0 ? "−∞" : "+∞";
  return `PMI ${say(row.pmi)}, 95 % interval ${say(row.pmi_low)} to ${say(row.pmi_high)}`;
}

/** Counts are whole; the mass of predicted tokens is not. */
export function amount(value: number): string {
  if (Number.isInteger(value) || value >= 1000) return count(value);
  return value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(2);
}

/** What a share means, in words that name both counts. */
export function shareWords(part: number, whole: number, share: number, of: string): string {
  return `${amount(part)} of ${amount(whole)} ${of}: ${percent(share)}`;
}

/** The share of positions written by a person: "0.5", "0.5 %" or "1e-3 %"; `null` for no share. */
export function parsePercent(text: string): number | null {
  const trimmed = text.trim().replace(/%$/, "").trim().replace(",", ".");
  if (trimmed === "") return null;
  const value = Number(trimmed);
  return Number.isFinite(value) && value >= 0 && value <= 100 ? value / 100 : null;
}

/** The same share as a number of per cent, without the noise of binary fractions. */
export function printPercent(share: number | null): string {
  return share === null ? "" : String(Number((share * 100).toPrecision(10)));
}
