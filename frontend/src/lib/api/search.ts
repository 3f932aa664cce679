/** Requests that search the run's text. */

import { get, send } from "./http";
import type { Job } from "./promptTypes";
import type { components } from "./schema";
import type { Firings } from "./types";

export type SearchAnswer = components["schemas"]["SearchPage"];
export type SearchHit = components["schemas"]["SearchHit"];
export type SearchIndexInfo = components["schemas"]["SearchIndexInfo"];

export interface SearchQuestion {
  readonly find: string;
  readonly mode: "words" | "exact";
  readonly matchCase: boolean;
  readonly document: number | null;
  /** Number of the first hit wanted. */
  readonly first: number;
  readonly limit: number;
  /** Tokens of context before and after the match. */
  readonly left: number;
  readonly right: number;
}

const at = (run: string): string => `/api/runs/${encodeURIComponent(run)}`;

export function getSearchIndex(run: string): Promise<SearchIndexInfo> {
  return get(`${at(run)}/search-index`);
}

/** Begin to index the text; one that is indexed already comes as a job that is done. */
export function buildSearchIndex(run: string): Promise<Job> {
  return send("POST", `${at(run)}/search-index`, {});
}

export function findText(run: string, question: SearchQuestion): Promise<SearchAnswer> {
  const query = new URLSearchParams({
    q: question.find,
    mode: question.mode,
    case: String(question.matchCase),
    cursor: String(question.first),
    limit: String(question.limit),
    left: String(question.left),
    right: String(question.right),
  });
  if (question.document !== null) query.set("document", String(question.document));
  return get(`${at(run)}/search?${query.toString()}`);
}

/** What fires on given tokens, the first of that order at each. */
export function fireOn(
  run: string,
  question: {
    readonly token_ids: readonly number[];
    readonly per_token: number;
    readonly order: "sum" | "excess";
  },
  signal?: AbortSignal,
): Promise<Firings> {
  return send("POST", `${at(run)}/firings`, { ...question, k: 0 }, signal);
}
