/** What a run is and what it lacks, in the words of the list of runs. */

import type { RunDetail, RunSummary } from "../api/types";
import { count } from "../format/numbers";

/** "3 blocks", "1 block"; nothing where there are none. */
export function plural(n: number, one: string, many = `${one}s`): string {
  return `${count(n)} ${n === 1 ? one : many}`;
}

/** What kind of run it is: "llama type, 4 blocks", "attributions without their model", "toy model". */
export function kindWords(run: RunSummary): string {
  if (run.kind === "attributions") return "attributions without their model";
  if (run.kind === "toy") return "toy model";
  return `${run.family ?? "unknown"} type, ${plural(run.n_blocks, "block")}`;
}

/** Whether some matrices of the model's blocks have no components. */
export function isPartial(run: RunSummary): boolean {
  return run.n_decomposed < run.n_modules;
}

/** Its size, and what there is and is not, each a few words. */
export function runFacts(run: RunSummary): string[] {
  const { capabilities: has, kind } = run;
  const facts = [kindWords(run)];
  if (isPartial(run)) facts.push(`${count(run.n_decomposed)} of ${count(run.n_modules)} matrices decomposed`);
  facts.push(plural(run.n_components, "component"));
  if (run.vocab_size !== null) facts.push(`${count(run.vocab_size)} tokens`);
  if (kind !== "toy") {
    if (!has.tokenizer) facts.push("no tokenizer");
    if (kind === "model" && !has.text) facts.push("no text");
    facts.push(has.attributions ? "attributions" : "no attributions yet");
  }
  if (kind === "model") facts.push(run.has_evaluation ? "evaluated" : "not evaluated");
  return facts;
}

/** Which attributions a subrun holds, to choose among several: "20260101-120000 · 64 tokens · delta: off · imported, four-edge". */
export function subrunWords(
  { subrun_infos: infos }: Pick<RunDetail, "subrun_infos">,
  subrun: string,
): string {
  const info = infos.find((one) => one.subrun === subrun);
  if (info === undefined) return `${subrun} · damaged`;
  const from = info.imported_from === null ? [] : [`imported, ${info.imported_from}`];
  return [subrun, `${count(info.tokens)} tokens`, `delta: ${info.delta}`, ...from].join(" · ");
}
