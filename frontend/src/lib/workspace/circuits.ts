/** What is asked of a search for sparse circuits, as it is typed, and what came of it. */

import type { Circuit, CircuitRequest, CircuitSnapshot } from "../api/promptTypes";
import { count } from "../format/numbers";

export const LOSS_WORDS: Readonly<
  Record<CircuitRequest["loss"], { readonly name: string; readonly means: string }>
> = {
  ce: { name: "CE", means: "Keep the chosen token probable: its negative log probability." },
  kl: { name: "KL", means: "Keep the whole distribution: its divergence from the target model's." },
  logit: { name: "logit", means: "Keep the chosen token's logit high, whatever the others do." },
};

export const MASK_WORDS: Readonly<
  Record<CircuitRequest["masks"], { readonly name: string; readonly means: string }>
> = {
  stochastic: {
    name: "stochastic",
    means:
      "The circuit must work whatever the rest does: the rest is on at random strengths while it is searched.",
  },
  ci: { name: "CI", means: "The circuit must work alone: the rest is off while it is searched." },
};

export const MOST_COEFFICIENTS = 32;
export const LARGEST_COEFFICIENT = 1e6;

export type Parsed =
  | { readonly kind: "good"; readonly values: readonly number[] }
  | { readonly kind: "bad"; readonly why: string };

/** "0.01, 0.1 1" → [0.01, 0.1, 1], rising and without repeats. */
export function parseCoefficients(text: string): Parsed {
  const words = text.split(/[\s,;]+/).filter((word) => word !== "");
  if (words.length === 0) return { kind: "bad", why: "Give at least one coefficient." };
  const values: number[] = [];
  for (const word of words) {
    const value = Number(word);
    if (!Number.isFinite(value) || value < 0 || value > LARGEST_COEFFICIENT)
      return { kind: "bad", why: `“${word}” is no coefficient: numbers from 0 to a million.` };
    values.push(value);
  }
  const sorted = [...new Set(values)].sort((a, b) => a - b);
  if (sorted.length > MOST_COEFFICIENTS)
    return { kind: "bad", why: `At most ${MOST_COEFFICIENTS} coefficients at once.` };
  return { kind: "good", values: sorted };
}

export type Quantity = "alive" | "loss" | "probability";
export const QUANTITIES: readonly Quantity[] = ["alive", "loss", "probability"];

/** One curve for each coefficient. */
export function curvesOf(
  snapshots: readonly CircuitSnapshot[],
  quantity: Quantity,
): readonly (readonly (readonly [number, number])[])[] {
  const width = Math.max(0, ...snapshots.map((snapshot) => snapshot[quantity].length));
  return Array.from({ length: width }, (_, n) =>
    snapshots.map((snapshot) => [snapshot.step, snapshot[quantity][n] ?? NaN] as const),
  );
}

/** The curves of circuits that were found together, from what each remembers of its own. */
export function joined(circuits: readonly Circuit[]): readonly CircuitSnapshot[] {
  const steps = [...new Set(circuits.flatMap(({ history }) => history.map(({ step }) => step)))].sort(
    (a, b) => a - b,
  );
  const bySteps = circuits.map(({ history }) => new Map(history.map((one) => [one.step, one])));
  return steps.map((step) => ({
    step,
    loss: bySteps.map((one) => one.get(step)?.loss[0] ?? NaN),
    alive: bySteps.map((one) => one.get(step)?.alive[0] ?? NaN),
    probability: bySteps.map((one) => one.get(step)?.probability[0] ?? NaN),
  }));
}

/** Circuits of one search are stored one after another, in far less than this. */
const APART_MS = 60_000;

/** Circuits of one search lie together: same settings, no more than were asked for, made within a breath. */
export function sweeps(circuits: readonly Circuit[]): readonly (readonly Circuit[])[] {
  const groups: Circuit[][] = [];
  const open = new Map<string, Circuit[]>();
  for (const circuit of circuits) {
    const name = JSON.stringify(circuit.settings);
    const group = open.get(name);
    const last = group?.at(-1);
    if (
      group !== undefined &&
      last !== undefined &&
      group.length < circuit.settings.coefficients.length &&
      Math.abs(Date.parse(last.created) - Date.parse(circuit.created)) < APART_MS
    ) {
      group.push(circuit);
      continue;
    }
    const fresh = [circuit];
    open.set(name, fresh);
    groups.push(fresh);
  }
  return groups.map((group) => group.sort((a, b) => a.coefficient - b.coefficient));
}

export function settingsWords({ loss, steps, masks, adversary_steps }: CircuitRequest): string {
  const parts = [LOSS_WORDS[loss].name, `${count(steps)} steps`, `${MASK_WORDS[masks].name} masks`];
  if (adversary_steps > 0) parts.push(`${adversary_steps} adversary steps`);
  return parts.join(", ");
}
