/** What causal importances are computed from, in words. */

import type { RunDetail } from "../api/types";
import { count } from "../format/numbers";

const KINDS: Readonly<Record<string, string>> = {
  mlp: "one small network for each component, from its activation",
  vector_mlp: "one small network for each component, from what its matrix reads",
  shared_mlp: "one network for each matrix, from what the matrix reads",
  global_shared_mlp: "one network for all matrices, from what all of them read",
  global_shared_transformer: "one transformer for all matrices, from what all of them read at all positions",
  global_reverse_residual:
    "one network that goes through groups of matrices in turn, from what each of them reads",
};

/** "One network for each matrix, from what the matrix reads (shared_mlp, hidden 32), then leaky_hard". */
export function importanceWords(importance: NonNullable<RunDetail["importance"]>): string {
  const { kind, hidden, sigmoid } = importance;
  const widths = hidden.length === 0 ? "" : `, hidden ${hidden.map((width) => count(width)).join(", ")}`;
  const known = KINDS[kind];
  const what = known === undefined ? kind : `${known} (${kind}${widths})`;
  return `${what.charAt(0).toUpperCase()}${what.slice(1)}; squashed by ${sigmoid}`;
}

/** One quiet sentence for screens on which a prompt is changed; `null` where nothing need be said. */
export function laterWords(detail: RunDetail): string | null {
  return detail.importance?.sees_later_tokens === true
    ? "Causal importances of this run depend on later tokens too: editing or cutting the prompt changes them before the edit as well."
    : null;
}

/** One quiet sentence where components are switched on and off; `null` where every matrix has components. */
export function wholeWords(detail: RunDetail): string | null {
  const whole = detail.n_modules - detail.n_decomposed;
  if (detail.kind !== "model" || whole <= 0) return null;
  return `${count(whole)} of ${count(detail.n_modules)} matrices have no components and work as in the model, whatever is switched off.`;
}
