/** Requests about label sets: labels that a language model gave. Only the server's owner can have them made. */

import { get, remove, send } from "../api/http";
import type { Job } from "../api/promptTypes";
import type { components } from "../api/schema";
import { getLabel, type Label, saveLabel } from "../labels/api";
import { rightHeaders } from "./owner.svelte";

type Schemas = components["schemas"];

export type LabelSetList = Readonly<Schemas["LabelSetList"]>;
export type LabelSet = Readonly<Schemas["LabelSetSummary"]>;
export type LabelSetPage = Readonly<Schemas["LabelSetPage"]>;
export type SetLabel = Readonly<Schemas["SetLabel"]>;
export type LabelScore = Readonly<Schemas["LabelScore"]>;
export type LabelSetScore = Readonly<Schemas["LabelSetScore"]>;
export type ScoreDifference = Readonly<Schemas["ScoreDifference"]>;
export type LabelComparison = Readonly<Schemas["LabelComparison"]>;
export type LabelOrigin = Readonly<Schemas["LabelOrigin"]>;
export type LabelAttempt = Readonly<Schemas["LabelAttempt"]>;

export type Labelling = Readonly<Schemas["Labelling"]>;
export type LabellingProgress = Readonly<Schemas["LabellingProgress"]>;
export type LabelEstimate = Readonly<Schemas["LabelEstimate"]>;
export type LabelRequest = Readonly<Partial<Schemas["LabelRequest"]>>;
export type LabelCaps = Readonly<{ cap: number | null; cap_tokens: number | null }>;

const of = (run: string): string => `/api/runs/${encodeURIComponent(run)}/label-sets`;

export function getLabelSets(run: string): Promise<LabelSetList> {
  return get(of(run));
}

export function getSet(
  run: string,
  set: number,
  q: string,
  failed: boolean,
  start: number,
  limit: number,
): Promise<LabelSetPage> {
  const query = new URLSearchParams({ start: String(start), limit: String(limit) });
  if (failed) query.set("status", "failed");
  if (q.trim() !== "") query.set("q", q.trim());
  return get(`${of(run)}/${set}?${query}`);
}

export function compareSets(
  run: string,
  set: number,
  other: number,
  start: number,
  limit: number,
): Promise<LabelComparison> {
  const query = new URLSearchParams({ other: String(other), start: String(start), limit: String(limit) });
  return get(`${of(run)}/${set}/compare?${query}`);
}

export function getOrigin(run: string, set: number, key: string): Promise<LabelOrigin> {
  return get(`${of(run)}/${set}/components/${encodeURIComponent(key)}`);
}

/** Where a set is as a file. */
export function setFile(run: string, set: number, format: "json" | "csv"): string {
  return `${of(run)}/${set}/export?format=${format}`;
}

/** For good, with all that was asked and answered. */
export function deleteSet(run: string, set: number): Promise<void> {
  return remove(`${of(run)}/${set}`, rightHeaders());
}

// ---- having them made -----------------------------------------------------------------------------

/** Which model can be asked, and whether from here. */
export function getLabelling(): Promise<Labelling> {
  return get("/api/labelling", undefined, rightHeaders());
}

export function estimateLabels(run: string, request: LabelRequest): Promise<LabelEstimate> {
  return send("POST", `${of(run)}:estimate`, request, undefined, rightHeaders());
}

/** Start what was estimated. */
export function startLabels(
  run: string,
  request: LabelRequest,
  estimate: string,
  caps: LabelCaps,
): Promise<Job> {
  return send("POST", of(run), { ...request, ...caps, estimate }, undefined, rightHeaders());
}

/** Make a model's label one's own: it takes the place of the name, note and rating stay. */
export async function adopt(run: string, key: string, name: string, author: string): Promise<Label | null> {
  const { label, version } = await getLabel(run, key);
  const change = { name, text: label?.text ?? "", rating: label?.rating ?? null };
  return (await saveLabel(run, key, { ...change, version, author, new_step: true })).label;
}
