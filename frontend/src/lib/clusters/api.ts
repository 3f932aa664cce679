/** Requests about clusters. A clustering that is published does not change: its answers are kept. */

import { AnswerCache } from "../api/cache";
import { get } from "../api/http";
import type { components } from "../api/schema";

type Schemas = components["schemas"];
export type ClusteringSummary = Readonly<Schemas["ClusteringSummary"]>;
export type ClusteringList = Readonly<Schemas["ClusteringList"]>;
export type ClusteringDetail = Readonly<Schemas["ClusteringDetail"]>;
export type ClusteringHistory = Readonly<Schemas["ClusteringHistory"]>;
export type Cluster = Readonly<Schemas["Cluster"]>;

const cache = new AnswerCache(24);
const at = (run: string): string => `/api/runs/${encodeURIComponent(run)}/clusters`;

/** After the server came back it may serve other data. */
export function forgetClusters(): void {
  cache.clear();
}

export function getClusterings(run: string): Promise<ClusteringList> {
  return cache.get(`list ${run}`, () => get(at(run)));
}

/** The clusters after `merges` merges, or as the clustering itself says they are shown. */
export function getClustering(run: string, subrun: string, merges: number | null): Promise<ClusteringDetail> {
  const query = merges === null ? "" : `?iteration=${merges}`;
  return cache.get(`detail ${run} ${subrun} ${merges}`, () => get(`${at(run)}/${subrun}${query}`));
}

export function getHistory(run: string, subrun: string): Promise<ClusteringHistory> {
  return cache.get(`history ${run} ${subrun}`, () => get(`${at(run)}/${subrun}/history`));
}

/** The published mapping as a file of the server's. */
export function mappingPath(run: string, subrun: string, merges: number, variant: "newer" | "older"): string {
  return `${at(run)}/${subrun}/export?iteration=${merges}&variant=${variant}`;
}
