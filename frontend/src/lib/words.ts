/** Sentences of the interface that several places share: names of metrics, units, kinds of nodes. */

import { type NodeKind, addressOf, indexOf, kindOf, parseSite } from "./address";
import type { ComponentCard } from "./api/types";
import type { Metric, Sort } from "./location/view";

export const METRIC_WORDS: Readonly<Record<Metric, { readonly name: string; readonly means: string }>> = {
  attr: {
    name: "attr",
    means: "effect on the target: its gradient times the activation of the source",
  },
  attr_abs: {
    name: "attr_abs",
    means: "effect on the target's magnitude: positive makes |target| larger",
  },
  attr_frozen: {
    name: "attr_frozen",
    means: "attr with the scale of normalisations held constant, so that sources sum to the target",
  },
};

export const SORT_WORDS: Readonly<Record<Sort, string>> = {
  "-mean_ci": "mean CI, highest",
  mean_ci: "mean CI, lowest",
  "-density": "most often alive",
  density: "least often alive",
  "-max_ci": "peak CI, highest",
  max_ci: "peak CI, lowest",
  "-activation_rms": "activation, largest",
  activation_rms: "activation, smallest",
  "-strongest_source": "strongest source",
  "-strongest_target": "strongest target",
  "-fires_on": "fires on it, surest",
  label: "label, A to Z",
  key: "place in the model",
};

const PROJECTIONS: Readonly<Record<string, string>> = {
  q: "query",
  k: "key",
  v: "value",
  qkv: "query, key and value",
  o: "output",
  gate: "gate",
  up: "up",
  down: "down",
};

function siteWords(address: string): string {
  const site = parseSite(address);
  if (site === null) return address;
  const part = site.kind.startsWith("attn") ? "attention" : "MLP";
  return `the ${part} ${PROJECTIONS[site.projection] ?? site.projection} matrix of block ${site.block}`;
}

/** What a key stands for, as a phrase: "component 17 of the attention query matrix of block 0". */
export function describeKey(key: string): string {
  const address = addressOf(key);
  const index = indexOf(key);
  const words: Readonly<Record<NodeKind, string>> = {
    component: `component ${index} of ${siteWords(address)}`,
    embed: `embedding of token ${index}`,
    position: `embedding of position ${index}`,
    output: `output logit of token ${index}`,
    delta: `delta of ${siteWords(address)}: what its components leave unexplained`,
    bias: `bias of ${siteWords(address)}`,
  };
  return words[kindOf(key)];
}

export type Unit = ComponentCard["unit"];

/** What a value is: normalised, raw, or the mean that a published file of two matrices holds. */
export const UNIT_NAMES: Readonly<Record<Unit, string>> = {
  normalised: "normalised",
  mean: "mean per token",
  raw: "raw",
};

const UNIT_MEANS: Readonly<Record<Unit, string>> = {
  normalised:
    "Normalised: per unit of the source's CI (of a token: per occurrence), in units of the target's RMS.",
  mean: "Mean: averaged over all tokens, in the target's own units; neither weighted by the source's CI nor normalised.",
  raw: "Raw: summed over the corpus, in the target's own units.",
};

export function unitWords(unit: Unit): string {
  return UNIT_MEANS[unit];
}
