/** What is to be labelled, as a form has it and as it is asked for; what that costs, in words. */

import { count } from "../format/numbers";
import { typed } from "../prompt/settings";
import type { LabelCaps, LabelEstimate, LabelRequest, LabelSet, Labelling, LabellingProgress } from "./api";
import { isOwnJudge, money } from "./words";

export interface Wish {
  readonly which: "top" | "keys";
  readonly top: string;
  /** Percent of positions at which one of the top may fire. */
  readonly density: string;
  /** Keys with spaces, commas or line ends between them. */
  readonly keys: string;
  readonly strategy: "evidence" | "context";
  readonly examples: string;
  readonly trials: string;
  readonly name: string;
}

export const WISH: Wish = {
  which: "top",
  top: "100",
  density: "10",
  keys: "",
  strategy: "evidence",
  examples: "12",
  trials: "1",
  name: "",
};

export function keysOf(text: string): string[] {
  return [...new Set(text.split(/[\s,;]+/).filter((key) => key !== ""))];
}

/** The request of a form, or what is wrong with it. */
export function requestOf(wish: Wish): LabelRequest | string {
  const top = typed(wish.top, 1, 50_000, true);
  const density = typed(wish.density, 0, 100);
  const examples = typed(wish.examples, 1, 60, true);
  const trials = typed(wish.trials, 0, 20, true);
  const keys = keysOf(wish.keys);
  if (wish.which === "top" && top === null) return "Write how many components, from 1 to 50,000.";
  if (wish.which === "top" && density === null) return "Write a share of positions, from 0 to 100 %.";
  if (wish.which === "keys" && keys.length === 0) return "Write at least one component, as 0.glu.down:17.";
  if (examples === null) return "Write how many texts, from 1 to 60.";
  if (trials === null) return "Write how many questions, from 0 to 20.";
  const name = wish.name.trim();
  return {
    ...(wish.which === "top" ? { top: top ?? 1, max_density: (density ?? 100) / 100 } : { keys }),
    strategy: wish.strategy,
    examples,
    trials,
    ...(name === "" ? {} : { name }),
  };
}

/** Going on with a set: its components, strategy and texts are known. */
export function goingOn(set: number, trials: string): LabelRequest | string {
  const questions = typed(trials, 0, 20, true);
  return questions === null ? "Write how many questions, from 0 to 20." : { go_on: set, trials: questions };
}

/** Whether a set was made and judged by the model that the server offers, so that it can be gone on with here. */
export function isOffered(set: LabelSet, offered: Labelling): boolean {
  try {
    if (set.judge !== null && !isOwnJudge(set)) return false;
    return set.model === offered.model && new URL(set.endpoint).host === offered.endpoint;
  } catch {
    return false;
  }
}

/** "toy-1 at 127.0.0.1:8080, at 1 and 4 for a million tokens of prompts and answers" */
export function offerWords(offered: Labelling): string {
  const { model, endpoint, prices } = offered;
  const of = `${model ?? ""} at ${endpoint ?? ""}`;
  return prices === null
    ? of
    : `${of}, at ${money(prices.prompt)} and ${money(prices.completion)} for a million tokens of prompts and of answers`;
}

/** "0.83 of 1 is left" */
export function leftWords(offered: Labelling): string {
  const parts: string[] = [];
  const { cap, cap_left, cap_tokens, cap_tokens_left } = offered;
  if (cap !== null && cap_left !== null) parts.push(`${money(cap_left)} of ${money(cap)}`);
  if (cap_tokens !== null && cap_tokens_left !== null) {
    parts.push(`${count(cap_tokens_left)} of ${count(cap_tokens)} tokens`);
  }
  if (parts.length === 0) return "The server was started without a cap.";
  return `Of what may be spent from this page, ${parts.join(" and ")} ${cap === null || parts.length > 1 ? "are" : "is"} left until the server is stopped.`;
}

export interface Caps {
  readonly money: string | null;
  readonly tokens: string | null;
}

function upwards(value: number): number {
  if (value <= 0) return 0;
  const step = 10 ** (Math.floor(Math.log10(value)) - 1);
  return Number((Math.ceil(value / step - 1e-9) * step).toPrecision(2));
}

/**
 * Caps that let the work be finished in most cases: half more than the estimate, and what may have to be set
 * aside before a request is sent, which is several times what it costs. Never above what is left.
 */
export function suggestedCaps(estimate: LabelEstimate, offered: Labelling): Caps {
  const share = 1.5 + 20 / Math.max(1, estimate.requests);
  const within = (value: number, most: number | null): string =>
    most === null || value <= most ? String(upwards(value)) : String(most);
  const tokens = estimate.prompt_tokens + estimate.completion_tokens;
  return {
    money: estimate.cost === null ? null : within(estimate.cost * share, offered.cap_left),
    tokens:
      offered.cap_tokens === null
        ? estimate.cost === null
          ? ""
          : null
        : within(tokens * share, offered.cap_tokens_left),
  };
}

/** The caps of a form, or what is wrong with them. */
export function capsOf(caps: Caps, offered: Labelling): LabelCaps | string {
  const most = offered.cap_left ?? 1e12;
  const mostTokens = offered.cap_tokens_left ?? 2 ** 52;
  const cap = caps.money === null ? null : typed(caps.money, 0, most);
  if (caps.money !== null && cap === null) {
    return offered.cap_left === null
      ? "Write how much may be spent at most."
      : `Write how much may be spent at most, up to ${money(most)}.`;
  }
  if (caps.tokens === null || caps.tokens.trim() === "") return { cap, cap_tokens: null };
  const tokens = typed(caps.tokens, 0, mostTokens, true);
  if (tokens === null) return `Write how many tokens may be taken at most, up to ${count(mostTokens)}.`;
  return { cap, cap_tokens: tokens };
}

/** "0.012 of at most 0.5 spent", or tokens where there are no prices. */
export function spentWords(progress: LabellingProgress): string {
  const { cost, cap, tokens, cap_tokens } = progress;
  if (cost !== null) return `${money(cost)}${cap === null ? "" : ` of at most ${money(cap)}`} spent`;
  return `${count(tokens)}${cap_tokens === null ? "" : ` of at most ${count(cap_tokens)}`} tokens`;
}
