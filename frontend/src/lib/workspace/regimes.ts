/** The regimes of an intervention in plain words, and what its results say at a glance. */

import type { ChangedPredictions, Intervention, PositionPredictions, Regime } from "../api/promptTypes";

export const REGIMES: readonly Regime[] = ["ci", "stochastic", "adversarial", "target_sans"];

interface Words {
  readonly name: string;
  readonly does: string;
  readonly asks: string;
}

export const REGIME_WORDS: Readonly<Record<Regime, Words>> = {
  ci: {
    name: "alone",
    does: "Selected nodes on; every other component and every delta off.",
    asks: "Does the selection do it by itself?",
  },
  stochastic: {
    name: "random rest",
    does: "Selected nodes on; every other component and delta at a random strength from 0 to 1.",
    asks: "Does it work whatever the rest does, on average?",
  },
  adversarial: {
    name: "worst rest",
    does: "Selected nodes on; other alive components at the worst strengths found, the rest random.",
    asks: "Does it work whatever the rest does, at worst?",
  },
  target_sans: {
    name: "all but the rest",
    does: "The target model itself, without the components that are alive and not selected.",
    asks: "What was everything alive that I left out good for?",
  },
};

/** What the columns of a result are called; single nodes changed have a column of their own. */
export function outcomeWords(outcome: string): Words {
  return (
    (REGIME_WORDS as Readonly<Partial<Record<string, Words>>>)[outcome] ?? {
      name: "nodes changed",
      does: "The target model itself, with single nodes scaled or ablated.",
      asks: "What does this node do?",
    }
  );
}

/** The outcomes of an intervention in the order in which they are shown. */
export function outcomesOf(intervention: Intervention): readonly string[] {
  const present = Object.keys(intervention.after);
  return [...REGIMES, "changes"].filter((one) => present.includes(one));
}

export interface Cell {
  readonly text: string;
  readonly probability: number;
  readonly kl: number;
  /** The same first token as before. */
  readonly kept: boolean;
}

export interface Row {
  readonly position: number;
  readonly token: string;
  readonly before: { readonly text: string; readonly probability: number } | null;
  /** One cell an outcome. */
  readonly cells: readonly (Cell | null)[];
}

function at<T extends { readonly position: number }>(list: readonly T[], position: number): T | undefined {
  const guess = list[position];
  return guess?.position === position ? guess : list.find((one) => one.position === position);
}

export function rowsOf(intervention: Intervention, outcomes: readonly string[]): readonly Row[] {
  return intervention.tokens.map(({ text: token }, position) => {
    const before = at(intervention.before, position)?.top[0] ?? null;
    const cells = outcomes.map((outcome): Cell | null => {
      const first = at(intervention.after[outcome] ?? [], position)?.top[0];
      if (first === undefined) return null;
      const { text, probability } = first;
      const kl = intervention.kl[outcome]?.[position] ?? NaN;
      return { text, probability, kl, kept: first.token_id === before?.token_id };
    });
    return { position, token, before, cells };
  });
}

export interface Choice {
  readonly token_id: number;
  readonly text: string;
  readonly before: number;
  readonly after: number;
}

/**
 * The top predictions of one outcome at one position, those of before that fell out of it at the end, with
 * `after` NaN where nobody said what became of them.
 */
export function choicesOf(
  before: readonly PositionPredictions[],
  after: readonly ChangedPredictions[],
  position: number,
): readonly Choice[] {
  const now = at(after, position)?.top ?? [];
  const then = at(before, position)?.top ?? [];
  const listed = new Set(now.map((one) => one.token_id));
  return [
    ...now.map(({ token_id, text, probability, probability_before }) => ({
      token_id,
      text,
      before: probability_before,
      after: probability,
    })),
    ...then
      .filter((one) => !listed.has(one.token_id))
      .map(({ token_id, text, probability }) => ({ token_id, text, before: probability, after: NaN })),
  ];
}

/** Mean KL over positions, and at how many the first token stayed. */
export function summaryOf(
  rows: readonly Row[],
  outcome: number,
): { readonly kl: number; readonly kept: number; readonly of: number } {
  const cells = rows.map((row) => row.cells[outcome]).filter((cell) => cell !== null && cell !== undefined);
  const sum = cells.reduce((total, cell) => total + cell.kl, 0);
  return {
    kl: cells.length === 0 ? NaN : sum / cells.length,
    kept: cells.filter((cell) => cell.kept).length,
    of: cells.length,
  };
}

/** An intervention in a list: "12 nodes, 4 regimes", "0.attn.q:3:17 × 0". */
export function requestWords(intervention: Intervention): string {
  const parts: string[] = [];
  if (intervention.regimes.length > 0) {
    const [nodes, regimes] = [intervention.selected.length, intervention.regimes.length];
    parts.push(
      `${nodes} ${nodes === 1 ? "node" : "nodes"} kept, ${regimes === REGIMES.length ? "all four" : `${regimes} of 4`} regimes`,
    );
  }
  const [first, ...others] = intervention.changes;
  if (first !== undefined) {
    const one = first.factor === 0 ? `${first.key} ablated` : `${first.key} × ${first.factor}`;
    parts.push(others.length === 0 ? one : `${one} and ${others.length} more`);
  }
  return parts.join("; ");
}
