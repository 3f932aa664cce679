/** Requests about what people call components. */

import { get, send, sendFile } from "../api/http";
import type { components } from "../api/schema";

type Schemas = components["schemas"];

export type Label = Readonly<Schemas["Label"]>;
export type LabelContent = Readonly<Schemas["LabelContent"]>;
export type LabelDetail = Readonly<Schemas["LabelDetail"]>;
export type LabelImport = Readonly<Schemas["LabelImport"]>;
export type LabelList = Readonly<Schemas["LabelList"]>;
export type LabelStep = Readonly<Schemas["LabelStep"]>;
export type PastImportList = Readonly<Schemas["PastImportList"]>;
export type ImportUndone = Readonly<Schemas["ImportUndone"]>;

const runOf = (run: string): string => `/api/runs/${encodeURIComponent(run)}`;
const of = (run: string): string => `${runOf(run)}/labels`;

/** All labels of a run; the browser asks whether its copy still holds, and mostly it does. */
export function getLabels(run: string): Promise<LabelList> {
  return get(of(run));
}

export function getLabel(run: string, key: string): Promise<LabelDetail> {
  return get(`${of(run)}/${encodeURIComponent(key)}`);
}

export function saveLabel(
  run: string,
  key: string,
  change: LabelContent & {
    readonly version: number;
    readonly author: string;
    readonly new_step: boolean;
  },
): Promise<LabelDetail> {
  return send("PUT", `${of(run)}/${encodeURIComponent(key)}`, change);
}

/** Undo or redo the last step on a component. */
export function turnLabel(
  run: string,
  verb: "undo" | "redo",
  change: { readonly key: string; readonly version: number; readonly author: string },
): Promise<LabelDetail> {
  return send("POST", `${of(run)}:${verb}`, change);
}

export function getImports(run: string): Promise<PastImportList> {
  return get(`${runOf(run)}/label-imports`);
}

export function turnImport(
  run: string,
  verb: "undo" | "redo",
  step: number,
  author: string,
): Promise<ImportUndone> {
  return send("POST", `${runOf(run)}/label-imports/${step}/${verb}`, { author });
}

export function exportAddress(run: string, format: "json" | "csv", earlier = false): string {
  return `${of(run)}:export?format=${format}${earlier ? "&earlier=true" : ""}`;
}

export function importLabels(
  run: string,
  file: Blob,
  { author, existing }: { readonly author: string; readonly existing: "keep" | "replace" },
): Promise<LabelImport> {
  const query = new URLSearchParams({ author, existing });
  return sendFile(`${of(run)}:import?${query}`, file);
}
