import { parquetReadObjects } from "hyparquet";
import { describe, expect, it } from "vitest";

import { applyFilter, NO_FILTER, showAll } from "../graph/filters";
import { madeGraph } from "../graph/testing";
import { edgeTable, edgesParquet } from "./edges";
import { MOST_EDGES, type OnScreen, graphHtml } from "./graphPage";
import { nodesOf } from "./parquet";
import { readGraph } from "./readGraph";

const data = madeGraph({ nodes: 300, edges: 2500 });

function screen(change: Partial<OnScreen> = {}): OnScreen {
  return {
    title: "A graph",
    data,
    metric: "attr",
    shown: showAll(data, "attr"),
    selection: new Set(),
    pinned: new Set(),
    matches: null,
    notes: new Map(),
    viewport: null,
    compact: false,
    note: "",
    link: "http://127.0.0.1/runs/demo",
    ...change,
  };
}

interface Payload {
  readonly nodes: {
    readonly k: readonly string[];
    readonly l: readonly (string | null)[];
    readonly n: readonly string[];
    readonly f: readonly number[];
    readonly c: readonly (number | string | null)[];
    readonly b: readonly (string | null)[];
  };
  readonly edges: {
    readonly s: readonly number[];
    readonly t: readonly number[];
    readonly v: readonly number[];
  };
}

function payload(html: string): Payload {
  const match = /<script type="application\/json" id="graph">(.*?)<\/script>/s.exec(html);
  return JSON.parse(match?.[1] ?? "null") as Payload;
}

describe("the page that opens offline", () => {
  it("says what people call the components in it, harmlessly", () => {
    const edge = showAll(data, "attr").order.find((one) => data.label(data.source[one] ?? 0) === null) ?? 0;
    const key = data.key(data.source[edge] ?? 0);
    const called = new Map([[key.replace(/:\d+:/, ":"), "nouns <script>alert(1)</script>"]]);
    const html = graphHtml(screen({ called }));
    expect(html).toContain(`${key} nouns &lt;script&gt;`);
    expect(html).not.toContain("<script>alert(1)");
    expect(payload(html).nodes.l[payload(html).nodes.k.indexOf(key)]).toBe("nouns <script>alert(1)</script>");
  });

  it("holds the edges that are shown, strongest first, between the right nodes", () => {
    const shown = applyFilter(data, "attr", { ...NO_FILTER, strongest: 200 });
    const { nodes, edges } = payload(graphHtml(screen({ shown })));
    expect(edges.s).toHaveLength(200);
    shown.order.forEach((edge, n) => {
      expect(nodes.k[edges.s[n] ?? -1]).toBe(data.key(data.source[edge] ?? -1));
      expect(nodes.k[edges.t[n] ?? -1]).toBe(data.key(data.target[edge] ?? -1));
      const value = (data.attr[edge] ?? 0) * (data.scale[data.target[edge] ?? 0] ?? 1);
      expect((edges.v[n] ?? NaN) / value).toBeCloseTo(1, 3);
    });
  });

  it("asks nobody for anything", () => {
    const html = graphHtml(screen());
    expect(html).toContain("default-src 'none'");
    expect(html).not.toMatch(/\b(src|href)="(?!data:)/);
    expect(html).not.toMatch(/@import|url\(|fetch\(|XMLHttpRequest|\bimport\(/);
  });

  it("keeps the colours of nodes, and says what they are", () => {
    const of = Int16Array.from({ length: data.nodes }, (_, node) => (node % 3) - 1);
    const colouring = {
      words: "nodes by <something>",
      classes: [
        { id: "a", words: "this", means: "", ink: 2 },
        { id: "b", words: "that", means: "", ink: "cross" as const },
      ],
      of,
      own: Array.from(of, (place) => ["this", "that"][place] ?? null),
    };
    const html = graphHtml(screen({ colouring }));
    const { k, c, b } = payload(html).nodes;
    k.forEach((key, n) => {
      const place = of[data.find(key) ?? 0] ?? -1;
      expect([c[n], b[n]]).toEqual(
        [
          [null, null],
          [2, "this"],
          ["cross", "that"],
        ][place + 1],
      );
    });
    expect(html).toContain("nodes by &lt;something&gt;");
    const size = of.filter((place, node) => place === 1 && showAll(data, "attr").nodes[node] === 1).length;
    expect(html).toContain(`×</b> that: ${size}`);
    expect(payload(graphHtml(screen())).nodes.c.every((ink) => ink === null)).toBe(true);
  });

  it("is small", () => expect(graphHtml(screen()).length).toBeLessThan(200_000));

  it("cannot be broken out of by a note or a title", () => {
    const evil = "</script><script>alert(1)</script>";
    const html = graphHtml(
      screen({ title: evil, note: evil, notes: new Map([[data.key(3), evil]]), selection: new Set([3]) }),
    );
    expect(html).not.toContain("<script>alert");
    const { nodes } = payload(html);
    expect(nodes.n[nodes.k.indexOf(data.key(3))]).toBe(evil);
  });

  it("marks what is selected and pinned, shown by edges or not", () => {
    const none = applyFilter(data, "attr", { ...NO_FILTER, strongest: 0 });
    const { nodes } = payload(
      graphHtml(screen({ shown: none, selection: new Set([1, 2]), pinned: new Set([2]) })),
    );
    expect([nodes.k, nodes.f]).toEqual([
      [data.key(1), data.key(2)],
      [1, 3],
    ]);
  });

  it("says what it leaves out", () => {
    const shown = applyFilter(data, "attr", { ...NO_FILTER, strongest: 200 });
    expect(graphHtml(screen({ shown }))).toContain(
      `${(data.edges - 200).toLocaleString("en-US")} weaker or filtered edges are not in this file`,
    );
    expect(graphHtml(screen())).toContain("All edges of the graph are here.");
    expect(MOST_EDGES).toBeGreaterThan(1000);
  });
});

describe("Parquet", () => {
  it("reads back as it was written, keys for numbers", async () => {
    const table = edgeTable(nodesOf(data), data);
    const file = edgesParquet(table, { run: "demo" });
    const rows = await parquetReadObjects({ file });
    expect(rows).toHaveLength(data.edges);
    for (const edge of [0, 17, data.edges - 1])
      expect(rows[edge]).toEqual({
        source: data.key(data.source[edge] ?? -1),
        target: data.key(data.target[edge] ?? -1),
        source_label: data.label(data.source[edge] ?? -1),
        target_label: data.label(data.target[edge] ?? -1),
        attr: data.attr[edge],
        attr_abs: data.attrAbs[edge],
        target_scale: data.scale[data.target[edge] ?? -1],
      });
  });

  it("of no edges is a file too", async () => {
    const none = new Float32Array(0);
    const table = edgeTable(nodesOf(data), {
      source: new Uint32Array(0),
      target: new Uint32Array(0),
      attr: none,
      attrAbs: none,
    });
    expect(await parquetReadObjects({ file: edgesParquet(table, {}) })).toEqual([]);
  });
});

describe("reading a graph's file", () => {
  const good = {
    format: "tributary-graph",
    version: 1,
    run: "demo",
    nodes: { site: [0, 1] },
    edges: { source: [0] },
  };

  it("takes what was exported from the same run", () =>
    expect(readGraph(JSON.stringify(good), "demo")).toMatchObject({ kind: "good", nodes: 2, edges: 1 }));

  it.each([
    ["", "empty"],
    ["{", "no JSON"],
    ["[]", "no graph"],
    ["{}", "not a graph exported"],
    [JSON.stringify({ ...good, format: "other" }), "“other”"],
    [JSON.stringify({ ...good, version: 2 }), "version 2"],
    [JSON.stringify({ ...good, run: "else" }), "“else”"],
    [JSON.stringify({ ...good, edges: {} }), "no edges"],
  ])("says what is wrong with %s", (text, why) => {
    const read = readGraph(text, "demo");
    expect(read.kind === "bad" && read.why).toContain(why);
    expect(read.kind === "bad" && read.hint).not.toBe("");
  });
});
