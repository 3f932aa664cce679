/** Where one looks, and the curves that edges are drawn as. Pure numbers. */

import type { Viewport } from "./types";

/** What is in sight: the point of the drawing in the middle of the window, and pixels per unit. */
export interface View {
  readonly x: number;
  readonly y: number;
  readonly scale: number;
}

export interface Size {
  readonly width: number;
  readonly height: number;
}

export interface Rect {
  readonly left: number;
  readonly top: number;
  readonly right: number;
  readonly bottom: number;
}

const FIT_MARGIN = 4;
const LARGEST_FIT = 4;
export const LARGEST_SCALE = 16;

export function fit(drawing: Size, window: Size): View {
  const scale = Math.min(
    (window.width - 2 * FIT_MARGIN) / Math.max(1, drawing.width),
    (window.height - 2 * FIT_MARGIN) / Math.max(1, drawing.height),
    LARGEST_FIT,
  );
  return { x: drawing.width / 2, y: drawing.height / 2, scale: Math.max(scale, 0.01) };
}

/** As an address holds it: shares of the drawing, so that it means the same in every window and layout. */
export function toViewport(view: View, drawing: Size, window: Size): Viewport {
  return {
    x: view.x / Math.max(1, drawing.width),
    y: view.y / Math.max(1, drawing.height),
    scale: view.scale / fit(drawing, window).scale,
  };
}

export function toView(viewport: Viewport, drawing: Size, window: Size): View {
  return {
    x: viewport.x * drawing.width,
    y: viewport.y * drawing.height,
    scale: viewport.scale * fit(drawing, window).scale,
  };
}

/** How much of the window may lie beyond the border of the drawing. */
const BEYOND = 0.2;

function within(centre: number, drawing: number, window: number, scale: number): number {
  const half = window / 2 / scale;
  const slack = (BEYOND * window) / scale;
  const least = Math.min(drawing / 2, half - slack);
  const most = Math.max(drawing / 2, drawing - half + slack);
  return Math.min(Math.max(centre, least), most);
}

/** Keep the drawing in the window, and the scale within its limits. */
export function hold(view: View, drawing: Size, window: Size): View {
  const smallest = fit(drawing, window).scale / 2;
  const scale = Math.min(Math.max(view.scale, smallest), Math.max(LARGEST_SCALE, smallest));
  return {
    x: within(view.x, drawing.width, window.width, scale),
    y: within(view.y, drawing.height, window.height, scale),
    scale,
  };
}

export function toScreenX(viewport: View, window: Size, x: number): number {
  return (x - viewport.x) * viewport.scale + window.width / 2;
}

export function toScreenY(viewport: View, window: Size, y: number): number {
  return (y - viewport.y) * viewport.scale + window.height / 2;
}

export function toDrawingX(viewport: View, window: Size, x: number): number {
  return (x - window.width / 2) / viewport.scale + viewport.x;
}

export function toDrawingY(viewport: View, window: Size, y: number): number {
  return (y - window.height / 2) / viewport.scale + viewport.y;
}

export function panned(viewport: View, dx: number, dy: number): View {
  return { ...viewport, x: viewport.x - dx / viewport.scale, y: viewport.y - dy / viewport.scale };
}

/** Zoom by a factor while the point under (x, y) of the window stays where it is. */
export function zoomed(viewport: View, window: Size, factor: number, x: number, y: number): View {
  const scale = viewport.scale * factor;
  const [dx, dy] = [x - window.width / 2, y - window.height / 2];
  return {
    x: viewport.x + dx / viewport.scale - dx / scale,
    y: viewport.y + dy / viewport.scale - dy / scale,
    scale,
  };
}

/** The part of the drawing that a window with a margin around it (in pixels) shows. */
export function inSight(viewport: View, window: Size, margin = 0): Rect {
  return {
    left: toDrawingX(viewport, window, -margin),
    top: toDrawingY(viewport, window, -margin),
    right: toDrawingX(viewport, window, window.width + margin),
    bottom: toDrawingY(viewport, window, window.height + margin),
  };
}

/** Pan so that a point of the drawing comes at least `margin` pixels inside the window. */
export function reveal(viewport: View, window: Size, x: number, y: number, margin: number): View {
  const [sx, sy] = [toScreenX(viewport, window, x), toScreenY(viewport, window, y)];
  const into = (value: number, size: number): number => {
    const edge = Math.min(margin, size / 2);
    return Math.min(Math.max(value, edge), size - edge) - value;
  };
  return panned(viewport, into(sx, window.width), into(sy, window.height));
}

/**
 * An edge is a cubic that leaves its source and reaches its target vertically. Positive edges bow to the
 * right, negative ones to the left: two edges between the same cells never cover each other, and the sign is
 * carried by more than a hue.
 */
export interface Curve {
  x0: number;
  y0: number;
  x1: number;
  y1: number;
  x2: number;
  y2: number;
  x3: number;
  y3: number;
}

const STEEP = 0.46;
const SHORTEST_REACH = 6;

/** Writes into `out`, since it is called for every edge of every picture. */
export function curveInto(
  out: Curve,
  sx: number,
  sy: number,
  tx: number,
  ty: number,
  positive: boolean,
): Curve {
  const rise = sy - ty;
  const bow = Math.min(18, 2 + 0.05 * Math.abs(rise)) * (positive ? 1 : -1);
  const reach = Math.max(SHORTEST_REACH, STEEP * Math.abs(rise));
  out.x0 = sx;
  out.y0 = sy;
  out.x1 = sx + bow;
  out.y1 = sy - reach;
  out.x2 = tx + bow;
  out.y2 = ty + reach;
  out.x3 = tx;
  out.y3 = ty;
  return out;
}

export function newCurve(): Curve {
  return { x0: 0, y0: 0, x1: 0, y1: 0, x2: 0, y2: 0, x3: 0, y3: 0 };
}

/** The most that a curve leaves the box of its two ends, for culling. */
export const CURVE_OVERHANG = 24;

/** Whether a curve between two points can touch a rectangle: never wrongly no. */
export function mayTouch(rect: Rect, sx: number, sy: number, tx: number, ty: number): boolean {
  return (
    Math.max(sx, tx) + CURVE_OVERHANG >= rect.left &&
    Math.min(sx, tx) - CURVE_OVERHANG <= rect.right &&
    Math.max(sy, ty) + CURVE_OVERHANG >= rect.top &&
    Math.min(sy, ty) - CURVE_OVERHANG <= rect.bottom
  );
}

export function curveX(curve: Curve, t: number): number {
  const u = 1 - t;
  return u * u * u * curve.x0 + 3 * u * u * t * curve.x1 + 3 * u * t * t * curve.x2 + t * t * t * curve.x3;
}

export function curveY(curve: Curve, t: number): number {
  const u = 1 - t;
  return u * u * u * curve.y0 + 3 * u * u * t * curve.y1 + 3 * u * t * t * curve.y2 + t * t * t * curve.y3;
}

/** Straight pieces that stand for a curve where distances are measured. */
export const PIECES = 10;

function toPiece(px: number, py: number, ax: number, ay: number, bx: number, by: number): number {
  const [dx, dy] = [bx - ax, by - ay];
  const length = dx * dx + dy * dy;
  const along = length > 0 ? Math.min(1, Math.max(0, ((px - ax) * dx + (py - ay) * dy) / length)) : 0;
  return Math.hypot(px - ax - along * dx, py - ay - along * dy);
}

/** How far a point is from a curve. */
export function distanceTo(curve: Curve, x: number, y: number): number {
  let least = Infinity;
  let [ax, ay] = [curve.x0, curve.y0];
  for (let n = 1; n <= PIECES; n++) {
    const [bx, by] = [curveX(curve, n / PIECES), curveY(curve, n / PIECES)];
    least = Math.min(least, toPiece(x, y, ax, ay, bx, by));
    [ax, ay] = [bx, by];
  }
  return least;
}
