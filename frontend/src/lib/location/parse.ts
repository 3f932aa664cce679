/** Reading an address. The table of its parts is in `view.ts`. */

import { isKey, isToken, kindOf, parseSite } from "../address";
import {
  EXAMPLES,
  GRAPH,
  INITIAL,
  LABELLED,
  METRICS,
  MODES,
  NODE_COLOURS,
  PANELS,
  SCOPES,
  SIZES,
  SORTS,
  TOY_ORDERS,
  TOY_SHOWS,
  TRAIL_LIMIT,
  type Cut,
  type GraphView,
  type LabelsPage,
  type Page,
  type TextPage,
  type ToyPage,
  type View,
  type Viewport,
} from "./types";

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
  if (parts[2] === "toy" && parts.length === 3) return parseToy(run, query);
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
    make: query.get("make") === "1",
    failed: query.get("only") === "failed",
    set: whole(query.get("set")),
    other: whole(query.get("with")),
    find: query.get("find") ?? "",
    page: Math.max(1, whole(query.get("page")) ?? 1),
    key: key !== null && isKey(key) ? key : null,
  };
}

function parseToy(run: string, query: URLSearchParams): ToyPage {
  const matrix = query.get("matrix");
  const key = query.get("key");
  const value = Number(query.get("value") ?? "-");
  return {
    kind: "toy",
    run,
    matrix: matrix !== null && parseSite(matrix) !== null ? matrix : null,
    key: key !== null && isKey(key) && kindOf(key) === "component" ? key : null,
    value: Number.isFinite(value) && query.get("value") !== "" ? value : null,
    order: oneOf(TOY_ORDERS, query.get("order"), "expected"),
    shows: oneOf(TOY_SHOWS, query.get("show"), "importance"),
    all: query.get("all") === "1",
    input: query.get("input") ?? "",
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
    colour: oneOf(NODE_COLOURS, query.get("colour"), GRAPH.colour),
  };
}

function oneOf<T extends string>(values: readonly T[], text: string | null, otherwise: T): T {
  return values.find((value) => value === text) ?? otherwise;
}

/** A share of positions or a mean CI, from 0 to 1. */
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
    weak: parseShare(query.get("weak")),
    strong: parseShare(query.get("strong")),
    label: query.get("label") ?? "",
    labelled: LABELLED.find((one) => one === query.get("labelled")) ?? null,
    source: query.get("source") ?? "",
    target: query.get("target") ?? "",
    graph: page.kind === "graph" ? parseGraph(query) : GRAPH,
  };
}
