/** Live curves as SVG paths. Pure numbers. */

export interface Frame {
  readonly width: number;
  readonly height: number;
}

export interface Axis {
  readonly from: number;
  readonly to: number;
  readonly log: boolean;
}

export interface Tick {
  readonly value: number;
  readonly at: number;
}

/** An axis that holds all values; logarithmic where it is wanted and all of them are positive. */
export function axisOf(values: readonly number[], log = false): Axis {
  const finite = values.filter(Number.isFinite);
  if (finite.length === 0) return { from: 0, to: 1, log: false };
  const [least, most] = [Math.min(...finite), Math.max(...finite)];
  if (log && least > 0) {
    return least === most ? { from: least / 2, to: most * 2, log } : { from: least, to: most, log };
  }
  const from = Math.min(0, least);
  return { from, to: most === from ? from + 1 : most, log: false };
}

/** 0 … 1 along an axis. */
export function along(axis: Axis, value: number): number {
  if (!axis.log) return (value - axis.from) / (axis.to - axis.from);
  return Math.log(Math.max(value, axis.from) / axis.from) / Math.log(axis.to / axis.from);
}

/** Round numbers inside an axis, about `about` of them. */
export function ticksOf(axis: Axis, about = 4): readonly Tick[] {
  const values: number[] = [];
  if (axis.log) {
    for (let power = Math.floor(Math.log10(axis.from)); 10 ** power <= axis.to; power += 1)
      for (const step of [1, 2, 5]) values.push(step * 10 ** power);
  } else {
    const rough = (axis.to - axis.from) / about;
    const power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].map((one) => one * power).find((one) => one >= rough) ?? rough;
    for (let n = Math.ceil(axis.from / step); n * step <= axis.to * (1 + 1e-9); n += 1)
      values.push(Number((n * step).toPrecision(12)));
  }
  const inside = values.filter((value) => value >= axis.from * (1 - 1e-9) && value <= axis.to * (1 + 1e-9));
  const every = Math.max(1, Math.ceil(inside.length / (about + 2)));
  return inside.filter((_, n) => n % every === 0).map((value) => ({ value, at: along(axis, value) }));
}

const round = (value: number): string => String(Math.round(value * 10) / 10);

/** A path through points; where a value is no number it has a gap. */
export function pathOf(
  points: readonly (readonly [number, number])[],
  x: Axis,
  y: Axis,
  frame: Frame,
): string {
  let pen = "M";
  let path = "";
  for (const [px, py] of points) {
    if (!Number.isFinite(px) || !Number.isFinite(py)) {
      pen = "M";
      continue;
    }
    path += `${pen}${round(along(x, px) * frame.width)} ${round((1 - along(y, py)) * frame.height)}`;
    pen = "L";
  }
  return path;
}
