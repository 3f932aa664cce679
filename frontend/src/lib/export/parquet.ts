/** A Parquet file of a graph's edges, made in a worker; aborting ends the worker. */

import type { GraphData } from "../graph/data";
import type { ParquetAnswer, ParquetRequest } from "./parquet.worker";

/** Names and scales of nodes: what a worker can be sent. */
export function nodesOf(data: GraphData): ParquetRequest["nodes"] {
  const keys = Array.from({ length: data.nodes }, (_, node) => data.key(node));
  return { keys, labels: keys.map((_, node) => data.label(node)), scale: data.scale };
}

export function parquetOf(
  data: GraphData,
  about: Readonly<Record<string, string>>,
  signal: AbortSignal,
): Promise<ArrayBuffer> {
  return new Promise((resolve, reject) => {
    const worker = new Worker(new URL("./parquet.worker.ts", import.meta.url), { type: "module" });
    const end = (conclude: () => void): void => {
      worker.terminate();
      conclude();
    };
    signal.addEventListener("abort", () => end(() => reject(new DOMException("Aborted", "AbortError"))));
    worker.onmessage = ({ data: answer }: MessageEvent<ParquetAnswer>) =>
      end(() => {
        if (answer.kind === "file") resolve(answer.buffer);
        else reject(new TypeError(answer.why));
      });
    worker.onerror = (event) => end(() => reject(new TypeError(event.message)));
    const { source, target, attr, attrAbs } = data;
    const request: ParquetRequest = { nodes: nodesOf(data), edges: { source, target, attr, attrAbs }, about };
    worker.postMessage(request);
  });
}
