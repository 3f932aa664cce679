/** A graph with its edges, as the page draws it. */

import { getEdges, getGraph } from "../api/prompts";
import type { GraphDetail } from "../api/promptTypes";
import { type GraphData, parseGraph } from "../graph/data";

/** More edges than this are not loaded; what is left out is said on screen. */
export const EDGES_AT_MOST = 1_000_000;

export interface LoadedGraph {
  readonly graph: GraphDetail;
  readonly data: GraphData;
}

export async function loadGraph(id: number): Promise<LoadedGraph> {
  const [graph, edges] = await Promise.all([getGraph(id), getEdges(id, EDGES_AT_MOST, "attr")]);
  return { graph, data: parseGraph(graph, edges) };
}
