/** What lies under the pointer. Indices are built once per layout (nodes) or picture (edges). */

import Flatbush from "flatbush";

import { PIECES, curveInto, curveX, curveY, distanceTo, newCurve } from "./geometry";
import type { Layout } from "./layout";
import type { Scene } from "./scene";

export class NodePicker {
  readonly #layout: Layout;
  readonly #nodes: Uint32Array;
  readonly #index: Flatbush | null;

  constructor(layout: Layout) {
    this.#layout = layout;
    this.#nodes = layout.cellNodes;
    this.#index = this.#nodes.length > 0 ? new Flatbush(this.#nodes.length) : null;
    for (const node of this.#nodes) {
      const [x, y] = [layout.x[node] ?? 0, layout.y[node] ?? 0];
      this.#index?.add(x, y, x, y);
    }
    this.#index?.finish();
  }

  /** The node nearest to a point of the drawing, within `reach`, among those that `holds` accepts. */
  nearest(x: number, y: number, reach: number, holds: (node: number) => boolean): number | null {
    const accepts = (entry: number): boolean => holds(this.#nodes[entry] ?? 0);
    const [entry] = this.#index?.neighbors(x, y, 1, reach, accepts) ?? [];
    return entry === undefined ? null : (this.#nodes[entry] ?? null);
  }

  /** All nodes in a rectangle of the drawing. */
  within(left: number, top: number, right: number, bottom: number): number[] {
    return (this.#index?.search(left, top, right, bottom) ?? []).map((entry) => this.#nodes[entry] ?? 0);
  }

  get layout(): Layout {
    return this.#layout;
  }
}

/**
 * Boxes around the pieces of some curves. Only so many of the strongest edges in sight are worth it: where
 * thousands cross a pixel, no pointer tells them apart.
 */
export class EdgePicker {
  static readonly LIMIT = 1500;
  readonly #scene: Scene;
  readonly #edges: Uint32Array;
  readonly #index: Flatbush | null;
  readonly #curve = newCurve();

  constructor(scene: Scene, edges: Uint32Array) {
    this.#scene = scene;
    this.#edges = edges.subarray(0, EdgePicker.LIMIT);
    const count = this.#edges.length * PIECES;
    this.#index = count > 0 ? new Flatbush(count, 16, Float32Array) : null;
    for (const edge of this.#edges) {
      const curve = this.#curveOf(edge);
      let [ax, ay] = [curve.x0, curve.y0];
      for (let n = 1; n <= PIECES; n++) {
        const [bx, by] = [curveX(curve, n / PIECES), curveY(curve, n / PIECES)];
        this.#index?.add(Math.min(ax, bx), Math.min(ay, by), Math.max(ax, bx), Math.max(ay, by));
        [ax, ay] = [bx, by];
      }
    }
    this.#index?.finish();
  }

  #curveOf(edge: number): ReturnType<typeof newCurve> {
    const { data, layout, strength } = this.#scene;
    const [source, target] = [data.source[edge] ?? 0, data.target[edge] ?? 0];
    return curveInto(
      this.#curve,
      layout.x[source] ?? NaN,
      layout.y[source] ?? NaN,
      layout.x[target] ?? NaN,
      layout.y[target] ?? NaN,
      (strength.value[edge] ?? 0) >= 0,
    );
  }

  /** The edge nearest to a point of the drawing within `reach`; of equally near ones the stronger. */
  nearest(x: number, y: number, reach: number): number | null {
    const entries = this.#index?.search(x - reach, y - reach, x + reach, y + reach) ?? [];
    const candidates = [...new Set(entries.map((entry) => Math.floor(entry / PIECES)))].sort((a, b) => a - b);
    let [found, least] = [-1, Infinity];
    for (const candidate of candidates) {
      const distance = distanceTo(this.#curveOf(this.#edges[candidate] ?? 0), x, y);
      if (distance <= reach && distance < least - reach / 8) [found, least] = [candidate, distance];
    }
    return found < 0 ? null : (this.#edges[found] ?? null);
  }
}
