/** The edges of a graph as columns for tables: a Parquet file, with the keys of nodes rather than numbers. */

import { parquetWriteBuffer } from "hyparquet-writer";

export interface Edges {
  readonly source: Uint32Array;
  readonly target: Uint32Array;
  readonly attr: Float32Array;
  readonly attrAbs: Float32Array;
}

export interface EdgeTable {
  readonly source: readonly string[];
  readonly target: readonly string[];
  readonly source_label: readonly (string | null)[];
  readonly target_label: readonly (string | null)[];
  readonly attr: Float32Array;
  readonly attr_abs: Float32Array;
  /** ‖U‖ of the target: attr times this is what the page shows. */
  readonly target_scale: Float32Array;
}

/** What an end of an edge is called, by node. */
export interface EdgeNodes {
  readonly keys: readonly string[];
  readonly labels: readonly (string | null)[];
  readonly scale: Float32Array;
}

export function edgeTable({ keys, labels, scale }: EdgeNodes, edges: Edges): EdgeTable {
  const pick = <T>(values: readonly T[], ends: Uint32Array, none: T): T[] =>
    Array.from(ends, (end) => values[end] ?? none);
  return {
    source: pick(keys, edges.source, ""),
    target: pick(keys, edges.target, ""),
    source_label: pick(labels, edges.source, null),
    target_label: pick(labels, edges.target, null),
    attr: edges.attr,
    attr_abs: edges.attrAbs,
    target_scale: Float32Array.from(edges.target, (end) => scale[end] ?? 1),
  };
}

/** `about`: what a reader of the file alone must know, as text by name. */
export function edgesParquet(table: EdgeTable, about: Readonly<Record<string, string>>): ArrayBuffer {
  const text = { type: "STRING" } as const;
  const real = { type: "FLOAT", nullable: false } as const;
  return parquetWriteBuffer({
    columnData: [
      { name: "source", data: [...table.source], ...text, nullable: false },
      { name: "target", data: [...table.target], ...text, nullable: false },
      { name: "source_label", data: [...table.source_label], ...text, nullable: true },
      { name: "target_label", data: [...table.target_label], ...text, nullable: true },
      { name: "attr", data: table.attr, ...real },
      { name: "attr_abs", data: table.attr_abs, ...real },
      { name: "target_scale", data: table.target_scale, ...real },
    ],
    kvMetadata: Object.entries(about).map(([key, value]) => ({ key, value })),
    createdBy: "Tributary",
  });
}
