/** A histogram of activations as rectangles in a unit square, with round numbers on its axis. */

export interface Bar {
  readonly x: number;
  readonly width: number;
  /** From 0 to 1, of the highest bar. */
  readonly height: number;
  readonly count: number;
  readonly from: number;
  readonly to: number;
  readonly sign: "positive" | "negative";
}

export interface Drawing {
  readonly bars: readonly Bar[];
  readonly ticks: readonly { readonly value: number; readonly x: number }[];
  /** Where 0 is; `null` where it is outside. */
  readonly zero: number | null;
  readonly highest: number;
  readonly total: number;
}

const NOTHING: Drawing = { bars: [], ticks: [], zero: null, highest: 0, total: 0 };

/** Steps of 1, 2 or 5 times a power of ten, about `wanted` of them from `low` to `high`. */
export function roundTicks(low: number, high: number, wanted: number): number[] {
  const span = high - low;
  if (!(span > 0) || !Number.isFinite(span)) return Number.isFinite(low) ? [low] : [];
  const rough = span / wanted;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * ([1, 2, 5, 10].find((factor) => factor * power >= rough * (1 - 1e-9)) ?? 10);
  const ticks: number[] = [];
  for (let n = Math.ceil(low / step - 1e-9); n * step <= high + step * 1e-9; n += 1) {
    // A product of two floats may miss the round number by its last digit, and 0 may come as −0.
    ticks.push(Number((n * step).toPrecision(12)) + 0);
  }
  return ticks;
}

/** A round number, without the decimals it does not need. */
export function tickWords(value: number): string {
  return String(value).replace("-", "\u2212");
}

/** A bar that straddles 0 belongs to the side on which most of it lies. */
export function drawHistogram(edges: readonly number[], counts: readonly number[]): Drawing {
  const low = edges[0];
  const high = edges.at(-1);
  const highest = Math.max(0, ...counts);
  if (low === undefined || high === undefined || counts.length !== edges.length - 1 || highest === 0)
    return NOTHING;
  const span = high - low;
  const at = (value: number): number => (span > 0 ? (value - low) / span : 0.5);
  const bars = counts.map((count, n): Bar => {
    const from = edges[n] ?? low;
    const to = edges[n + 1] ?? high;
    const sign = (from + to) / 2 < 0 ? "negative" : "positive";
    return { x: at(from), width: at(to) - at(from), height: count / highest, count, from, to, sign };
  });
  return {
    bars,
    ticks: roundTicks(low, high, 5).map((value) => ({ value, x: at(value) })),
    zero: low <= 0 && high >= 0 && span > 0 ? at(0) : null,
    highest,
    total: counts.reduce((sum, count) => sum + count, 0),
  };
}
