/**
 * What the page shows, and the address that says so. Pure: no browser here.
 *
 * | part            | meaning                                         | default   |
 * |-----------------|-------------------------------------------------|-----------|
 * | /runs/R         | overview of run R                               |           |
 * | …/components    | its components                                  |           |
 * | …/components/K  | the card of K                                   |           |
 * | …/prompts       | its prompts, and a new one                      |           |
 * | …/prompts/P     | prompt P and its graphs                         |           |
 * | …/P/graphs/G    | graph G of prompt P                             |           |
 * | site            | table: only this site, or embed or output       | all sites |
 * | q               | table: search                                   | empty     |
 * | sort            | table: order                                    | -mean_ci  |
 * | metric          | attr, attr_abs or attr_frozen                   | attr      |
 * | raw             | 1: raw sums in place of normalised values       | normalised|
 * | k               | entries a list                                  | 10        |
 * | subrun          | an older computation of the attributions        | newest    |
 * | …/clusters      | components that are needed together             |           |
 * | clustering      | an older or imported clustering                 | newest    |
 * | merges          | its clusters after so many merges               | its own   |
 * | cluster         | table, clusters: a number, alone or unknown     | all, none |
 * | trail           | the components walked through to reach this one | empty     |
 * | examples        | card: random or strongest                       | random    |
 * | token           | card: only examples that fire on this token id  | all       |
 * | text            | card: one's own text to try it on               | empty     |
 * | fires           | table: only what fires on this token            | all       |
 * | rare, often     | table: alive on at least, at most this share    | all       |
 * | …/documents/D   | document D of the corpus                        |           |
 * | at              | document: the token to bring into sight         | its start |
 * | key             | document: whose values are shown                | none      |
 * | …/text          | searching the corpus                            |           |
 * | find            | text: what is searched for                      | empty     |
 * | mode            | text: words or exact                            | words     |
 * | case            | text: 1: capitals differ from small letters     | alike     |
 * | in              | text: only this document                        | all       |
 * | page            | text: which page of the hits, from 1            | 1         |
 * | hit             | text: the hit that is open                      | none      |
 * | …/labels        | labels that language models gave                |           |
 * | set             | labels: the set                                 | newest    |
 * | with            | labels: the set beside it                       | none      |
 * | find, page      | labels: words in key or label; which page       | empty, 1  |
 * | key             | labels: the component whose label is explained  | none      |
 *
 * On the prompts' page:
 *
 * | text            | what was typed so far                           | empty     |
 * | ids             | its exact tokens, until it is typed over        | none      |
 *
 * On a graph's page:
 *
 * | as              | canvas or table                                 | canvas    |
 * | top / least     | edges shown: the strongest n, or |value| ≥ x    | strongest |
 * | find            | search for nodes                                | empty     |
 * | only            | what leads to the outputs, all, what matches,   | outputs   |
 * |                 | is near the selection, pinned, grouped, by      |           |
 * |                 | cluster, differs                                |           |
 * | layers, tokens  | nodes of these layers, at these positions       | all       |
 * | sel             | selected nodes: keys, or ranges of numbers      | none      |
 * | edge            | the selected edge: source~target                | none      |
 * | at              | x, y and zoom of the viewport                   | fits      |
 * | panel           | the side panel's tab; none: closed              | node      |
 * | with            | the graph this one is compared with             | none      |
 */

import { isKey, isToken, kindOf, parseSite } from "../address";

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
  "-strongest_source",
  "-strongest_target",
  "-fires_on",
  "label",
  "key",
] as const;
export type Sort = (typeof SORTS)[number];

/** How examples are chosen: a random sample of all firings, or those with the largest CI. */
export const EXAMPLES = ["random", "strongest"] as const;
export type ExampleKind = (typeof EXAMPLES)[number];

export const SIZES = [5, 10, 20, 50] as const;
/** A walk longer than this forgets its beginning, so that the address stays short enough to send. */
export const TRAIL_LIMIT = 60;

/** Tabs of the panel beside a graph. */
export const PANELS = ["node", "pins", "intervene", "circuits", "compare", "about", "none"] as const;
export type Panel = (typeof PANELS)[number];

/** Which edges of a graph are shown; `strongest` is as many as are easily read. */
export type Cut =
  | { readonly kind: "strongest" }
  | { readonly kind: "top"; readonly n: number }
  | { readonly kind: "least"; readonly value: number };

export interface Viewport {
  readonly x: number;
  readonly y: number;
  readonly scale: number;
}

/**
 * `outputs`: what leads to the outputs; `groups`: the pinned subgraph with each group as one node;
 * `clusters`: the whole graph with the components of each cluster in one layer at one position as one node;
 * `difference`: against the compared graph.
 */
export const SCOPES = [
  "outputs",
  "all",
  "matches",
  "near",
  "pins",
  "groups",
  "clusters",
  "difference",
] as const;
export type Scope = (typeof SCOPES)[number];

/** What the address of a graph holds beside the graph itself. */
export interface GraphView {
  readonly as: "canvas" | "table";
  readonly cut: Cut;
  readonly find: string;
  readonly scope: Scope;
  /** Addresses of layers and positions that are shown; empty: all. */
  readonly layers: readonly string[];
  readonly tokens: readonly number[];
  /** Node keys, or ranges of node numbers such as `12-40`. */
  readonly selection: readonly string[];
  /** The selected edge as `source~target`. */
  readonly edge: string | null;
  /** `null`: the whole graph in sight. */
  readonly viewport: Viewport | null;
  readonly panel: Panel;
  readonly compare: number | null;
}

export type Page =
  | { readonly kind: "runs" }
  | { readonly kind: "overview"; readonly run: string }
  | { readonly kind: "components"; readonly run: string }
  | { readonly kind: "clusters"; readonly run: string }
  | { readonly kind: "card"; readonly run: string; readonly key: string }
  | { readonly kind: "prompts"; readonly run: string }
  | { readonly kind: "prompt"; readonly run: string; readonly prompt: number }
  | { readonly kind: "graph"; readonly run: string; readonly prompt: number; readonly graph: number }
  | {
      readonly kind: "document";
      readonly run: string;
      readonly document: number;
      /** The token of the document that is to be in sight. */
      readonly at: number;
      readonly key: string | null;
    }
  | TextPage
  | LabelsPage
  | { readonly kind: "lost"; readonly path: string };

export const MODES = ["words", "exact"] as const;
export type SearchMode = (typeof MODES)[number];

/** Searching the text of a run. */
export interface TextPage {
  readonly kind: "text";
  readonly run: string;
  readonly find: string;
  readonly mode: SearchMode;
  readonly matchCase: boolean;
  readonly document: number | null;
  /** Counted from 1, as it is shown. */
  readonly page: number;
  readonly hit: number | null;
}

/** Labels that language models gave. */
export interface LabelsPage {
  readonly kind: "labels";
  readonly run: string;
  readonly set: number | null;
  readonly other: number | null;
  readonly find: string;
  /** Counted from 1, as it is shown. */
  readonly page: number;
  readonly key: string | null;
}

export interface View {
  readonly page: Page;
  readonly site: string | null;
  readonly q: string;
  readonly sort: Sort;
  readonly metric: Metric;
  readonly raw: boolean;
  readonly k: number;
  readonly subrun: string | null;
  readonly clustering: string | null;
  readonly merges: number | null;
  /** A cluster's number, `alone` or `unknown`. */
  readonly cluster: string | null;
  readonly trail: readonly string[];
  /** A prompt that is being typed; on a card: a text that it is tried on. */
  readonly text: string;
  /** The exact tokens of `text`, where it came from elsewhere than the keyboard. */
  readonly ids: readonly number[];
  readonly examples: ExampleKind;
  /** Only examples whose firing token has this id. */
  readonly token: number | null;
  /** Filters of the table: a token's text, and a range of the share of positions on which a component is alive. */
  readonly fires: string;
  readonly rare: number | null;
  readonly often: number | null;
  readonly graph: GraphView;
}

export const GRAPH: GraphView = {
  as: "canvas",
  cut: { kind: "strongest" },
  find: "",
  scope: "outputs",
  layers: [],
  tokens: [],
  selection: [],
  edge: null,
  viewport: null,
  panel: "node",
  compare: null,
};

export const INITIAL: View = {
  page: { kind: "runs" },
  site: null,
  q: "",
  sort: "-mean_ci",
  metric: "attr",
  raw: false,
  k: 10,
  subrun: null,
  clustering: null,
  merges: null,
  cluster: null,
  trail: [],
  text: "",
  ids: [],
  examples: "random",
  token: null,
  fires: "",
  rare: null,
  often: null,
  graph: GRAPH,
};

function decode(text: string): string | null {
  try {
    return decodeURIComponent(text);
  } catch {
    return null;
  }
}

function parsePage(path: string, query: URLSearchParams): Page {
  const parts = path.split("/").filter((part) => part !== "");
  const lost: Page = { kind: "lost", path };
  if (parts.length === 0 || (parts.length === 1 && parts[0] === "runs")) return { kind: "runs" };
  const run = decode(parts[1] ?? "");
  if (parts[0] !== "runs" || run === null || run === "") return lost;
  if (parts.length === 2) return { kind: "overview", run };
  if (parts[2] === "prompts") return parsePromptPage(run, parts.slice(3)) ?? lost;
  if (parts[2] === "text" && parts.length === 3) return parseText(run, query);
  if (parts[2] === "labels" && parts.length === 3) return parseLabels(run, query);
  if (parts[2] === "documents") return parseDocument(run, parts.slice(3), query) ?? lost;
  if (parts[2] === "clusters") return parts.length === 3 ? { kind: "clusters", run } : lost;
  if (parts[2] !== "components") return lost;
  if (parts.length === 3) return { kind: "components", run };
  const key = decode(parts[3] ?? "");
  if (parts.length > 4 || key === null || !isKey(key)) return lost;
  return { kind: "card", run, key };
}

/** What follows `/runs/R/documents`. */
function parseDocument(run: string, parts: readonly string[], query: URLSearchParams): Page | null {
  const document = whole(parts[0] ?? null);
  if (document === null || parts.length !== 1) return null;
  const key = query.get("key");
  return {
    kind: "document",
    run,
    document,
    at: whole(query.get("at")) ?? 0,
    key: key !== null && isKey(key) && kindOf(key) === "component" ? key : null,
  };
}

function parseText(run: string, query: URLSearchParams): TextPage {
  return {
    kind: "text",
    run,
    find: query.get("find") ?? "",
    mode: oneOf(MODES, query.get("mode"), "words"),
    matchCase: query.get("case") === "1",
    document: whole(query.get("in")),
    page: Math.max(1, whole(query.get("page")) ?? 1),
    hit: whole(query.get("hit")),
  };
}

function parseLabels(run: string, query: URLSearchParams): LabelsPage {
  const key = query.get("key");
  return {
    kind: "labels",
    run,
    set: whole(query.get("set")),
    other: whole(query.get("with")),
    find: query.get("find") ?? "",
    page: Math.max(1, whole(query.get("page")) ?? 1),
    key: key !== null && isKey(key) ? key : null,
  };
}

/** What follows `/runs/R/prompts`. */
function parsePromptPage(run: string, parts: readonly string[]): Page | null {
  if (parts.length === 0) return { kind: "prompts", run };
  const prompt = whole(parts[0] ?? null);
  if (prompt === null) return null;
  if (parts.length === 1) return { kind: "prompt", run, prompt };
  const graph = whole(parts[2] ?? null);
  if (parts.length !== 3 || parts[1] !== "graphs" || graph === null) return null;
  return { kind: "graph", run, prompt, graph };
}

/** A whole number as it is printed here. */
function whole(text: string | null): number | null {
  return text !== null && /^(0|[1-9]\d{0,8})$/.test(text) ? Number(text) : null;
}

function parseCluster(text: string | null): string | null {
  return text !== null && /^(alone|unknown|0|[1-9]\d{0,15})$/.test(text) ? text : null;
}

function list(text: string | null): string[] {
  return (text ?? "").split(",").filter((item) => item !== "");
}

function parseCut(query: URLSearchParams): Cut {
  const n = whole(query.get("top"));
  if (n !== null) return { kind: "top", n };
  const value = Number(query.get("least") ?? "-");
  return Number.isFinite(value) && value >= 0 ? { kind: "least", value } : GRAPH.cut;
}

function parseViewport(text: string | null): Viewport | null {
  const [x, y, scale, ...rest] = (text ?? "").split(",").map((part) => (part === "" ? NaN : Number(part)));
  if (x === undefined || y === undefined || scale === undefined || rest.length > 0) return null;
  return [x, y, scale].every(Number.isFinite) && scale > 0 ? { x, y, scale } : null;
}

function parseGraph(query: URLSearchParams): GraphView {
  return {
    as: oneOf(["canvas", "table"] as const, query.get("as"), GRAPH.as),
    cut: parseCut(query),
    find: query.get("find") ?? "",
    scope: oneOf(SCOPES, query.get("only"), GRAPH.scope),
    layers: list(query.get("layers")),
    tokens: list(query.get("tokens"))
      .map(whole)
      .filter((position) => position !== null),
    selection: list(query.get("sel")),
    edge: query.get("edge"),
    viewport: parseViewport(query.get("at")),
    panel: oneOf(PANELS, query.get("panel"), GRAPH.panel),
    compare: whole(query.get("with")),
  };
}

function oneOf<T extends string>(values: readonly T[], text: string | null, otherwise: T): T {
  return values.find((value) => value === text) ?? otherwise;
}

/** A share of positions, from 0 to 1. */
function parseShare(text: string | null): number | null {
  const share = text === null || text === "" ? NaN : Number(text);
  return share >= 0 && share <= 1 ? share : null;
}

/** Read an address. What is not understood falls back to its default; an unknown path is `lost`. */
export function parseView(path: string, search: string): View {
  const query = new URLSearchParams(search);
  const site = query.get("site");
  const k = Number(query.get("k"));
  const page = parsePage(path, query);
  return {
    page,
    site: site !== null && (isToken(site) || parseSite(site) !== null) ? site : null,
    q: query.get("q") ?? "",
    sort: oneOf(SORTS, query.get("sort"), INITIAL.sort),
    metric: oneOf(METRICS, query.get("metric"), INITIAL.metric),
    raw: query.get("raw") === "1",
    k: SIZES.find((size) => size === k) ?? INITIAL.k,
    subrun: query.get("subrun"),
    clustering: query.get("clustering"),
    merges: whole(query.get("merges")),
    cluster: parseCluster(query.get("cluster")),
    trail: (query.get("trail") ?? "").split(",").filter(isKey).slice(-TRAIL_LIMIT),
    text: page.kind === "prompts" || page.kind === "card" ? (query.get("text") ?? "") : "",
    ids:
      page.kind === "prompts"
        ? list(query.get("ids"))
            .map(whole)
            .filter((id) => id !== null)
        : [],
    examples: oneOf(EXAMPLES, query.get("examples"), INITIAL.examples),
    token: page.kind === "card" ? whole(query.get("token")) : null,
    fires: query.get("fires") ?? "",
    rare: parseShare(query.get("rare")),
    often: parseShare(query.get("often")),
    graph: page.kind === "graph" ? parseGraph(query) : GRAPH,
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
    case "clusters":
      return `/runs/${encode(page.run)}/clusters`;
    case "card":
      return `/runs/${encode(page.run)}/components/${encode(page.key)}`;
    case "prompts":
      return `/runs/${encode(page.run)}/prompts`;
    case "prompt":
      return `/runs/${encode(page.run)}/prompts/${page.prompt}`;
    case "graph":
      return `/runs/${encode(page.run)}/prompts/${page.prompt}/graphs/${page.graph}`;
    case "document":
      return `/runs/${encode(page.run)}/documents/${page.document}`;
    case "text":
      return `/runs/${encode(page.run)}/text`;
    case "labels":
      return `/runs/${encode(page.run)}/labels`;
    case "lost":
      return page.path;
  }
}

/** A typed prompt longer than this stays out of the address. */
export const TEXT_LIMIT = 4000;

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
  add("clustering", view.clustering ?? "", "");
  add("merges", view.merges === null ? "" : String(view.merges), "");
  add("cluster", view.cluster ?? "", "");
  if (view.page.kind === "card") add("trail", view.trail.join(","), "");
  if ((view.page.kind === "prompts" || view.page.kind === "card") && view.text.length <= TEXT_LIMIT) {
    add("text", view.text, "");
  }
  if (view.page.kind === "prompts" && view.text.length <= TEXT_LIMIT) add("ids", view.ids.join(","), "");
  add("examples", view.examples, INITIAL.examples);
  if (view.page.kind === "card") add("token", view.token === null ? "" : String(view.token), "");
  add("fires", view.fires, "");
  add("rare", view.rare === null ? "" : String(view.rare), "");
  add("often", view.often === null ? "" : String(view.often), "");
  if (view.page.kind === "document") {
    add("at", String(view.page.at), "0");
    add("key", view.page.key ?? "", "");
  }
  if (view.page.kind === "text") {
    const { find, mode, matchCase, document, page, hit } = view.page;
    add("find", find, "");
    add("mode", mode, "words");
    add("case", matchCase ? "1" : "", "");
    add("in", document === null ? "" : String(document), "");
    add("page", String(page), "1");
    add("hit", hit === null ? "" : String(hit), "");
  }
  if (view.page.kind === "labels") {
    const { set, other, find, page, key } = view.page;
    add("set", set === null ? "" : String(set), "");
    add("with", other === null ? "" : String(other), "");
    add("find", find, "");
    add("page", String(page), "1");
    add("key", key ?? "", "");
  }
  if (view.page.kind === "graph") {
    const { graph } = view;
    add("as", graph.as, GRAPH.as);
    if (graph.cut.kind === "top") add("top", String(graph.cut.n), "");
    if (graph.cut.kind === "least") add("least", String(graph.cut.value), "");
    add("find", graph.find, "");
    add("only", graph.scope, GRAPH.scope);
    add("layers", graph.layers.join(","), "");
    add("tokens", graph.tokens.join(","), "");
    add("sel", graph.selection.join(","), "");
    add("edge", graph.edge ?? "", "");
    if (graph.viewport !== null) {
      const { x, y, scale } = graph.viewport;
      add("at", [x, y, scale].map((value) => String(Number(value.toFixed(5)))).join(","), "");
    }
    add("panel", graph.panel, GRAPH.panel);
    add("with", graph.compare === null ? "" : String(graph.compare), "");
  }
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
  return { ...view, page: { ...view.page, key }, trail, token: null };
}

/** Open a card from elsewhere than an edge: a new walk begins. */
export function open(view: View, key: string): View {
  const run = runOf(view.page);
  if (run === null) return view;
  // A text that one card was tried on is there to be tried on the next.
  const text = view.page.kind === "card" ? view.text : "";
  return { ...view, page: { kind: "card", run, key }, trail: [], text, ids: [], token: null, graph: GRAPH };
}

/** Go back along the trail to its n-th component, counted from 0. */
export function stepBack(view: View, n: number): View {
  const key = view.trail[n];
  if (view.page.kind !== "card" || key === undefined) return view;
  return { ...view, page: { ...view.page, key }, trail: view.trail.slice(0, n), token: null };
}

/** The same settings on another page of the same run. */
export function show(view: View, kind: "overview" | "components" | "clusters"): View {
  const run = runOf(view.page);
  if (run === null) return view;
  return { ...view, page: { kind, run }, trail: [], text: "", ids: [], token: null, graph: GRAPH };
}

/** The prompts of the run: all of them, one, or a graph of one. The table's search stays behind. */
export function showPrompts(view: View, prompt: number | null = null, graph: number | null = null): View {
  const run = runOf(view.page);
  if (run === null) return view;
  const { metric, raw, k, subrun, clustering, merges } = view;
  const settings = { ...INITIAL, metric, raw, k, subrun, clustering, merges };
  if (prompt === null) return { ...settings, page: { kind: "prompts", run } };
  if (graph === null) return { ...settings, page: { kind: "prompt", run, prompt } };
  return { ...settings, page: { kind: "graph", run, prompt, graph } };
}

/** Tokens of the corpus as a new prompt: the text to read, its exact tokens for the model. */
export function asPrompt(view: View, text: string, ids: readonly number[]): View {
  return { ...showPrompts(view), text, ids };
}

/** A document of the corpus with one token in sight, and the values of a component where one is given. */
export function showDocument(view: View, document: number, at = 0, key: string | null = null): View {
  const run = runOf(view.page);
  if (run === null) return view;
  const { metric, raw, k, subrun } = view;
  return { ...INITIAL, metric, raw, k, subrun, page: { kind: "document", run, document, at, key } };
}

/** Searching the text; `change` says what is searched for, or how. Another search begins on its first page. */
export function showText(view: View, change: Partial<Omit<TextPage, "kind" | "run">> = {}): View {
  const run = runOf(view.page);
  if (run === null) return view;
  const empty: TextPage = {
    kind: "text",
    run,
    find: "",
    mode: "words",
    matchCase: false,
    document: null,
    page: 1,
    hit: null,
  };
  const before = view.page.kind === "text" ? view.page : empty;
  const { metric, raw, k, subrun, clustering, merges } = view;
  return {
    ...INITIAL,
    metric,
    raw,
    k,
    subrun,
    clustering,
    merges,
    page: { ...before, page: 1, hit: null, ...change },
  };
}

/** Labels that language models gave; `change` says which of them. */
export function showLabels(view: View, change: Partial<Omit<LabelsPage, "kind" | "run">> = {}): View {
  const run = runOf(view.page);
  if (run === null) return view;
  const empty: LabelsPage = { kind: "labels", run, set: null, other: null, find: "", page: 1, key: null };
  const before = view.page.kind === "labels" ? view.page : empty;
  const { metric, raw, k, subrun } = view;
  return { ...INITIAL, metric, raw, k, subrun, page: { ...before, ...change } };
}

/** The same graph, seen differently. */
export function look(view: View, change: Partial<GraphView>): View {
  return { ...view, graph: { ...view.graph, ...change } };
}

/** Another run: keep what means the same there, forget sites, keys and searches. */
export function enter(view: View, run: string): View {
  return { ...INITIAL, metric: view.metric, raw: view.raw, k: view.k, page: { kind: "overview", run } };
}
