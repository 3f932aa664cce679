/** Custom targets as they are put together by clicking on tokens: a list of (position, token, weight). */

import type { CustomTarget, OutputTerm } from "../api/promptTypes";
import { visible } from "../format/tokens";
import { plain } from "./settings";

export interface Term extends OutputTerm {
  readonly text: string;
}

/** Targets being made; the last one takes what is clicked, unless it was finished. */
export interface Draft {
  readonly targets: readonly (readonly Term[])[];
  readonly finished: boolean;
}

export const NO_TARGETS: Draft = { targets: [], finished: false };

const same = (a: OutputTerm, b: OutputTerm): boolean =>
  a.position === b.position && a.token_id === b.token_id;

/** Add a token to the target in the making; the same again takes it away, the other sign turns it round. */
export function toggle(draft: Draft, term: Term): Draft {
  const open = draft.finished ? undefined : draft.targets.at(-1);
  if (open === undefined) return { targets: [...draft.targets, [term]], finished: false };
  const before = open.find((one) => same(one, term));
  const changed =
    before === undefined
      ? [...open, term]
      : before.weight === term.weight
        ? open.filter((one) => one !== before)
        : open.map((one) => (one === before ? term : one));
  return withTarget(draft, draft.targets.length - 1, changed);
}

/** Replace one target; an empty one goes. */
export function withTarget(draft: Draft, index: number, terms: readonly Term[]): Draft {
  const targets = draft.targets.map((one, n) => (n === index ? terms : one)).filter((one) => one.length > 0);
  const lastGone = targets.length < draft.targets.length && index === draft.targets.length - 1;
  return { targets, finished: lastGone ? targets.length > 0 : draft.finished };
}

export function finish(draft: Draft): Draft {
  return { ...draft, finished: true };
}

/** The weight of a token in the target that is being made; 0 where it is not in it. */
export function weightOf(draft: Draft, position: number, token_id: number): number {
  const open = draft.finished ? undefined : draft.targets.at(-1);
  return open?.find((term) => same(term, { position, token_id, weight: 0 }))?.weight ?? 0;
}

/** `␣cat − ␣dog`, with positions where they differ. */
export function targetName(terms: readonly Term[]): string {
  const positions = new Set(terms.map((term) => term.position));
  return terms
    .map((term, index) => {
      const size = Math.abs(term.weight);
      const sign = term.weight < 0 ? (index === 0 ? "−" : " − ") : index === 0 ? "" : " + ";
      const place = positions.size > 1 ? `@${term.position}` : "";
      return `${sign}${size === 1 ? "" : `${plain(size)}·`}${visible(term.text)}${place}`;
    })
    .join("");
}

export function customTargets(draft: Draft): CustomTarget[] {
  return draft.targets.map((terms) => ({
    name: targetName(terms).slice(0, 200),
    terms: terms.map(({ position, token_id, weight }) => ({ position, token_id, weight })),
  }));
}
