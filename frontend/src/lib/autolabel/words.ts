/** How label sets, scores and money are said. */

import { count, number } from "../format/numbers";
import type { LabelScore, LabelSet, LabelSetScore, ScoreDifference } from "./api";

/** Lines of a page of labels. */
export const PAGE_SIZE = 50;

const whole = (share: number): string => (share * 100).toFixed(0);

/** "60–98 %" */
export function rangeWords(interval: { readonly low: number; readonly high: number }): string {
  return `${whole(interval.low)}–${whole(interval.high)} %`;
}

/** "9 of 10", or why there is none. */
export function scoreWords(score: LabelScore): string {
  if (score.judged > 0) return `${score.right} of ${score.judged}`;
  if (score.failed > 0) return "failed";
  return score.impossible > 0 ? "too few texts" : "–";
}

/** What a pointer is told of a score. */
export function scoreTitle(score: LabelScore): string {
  const parts: string[] = [];
  if (score.judged > 0 && score.interval !== null) {
    parts.push(
      `${score.right} of ${score.judged} texts judged rightly; 95 % interval ${rangeWords(score.interval)}; guessing gives 50 %`,
    );
  }
  if (score.failed > 0) parts.push(`${questions(score.failed)} without an answer, not counted`);
  if (score.impossible > 0) parts.push(`${questions(score.impossible)} could not be asked: too few texts`);
  return parts.join(". ");
}

function questions(n: number): string {
  return n === 1 ? "one question" : `${count(n)} questions`;
}

/** "74 % (60–84 %) over 48 labels" */
export function setScoreWords(score: LabelSetScore): string {
  if (score.mean === null || score.interval === null) {
    if (score.failed > 0) return `${questions(score.failed)} failed`;
    return score.impossible > 0 ? "too few texts" : "not scored";
  }
  const labels = score.components === 1 ? "one label" : `${count(score.components)} labels`;
  return `${whole(score.mean)} % (${rangeWords(score.interval)}) over ${labels}`;
}

/** Whether the interval is on one side of zero. */
export function differenceWords(difference: ScoreDifference): string {
  if (difference.mean === null || difference.interval === null) return "no component scored in both";
  const signed = (value: number): string => `${value < 0 ? "\u2212" : "+"}${whole(Math.abs(value))}`;
  const { low, high } = difference.interval;
  const sure = low > 0 ? "the first is better" : high < 0 ? "the second is better" : "no clear difference";
  const over = difference.components === 1 ? "one component" : `${count(difference.components)} components`;
  return `${signed(difference.mean)} points (${signed(low)} to ${signed(high)}) over ${over}: ${sure}`;
}

/** What a set is like: finished, stopped, or not known; `active`: the server works on it. */
export function stateWords(set: LabelSet, active = false): string {
  if (active) return "under way";
  if (set.ended === "finished") return "finished";
  if (set.ended === "cap") return "stopped before its cap";
  if (set.ended === "interrupted") return "interrupted";
  return set.ended === "" ? "under way, or broken off" : "stopped";
}

export function spendingWords(set: LabelSet): string {
  const { requests, prompt_tokens, completion_tokens, cost, uncounted } = set.spending;
  const parts = [
    `${count(requests)} ${requests === 1 ? "request" : "requests"}`,
    `${count(prompt_tokens)} + ${count(completion_tokens)} tokens`,
  ];
  if (cost > 0) parts.push(`cost ${money(cost)}`);
  if (uncounted > 0) parts.push(`${count(uncounted)} of the requests at their upper bound`);
  return parts.join(", ");
}

export function labelledWords(set: LabelSet): string {
  const failed = set.failed > 0 ? `, ${count(set.failed)} failed` : "";
  return `${count(set.labelled)} of ${count(set.components)} labelled${failed}`;
}

/** Money has no more than three digits that count, and no power of ten while it can be read. */
export function money(value: number): string {
  return value !== 0 && Math.abs(value) < 1e-4 ? number(value) : String(Number(value.toPrecision(3)));
}

/** What a set's labels were made from, in one line each. */
export const STRATEGY_WORDS: Readonly<Record<LabelSet["strategy"], string>> = {
  evidence: "from texts and tokens",
  context: "from the graph of attributions",
};

const PURPOSES: Readonly<Record<string, string>> = {
  evidence: "label from texts and tokens",
  output: "what it does, by what it drives",
  input: "when it fires, by what drives it",
  unify: "one label from the two",
};

export function purposeWords(purpose: string): string {
  const [kind = "", number_ = ""] = purpose.split(" ");
  if (number_ !== "") return `${kind}, question ${Number(number_) + 1}`;
  return PURPOSES[kind] ?? kind;
}

/** Whether the labels are scored by the model that wrote them. */
export function isOwnJudge(set: LabelSet): boolean {
  return set.judge?.model === set.model && set.judge.endpoint === set.endpoint;
}

/** "judged by the model that wrote them, which flatters" */
export function judgeWords(set: LabelSet): string {
  if (set.judge === null) return "not judged yet";
  return isOwnJudge(set)
    ? "judged by the model that wrote them, which flatters"
    : `judged by ${set.judge.model} at ${set.judge.endpoint}`;
}

/** What is lost with a set, as a question. */
export function deleteQuestion(set: LabelSet): string {
  const { requests, cost } = set.spending;
  const labels = set.labelled === 1 ? "one label" : `${count(set.labelled)} labels`;
  const answers = requests === 1 ? "the answer" : `the answers to ${count(requests)} requests`;
  return `Delete ${labels} and ${answers}${cost > 0 ? `, which cost ${money(cost)},` : ""} for good?`;
}

/** Settings worth a line, in the order in which they are asked about. */
export function settingsWords(set: LabelSet): string {
  const { examples, harvest, attributions, prompts, seed } = set.settings;
  const parts: string[] = [];
  if (typeof examples === "number") parts.push(`${examples} texts a component`);
  if (typeof harvest === "string") parts.push(`harvest ${harvest}`);
  if (typeof attributions === "string") parts.push(`attributions ${attributions}`);
  if (typeof prompts === "string") parts.push(`prompts of version ${prompts}`);
  if (typeof seed === "number") parts.push(`seed ${seed}`);
  return parts.join(", ");
}
