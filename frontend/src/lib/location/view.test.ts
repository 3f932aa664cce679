import { describe, expect, it } from "vitest";

import {
  INITIAL,
  METRICS,
  SIZES,
  SORTS,
  TRAIL_LIMIT,
  type View,
  GRAPH,
  TEXT_LIMIT,
  asPrompt,
  enter,
  look,
  open,
  parseView,
  printView,
  show,
  showDocument,
  showPrompts,
  showText,
  showToy,
  stepBack,
  travel,
} from "./view";

function reread(view: View): View {
  const url = new URL(printView(view), "http://localhost");
  return parseView(url.pathname, url.search);
}

const card = (key: string, trail: readonly string[] = []): View => ({
  ...INITIAL,
  page: { kind: "card", run: "demo", key },
  trail,
});

describe("the address of a view", () => {
  it("is short where everything is as usual", () => {
    expect(printView(card("0.attn.q:17"))).toBe("/runs/demo/components/0.attn.q:17");
    expect(printView(INITIAL)).toBe("/");
  });

  it("holds the whole view: what is printed is read back", () => {
    const pages: View["page"][] = [
      { kind: "runs" },
      { kind: "overview", run: "a run/with %2F and ü" },
      { kind: "components", run: "demo" },
    ];
    const views: View[] = pages.map((page) => ({ ...INITIAL, page }));
    for (const metric of METRICS) views.push({ ...card("1.glu.down:delta"), metric });
    for (const sort of SORTS) views.push({ ...card("embed:0"), sort });
    for (const k of SIZES) views.push({ ...card("output:1023"), k, raw: true, subrun: "20261121-100000" });
    for (const q of [" the", "100 %", "a&b=c", "#", "+", "é\n", ","])
      views.push({ ...card("0.attn.q:1"), q });
    views.push({ ...card("0.attn.q:1", ["embed:3", "2.mlp.up:bias"]), site: "0.attn.q" });
    views.push({ ...card("0.attn.q:1"), site: "output" });
    for (const cluster of ["0", "17", "alone", "unknown"])
      views.push({ ...INITIAL, page: { kind: "clusters", run: "demo" }, cluster, merges: 0 });
    views.push({ ...card("0.attn.q:1"), clustering: "20261121-100000", merges: 1203, cluster: "5" });
    for (const view of views) expect(reread(view)).toEqual(view);
  });

  it("holds the whole view of a prompt and of a graph", () => {
    const prompts: View = { ...INITIAL, page: { kind: "prompts", run: "demo" } };
    const graph: View = { ...INITIAL, page: { kind: "graph", run: "demo", prompt: 3, graph: 12 } };
    expect(printView(graph)).toBe("/runs/demo/prompts/3/graphs/12");
    const views: View[] = [
      { ...INITIAL, page: { kind: "prompt", run: "demo", prompt: 3 } },
      { ...prompts, text: " Once upon\n a time, & so on + 100 %" },
      graph,
      { ...look(graph, { as: "table", find: "0.attn the", scope: "matches" }), metric: "attr_abs" },
      look(graph, { cut: { kind: "top", n: 2500 }, scope: "pins", panel: "none", compare: 7 }),
      look(graph, { colour: "cluster" }),
      look(graph, { cut: { kind: "least", value: 0.0125 }, layers: ["0.attn.q", "embed"], tokens: [0, 17] }),
      look(graph, { cut: { kind: "least", value: 1.5e-7 }, viewport: { x: -12.5, y: 3, scale: 0.25 } }),
      look(graph, {
        selection: ["0.attn.q:3:17", "target:5:0", "12-40"],
        edge: "embed:0:4~0.attn.q:3:17",
        panel: "intervene",
      }),
    ];
    for (const view of views) expect(reread(view)).toEqual(view);
    expect(reread({ ...prompts, text: "x".repeat(TEXT_LIMIT + 1) })).toEqual(prompts);
  });

  it("falls back where a graph's value makes no sense", () => {
    const search =
      "?as=list&top=-4&least=much&only=some&tokens=1,x,3&at=1,2&panel=left&with=new&colour=red&text=x";
    const view = parseView("/runs/demo/prompts/1/graphs/2", search);
    expect(view.graph).toEqual({ ...GRAPH, tokens: [1, 3] });
    expect(view.text).toBe("");
    expect(parseView("/runs/demo/prompts", "?find=x").graph).toEqual(GRAPH);
  });

  it("falls back where a value makes no sense", () => {
    const view = parseView("/runs/demo", "?metric=best&k=7&sort=up&site=nowhere&raw=yes&trail=x,embed:3,");
    expect(view).toEqual({ ...INITIAL, page: { kind: "overview", run: "demo" }, trail: ["embed:3"] });
  });

  it("says that an unknown path is lost", () => {
    for (const path of [
      "/nowhere",
      "/runs/demo/graphs",
      "/runs/demo/components/banana",
      "/runs/%E0%A4%A",
      "/runs/demo/prompts/x",
      "/runs/demo/prompts/1/graphs",
      "/runs/demo/prompts/1/graphs/2/3",
    ]) {
      expect(parseView(path, "").page).toEqual({ kind: "lost", path });
    }
  });
});

describe("walking", () => {
  it("following an edge puts the component we were at on the trail", () => {
    const there = travel(travel(card("embed:1"), "0.attn.q:2"), "1.glu.up:3");
    expect(there.page).toEqual({ kind: "card", run: "demo", key: "1.glu.up:3" });
    expect(there.trail).toEqual(["embed:1", "0.attn.q:2"]);
  });

  it("stepping back forgets what came after", () => {
    const back = stepBack(card("1.glu.up:3", ["embed:1", "0.attn.q:2"]), 0);
    expect(back).toEqual(card("embed:1"));
    expect(stepBack(back, 5)).toEqual(back);
  });

  it("a card opened from the table begins a new trail and keeps the settings", () => {
    const from: View = { ...card("1.glu.up:3", ["embed:1"]), metric: "attr_abs", q: "the" };
    expect(open(from, "0.attn.q:2")).toEqual({ ...card("0.attn.q:2"), metric: "attr_abs", q: "the" });
    expect(show(from, "overview").trail).toEqual([]);
  });

  it("a very long walk forgets its beginning", () => {
    let view = card("embed:0");
    for (let n = 1; n <= TRAIL_LIMIT + 5; n += 1) view = travel(view, `embed:${n}`);
    expect(view.trail).toHaveLength(TRAIL_LIMIT);
    expect(view.trail.at(-1)).toBe(`embed:${TRAIL_LIMIT + 4}`);
  });

  it("prompts leave the table's search behind, and a graph's view stays with the graph", () => {
    const table: View = { ...card("0.attn.q:1", ["embed:1"]), site: "0.attn.q", q: "x", metric: "attr_abs" };
    const graph = showPrompts(table, 1, 2);
    expect(printView(graph)).toBe("/runs/demo/prompts/1/graphs/2?metric=attr_abs");
    const looked = look(graph, { find: "the" });
    expect(showPrompts(looked, 1).graph).toEqual(GRAPH);
    expect(open(looked, "embed:1").graph).toEqual(GRAPH);
    expect(showPrompts({ ...INITIAL }, 1)).toEqual(INITIAL);
  });

  it("another run keeps what means the same there", () => {
    const view = enter(
      { ...card("0.attn.q:1"), site: "0.attn.q", q: "x", metric: "attr_abs", subrun: "s" },
      "b",
    );
    expect(view).toEqual({ ...INITIAL, page: { kind: "overview", run: "b" }, metric: "attr_abs" });
  });
});

describe("evidence in the address", () => {
  it("holds which examples are shown, the text a card is tried on, and the table's filters", () => {
    const view: View = {
      ...card("1.glu.down:3"),
      examples: "strongest",
      token: 42,
      text: " and he said: 100 % & more\n",
      fires: " the",
      rare: 0.001,
      often: 0.25,
      weak: 0.0001,
      strong: 0.5,
      label: "grey foxes & more",
      labelled: "model",
      source: "0.attn",
      target: '"2.5"',
    };
    expect(reread(view)).toEqual(view);
    expect(printView(view)).toContain("examples=strongest&token=42");
  });

  it("takes the text along to the next card, and forgets the token, whose meaning was this card's", () => {
    const view: View = { ...card("1.glu.down:3"), token: 42, text: "some words" };
    for (const next of [travel(view, "0.attn.q:1"), open(view, "0.attn.q:1")]) {
      expect(next.text).toBe("some words");
      expect(next.token).toBeNull();
    }
    expect(open(showPrompts(view), "0.attn.q:1").text).toBe("");
  });

  it("names a document, a place in it and the component looked at", () => {
    const view = showDocument(card("1.glu.down:3"), 7, 1200, "1.glu.down:3");
    expect(printView(view)).toBe("/runs/demo/documents/7?at=1200&key=1.glu.down:3");
    expect(reread(view)).toEqual(view);
    expect(printView(showDocument(view, 0))).toBe("/runs/demo/documents/0");
    expect(parseView("/runs/demo/documents/7", "?key=embed:3").page).toMatchObject({ key: null, at: 0 });
    for (const path of ["/runs/demo/documents", "/runs/demo/documents/x", "/runs/demo/documents/1/2"])
      expect(parseView(path, "").page.kind).toBe("lost");
  });

  it("opens tokens of the corpus as a prompt with exactly these tokens", () => {
    const view = asPrompt(card("1.glu.down:3"), " said he", [7, 0, 512]);
    expect(printView(view)).toBe("/runs/demo/prompts?text=%20said%20he&ids=7,0,512");
    expect(reread(view)).toEqual(view);
  });

  it("reads no share that is none", () => {
    for (const text of ["2", "-1", "x", ""]) {
      expect(parseView("/runs/demo/components", `?rare=${text}`).rare).toBeNull();
      expect(parseView("/runs/demo/components", `?weak=${text}`).weak).toBeNull();
    }
    expect(parseView("/runs/demo/components", "?labelled=some").labelled).toBeNull();
    expect(parseView("/runs/demo/components", "?rare=0&often=1")).toMatchObject({ rare: 0, often: 1 });
  });
});

describe("a toy model", () => {
  const toy = showToy({ ...INITIAL, page: { kind: "overview", run: "tms" } });

  it("holds whose answers are shown, how, and the input that is tried", () => {
    expect(printView(toy)).toBe("/runs/tms/toy");
    const looked = showToy(toy, {
      matrix: "0.mlp.down",
      key: "0.mlp.up:3",
      value: -0.5,
      order: "dense",
      shows: "activation",
      all: true,
      input: "3:0.75,1:-1",
    });
    expect(printView(looked)).toBe(
      "/runs/tms/toy?matrix=0.mlp.down&key=0.mlp.up:3&value=-0.5&order=dense&show=activation&all=1&input=3:0.75,1:-1",
    );
    expect(reread(looked)).toEqual(looked);
    expect(showToy(looked, { key: null }).page).toMatchObject({ matrix: "0.mlp.down", key: null });
  });

  it("falls back where a value makes no sense", () => {
    const odd = "?matrix=linear1&key=embed:3&value=x&order=best&show=all&all=yes";
    expect(parseView("/runs/tms/toy", odd).page).toEqual(toy.page);
    expect(parseView("/runs/tms/toy", "?value=").page).toEqual(toy.page);
    expect(parseView("/runs/tms/toy/more", "").page.kind).toBe("lost");
  });
});

describe("searching the text", () => {
  const text = showText({ ...INITIAL, page: { kind: "overview", run: "demo" } });

  it("holds what is searched for, how, and where one is in it", () => {
    expect(printView(text)).toBe("/runs/demo/text");
    const views = [
      text,
      showText(text, { find: ' "in the" 100 % & more\n', mode: "exact", matchCase: true }),
      showText(text, { find: "sea*", document: 0, page: 3, hit: 117 }),
    ];
    for (const view of views) expect(reread(view)).toEqual(view);
    expect(parseView("/runs/demo/text", "?mode=regex&case=yes&in=-1&page=0&hit=x").page).toEqual(text.page);
    expect(parseView("/runs/demo/text/more", "").page.kind).toBe("lost");
  });

  it("another search begins on its first page, with no hit open", () => {
    const deep = showText(text, { find: "sea", mode: "exact", page: 3, hit: 117 });
    expect(showText(deep, { find: "river" }).page).toEqual({
      ...text.page,
      find: "river",
      mode: "exact",
    });
    expect(showText(deep, { page: 4 }).page).toMatchObject({ find: "sea", page: 4, hit: null });
  });

  it("leaves nothing behind on other pages", () => {
    const deep = showText(text, { find: "sea", page: 3, hit: 117 });
    expect(printView(show(deep, "components"))).toBe("/runs/demo/components");
    expect(printView(open(deep, "embed:1"))).toBe("/runs/demo/components/embed:1");
  });
});
