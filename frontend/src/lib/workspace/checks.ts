/** What a checked edge says, in words. */

import type { EdgeCheckResult } from "../api/promptTypes";
import { number, percent } from "../format/numbers";

export const EPSILONS = [0.001, 0.01, 0.1, 1] as const;

export type Agreement = "exact" | "close" | "bent" | "none" | "nothing";

/** |actual − predicted| in units of the larger of the two; 0 where both are 0. */
export function discrepancy({ predicted, actual }: EdgeCheckResult): number {
  const larger = Math.max(Math.abs(predicted), Math.abs(actual));
  return larger === 0 ? 0 : Math.abs(actual - predicted) / larger;
}

/** Below this share of the target itself a change drowns in single-precision rounding. */
const ROUNDING = 3e-7;

export function agreement(result: EdgeCheckResult): Agreement {
  const { predicted, actual, before } = result;
  if (Math.max(Math.abs(predicted), Math.abs(actual)) <= ROUNDING * Math.abs(before)) return "nothing";
  const off = discrepancy(result);
  if (off <= 0.01) return "exact";
  if (off <= 0.1) return "close";
  return Math.sign(predicted) === Math.sign(actual) && off < 0.5 ? "bent" : "none";
}

export function agreementWords(result: EdgeCheckResult): string {
  const off = percent(discrepancy(result));
  const larger = result.epsilon > EPSILONS[0];
  switch (agreement(result)) {
    case "exact":
      return `They agree to ${off}: the edge does what its number says.`;
    case "close":
      return `They agree to ${off}. ${larger ? "The rest is curvature: a smaller push agrees better." : "The rest is curvature and rounding."}`;
    case "bent":
      return `The direction is right, the size is off by ${off}: the path bends at a push of this size.${larger ? " Try a smaller one." : ""}`;
    case "none":
      return `They do not agree.${larger ? " A push of this size leaves the range in which the edge's gradient holds: try a smaller one." : ""}`;
    case "nothing":
      return "Both changes are too small beside the target itself to be told from rounding. Try a larger push.";
  }
}

/** What the total effect adds to the direct one. */
export function totalWords({ actual, total }: EdgeCheckResult): string {
  const rest = total - actual;
  const scale = Math.max(Math.abs(actual), Math.abs(total));
  if (scale === 0 || Math.abs(rest) <= 0.01 * scale) return "Hardly anything flows by way of other nodes.";
  const direction = actual !== 0 && Math.sign(rest) === Math.sign(actual) ? "the same" : "the opposite";
  if (actual === 0) return `All of it (${number(rest)}) flows by way of other nodes.`;
  return `By way of other nodes flows another ${number(rest)}, in ${direction} direction.`;
}

/** The same in another unit. */
export function scaled(result: EdgeCheckResult, factor: number): EdgeCheckResult {
  const { epsilon, predicted, actual, total, before, after } = result;
  return {
    epsilon,
    predicted: predicted * factor,
    actual: actual * factor,
    total: total * factor,
    before: before * factor,
    after: after * factor,
  };
}
