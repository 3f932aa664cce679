/** Words and numbers about the hits of a search. */

import { count, percent } from "../format/numbers";

/** Hits on a page. */
export const PAGE_SIZE = 50;
/** Tokens before a match, with which a prompt made of a hit begins, and after it, which fill the line. */
export const CONTEXT = 32;
export const FOLLOWING = 48;

/** Characters that the server searches for, at most. */
export const LONGEST = 500;

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

/** A stretch of a hit's text; `term` is the number of the term that it is of, `null` of none. */
export interface Piece {
  readonly text: string;
  readonly term: number | null;
}

interface Spanned {
  readonly left: string;
  readonly match: string;
  readonly right: string;
  readonly spans: readonly { readonly term: number; readonly start: number; readonly end: number }[];
}

/**
 * Characters `from` to `to` of a hit's text, cut where its terms begin and end. Where two terms lie upon
 * each other, what both have belongs to the one that is typed first.
 */
export function piecesOf(hit: Spanned, from = 0, to = Infinity): Piece[] {
  // Spans count code points, strings in the browser do not.
  const characters = Array.from(hit.left + hit.match + hit.right);
  const end = Math.min(to, characters.length);
  const within = (at: number): number => Math.min(Math.max(at, from), end);
  const cuts = [from, end, ...hit.spans.flatMap((span) => [within(span.start), within(span.end)])];
  const edges = [...new Set(cuts)].sort((a, b) => a - b);
  return edges.slice(1).map((next, index) => {
    const start = edges[index] ?? from;
    const over = hit.spans.filter((span) => span.start <= start && next <= span.end);
    return {
      text: characters.slice(start, next).join(""),
      term: over.length === 0 ? null : Math.min(...over.map(({ term }) => term)),
    };
  });
}

/** A hit's text before and after its match, each in pieces. */
export function sidesOf(hit: Spanned): { before: Piece[]; after: Piece[] } {
  const left = Array.from(hit.left).length;
  return { before: piecesOf(hit, 0, left), after: piecesOf(hit, left + Array.from(hit.match).length) };
}

/** Around the outermost terms of a hit, this much of its text is shown, cut between words. */
const AROUND = 90;

/** A hit's text from a little before its first term to a little after its last. */
export function passageOf(hit: Spanned): Piece[] {
  const characters = Array.from(hit.left + hit.match + hit.right);
  let from = Math.max(0, Math.min(...hit.spans.map(({ start }) => start)) - AROUND);
  let to = Math.min(characters.length, Math.max(...hit.spans.map(({ end }) => end)) + AROUND);
  const blank = (at: number): boolean => /\s/.test(characters[at] ?? " ");
  // To the next word's beginning and the last one's end, where there is one within the margin.
  const first =
    from === 0 ? 0 : characters.findIndex((_, at) => at > from && at < from + AROUND && blank(at));
  if (first > 0) from = first + 1;
  if (to < characters.length)
    for (let at = to; at > to - AROUND; at -= 1) {
      if (!blank(at)) continue;
      to = at;
      break;
    }
  const pieces = piecesOf(hit, from, to);
  const ellipsis = (there: boolean): Piece[] => (there ? [{ text: "…", term: null }] : []);
  return [...ellipsis(from > 0), ...pieces, ...ellipsis(to < characters.length)];
}
