/** A token with what a component does at it, and how that is drawn: CI by shade, sign by hue and line. */

import { importance, inScale, scaleOf } from "../format/numbers";
import { visible } from "../format/tokens";

export interface Token {
  readonly id: number;
  readonly text: string;
}

/** One token of a text, with the values of one component. */
export interface Reading {
  readonly token: Token;
  readonly ci: number;
  /** Scaled by ‖U‖; `null` where it was not computed. */
  readonly activation: number | null;
}

export const UNIT = "activation scaled by ‖U‖";

/** The faintest shade that is still seen, and the darkest on which text still reads well. */
const FAINTEST = 0.14;
const DARKEST = 0.82;

/** How dark a token is drawn, from 0 to 1. What fires at all is never invisible; a CI of 0 is paper. */
export function shadeOf(ci: number): number {
  if (!(ci > 0)) return 0;
  return FAINTEST + (DARKEST - FAINTEST) * Math.min(ci, 1);
}

export type Hue = "none" | "positive" | "negative";

export function hueOf(reading: Reading): Hue {
  if (!(reading.ci > 0)) return "none";
  return (reading.activation ?? 0) < 0 ? "negative" : "positive";
}

/** A causal importance of one token: of a very small one its power of ten. */
export function ciWords(ci: number): string {
  return ci === 0 ? "0" : importance(ci);
}

export function activationWords(activation: number | null): string {
  return activation === null ? "–" : inScale(activation, scaleOf([activation]));
}

/** All that is known of a token, for those who do not see its shade. */
export function readingWords(reading: Reading): string {
  const values = `CI ${ciWords(reading.ci)}, activation ${activationWords(reading.activation)}`;
  return `${visible(reading.token.text)}: ${values}`;
}

/** Readings of a whole text from its parallel lists. A list that is shorter says nothing of the rest. */
export function readingsOf(
  tokens: readonly Token[],
  ci: readonly (number | null)[] | null,
  activation: readonly (number | null)[] | null,
): Reading[] {
  return tokens.map((token, place) => ({
    token,
    ci: ci?.[place] ?? 0,
    activation: activation?.[place] ?? null,
  }));
}

/** A stretch of running text: what has no glyph is a mark, but a space is a space. */
export interface Stretch {
  readonly kind: "text" | "mark";
  readonly text: string;
}

/** Split a token as running text shows it. Line ends are marks; whoever draws may break the line there. */
export function stretches(text: string): Stretch[] {
  const result: { kind: "text" | "mark"; text: string }[] = [];
  for (const character of text) {
    const kind = character === " " ? "text" : visible(character) === character ? "text" : "mark";
    const shown = kind === "text" ? character : visible(character);
    const last = result.at(-1);
    if (last?.kind === kind) last.text += shown;
    else result.push({ kind, text: shown });
  }
  return result.length > 0 ? result : [{ kind: "mark", text: visible("") }];
}

/** Places at which the line ends after the token. */
export function endsLine(text: string): boolean {
  return text.includes("\n");
}
