/** Words and numbers about the hits of a search. */

import { count, percent } from "../format/numbers";

/** Hits on a page. */
export const PAGE_SIZE = 50;
/** Tokens before a match, with which a prompt made of a hit begins, and after it, which fill the line. */
export const CONTEXT = 32;
export const FOLLOWING = 48;

export interface Found {
  readonly total: number;
  readonly ended: "complete" | "many" | "time";
  readonly searched: number;
  readonly seconds_limit: number;
}

/** Pages that hits fill; at least one, so that there is a page to say that there are none. */
export function pagesOf(total: number): number {
  return Math.max(1, Math.ceil(total / PAGE_SIZE));
}

/** The page that a hit is on, counted from 1. */
export function pageOf(hit: number): number {
  return Math.floor(hit / PAGE_SIZE) + 1;
}

/** How many hits there are, exactly or at least. */
export function totalWords(found: Found): string {
  const hits = found.total === 1 ? "hit" : "hits";
  if (found.ended === "complete") return found.total === 0 ? "No hits" : `${count(found.total)} ${hits}`;
  return found.total === 0 ? "No hits so far" : `More than ${count(found.total)} ${hits}`;
}

/** Why a count is not exact; empty where it is. */
export function limitWords(found: Found): string {
  if (found.ended === "many")
    return `The first ${count(found.total)} in the order of the corpus are listed. Search for more words, or in one document.`;
  if (found.ended === "time")
    return `Stopped after ${found.seconds_limit} s, with ${percent(found.searched)} of the text searched.`;
  return "";
}

/** A space, where one stands at the edge of a match, would not be seen as part of it. */
export function edgeMarked(match: string): string {
  return match.replace(/^ +| +$/g, (spaces) => "␣".repeat(spaces.length));
}
