/** What a node is and its values here, in words. */

import type { GraphData, GraphMetric } from "../graph/data";
import { type Strengths, edgesAt, strengths } from "../graph/strength";
import { number, percent } from "../format/numbers";
import { visible } from "../format/tokens";
import { datasetKey } from "../workspace/nodes";
import { describeKey } from "../words";

export interface Fact {
  readonly name: string;
  readonly value: string;
  readonly means: string;
}

export function addressOfNode(data: GraphData, node: number): string {
  return data.addresses[data.site[node] ?? -1] ?? "?";
}

/** "component 17 of the attention query matrix of block 0". */
export function nodeWords(data: GraphData, node: number): string {
  const key = datasetKey(data, node);
  if (key !== null) return describeKey(key);
  return `custom target “${data.label(node) ?? "?"}”`;
}

/** "at token 3 ␣cat". */
export function placeWords(data: GraphData, node: number): string {
  const position = data.position[node] ?? 0;
  const token = data.tokens[position];
  return `at token ${position}${token === undefined ? "" : ` ${visible(token.text)}`}`;
}

const logit = (value: number): string => `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(3)}`;

export function factsOf(data: GraphData, node: number): Fact[] {
  const facts: Fact[] = [];
  const put = (name: string, column: Float32Array, print: (value: number) => string, means: string): void => {
    const value = column[node];
    if (value !== undefined && !Number.isNaN(value)) facts.push({ name, value: print(value), means });
  };
  const address = addressOfNode(data, node);
  if (address === "output") {
    put("probability", data.probability, percent, "in the target model");
    put("logit", data.logit, logit, "in the target model");
    put("CI-masked", data.ciProbability, percent, "probability in the model that keeps what matters here");
    put("CI-masked logit", data.ciLogit, logit, "in the model that keeps what matters here");
  } else if (address === "target") {
    put("value", data.logit, logit, "weighted sum of logits in the target model");
    put("CI-masked value", data.ciLogit, logit, "in the model that keeps what matters here");
    if (facts.length === 0) put("value", data.activation, logit, "weighted sum of logits");
  } else {
    const unit = address === "embed" ? "length of the vector" : "inner product with V, times the length of U";
    put("activation", data.activation, (value) => (value > 0 ? `+${number(value)}` : number(value)), unit);
    put("CI", data.ci, (value) => value.toFixed(4), "causal importance at this position: 0 … 1");
  }
  return facts;
}

export interface Neighbour {
  readonly node: number;
  readonly value: number;
}

export interface Neighbours {
  readonly entries: readonly Neighbour[];
  readonly total: number;
}

/** The strongest edges on either side among those that were loaded. */
export function strongestAround(
  data: GraphData,
  metric: GraphMetric,
  node: number,
  k: number,
): { readonly sources: Neighbours; readonly targets: Neighbours } {
  const strength: Strengths = strengths(data, metric);
  const side = (edges: Uint32Array, ends: Uint32Array): Neighbours => ({
    total: edges.length,
    entries: [...edges.subarray(0, k)].map((edge) => ({
      node: ends[edge] ?? 0,
      value: strength.value[edge] ?? 0,
    })),
  });
  return {
    sources: side(edgesAt(strength.incoming, node), data.source),
    targets: side(edgesAt(strength.outgoing, node), data.target),
  };
}

/** The number of the edge `source~target`, if it was loaded. */
export function findEdge(data: GraphData, name: string | null): number | null {
  const [from, to, ...rest] = (name ?? "").split("~");
  const source = data.find(from ?? "");
  const target = data.find(to ?? "");
  if (source === null || target === null || rest.length > 0) return null;
  const { incoming } = strengths(data, "attr");
  return edgesAt(incoming, target).find((edge) => data.source[edge] === source) ?? null;
}

export function edgeName(data: GraphData, edge: number): string {
  return `${data.key(data.source[edge] ?? 0)}~${data.key(data.target[edge] ?? 0)}`;
}
