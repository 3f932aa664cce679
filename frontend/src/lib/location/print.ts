/** Writing an address. The table of its parts is in `view.ts`. */

import { GRAPH, INITIAL, type Page, type View } from "./types";

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
    case "toy":
      return `/runs/${encode(page.run)}/toy`;
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
  add("weak", view.weak === null ? "" : String(view.weak), "");
  add("strong", view.strong === null ? "" : String(view.strong), "");
  add("label", view.label, "");
  add("labelled", view.labelled ?? "", "");
  add("source", view.source, "");
  add("target", view.target, "");
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
    const { make, set, other, find, failed, page, key } = view.page;
    add("make", make ? "1" : "", "");
    add("set", set === null ? "" : String(set), "");
    add("with", other === null ? "" : String(other), "");
    add("find", find, "");
    add("only", failed ? "failed" : "", "");
    add("page", String(page), "1");
    add("key", key ?? "", "");
  }
  if (view.page.kind === "toy") {
    const { matrix, key, value, order, shows, all, input } = view.page;
    add("matrix", matrix ?? "", "");
    add("key", key ?? "", "");
    add("value", value === null ? "" : String(value), "");
    add("order", order, "expected");
    add("show", shows, "importance");
    add("all", all ? "1" : "", "");
    add("input", input, "");
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
    add("colour", graph.colour, GRAPH.colour);
    add("with", graph.compare === null ? "" : String(graph.compare), "");
  }
  return printPage(view.page) + (query.length > 0 ? `?${query.join("&")}` : "");
}
