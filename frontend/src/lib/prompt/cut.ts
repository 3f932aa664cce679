/** The slider that says how many edges are shown: logarithmic, by rank or by strength. */

import type { GraphData, GraphMetric } from "../graph/data";
import { strengths } from "../graph/strength";
import type { Cut } from "../location/view";

/** As many edges as the eye still tells apart. */
export const READABLE = 600;
/** Steps of the slider. */
export const STEPS = 1000;

/** Which edges a cut lets through, in the filter's terms. */
export function cutFilter(
  cut: Cut,
  edges: number,
): { readonly minimum: number; readonly strongest: number | null } {
  switch (cut.kind) {
    case "strongest":
      return { minimum: 0, strongest: edges > READABLE ? READABLE : null };
    case "top":
      return { minimum: 0, strongest: cut.n >= edges ? null : cut.n };
    case "least":
      return { minimum: cut.value, strongest: null };
  }
}

export function rankAt(step: number, edges: number): number {
  if (step >= STEPS) return edges;
  return Math.min(edges, Math.round(Math.exp((step / STEPS) * Math.log(Math.max(1, edges)))));
}

export function stepOfRank(rank: number, edges: number): number {
  if (edges <= 1 || rank >= edges) return STEPS;
  return Math.round((STEPS * Math.log(Math.max(1, rank))) / Math.log(edges));
}

/** Smallest |strength| that is not 0, and the largest. */
export function range(
  data: GraphData,
  metric: GraphMetric,
): { readonly least: number; readonly most: number } {
  const { order, value } = strengths(data, metric);
  const at = (rank: number): number => Math.abs(value[order[rank] ?? -1] ?? 0);
  const most = at(0);
  // Of a million edges the last are noise; five decades are enough to slide over.
  let last = order.length - 1;
  while (last > 0 && at(last) === 0) last -= 1;
  return { least: Math.max(at(last), most * 1e-5), most };
}

/** To three digits, so that the number shown is the number used. */
export function valueAt(
  step: number,
  { least, most }: { readonly least: number; readonly most: number },
): number {
  if (step >= STEPS || most === 0) return 0;
  return Number((most * (least / most) ** (step / STEPS)).toPrecision(3));
}

export function stepOfValue(
  value: number,
  { least, most }: { readonly least: number; readonly most: number },
): number {
  if (value <= 0 || most === 0 || least === most) return STEPS;
  const step = (STEPS * Math.log(value / most)) / Math.log(least / most);
  return Math.round(Math.min(STEPS, Math.max(0, step)));
}
