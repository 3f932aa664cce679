/** Everything that decides what the picture looks like, but for where one looks and points. */

import type { Colouring } from "./colouring";
import type { GraphData, GraphMetric } from "./data";
import type { Shown } from "./filters";
import type { Layout } from "./layout";
import type { Palette } from "./palette";
import { type Strengths, orderByMagnitude, strengths } from "./strength";

export interface Scene {
  readonly data: GraphData;
  readonly layout: Layout;
  readonly strength: Strengths;
  readonly shown: Shown;
  readonly palette: Palette;
  readonly selection: ReadonlySet<number>;
  readonly pinned: ReadonlySet<number>;
  readonly matches: ReadonlySet<number> | null;
  /** What people call components, by their keys over the whole run. */
  readonly called: ReadonlyMap<string, string>;
  /** What nodes are told apart by; `null`: nothing. */
  readonly colouring: Colouring | null;
  /** Place of each node among all by what flows through it: 0 strongest, 1 weakest. */
  readonly places: Float32Array;
  /** Place of each edge among those shown, strongest first. */
  readonly rank: Uint32Array;
}

const known = new WeakMap<Strengths, Float32Array>();

function placesOf(strength: Strengths): Float32Array {
  const made = known.get(strength);
  if (made !== undefined) return made;
  const order = orderByMagnitude(strength.through);
  const places = new Float32Array(order.length);
  // By the logarithm of the rank: the few strongest stand out of a thousand.
  order.forEach((node, rank) => (places[node] = Math.log1p(rank) / Math.log1p(Math.max(1, order.length))));
  known.set(strength, places);
  return places;
}

export interface SceneParts {
  readonly data: GraphData;
  readonly metric: GraphMetric;
  readonly layout: Layout;
  readonly shown: Shown;
  readonly palette: Palette;
  readonly selection: ReadonlySet<number>;
  readonly pinned: ReadonlySet<number>;
  readonly matches: ReadonlySet<number> | null;
  readonly called?: ReadonlyMap<string, string>;
  readonly colouring?: Colouring | null;
}

const NOBODY: ReadonlyMap<string, string> = new Map();
const ranks = new WeakMap<Shown, Uint32Array>();

function rankOf(data: GraphData, shown: Shown): Uint32Array {
  const made = ranks.get(shown);
  if (made !== undefined) return made;
  const rank = new Uint32Array(data.edges);
  shown.order.forEach((edge, n) => (rank[edge] = n));
  ranks.set(shown, rank);
  return rank;
}

export function makeScene(parts: SceneParts): Scene {
  const strength = strengths(parts.data, parts.metric);
  const { called = NOBODY, colouring = null } = parts;
  return {
    ...parts,
    called,
    colouring,
    strength,
    places: placesOf(strength),
    rank: rankOf(parts.data, parts.shown),
  };
}
