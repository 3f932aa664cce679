/** Writes a Parquet file beside the page: a million edges take seconds in which the page must not stand still. */

import { type EdgeNodes, type Edges, edgeTable, edgesParquet } from "./edges";

export interface ParquetRequest {
  readonly nodes: EdgeNodes;
  readonly edges: Edges;
  readonly about: Readonly<Record<string, string>>;
}

export type ParquetAnswer =
  { readonly kind: "file"; readonly buffer: ArrayBuffer } | { readonly kind: "failed"; readonly why: string };

/** The worker's own scope, of which the page's types know nothing. */
interface Scope {
  onmessage: ((event: MessageEvent<ParquetRequest>) => void) | null;
  postMessage(answer: ParquetAnswer, transfer: Transferable[]): void;
}
const scope = self as unknown as Scope;

scope.onmessage = ({ data: { nodes, edges, about } }) => {
  try {
    const buffer = edgesParquet(edgeTable(nodes, edges), about);
    scope.postMessage({ kind: "file", buffer }, [buffer]);
  } catch (error) {
    scope.postMessage({ kind: "failed", why: error instanceof Error ? error.message : String(error) }, []);
  }
};
