/**
 * Where every node lies. Tokens are columns, left to right; addresses are rows, embeddings at the bottom and
 * outputs on top; the nodes of one token and address are a small grid inside their cell. Lengths are units of
 * the drawing, y downwards; a viewport turns them into pixels.
 *
 * No engine is needed: a column is as wide and a row as high as its fullest cell asks for. The number of
 * slots in a line is the one with which the whole drawing fits a window best, and what then is missing to the
 * window's proportions is given to the spaces.
 */

import { parseSite, siteColumns } from "../address";
import type { GraphData } from "./data";
import { strengths } from "./strength";

/** Distance between neighbouring nodes of a cell. */
export const PITCH = 8;
/** Width to height of the drawing; a window gets the nearest, so that resizing seldom moves anything. */
const PROPORTIONS = [0.8, 1.1, 1.4, 1.7, 2.1, 2.7, 3.5] as const;
const CELL_PADDING = { x: 8, y: 6 } as const;
/** Space between blocks. */
const BLOCK_GAP = 6;
const NARROWEST = 3;
const WIDEST_COLUMN = 640;
const HIGHEST_ROW = 96;
const MOST_SLOTS = 32;

export interface Row {
  readonly site: number;
  readonly address: string;
  /** Number of the block, `null` for embed, position, output and target. */
  readonly block: number | null;
  /** What stands beside the row: `q`, `gate`, `embed`. */
  readonly name: string;
  readonly top: number;
  readonly height: number;
}

export interface Column {
  readonly position: number;
  readonly left: number;
  readonly width: number;
}

/** A run of rows that belong together. */
export interface Band {
  readonly block: number | null;
  readonly top: number;
  readonly bottom: number;
}

export function proportionFor(window: { readonly width: number; readonly height: number }): number {
  const exact = window.width / Math.max(1, window.height);
  const off = (one: number): number => Math.abs(Math.log(one / exact));
  return PROPORTIONS.reduce((best, one) => (off(one) < off(best) ? one : best));
}

export type CellOrder = "strength" | "key";

export interface Layout {
  readonly width: number;
  readonly height: number;
  /** Top to bottom. */
  readonly rows: readonly Row[];
  readonly columns: readonly Column[];
  readonly bands: readonly Band[];
  /** Row of each site, -1 where the site has none. */
  readonly rowOf: Int16Array;
  /** Column of each position, -1 where the position has none. */
  readonly columnOf: Int16Array;
  /** Centre of each node; NaN where the layout leaves the node out. */
  readonly x: Float32Array;
  readonly y: Float32Array;
  /** The nodes of a cell in their order; see `cellAt`. */
  readonly cellStart: Uint32Array;
  readonly cellNodes: Uint32Array;
}

export interface LayoutOptions {
  /** Width to height that the drawing should have. */
  readonly proportion: number;
  readonly order: CellOrder;
  /** Lay out only nodes with a 1 here, and only the rows and columns they need. */
  readonly include: Uint8Array | null;
}

function rowNames(
  addresses: readonly string[],
): { site: number; block: number | null; name: string; rank: number }[] {
  const columns = siteColumns(addresses);
  const outer: Readonly<Record<string, number>> = { embed: -2, position: -1, output: 1e6, target: 1e6 + 1 };
  return addresses
    .map((address, site) => {
      const parsed = parseSite(address);
      if (parsed === null) return { site, block: null, name: address, rank: outer[address] ?? 1e6 + 2 };
      const place = columns.findIndex(
        (column) => column.kind === parsed.kind && column.projection === parsed.projection,
      );
      return { site, block: parsed.block, name: parsed.projection, rank: parsed.block * 32 + place };
    })
    .sort((a, b) => b.rank - a.rank);
}

/** Sort nodes into cells row by row: counting sort, then the order inside a cell. */
function cells(
  data: GraphData,
  rowOf: Int16Array,
  columnOf: Int16Array,
  rows: number,
  columns: number,
  options: LayoutOptions,
): { start: Uint32Array; nodes: Uint32Array } {
  const { through } = strengths(data, "attr");
  const cellOf = (node: number): number =>
    (rowOf[data.site[node] ?? 0] ?? 0) * columns + (columnOf[data.position[node] ?? 0] ?? 0);
  const nodes: number[] = [];
  for (let node = 0; node < data.nodes; node++) if (options.include?.[node] !== 0) nodes.push(node);
  // Deltas and biases close their cell, so that they are found at the same place in every cell.
  const last = (node: number): number => Math.min(0, data.index[node] ?? 0);
  const inside = (a: number, b: number): number =>
    (last(b) === 0 ? 1 : 0) - (last(a) === 0 ? 1 : 0) ||
    last(a) - last(b) ||
    (options.order === "strength" ? (through[b] ?? 0) - (through[a] ?? 0) : 0) ||
    (data.index[a] ?? 0) - (data.index[b] ?? 0);
  nodes.sort((a, b) => cellOf(a) - cellOf(b) || inside(a, b));
  const start = new Uint32Array(rows * columns + 1);
  for (const node of nodes) {
    const next = cellOf(node) + 1;
    start[next] = (start[next] ?? 0) + 1;
  }
  for (let cell = 0; cell < rows * columns; cell++)
    start[cell + 1] = (start[cell + 1] ?? 0) + (start[cell] ?? 0);
  return { start, nodes: Uint32Array.from(nodes) };
}

/** Slots per line of each column and lines of each row, for cells that prefer `slots` slots in a line. */
function sizes(
  counts: readonly (readonly number[])[],
  columns: number,
  slots: number,
): { lines: number[]; slots: number[] } {
  const lines = counts.map((row) => Math.max(1, Math.ceil(Math.max(0, ...row) / slots)));
  const widths = Array.from({ length: columns }, (_, column) =>
    Math.max(NARROWEST, ...counts.map((row, n) => Math.ceil((row[column] ?? 0) / (lines[n] ?? 1)))),
  );
  return { lines, slots: widths };
}

const total = (values: readonly number[]): number => values.reduce((sum, value) => sum + value, 0);

/** Add the same to every length, none above `limit`, so that they sum up to `wanted` if they can. */
function stretch(lengths: readonly number[], wanted: number, limit: number): number[] {
  const missing = wanted - total(lengths);
  if (missing <= 0 || lengths.length === 0) return [...lengths];
  const share = missing / lengths.length;
  return lengths.map((length) => Math.max(length, Math.min(limit, length + share)));
}

function extent(
  lines: readonly number[],
  slots: readonly number[],
  gaps: number,
  proportion: number,
): { widths: number[]; heights: number[] } {
  const widths = slots.map((count) => count * PITCH + 2 * CELL_PADDING.x);
  const heights = lines.map((count) => count * PITCH + 2 * CELL_PADDING.y);
  const [width, height] = [total(widths), total(heights) + gaps];
  return width < height * proportion
    ? { widths: stretch(widths, height * proportion, WIDEST_COLUMN), heights }
    : { widths, heights: stretch(heights, width / proportion - gaps, HIGHEST_ROW) };
}

export function layOut(data: GraphData, options: LayoutOptions): Layout {
  const included = (node: number): boolean => options.include?.[node] !== 0;
  const usedSites = new Set<number>();
  const usedPositions = new Set<number>();
  for (let node = 0; node < data.nodes; node++)
    if (included(node)) {
      usedSites.add(data.site[node] ?? 0);
      usedPositions.add(data.position[node] ?? 0);
    }
  const whole = options.include === null;
  const names = rowNames(data.addresses).filter(({ site }) => whole || usedSites.has(site));
  const positions = data.tokens.map((_, n) => n).filter((n) => whole || usedPositions.has(n));
  const rowOf = new Int16Array(data.addresses.length).fill(-1);
  const columnOf = new Int16Array(data.tokens.length).fill(-1);
  names.forEach(({ site }, row) => (rowOf[site] = row));
  positions.forEach((position, column) => (columnOf[position] = column));

  const { start, nodes } = cells(data, rowOf, columnOf, names.length, positions.length, options);
  const count = (row: number, column: number): number => {
    const cell = row * positions.length + column;
    return (start[cell + 1] ?? 0) - (start[cell] ?? 0);
  };
  const counts = names.map((_, row) => positions.map((_, column) => count(row, column)));
  const gapAbove = names.map((name, row) =>
    row > 0 && names[row - 1]?.block !== name.block ? BLOCK_GAP : 0,
  );

  let best = { widths: [] as number[], heights: [] as number[], reach: 0 };
  for (let slots = 1; slots <= MOST_SLOTS; slots++) {
    const size = sizes(counts, positions.length, slots);
    const lengths = extent(size.lines, size.slots, total(gapAbove), options.proportion);
    const reach =
      1 / Math.max(total(lengths.widths), (total(lengths.heights) + total(gapAbove)) * options.proportion);
    // Of equally good ones the later: wide flat cells leave the height to the edges.
    if (reach >= best.reach * 0.999) best = { ...lengths, reach: Math.max(reach, best.reach) };
  }

  const columns: Column[] = [];
  let left = 0;
  positions.forEach((position, n) => {
    const width = best.widths[n] ?? 0;
    columns.push({ position, left, width });
    left += width;
  });
  const rows: Row[] = [];
  let top = 0;
  names.forEach(({ site, block, name }, n) => {
    top += gapAbove[n] ?? 0;
    const height = best.heights[n] ?? 0;
    rows.push({ site, address: data.addresses[site] ?? "", block, name, top, height });
    top += height;
  });

  const x = new Float32Array(data.nodes).fill(Number.NaN);
  const y = new Float32Array(data.nodes).fill(Number.NaN);
  rows.forEach((row, r) =>
    columns.forEach((column, c) => {
      const cell = r * columns.length + c;
      const [from, to] = [start[cell] ?? 0, start[cell + 1] ?? 0];
      const slots = Math.max(1, Math.floor((column.width - 2 * CELL_PADDING.x) / PITCH + 1e-6));
      const lines = Math.ceil((to - from) / slots);
      const first = row.top + row.height / 2 - ((lines - 1) * PITCH) / 2;
      for (let n = from; n < to; n++) {
        const node = nodes[n] ?? 0;
        x[node] = column.left + CELL_PADDING.x + (((n - from) % slots) + 0.5) * PITCH;
        y[node] = first + Math.floor((n - from) / slots) * PITCH;
      }
    }),
  );
  return {
    width: left,
    height: top,
    rows,
    columns,
    bands: bandsOf(rows),
    rowOf,
    columnOf,
    x,
    y,
    cellStart: start,
    cellNodes: nodes,
  };
}

function bandsOf(rows: readonly Row[]): Band[] {
  const bands: { block: number | null; top: number; bottom: number }[] = [];
  for (const row of rows) {
    const last = bands.at(-1);
    if (last !== undefined && row.block !== null && last.block === row.block)
      last.bottom = row.top + row.height;
    else bands.push({ block: row.block, top: row.top, bottom: row.top + row.height });
  }
  return bands;
}

/** The nodes of a cell in their order. */
export function cellAt(layout: Layout, row: number, column: number): Uint32Array {
  const cell = row * layout.columns.length + column;
  return layout.cellNodes.subarray(layout.cellStart[cell] ?? 0, layout.cellStart[cell + 1] ?? 0);
}
