/**
 * What the page shows, and the address that says so. Pure: no browser here.
 *
 * | part            | meaning                                         | default   |
 * |-----------------|-------------------------------------------------|-----------|
 * | /runs/R         | overview of run R                               |           |
 * | …/components    | its components                                  |           |
 * | …/components/K  | the card of K                                   |           |
 * | site            | table: only this site, or embed or output       | all sites |
 * | q               | table: search                                   | empty     |
 * | sort            | table: order                                    | -mean_ci  |
 * | metric          | attr, attr_abs or attr_frozen                   | attr      |
 * | raw             | 1: raw sums in place of normalised values       | normalised|
 * | k               | entries a list                                  | 10        |
 * | subrun          | an older computation of the attributions        | newest    |
 * | trail           | the components walked through to reach this one | empty     |
 */

import { isKey, isToken, parseSite } from "../address";

export const METRICS = ["attr", "attr_abs", "attr_frozen"] as const;
export type Metric = (typeof METRICS)[number];

export const SORTS = [
  "-mean_ci",
  "mean_ci",
  "-density",
  "density",
  "-max_ci",
  "max_ci",
  "-activation_rms",
  "activation_rms",
  "key",
] as const;
export type Sort = (typeof SORTS)[number];

export const SIZES = [5, 10, 20, 50] as const;
/** A walk longer than this forgets its beginning, so that the address stays short enough to send. */
export const TRAIL_LIMIT = 60;

export type Page =
  | { readonly kind: "runs" }
  | { readonly kind: "overview"; readonly run: string }
  | { readonly kind: "components"; readonly run: string }
  | { readonly kind: "card"; readonly run: string; readonly key: string }
  | { readonly kind: "lost"; readonly path: string };

export interface View {
  readonly page: Page;
  readonly site: string | null;
  readonly q: string;
  readonly sort: Sort;
  readonly metric: Metric;
  readonly raw: boolean;
  readonly k: number;
  readonly subrun: string | null;
  readonly trail: readonly string[];
}

export const INITIAL: View = {
  page: { kind: "runs" },
  site: null,
  q: "",
  sort: "-mean_ci",
  metric: "attr",
  raw: false,
  k: 10,
  subrun: null,
  trail: [],
};

function decode(text: string): string | null {
  try {
    return decodeURIComponent(text);
  } catch {
    return null;
  }
}

function parsePage(path: string): Page {
  const parts = path.split("/").filter((part) => part !== "");
  const lost: Page = { kind: "lost", path };
  if (parts.length === 0 || (parts.length === 1 && parts[0] === "runs")) return { kind: "runs" };
  const run = decode(parts[1] ?? "");
  if (parts[0] !== "runs" || run === null || run === "") return lost;
  if (parts.length === 2) return { kind: "overview", run };
  if (parts[2] !== "components") return lost;
  if (parts.length === 3) return { kind: "components", run };
  const key = decode(parts[3] ?? "");
  if (parts.length > 4 || key === null || !isKey(key)) return lost;
  return { kind: "card", run, key };
}

function oneOf<T extends string>(values: readonly T[], text: string | null, otherwise: T): T {
  return values.find((value) => value === text) ?? otherwise;
}

/** Read an address. What is not understood falls back to its default; an unknown path is `lost`. */
export function parseView(path: string, search: string): View {
  const query = new URLSearchParams(search);
  const site = query.get("site");
  const k = Number(query.get("k"));
  return {
    page: parsePage(path),
    site: site !== null && (isToken(site) || parseSite(site) !== null) ? site : null,
    q: query.get("q") ?? "",
    sort: oneOf(SORTS, query.get("sort"), INITIAL.sort),
    metric: oneOf(METRICS, query.get("metric"), INITIAL.metric),
    raw: query.get("raw") === "1",
    k: SIZES.find((size) => size === k) ?? INITIAL.k,
    subrun: query.get("subrun"),
    trail: (query.get("trail") ?? "").split(",").filter(isKey).slice(-TRAIL_LIMIT),
  };
}

/** Percent-encoding that leaves `:` and `,` alone: they are legal there, and keys stay readable. */
function encode(text: string): string {
  return encodeURIComponent(text).replaceAll("%3A", ":").replaceAll("%2C", ",");
}

function printPage(page: Page): string {
  switch (page.kind) {
    case "runs":
      return "/";
    case "overview":
      return `/runs/${encode(page.run)}`;
    case "components":
      return `/runs/${encode(page.run)}/components`;
    case "card":
      return `/runs/${encode(page.run)}/components/${encode(page.key)}`;
    case "lost":
      return page.path;
  }
}

/** The address of a view; defaults are left out, so that the same view has one address. */
export function printView(view: View): string {
  const query: string[] = [];
  const add = (name: string, value: string, standard: string): void => {
    if (value !== standard) query.push(`${name}=${encode(value)}`);
  };
  add("site", view.site ?? "", "");
  add("q", view.q, "");
  add("sort", view.sort, INITIAL.sort);
  add("metric", view.metric, INITIAL.metric);
  add("raw", view.raw ? "1" : "", "");
  add("k", String(view.k), String(INITIAL.k));
  add("subrun", view.subrun ?? "", "");
  if (view.page.kind === "card") add("trail", view.trail.join(","), "");
  return printPage(view.page) + (query.length > 0 ? `?${query.join("&")}` : "");
}

export function runOf(page: Page): string | null {
  return page.kind === "runs" || page.kind === "lost" ? null : page.run;
}

/** Follow an edge: the component we are at joins the trail. */
export function travel(view: View, key: string): View {
  if (view.page.kind !== "card") return open(view, key);
  if (view.page.key === key) return view;
  const trail = [...view.trail, view.page.key].slice(-TRAIL_LIMIT);
  return { ...view, page: { ...view.page, key }, trail };
}

/** Open a card from elsewhere than an edge: a new walk begins. */
export function open(view: View, key: string): View {
  const run = runOf(view.page);
  return run === null ? view : { ...view, page: { kind: "card", run, key }, trail: [] };
}

/** Go back along the trail to its n-th component, counted from 0. */
export function stepBack(view: View, n: number): View {
  const key = view.trail[n];
  if (view.page.kind !== "card" || key === undefined) return view;
  return { ...view, page: { ...view.page, key }, trail: view.trail.slice(0, n) };
}

/** The same settings on another page of the same run. */
export function show(view: View, kind: "overview" | "components"): View {
  const run = runOf(view.page);
  return run === null ? view : { ...view, page: { kind, run }, trail: [] };
}

/** Another run: keep what means the same there, forget sites, keys and searches. */
export function enter(view: View, run: string): View {
  return { ...INITIAL, metric: view.metric, raw: view.raw, k: view.k, page: { kind: "overview", run } };
}
