/** The filters of the table in words, each with the view that it is gone from. Pure. */

import type { ComponentFilter } from "../api/client";
import type { ComponentPage } from "../api/types";
import { printPercent } from "../evidence/associations";
import { count } from "../format/numbers";
import { visible } from "../format/tokens";
import { INITIAL, type Labelled, type View } from "../location/view";

/** Only what decides which components are listed. */
export type FilterView = Pick<
  View,
  | "site"
  | "q"
  | "fires"
  | "rare"
  | "often"
  | "weak"
  | "strong"
  | "label"
  | "labelled"
  | "source"
  | "target"
  | "cluster"
  | "sort"
>;

/** What a run can be asked for. */
export interface Abilities {
  /** Without a harvest nobody knows what fires on a token. */
  readonly harvested: boolean;
  readonly clustered: boolean;
}

export interface Filter {
  /** Names it, whatever its value. */
  readonly id: string;
  readonly words: string;
  /** What the view becomes where it is taken away. */
  readonly without: Partial<FilterView>;
}

export const LABELLED_WORDS: Readonly<Record<Labelled, string>> = {
  any: "has a label",
  none: "has no label",
  person: "labelled by a person",
  model: "labelled by a model",
};

/** "alive on 1 % to 5 %", "mean CI at least 0.01". */
function bounds(what: string, least: string, most: string): string {
  if (least !== "" && most !== "") return `${what} ${least} to ${most}`;
  return least !== "" ? `${what} at least ${least}` : `${what} at most ${most}`;
}

function share(value: number | null): string {
  return value === null ? "" : `${printPercent(value)} %`;
}

function plain(value: number | null): string {
  return value === null ? "" : String(value);
}

/** The order without a token that something fires on. */
function usualOrder(view: FilterView): FilterView["sort"] {
  return view.sort === "-fires_on" ? INITIAL.sort : view.sort;
}

/** All filters that hold, in the order of the form. */
export function filtersOf(view: FilterView, { harvested, clustered }: Abilities): Filter[] {
  const found: Filter[] = [];
  const add = (id: string, holds: boolean, words: string, without: Partial<FilterView>): void => {
    if (holds) found.push({ id, words, without });
  };
  add("site", view.site !== null, `in ${view.site ?? ""}`, { site: null });
  add("q", view.q !== "", `search “${visible(view.q)}”`, { q: "" });
  add("fires", harvested && view.fires !== "", `fires on “${visible(view.fires)}”`, {
    fires: "",
    sort: usualOrder(view),
  });
  add(
    "alive",
    view.rare !== null || view.often !== null,
    bounds("alive on", share(view.rare), share(view.often)),
    { rare: null, often: null },
  );
  add(
    "ci",
    view.weak !== null || view.strong !== null,
    bounds("mean CI", plain(view.weak), plain(view.strong)),
    { weak: null, strong: null },
  );
  add("label", view.label.trim() !== "", `label says “${view.label.trim()}”`, { label: "" });
  if (view.labelled !== null) add("labelled", true, LABELLED_WORDS[view.labelled], { labelled: null });
  for (const end of ["source", "target"] as const) {
    const text = view[end].trim();
    add(end, text !== "", `strongest ${end} ${text}`, { [end]: "" });
  }
  add("cluster", clustered && view.cluster !== null, clusterWords(view.cluster ?? ""), { cluster: null });
  return found;
}

function clusterWords(cluster: string): string {
  if (cluster === "alone") return "alone, in no cluster";
  return cluster === "unknown" ? "unknown to the clustering" : `cluster ${cluster}`;
}

/** The view without any of its filters. */
export function unfiltered(filters: readonly Filter[]): Partial<FilterView> {
  return Object.assign({}, ...filters.map((filter) => filter.without)) as Partial<FilterView>;
}

/** The same list without one of its filters, to count what it would have then. */
export function filterWithout(filter: ComponentFilter, { without }: Filter): ComponentFilter {
  const { cluster, ...rest } = without;
  return { ...filter, ...rest, within: cluster === null ? null : filter.within };
}

/** How the server read an end: "anything in layer 3", "the token “the” (2 readings)". */
export function endWords(reading: ComponentPage["strongest_source"], end: "source" | "target"): string {
  if (reading === null) return "";
  const { kind, text, tokens } = reading;
  if (kind === "key") return text;
  if (kind === "layer") return `anything in ${/^\d+$/.test(text) ? `block ${text}` : `layer ${text}`}`;
  if (kind === "site") {
    if (text === "embed") return "any input token";
    if (text === "output") return "any output token";
    return text === "position" ? "any position" : `anything in ${text}`;
  }
  const side = end === "source" ? "input" : "output";
  if (tokens.length === 0) return `no token reads “${visible(text)}”`;
  const many = tokens.length === 1 ? "" : `, ${count(tokens.length)} of them`;
  return `the ${side} token “${visible(text)}”${many}`;
}

/** A mean CI that a person writes, from 0 to 1; `null` for none. */
export function parseCi(text: string): number | null {
  const trimmed = text.trim().replace(",", ".");
  const value = trimmed === "" ? NaN : Number(trimmed);
  return value >= 0 && value <= 1 ? value : null;
}

/** Whether two fields hold no range: what is written there is no number of its kind, or the least is above the largest. */
export function noRange(least: string, most: string, parse: (text: string) => number | null): boolean {
  const [from, to] = [parse(least), parse(most)];
  if ((least.trim() !== "" && from === null) || (most.trim() !== "" && to === null)) return true;
  return from !== null && to !== null && from > to;
}
