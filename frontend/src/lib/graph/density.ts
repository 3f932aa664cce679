/**
 * The mass of weak edges as two fields of density, one for each sign: hairlines added up in floating point and
 * turned into pixels at the end. A canvas needs tens of microseconds for a faint curve and rounds its colour
 * to eight bits each time; this needs one or two, in any order, and mixes the hues exactly.
 */

import { type Curve, curveX, curveY } from "./geometry";

/** Straight pieces of a curve, by its size in pixels. */
const SHORTEST_PIECE = 12;
const MOST_PIECES = 24;
/** However many edges cross a pixel, what lies behind them stays visible. */
const DENSEST = 0.62;

export class DensityField {
  readonly width: number;
  readonly height: number;
  readonly #positive: Float32Array;
  readonly #negative: Float32Array;

  constructor(width: number, height: number) {
    this.width = Math.max(1, Math.round(width));
    this.height = Math.max(1, Math.round(height));
    this.#positive = new Float32Array(this.width * this.height);
    this.#negative = new Float32Array(this.width * this.height);
  }

  clear(): void {
    this.#positive.fill(0);
    this.#negative.fill(0);
  }

  /** Add a curve whose pixels each gain `weight`. */
  add(curve: Curve, weight: number, positive: boolean): void {
    const field = positive ? this.#positive : this.#negative;
    const span = Math.abs(curve.x3 - curve.x0) + Math.abs(curve.y3 - curve.y0);
    const pieces = Math.min(MOST_PIECES, Math.max(2, Math.ceil(span / SHORTEST_PIECE)));
    let x0 = curve.x0;
    let y0 = curve.y0;
    for (let n = 1; n <= pieces; n++) {
      const t = n / pieces;
      const x1 = curveX(curve, t);
      const y1 = curveY(curve, t);
      this.#line(field, x0, y0, x1, y1, weight);
      x0 = x1;
      y0 = y1;
    }
  }

  /** One step a pixel along the longer axis, the weight shared between the two pixels across it. */
  #line(field: Float32Array, x0: number, y0: number, x1: number, y1: number, weight: number): void {
    const { width, height } = this;
    const steep = Math.abs(y1 - y0) >= Math.abs(x1 - x0);
    let a0 = steep ? y0 : x0;
    let b0 = steep ? x0 : y0;
    let a1 = steep ? y1 : x1;
    let b1 = steep ? x1 : y1;
    if (a0 > a1) {
      [a0, a1] = [a1, a0];
      [b0, b1] = [b1, b0];
    }
    const slope = a1 > a0 ? (b1 - b0) / (a1 - a0) : 0;
    const along = steep ? width : 1;
    const across = steep ? 1 : width;
    const first = Math.max(0, Math.ceil(a0));
    const last = Math.min(steep ? height : width, Math.ceil(a1));
    const limit = (steep ? width : height) - 1;
    let b = b0 + (first - a0) * slope;
    for (let a = first; a < last; a++, b += slope) {
      const floor = Math.floor(b);
      if (floor < 0 || floor >= limit) continue;
      const part = b - floor;
      const at = a * along + floor * across;
      field[at] = (field[at] as number) + weight * (1 - part);
      field[at + across] = (field[at + across] as number) + weight * part;
    }
  }

  /** Densities at a pixel, for tests. */
  at(x: number, y: number): { readonly positive: number; readonly negative: number } {
    const place = y * this.width + x;
    return { positive: this.#positive[place] ?? 0, negative: this.#negative[place] ?? 0 };
  }

  /** Write rows of pixels: colour is the mixture of the two hues, opacity 1 − e^−density up to a limit. */
  write(
    pixels: Uint8ClampedArray,
    positive: readonly [number, number, number],
    negative: readonly [number, number, number],
    from: number,
    to: number,
  ): void {
    const end = Math.min(to, this.height) * this.width;
    for (let n = from * this.width; n < end; n++) {
      const p = this.#positive[n] as number;
      const q = this.#negative[n] as number;
      const total = p + q;
      const out = 4 * n;
      if (total === 0) {
        pixels[out + 3] = 0;
        continue;
      }
      const share = p / total;
      pixels[out] = 255 * (negative[0] + (positive[0] - negative[0]) * share);
      pixels[out + 1] = 255 * (negative[1] + (positive[1] - negative[1]) * share);
      pixels[out + 2] = 255 * (negative[2] + (positive[2] - negative[2]) * share);
      pixels[out + 3] = 255 * DENSEST * (1 - Math.exp(-total / DENSEST));
    }
  }
}
