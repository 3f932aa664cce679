/** What a page says where a run lacks what it needs: why, and which commands bring it. Pure. */

import type { RunSummary } from "../api/types";

/** What a page or a part of one needs of a run. */
export type Need = "model" | "text" | "search" | "harvest" | "attributions" | "tokens";

export interface Missing {
  readonly title: string;
  readonly text: string;
  /** Commands in their order; none where nothing helps. */
  readonly commands: readonly string[];
  readonly after: string | null;
}

const TOY: Missing = {
  title: "A toy model reads no text",
  text: "This run decomposes a model of features instead of tokens. What it has is on its overview.",
  commands: [],
  after: null,
};

const AGAIN = "Afterwards load this page again.";

const NO_TEXT = "There is nothing to search or to read yet.";

/** Why text matters for what was wanted, and that it comes first. */
const TEXT_FIRST: Readonly<Record<Need, string>> = {
  model: "",
  tokens: "",
  text: `${NO_TEXT} Plain text files and .jsonl files are taken:`,
  search: `${NO_TEXT} Plain text files and .jsonl files are taken:`,
  harvest:
    "Examples from a corpus, the tokens it fires on, what comes next and which components fire with it are gathered in one pass over a text. Give the run one first:",
  attributions: "Attributions are summed over a text. Give the run one first:",
};

const WITHOUT_TOKENIZER: Readonly<Record<Need, string>> = {
  model: "",
  tokens: "",
  text: `${NO_TEXT} Without a tokenizer no text can be added.`,
  search: "Text is searched by the words of its tokens, which only a tokenizer knows.",
  harvest:
    "Examples, tokens and co-firing are gathered over a text, and without a tokenizer none can be read.",
  attributions: "Attributions are summed over a text, and without a tokenizer none can be read.",
};

/** What stands in the way of `need`; `null` where nothing does. */
export function missing(run: RunSummary, need: Need): Missing | null {
  const { capabilities: has, name } = run;
  if (run.kind === "toy") return TOY;
  if (need === "tokens") return null;
  if (need === "attributions" && has.attributions) return null;
  if (need === "harvest" && has.harvest) return null;
  if (need === "text" && has.text) return null;
  if (need === "search" && has.text && has.tokenizer) return null;
  if (need === "model" && has.model) return null;
  if (!has.model)
    return {
      title: "This run came without its model",
      text:
        need === "model"
          ? "It holds attributions that were published without the model they were computed on, so no text can be run through it: there are no predictions, graphs, interventions or circuits. Its components and their attributions can be browsed. Where the decomposed model is at hand, import it, and add the attributions to it:"
          : need === "harvest"
            ? "Examples, tokens and co-firing are gathered by running the model over a text. Where the decomposed model is at hand, import it, and add the attributions to it:"
            : "It holds attributions alone, and not the text they were computed over.",
      commands:
        need === "text" || need === "search"
          ? []
          : ["tributary import MODEL --as NAME", "tributary import ATTRIBUTIONS --into NAME"],
      after: null,
    };
  if (!has.tokenizer && (need === "search" || !has.text))
    return {
      title: has.text ? "This run came without a tokenizer" : "This run came without text",
      text: `${WITHOUT_TOKENIZER[need]} Import the run again ${has.text ? "with one" : "with both"}:`,
      commands: ["tributary import PATH --tokenizer PATH --text PATH"],
      after: AGAIN,
    };
  if (need === "text" || need === "search" || !has.text)
    return {
      title: "This run came without text",
      text: TEXT_FIRST[need],
      commands: [
        `tributary text ${name} FILE`,
        ...(need === "harvest" ? [`tributary harvest ${name}`] : []),
        ...(need === "attributions" ? [`tributary attribute ${name}`] : []),
      ],
      after: AGAIN,
    };
  if (need === "harvest")
    return {
      title: "Not harvested yet",
      text: "Examples from the corpus, the tokens it fires on, what comes next and which components fire with it are gathered in one pass over the corpus. This run has not had it yet.",
      commands: [`tributary harvest ${name}`],
      after: `It can be stopped and resumed. ${AGAIN}`,
    };
  return {
    title: "Attributions are not computed yet",
    text: "They are summed over the corpus, once; then every component has its sources and targets here.",
    commands: [`tributary attribute ${name}`],
    after: `It can be stopped and resumed. ${AGAIN}`,
  };
}
