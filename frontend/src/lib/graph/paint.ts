/** Drawing a scene: the frame with its heads, the edges, the nodes, and what is pointed at. */

import { visible } from "../format/tokens";
import { datasetKey } from "../workspace/nodes";
import { type NodeClass, classAt, colourOf } from "./colouring";
import { BIAS, DELTA } from "./data";
import {
  type Curve,
  type Rect,
  type Size,
  type View,
  curveInto,
  inSight,
  mayTouch,
  newCurve,
  toScreenX,
  toScreenY,
} from "./geometry";
import { PITCH } from "./layout";
import { CHARACTER, type Pen, type Shape } from "./pen";
import type { Scene } from "./scene";
import { edgesAt } from "./strength";
import { CLASSES, DASH, alphaOf, classOf, markRadius, widthOf } from "./style";

/** Room for the row names on the left and the tokens on top, in pixels. */
export const GUTTER = 92;
export const HEAD = 64;
/** Curves painted as one path: few enough that overlapping edges still add up. */
const TOGETHER = 48;
const LEGIBLE = 13;
/** Pixels between neighbouring nodes from which on their index is written below them. */
const ROOM_FOR_INDEX = 46;
/** Below this scale a cross is too small to be told from a dot: only its colour is left. */
const ROOM_FOR_CROSS = 0.6;
/** Alpha of coloured marks that the search did not find. */
const QUIET = 0.4;
/** Width of the weakest edge around what is pointed at or selected. */
const THINNEST_CHOSEN = 1.1;

/** Where one looks: `window` is the part of the screen that the drawing has, without heads. */
export interface Look {
  readonly view: View;
  readonly window: Size;
  /** Scale at which the whole drawing fits, for widths that grow with the zoom. */
  readonly fitScale: number;
}

/** What is pointed at: its row and column are marked in the heads. */
export interface Cross {
  readonly site: number;
  readonly position: number;
}

function cut(text: string, characters: number): string {
  const all = [...text];
  if (all.length <= characters) return text;
  return characters < 2 ? "…" : `${all.slice(0, characters - 1).join("")}…`;
}

/** A component's index, and what people call it where there is room for some of that. */
function named(scene: Scene, node: number, index: string, room: number): string {
  const words = scene.called.size === 0 ? undefined : scene.called.get(datasetKey(scene.data, node) ?? "");
  const left = room - index.length - 1;
  return words === undefined || left < 3 ? index : `${index} ${cut(words, left)}`;
}

/** Bands, hairlines and heads; the origin is the corner of the heads. */
export function paintFrame(pen: Pen, scene: Scene, look: Look, cross: Cross | null): void {
  const { layout, palette } = scene;
  const { view, window } = look;
  const left = (x: number): number => GUTTER + toScreenX(view, window, x);
  const top = (y: number): number => HEAD + toScreenY(view, window, y);
  const [right, bottom] = [GUTTER + window.width, HEAD + window.height];
  const [x0, x1] = [Math.max(GUTTER, left(0)), Math.min(right, left(layout.width))];
  const y1 = Math.min(bottom, top(layout.height));

  pen.rect(0, 0, right, bottom, palette.paper);
  pen.clip(0, HEAD, right, window.height);
  for (const band of layout.bands)
    if (band.block !== null && band.block % 2 === 0)
      pen.rect(x0, top(band.top), Math.max(0, x1 - x0), (band.bottom - band.top) * view.scale, palette.wash);
  const row = layout.rows[cross === null ? -1 : (layout.rowOf[cross.site] ?? -1)];
  if (row !== undefined) pen.rect(GUTTER - 60, top(row.top), 60, row.height * view.scale, palette.accentWash);
  layout.rows.forEach((one, n) => {
    if (n === 0 || layout.rows[n - 1]?.block !== one.block || one.height * view.scale < 7) return;
    if (top(one.top) > HEAD && top(one.top) < bottom)
      pen.line(x0, top(one.top), x1, top(one.top), palette.hairline);
  });
  layout.bands.forEach((band, n) => {
    const below = layout.bands[n + 1]?.top ?? band.bottom;
    const y = top((band.bottom + below) / 2);
    if (y < bottom) pen.line(8, y, x1, y, palette.rule);
  });
  paintRowNames(pen, scene, look, cross);
  pen.unclip();

  pen.clip(GUTTER, 0, window.width, bottom);
  const column = layout.columns[cross === null ? -1 : (layout.columnOf[cross.position] ?? -1)];
  if (column !== undefined)
    pen.rect(left(column.left), 0, column.width * view.scale, HEAD, palette.accentWash);
  for (const one of layout.columns) pen.line(left(one.left), HEAD - 8, left(one.left), y1, palette.hairline);
  pen.line(left(layout.width), HEAD - 8, left(layout.width), y1, palette.hairline);
  paintColumnHeads(pen, scene, look, cross);
  pen.unclip();
  pen.line(GUTTER, HEAD, right, HEAD, palette.rule);
}

function paintRowNames(pen: Pen, scene: Scene, look: Look, cross: Cross | null): void {
  const { layout, palette } = scene;
  const { view, window } = look;
  const top = (y: number): number => HEAD + toScreenY(view, window, y);
  const marked = cross === null ? -1 : (layout.rowOf[cross.site] ?? -1);
  const legible = new Set<number | null>();
  for (const band of layout.bands) {
    // Of a block all rows are named or none is.
    const rows = layout.rows.filter(({ top: y }) => y >= band.top && y < band.bottom);
    if (((band.bottom - band.top) * view.scale) / rows.length >= LEGIBLE) legible.add(band.block);
  }
  layout.rows.forEach((row, n) => {
    // A name stays in sight for as long as some of its row is.
    const [from, to] = [
      Math.max(HEAD, top(row.top)),
      Math.min(HEAD + window.height, top(row.top + row.height)),
    ];
    const cutOff = to - from < row.height * view.scale - 1;
    const middle = (cutOff && to - from < LEGIBLE ? top(row.top + row.height / 2) : (from + to) / 2) + 4;
    const named = row.block === null ? row.height * view.scale >= LEGIBLE : legible.has(row.block);
    if ((!named && n !== marked) || middle < HEAD - 8 || middle > HEAD + window.height + 16) return;
    const colour = n === marked ? palette.ink : palette.inkSoft;
    pen.text(GUTTER - 8, middle, row.name, { colour, align: "right", bold: n === marked });
  });
  let free = -Infinity;
  for (const band of layout.bands) {
    if (band.block === null) continue;
    // A block's number stays in sight for as long as some of its rows are.
    const [from, to] = [top(band.top), top(band.bottom)];
    if (to < HEAD || from > HEAD + window.height) continue;
    const inside = Math.min(
      to - 2,
      Math.max(HEAD + 12, (Math.max(from, HEAD) + Math.min(to, HEAD + window.height)) / 2 + 4),
    );
    if (inside - free < LEGIBLE) continue;
    free = inside;
    pen.text(8, inside, String(band.block), { colour: palette.ink, bold: true });
  }
}

function paintColumnHeads(pen: Pen, scene: Scene, look: Look, cross: Cross | null): void {
  const { layout, palette, data } = scene;
  const { view, window } = look;
  const widths = layout.columns.map((column) => column.width * view.scale);
  const texts = layout.columns.map((column) => visible(data.tokens[column.position]?.text ?? ""));
  const room = (width: number): number => Math.floor((width - 9) / CHARACTER);
  // Words stand upright as soon as more than a few would be cut.
  const cramped = texts.filter((text, n) => [...text].length > room(widths[n] ?? 0)).length;
  const upwards = cramped > texts.length / 6;
  const marked = cross === null ? -1 : (layout.columnOf[cross.position] ?? -1);
  let free = -Infinity;
  layout.columns.forEach((column, n) => {
    const begins = GUTTER + toScreenX(view, window, column.left);
    const ends = begins + (widths[n] ?? 0);
    if (ends < GUTTER || begins > GUTTER + window.width) return;
    // The head of a column that is partly in sight stays in sight.
    const x = Math.max(begins, Math.min(GUTTER, ends - 2 * LEGIBLE));
    const width = ends - x;
    const colour = n === marked ? palette.ink : palette.inkSoft;
    const bold = n === marked;
    const text = texts[n] ?? "";
    if (upwards) {
      if (width < LEGIBLE && !bold && x < free) return;
      free = x + LEGIBLE;
      pen.text(x + Math.min(width, 40) / 2 + 4.5, HEAD - 5, cut(text, 7), {
        colour: palette.ink,
        bold,
        upwards,
      });
      return;
    }
    pen.text(x + 6, 22, String(column.position), { colour, bold });
    pen.text(x + 6, 44, cut(text, room(width)), { colour: palette.ink, bold });
  });
}

/** Shown edges that may be in sight, strongest first. */
export function edgesInSight(scene: Scene, sight: Rect): Uint32Array {
  const { data, layout, shown } = scene;
  return shown.order.filter((edge) => {
    const [source, target] = [data.source[edge] ?? 0, data.target[edge] ?? 0];
    return mayTouch(
      sight,
      layout.x[source] ?? NaN,
      layout.y[source] ?? NaN,
      layout.x[target] ?? NaN,
      layout.y[target] ?? NaN,
    );
  });
}

const scratch = newCurve();

export interface EdgeStyle {
  /** Edges in sight: what alpha depends on. `null` draws everything at full alpha. */
  readonly crowd: number | null;
  readonly dashes: boolean;
}

/**
 * Paint `edges[from] … edges[to - 1]`, which are ordered by strength, falling. In pictures that are painted
 * from the strongest on, the pen must lay what comes later beneath.
 */
export function paintEdges(
  pen: Pen,
  scene: Scene,
  look: Look,
  edges: Uint32Array,
  from: number,
  to: number,
  style: EdgeStyle,
): void {
  const { palette, rank, strength } = scene;
  let start = from;
  while (start < to) {
    const group = classOf(rank[edges[start] ?? 0] ?? 0);
    let end = start + 1;
    while (end < to && end - start < TOGETHER && classOf(rank[edges[end] ?? 0] ?? 0) === group) end++;
    const edgeClass = CLASSES[group];
    if (edgeClass === undefined) return;
    const wide = widthOf(edgeClass, look.view.scale, look.fitScale);
    const width = style.crowd === null ? Math.max(THINNEST_CHOSEN, wide) : wide;
    const alpha = style.crowd === null ? 0.95 : alphaOf(edgeClass, style.crowd);
    for (const positive of [true, false]) {
      const dash =
        !positive && style.dashes && (edgeClass.dashed || style.crowd === null) ? { dash: DASH } : {};
      const stroke = positive ? palette.positive : palette.negative;
      let begun = false;
      for (let n = start; n < end; n++) {
        const edge = edges[n] ?? 0;
        if ((strength.value[edge] ?? 0) >= 0 !== positive) continue;
        if (!begun) pen.begin({ stroke, width, alpha, ...dash });
        begun = true;
        pen.curve(edgeCurve(scene, look, edge));
      }
      if (begun) pen.end();
    }
    start = end;
  }
}

/** An edge in pixels of the window; the same object each time. */
export function edgeCurve(scene: Scene, look: Look, edge: number): Curve {
  const { data, layout, strength } = scene;
  const { view, window } = look;
  const [source, target] = [data.source[edge] ?? 0, data.target[edge] ?? 0];
  const curve = curveInto(
    scratch,
    layout.x[source] ?? NaN,
    layout.y[source] ?? NaN,
    layout.x[target] ?? NaN,
    layout.y[target] ?? NaN,
    (strength.value[edge] ?? 0) >= 0,
  );
  curve.x0 = toScreenX(view, window, curve.x0);
  curve.x1 = toScreenX(view, window, curve.x1);
  curve.x2 = toScreenX(view, window, curve.x2);
  curve.x3 = toScreenX(view, window, curve.x3);
  curve.y0 = toScreenY(view, window, curve.y0);
  curve.y1 = toScreenY(view, window, curve.y1);
  curve.y2 = toScreenY(view, window, curve.y2);
  curve.y3 = toScreenY(view, window, curve.y3);
  return curve;
}

export function shapeOf(scene: Scene, node: number): Shape {
  const index = scene.data.index[node] ?? 0;
  if (index === DELTA) return "triangle";
  if (index === BIAS) return "ring";
  const address = scene.data.addresses[scene.data.site[node] ?? 0] ?? "";
  if (address === "target") return "diamond";
  return address === "embed" || address === "output" || address === "position" ? "square" : "dot";
}

const HOLLOW: ReadonlySet<Shape> = new Set(["ring", "triangle"]);

/** Of a node's mark. A colour needs some room to be seen; neighbours still do not touch. */
export function radiusOf({ colouring, places }: Scene, node: number, scale: number): number {
  const least = colouring === null ? 0 : Math.min(2.2, 0.45 * PITCH * scale);
  return Math.max(least, markRadius(places[node] ?? 1, scale));
}

/** Where a hue of its own says what a node's name would say: names lie over the neighbours. */
function isSaidByHue({ colouring }: Scene, node: number, name: string): boolean {
  const said = typeof classAt(colouring, node)?.ink === "number";
  return said && colouring?.own[node]?.endsWith(` ${name}`) === true;
}

interface NodeGroup {
  readonly shape: Shape;
  readonly quiet: boolean;
  readonly of: NodeClass | null;
  readonly nodes: number[];
}

/** The shown nodes in sight. Search lets what it did not find step back. */
export function paintNodes(
  pen: Pen,
  scene: Scene,
  look: Look,
  margin = 0,
  nodes: Iterable<number> = scene.layout.cellNodes,
): void {
  const { layout, shown, matches, palette, pinned, selection } = scene;
  const { view, window } = look;
  const sight = inSight(view, window, margin + 10);
  const groups = new Map<string, NodeGroup>();
  const special: number[] = [];
  for (const node of nodes) {
    const chosen = selection.has(node) || pinned.has(node);
    if (shown.nodes[node] !== 1 && !chosen) continue;
    const [x, y] = [layout.x[node] ?? NaN, layout.y[node] ?? NaN];
    if (!(x >= sight.left && x <= sight.right && y >= sight.top && y <= sight.bottom)) continue;
    if (chosen || matches?.has(node) === true) special.push(node);
    const shape = shapeOf(scene, node);
    const quiet = matches !== null && !matches.has(node) && !chosen;
    const of = classAt(scene.colouring, node);
    const name = `${shape} ${quiet} ${of?.id}`;
    const group = groups.get(name) ?? { shape, quiet, of, nodes: [] };
    groups.set(name, group);
    group.nodes.push(node);
  }
  const radius = (node: number): number => radiusOf(scene, node, view.scale);
  const sx = (node: number): number => toScreenX(view, window, layout.x[node] ?? NaN);
  const sy = (node: number): number => toScreenY(view, window, layout.y[node] ?? NaN);
  for (const { shape, quiet, of, nodes } of [...groups.values()].sort(
    (a, b) => Number(b.quiet) - Number(a.quiet),
  )) {
    const colour = of !== null ? colourOf(of.ink, palette) : quiet ? palette.rule : palette.ink;
    // What the search did not find steps back, and still says what it belongs to.
    const alpha = quiet && of !== null ? QUIET : 1;
    const hollow = HOLLOW.has(shape);
    const cross = of?.ink === "cross" && view.scale > ROOM_FOR_CROSS;
    // A rim of paper keeps a mark apart from the edges that end in it.
    for (let n = 0; n < nodes.length; n += 400) {
      const some = nodes.slice(n, n + 400);
      if (view.scale > 0.7) {
        pen.begin({ fill: palette.paper });
        for (const node of some) pen.shape(shape, sx(node), sy(node), radius(node) + Math.min(1, view.scale));
        pen.end();
      }
      if (cross) pen.begin({ stroke: colour, width: Math.min(2, 1 + view.scale / 2), alpha });
      else if (hollow && view.scale > 0.4) pen.begin({ stroke: colour, width: 1, fill: palette.paper });
      else pen.begin({ fill: colour, alpha });
      for (const node of some) pen.shape(cross ? "cross" : shape, sx(node), sy(node), radius(node));
      pen.end();
    }
  }
  for (const node of special) paintChosen(pen, scene, look, node);
  for (const { nodes: some } of scene.data.name === undefined ? [] : groups.values())
    for (const node of some) {
      const name = scene.data.name?.(node) ?? null;
      if (name === null || isSaidByHue(scene, node, name)) continue;
      const x = sx(node) + radius(node) + 8;
      pen.rect(x - 3, sy(node) - 10, [...name].length * CHARACTER + 6, 20, palette.paper);
      pen.text(x, sy(node) + 4, name, { colour: palette.ink, bold: true });
    }
  if (PITCH * view.scale < ROOM_FOR_INDEX) return;
  for (const { nodes: some } of groups.values())
    for (const node of some) {
      const index = scene.data.index[node] ?? 0;
      const name = index === DELTA ? "Δ" : index === BIAS ? "bias" : String(index);
      if (typeof scene.data.name?.(node) === "string") continue;
      const label = scene.data.label(node);
      const room = Math.floor((PITCH * view.scale) / CHARACTER);
      const text = label === null ? named(scene, node, name, room) : cut(visible(label), room);
      pen.text(sx(node), sy(node) + radius(node) + LEGIBLE + 1, text, {
        colour: palette.inkSoft,
        align: "center",
      });
    }
}

/**
 * Selected: filled with the accent. Pinned: a diamond around it. Found: a ring. Where marks are too close for
 * rings the mark itself takes the accent and its shape. Where its colour says what it belongs to, it keeps it
 * as long as a ring has any room.
 */
function paintChosen(pen: Pen, scene: Scene, look: Look, node: number): void {
  const { layout, matches, palette, pinned, selection } = scene;
  const { view, window } = look;
  const x = toScreenX(view, window, layout.x[node] ?? NaN);
  const y = toScreenY(view, window, layout.y[node] ?? NaN);
  const radius = Math.max(2, radiusOf(scene, node, view.scale));
  const room = (PITCH * view.scale) / 2;
  const tight = room < radius + 3;
  const ringed = room > radius && classAt(scene.colouring, node) !== null;
  if (selection.has(node) && !ringed) {
    pen.begin({ fill: palette.accent, stroke: palette.paper, width: 1 });
    pen.shape(shapeOf(scene, node), x, y, radius + 1);
    pen.end();
  }
  if (pinned.has(node)) {
    const filled = tight && !ringed;
    pen.begin(filled ? { fill: palette.accent } : { stroke: palette.accent, width: 1.5 });
    pen.shape("diamond", x, y, filled ? Math.max(2, room - 1) : Math.min(room + 1, radius + 3));
    pen.end();
  } else if (matches?.has(node) === true || selection.has(node)) {
    const whole = tight && !ringed && !selection.has(node);
    pen.begin(
      whole
        ? { fill: palette.accent }
        : { stroke: palette.accent, width: ringed && selection.has(node) ? 2 : 1 },
    );
    pen.shape("dot", x, y, whole ? radius : radius + (ringed ? 2 : 2.5));
    pen.end();
  }
}

/** The shown edges around some nodes, strongest first, at most `limit` of them. */
export function edgesAround(scene: Scene, nodes: Iterable<number>, limit: number): Uint32Array {
  const { shown, strength, rank } = scene;
  const found = new Set<number>();
  for (const node of nodes)
    for (const side of [strength.incoming, strength.outgoing]) {
      let taken = 0;
      for (const edge of edgesAt(side, node)) {
        if (taken >= limit) break;
        if (shown.edges[edge] !== 1) continue;
        found.add(edge);
        taken++;
      }
    }
  return Uint32Array.from(found)
    .sort((a, b) => (rank[a] ?? 0) - (rank[b] ?? 0))
    .subarray(0, limit);
}

/** Rings around the two ends of an edge that is pointed at. */
export function paintEnds(pen: Pen, scene: Scene, look: Look, edge: number): void {
  const { data, layout, palette } = scene;
  for (const node of [data.source[edge] ?? 0, data.target[edge] ?? 0]) {
    const radius = Math.max(2.5, radiusOf(scene, node, look.view.scale));
    pen.begin({ stroke: palette.ink, width: 1 });
    pen.shape(
      "dot",
      toScreenX(look.view, look.window, layout.x[node] ?? NaN),
      toScreenY(look.view, look.window, layout.y[node] ?? NaN),
      radius + 3,
    );
    pen.end();
  }
}

/** The ring around what is pointed at or has the keyboard's focus. */
export function paintPointed(pen: Pen, scene: Scene, look: Look, node: number, focused: boolean): void {
  const { layout, palette } = scene;
  const { view, window } = look;
  const x = toScreenX(view, window, layout.x[node] ?? NaN);
  const y = toScreenY(view, window, layout.y[node] ?? NaN);
  const radius = Math.max(2.5, radiusOf(scene, node, view.scale));
  const of = classAt(scene.colouring, node);
  const fill = of === null || of.ink === "cross" ? palette.ink : colourOf(of.ink, palette);
  pen.begin({ fill, stroke: palette.paper, width: 1.5 });
  pen.shape(shapeOf(scene, node), x, y, radius + 1);
  pen.end();
  pen.begin({ stroke: focused ? palette.accent : palette.ink, width: focused ? 2 : 1 });
  pen.shape("dot", x, y, radius + 4);
  pen.end();
}
