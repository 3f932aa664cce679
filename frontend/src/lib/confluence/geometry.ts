/**
 * Geometry of the confluence: bands that flow from rows on the left into a trunk and on to rows on the
 * right. All lengths in pixels, y downwards. Pure numbers; drawing is elsewhere.
 *
 * A band is as thick as its value is large, everywhere along its way, in one scale for each side: the
 * values of sources are in units of one target, those of targets each in its own. Where bands meet the trunk they lie side by side without gaps: positive ones above the
 * waterline, negative ones below it.
 */

export type Sign = "positive" | "negative";

export interface Flow {
  /** Identifies the band to the caller. */
  readonly id: string;
  readonly sign: Sign;
  /** |value|, in the unit of the card; at least 0. */
  readonly magnitude: number;
  /** Centre of the row that the band belongs to. */
  readonly y: number;
  /** Everything of this sign that is not shown, in one band. */
  readonly rest: boolean;
}

export interface Band extends Flow {
  readonly thickness: number;
  /** Centre of the band where it meets the trunk. */
  readonly trunkY: number;
  /** The band is drawn thinner than its value asks for, because it would hide all others. */
  readonly cut: boolean;
  /** Outline, for the `d` of an SVG path. */
  readonly path: string;
}

export interface Confluence {
  readonly left: readonly Band[];
  readonly right: readonly Band[];
  /** Pixels of thickness per unit of value on each side; 0 where there is nothing to draw. */
  readonly scale: { readonly left: number; readonly right: number };
  readonly waterline: number;
  readonly trunk: {
    readonly x: number;
    readonly width: number;
    readonly top: number;
    readonly bottom: number;
  };
}

export interface Frame {
  readonly width: number;
  readonly height: number;
  readonly trunkWidth: number;
  /** Thickness of the largest band of a side that is not a rest. */
  readonly thickest: number;
  /** A rest thicker than this is cut, and says so. */
  readonly restLimit: number;
}

/** No band is thinner than this: an edge that exists can be seen and clicked. */
const THINNEST = 1;
const TRUNK_MINIMUM = 48;

interface Stacked {
  readonly flow: Flow;
  readonly thickness: number;
  readonly cut: boolean;
}

function pixelsPerUnit(flows: readonly Flow[], frame: Frame): number {
  const shown = flows.filter((flow) => !flow.rest);
  const largest = Math.max(0, ...(shown.length > 0 ? shown : flows).map((flow) => flow.magnitude));
  return largest > 0 ? frame.thickest / largest : 0;
}

function measure(flow: Flow, scale: number, frame: Frame): Stacked {
  const wanted = flow.magnitude * scale;
  const cut = flow.rest && wanted > frame.restLimit;
  return { flow, cut, thickness: Math.max(THINNEST, cut ? frame.restLimit : wanted) };
}

function total(stack: readonly Stacked[], sign: Sign): number {
  return stack.reduce((sum, { flow, thickness }) => (flow.sign === sign ? sum + thickness : sum), 0);
}

const round = (value: number): string => String(Math.round(value * 100) / 100);

/** A ribbon of constant thickness between two points, leaving and arriving horizontally. */
export function ribbon(x0: number, y0: number, x1: number, y1: number, thickness: number): string {
  const half = thickness / 2;
  const middle = round((x0 + x1) / 2);
  const [a, b] = [round(x0), round(x1)];
  const [topA, topB] = [round(y0 - half), round(y1 - half)];
  const [lowA, lowB] = [round(y0 + half), round(y1 + half)];
  return (
    `M${a} ${topA}C${middle} ${topA} ${middle} ${topB} ${b} ${topB}` +
    `L${b} ${lowB}C${middle} ${lowB} ${middle} ${lowA} ${a} ${lowA}Z`
  );
}

/** Where the waterline lies: as near as possible to where the rows change sign, with room for all. */
function placeWaterline(flows: readonly Flow[], above: number, below: number, height: number): number {
  const positive = flows.filter((flow) => flow.sign === "positive").map((flow) => flow.y);
  const negative = flows.filter((flow) => flow.sign === "negative").map((flow) => flow.y);
  const wanted =
    positive.length > 0 && negative.length > 0
      ? (Math.max(...positive) + Math.min(...negative)) / 2
      : height / 2 + (above - below) / 2;
  return Math.min(Math.max(wanted, above), Math.max(above, height - below));
}

function pile(stack: readonly Stacked[], waterline: number, from: number, to: number): Band[] {
  const ordered = [...stack].sort((a, b) => a.flow.y - b.flow.y);
  const next = { positive: waterline - total(stack, "positive"), negative: waterline };
  return ordered.map(({ flow, thickness, cut }) => {
    const trunkY = next[flow.sign] + thickness / 2;
    next[flow.sign] += thickness;
    return { ...flow, thickness, cut, trunkY, path: ribbon(from, flow.y, to, trunkY, thickness) };
  });
}

/** Lay out a whole picture. `left` and `right` may be empty, and in any order. */
export function layOut(left: readonly Flow[], right: readonly Flow[], frame: Frame): Confluence {
  const all = [...left, ...right];
  const scale = { left: pixelsPerUnit(left, frame), right: pixelsPerUnit(right, frame) };
  const drawable = (flow: Flow): boolean => flow.magnitude > 0;
  const leftStack = left.filter(drawable).map((flow) => measure(flow, scale.left, frame));
  const rightStack = right.filter(drawable).map((flow) => measure(flow, scale.right, frame));
  const above = Math.max(total(leftStack, "positive"), total(rightStack, "positive"));
  const below = Math.max(total(leftStack, "negative"), total(rightStack, "negative"));
  const waterline = placeWaterline(all.filter(drawable), above, below, frame.height);
  const trunkX = (frame.width - frame.trunkWidth) / 2;
  const slack = Math.max(0, TRUNK_MINIMUM - above - below) / 2;
  return {
    left: pile(leftStack, waterline, 0, trunkX),
    right: pile(rightStack, waterline, frame.width, trunkX + frame.trunkWidth),
    scale,
    waterline,
    trunk: {
      x: trunkX,
      width: frame.trunkWidth,
      top: waterline - above - slack,
      bottom: waterline + below + slack,
    },
  };
}
