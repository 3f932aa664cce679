/** Ways from one view to the next. */

import {
  GRAPH,
  INITIAL,
  TRAIL_LIMIT,
  type GraphView,
  type LabelsPage,
  type Page,
  type TextPage,
  type ToyPage,
  type View,
} from "./types";

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
  const empty: LabelsPage = {
    kind: "labels",
    run,
    make: false,
    failed: false,
    set: null,
    other: null,
    find: "",
    page: 1,
    key: null,
  };
  const before = view.page.kind === "labels" ? view.page : empty;
  const { metric, raw, k, subrun } = view;
  return { ...INITIAL, metric, raw, k, subrun, page: { ...before, ...change } };
}

/** A toy model; `change` says what of it. What is looked at stays as it is otherwise. */
export function showToy(view: View, change: Partial<Omit<ToyPage, "kind" | "run">> = {}): View {
  const run = runOf(view.page);
  if (run === null) return view;
  const empty: ToyPage = {
    kind: "toy",
    run,
    matrix: null,
    key: null,
    value: null,
    order: "expected",
    shows: "importance",
    all: false,
    input: "",
  };
  const before = view.page.kind === "toy" ? view.page : empty;
  return { ...INITIAL, page: { ...before, ...change } };
}

/** The same graph, seen differently. */
export function look(view: View, change: Partial<GraphView>): View {
  return { ...view, graph: { ...view.graph, ...change } };
}

/** Another run: keep what means the same there, forget sites, keys and searches. */
export function enter(view: View, run: string): View {
  return { ...INITIAL, metric: view.metric, raw: view.raw, k: view.k, page: { kind: "overview", run } };
}
