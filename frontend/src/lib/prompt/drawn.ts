/** What of a graph is drawn by what the address asks for, and from its own node numbers to the drawn ones. */

import type { GraphData, GraphMetric } from "../graph/data";
import { type Shown, applyFilter } from "../graph/filters";
import type { GraphView } from "../location/view";
import type { Subgraph } from "../workspace/subgraph";
import type { Comparison } from "./compare";
import { cutFilter } from "./cut";
import { towardsOutputs } from "./influence";

export interface Asked extends Pick<GraphView, "cut" | "scope" | "layers" | "tokens"> {
  readonly metric: GraphMetric;
  /** What the search found; `null` where nothing is searched for. */
  readonly found: ReadonlySet<number> | null;
  readonly selection: ReadonlySet<number>;
}

export function filterDrawn(drawn: GraphData, asked: Asked): Shown {
  const { metric, cut, scope, layers, tokens, found, selection } = asked;
  const { minimum, strongest } = cutFilter(cut, drawn.edges);
  const sites = layers.map((layer) => drawn.addresses.indexOf(layer)).filter((site) => site >= 0);
  const towards = scope === "outputs";
  const left = applyFilter(drawn, metric, {
    sites: layers.length === 0 ? null : new Set(sites),
    positions: tokens.length === 0 ? null : new Set(tokens),
    matching: scope === "matches" && found !== null ? found : null,
    within: false,
    only: null,
    sign: "both",
    minimum,
    strongest: towards ? null : strongest,
    near: scope === "near" && selection.size > 0 ? { nodes: selection, hops: 1 } : null,
  });
  return towards ? towardsOutputs(drawn, metric, left, strongest) : left;
}

/** The drawn nodes that stand for these; `subgraph`: what is drawn in place of the graph itself. */
export function toDrawn(subgraph: Subgraph | null, nodes: Iterable<number>): ReadonlySet<number> {
  const all = [...nodes];
  if (subgraph === null) return new Set(all);
  return new Set(all.map((node) => subgraph.place.get(node)).filter((node) => node !== undefined));
}

/** The nodes that a drawn one stands for. */
export function fromDrawn(subgraph: Subgraph | null, node: number): readonly number[] {
  return subgraph === null ? [node] : (subgraph.members[node] ?? []);
}

/** The nodes that only one of two graphs has. */
export function ofOneOnly(comparison: Comparison): ReadonlySet<number> {
  return new Set([...comparison.appeared, ...comparison.vanished]);
}
