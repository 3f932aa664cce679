/** The picture of a toy model's answers: features from top to bottom, components from left to right. Pure. */

import { channels, type Palette } from "../graph/palette";

/** [features][components] */
export type Matrix = readonly (readonly number[])[];

/** A component acts where its importance exceeds this for some feature: the server's threshold, too. */
export const ACTS = 0.1;

/** How many columns to show: all up to the last one in which something acts, and at least `least`. */
export function actingColumns(importance: Matrix, least: number): number {
  const total = importance[0]?.length ?? 0;
  for (let column = total - 1; column >= least; column -= 1) {
    if (importance.some((row) => (row[column] ?? 0) > ACTS)) return column + 1;
  }
  return Math.min(total, Math.max(1, least));
}

/** The largest magnitude, which gets the full colour. */
export function largest(values: Matrix): number {
  let most = 0;
  for (const row of values) for (const value of row) most = Math.max(most, Math.abs(value));
  return most;
}

/** Red, green, blue and opacity of every cell, row by row: a shade of the colour of its sign. */
export function cellColours(
  values: Matrix,
  columns: number,
  full: number,
  palette: Palette,
): Uint8ClampedArray<ArrayBuffer> {
  const [paper, positive, negative] = [palette.paper, palette.positive, palette.negative].map(channels);
  const pixels = new Uint8ClampedArray(values.length * columns * 4);
  if (paper === undefined || positive === undefined || negative === undefined) return pixels;
  let at = 0;
  for (const row of values) {
    for (let column = 0; column < columns; column += 1) {
      const value = row[column] ?? 0;
      const share = full === 0 ? 0 : Math.min(1, Math.abs(value) / full);
      const hue = value < 0 ? negative : positive;
      for (const channel of [0, 1, 2] as const)
        pixels[at + channel] = 255 * (paper[channel] + (hue[channel] - paper[channel]) * share);
      pixels[at + 3] = 255;
      at += 4;
    }
  }
  return pixels;
}

export interface Cell {
  readonly row: number;
  readonly column: number;
}

/** The cells below zero by more than `least`. */
export function belowZero(values: Matrix, columns: number, least: number): Cell[] {
  return values.flatMap((line, row) =>
    line.slice(0, columns).flatMap((value, column) => (value < -least ? [{ row, column }] : [])),
  );
}

/** The cell at a place of the picture, both from 0 to 1; `null` beside it. */
export function cellAt(x: number, y: number, rows: number, columns: number): Cell | null {
  if (!(x >= 0 && x < 1 && y >= 0 && y < 1)) return null;
  return { row: Math.floor(y * rows), column: Math.floor(x * columns) };
}

/** Where a key of the keyboard leads from a cell; `null`: nowhere. */
export function moved(cell: Cell, key: string, rows: number, columns: number): Cell | null {
  const moves: Readonly<Record<string, Cell>> = {
    ArrowUp: { ...cell, row: cell.row - 1 },
    ArrowDown: { ...cell, row: cell.row + 1 },
    ArrowLeft: { ...cell, column: cell.column - 1 },
    ArrowRight: { ...cell, column: cell.column + 1 },
    PageUp: { ...cell, row: cell.row - 10 },
    PageDown: { ...cell, row: cell.row + 10 },
    Home: { ...cell, column: 0 },
    End: { ...cell, column: columns - 1 },
  };
  const to = moves[key];
  if (to === undefined) return null;
  return {
    row: Math.max(0, Math.min(rows - 1, to.row)),
    column: Math.max(0, Math.min(columns - 1, to.column)),
  };
}

/** Numbers beside an axis: few enough to be read, at round steps. */
export function axisTicks(count: number, room: number, apart = 28): number[] {
  const most = Math.max(1, Math.floor(room / apart));
  const step =
    [1, 2, 5, 10, 20, 25, 50, 100, 200, 250, 500, 1000].find((each) => count / each <= most) ?? 5000;
  return Array.from({ length: Math.ceil(count / step) }, (_, n) => n * step);
}

/** The largest entries of a list by magnitude, at least `least`: places and values, largest first. */
export function strongest(
  values: readonly number[],
  k: number,
  least: number,
): { readonly place: number; readonly value: number }[] {
  return values
    .map((value, place) => ({ place, value }))
    .filter(({ value }) => Math.abs(value) > least)
    .sort((a, b) => Math.abs(b.value) - Math.abs(a.value))
    .slice(0, k);
}
