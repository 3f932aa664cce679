import { describe, expect, it } from "vitest";

import { isComponent } from "../workspace/nodes";
import { type Colouring, sizesOf } from "./colouring";
import { NO_FILTER, applyFilter, showAll } from "./filters";
import { fit } from "./geometry";
import { layOut } from "./layout";
import { GUTTER, HEAD, edgesAround, edgesInSight } from "./paint";
import { DARK, LIGHT } from "./palette";
import { pictureSvg, wrapped } from "./picture";
import { type SceneParts, makeScene } from "./scene";
import { madeGraph } from "./testing";

const data = madeGraph({ nodes: 700, edges: 900, tokens: ["<a>", ' "b"', "\n", "&", "\u0000"] });
const layout = layOut(data, { order: "strength", proportion: 1.4, include: null });
const none: ReadonlySet<number> = new Set();
const window = { width: 900, height: 640 };
const fitted = fit(layout, window);
const look = { view: fitted, window, fitScale: fitted.scale };

function sceneWith(change: Partial<SceneParts> = {}): ReturnType<typeof makeScene> {
  return makeScene({
    data,
    metric: "attr",
    layout,
    shown: showAll(data, "attr"),
    palette: LIGHT,
    selection: none,
    pinned: none,
    matches: null,
    ...change,
  });
}

const curves = (svg: string): number => svg.match(/M[-\d. ]+C/g)?.length ?? 0;

describe("the picture as SVG", () => {
  it("draws every shown edge once, and every row and token", () => {
    const svg = pictureSvg(sceneWith(), look, "A title", "of a run");
    expect(curves(svg)).toBe(data.edges);
    for (const row of ["output", "down", "embed"]) expect(svg).toContain(`>${row}</text>`);
    expect(svg).toContain(">&lt;a&gt;</text>");
    expect(svg).toContain(">⏎</text>");
    expect(svg).toContain(`width="${GUTTER + window.width}" height="${48 + HEAD + window.height}"`);
    // The bytes that XML does not allow.
    // eslint-disable-next-line no-control-regex
    expect(svg).not.toMatch(/[\u0000-\u0008]/);
    expect(svg).not.toContain("NaN");
  });

  it("says all of the caption, in as many lines as its width needs", () => {
    const narrow = { ...look, window: { width: 300, height: 640 } };
    const svg = pictureSvg(sceneWith(), narrow, "A title", "of a run with a long name");
    const lines = [...svg.matchAll(/<text x="8" y="(\d+)"[^>]*>([^<]*)<\/text>/g)];
    expect(lines.length).toBeGreaterThan(2);
    const said = lines.map(([, , text]) => text).join(" ");
    expect(said).toContain("A title of a run with a long name · attr: blue positive");
    expect(said).toContain("bowed left");
    const [, top] = /<g transform="translate\(0 (\d+)\)">/.exec(svg) ?? [];
    expect(Number(lines.at(-1)?.[1])).toBeLessThan(Number(top));
    expect(svg).toContain(`height="${Number(top) + HEAD + 640}"`);
  });

  it("wraps between words, and cuts only what is longer than a line", () => {
    expect(wrapped("one two three", 7)).toEqual(["one two", "three"]);
    expect(wrapped("abcdefgh ij", 4)).toEqual(["abcd", "efgh", "ij"]);
    expect(wrapped("", 4)).toEqual([""]);
  });

  it("opens and closes every element", () => {
    const svg = pictureSvg(
      sceneWith({ selection: new Set([3]), pinned: new Set([4]), matches: new Set([5]) }),
      look,
      "t",
      "c",
    );
    const open: string[] = [];
    for (const [, closing, name, self] of svg.matchAll(/<(\/?)(\w+)(?:[^<>"]|"[^"]*")*?(\/?)>/g)) {
      if (closing === "/") expect(open.pop()).toBe(name);
      else if (self !== "/" && name !== undefined) open.push(name);
    }
    expect(open).toEqual([]);
  });

  it("says what is hidden, and dashes the negative", () => {
    const shown = applyFilter(data, "attr", { ...NO_FILTER, strongest: 100 });
    const svg = pictureSvg(sceneWith({ shown }), look, "t", "c");
    expect(curves(svg)).toBe(100);
    expect(svg).toContain("800 edges hidden by filters");
    const dashed = svg.match(/<path[^>]*stroke-dasharray[^>]*>/g) ?? [];
    expect(dashed.length).toBeGreaterThan(0);
    expect(dashed.every((path) => path.includes(LIGHT.negative))).toBe(true);
  });

  it("writes what people call a component beside its index, where there is room", () => {
    const node = data.index.findIndex((index, n) => index >= 0 && data.label(n) === null);
    const index = data.index[node] ?? 0;
    const key = `${data.addresses[data.site[node] ?? 0]}:${index}`;
    const called = new Map([[key, "a <b> & more words than any cell has room for"]]);
    const svg = (scale: number): string => {
      const view = { ...look.view, scale };
      const x = (layout.x[node] ?? 0) - window.width / 2 / scale;
      const y = (layout.y[node] ?? 0) - window.height / 2 / scale;
      return pictureSvg(sceneWith({ called }), { ...look, view: { ...view, x, y } }, "t", "c");
    };
    expect(svg(12)).toContain(`>${index} a &lt;b`);
    expect(svg(12)).not.toContain("any cell has room");
    expect(svg(1)).not.toContain("a &lt;b");
  });

  describe("of nodes told apart", () => {
    /** Components by the rest of their index: two hues, two ways that are no hue; all else is in no class. */
    const inks = [0, 5, "neutral", "cross"] as const;
    const colouring: Colouring = {
      words: "nodes by rest <of index>",
      classes: inks.map((ink, n) => ({ id: String(n), words: `rest ${n}`, means: "", ink })),
      of: Int16Array.from(data.index, (index, node) => (isComponent(data, node) ? index % 4 : -1)),
      own: [],
    };
    const sizes = sizesOf(colouring);
    /** Elements of one colour; marks are painted together up to 400. */
    const marks = (svg: string, attribute: string): number =>
      [...svg.matchAll(/<path ([^>]*)>/g)]
        .filter(([, attributes]) => attributes?.includes(attribute))
        .reduce((sum, [, attributes]) => sum + (attributes?.match(/M/g)?.length ?? 0), 0);

    it.each([LIGHT, DARK])("paints every node in its class's colour, and says which is which", (palette) => {
      const svg = pictureSvg(sceneWith({ colouring, palette }), look, "t", "c");
      // One mark more in the legend.
      expect(marks(svg, `fill="${palette.hues[0]}"`)).toBe((sizes[0] ?? 0) + 1);
      expect(marks(svg, `fill="${palette.hues[5]}"`)).toBe((sizes[1] ?? 0) + 1);
      expect(marks(svg, `fill="${palette.neutral}"`)).toBe((sizes[2] ?? 0) + 1);
      // A cross has two strokes.
      expect(marks(svg, `stroke="${palette.inkSoft}"`)).toBe(2 * ((sizes[3] ?? 0) + 1));
      expect(svg).toContain("nodes by rest &lt;of index&gt;");
      sizes.forEach((size, n) => expect(svg).toContain(`>rest ${n}: ${size}</text>`));
      expect(pictureSvg(sceneWith({ palette }), look, "t", "c")).not.toContain(palette.hues[0]);
    });

    it("counts what is shown, and makes room for as many rows as the legend needs", () => {
      const shown = applyFilter(data, "attr", { ...NO_FILTER, strongest: 20 });
      const narrow = { ...look, window: { width: 160, height: 640 } };
      const svg = pictureSvg(sceneWith({ colouring, shown }), narrow, "t", "c");
      const rows = [...svg.matchAll(/<text x="[\d.]+" y="(\d+)"[^>]*>rest \d: (\d+)</g)];
      expect(rows.map(([, , size]) => Number(size))).toEqual(sizesOf(colouring, shown.nodes));
      expect(new Set(rows.map(([, y]) => y)).size).toBeGreaterThan(1);
      const [, top] = /<g transform="translate\(0 (\d+)\)">/.exec(svg) ?? [];
      expect(Number(rows.at(-1)?.[1])).toBeLessThan(Number(top));
    });

    it("lets what the search did not find step back in its colour", () => {
      const found = colouring.of.indexOf(0);
      const svg = pictureSvg(sceneWith({ colouring, matches: new Set([found]) }), look, "t", "c");
      expect(marks(svg, `fill="${LIGHT.hues[0]}" opacity="0.4"`)).toBe((sizes[0] ?? 0) - 1);
      expect(marks(svg, `fill="${LIGHT.hues[0]}"`)).toBe((sizes[0] ?? 0) + 1);
    });

    it("writes no name that a hue of its own says", () => {
      const [hued, shared] = [colouring.of.indexOf(0), colouring.of.indexOf(2)];
      const named = { ...data, name: (node: number) => ({ [hued]: "41", [shared]: "57" })[node] ?? null };
      const own = Array.from({ length: data.nodes }, () => null as string | null);
      [own[hued], own[shared]] = ["cluster 41", "cluster 57"];
      const svg = (colouring: Colouring | null): string =>
        pictureSvg(sceneWith({ data: named, colouring }), look, "t", "c");
      expect(svg(null)).toMatch(/>41<.*>57</s);
      expect(svg({ ...colouring, own })).toContain(">57<");
      expect(svg({ ...colouring, own })).not.toContain(">41<");
      // A person's name for it says something else.
      own[hued] = "cluster 3";
      expect(svg({ ...colouring, own })).toContain(">41<");
    });

    it("rings what is selected, so that its colour stays", () => {
      const node = colouring.of.indexOf(0);
      const close = { ...look, view: { x: layout.x[node] ?? 0, y: layout.y[node] ?? 0, scale: 8 } };
      const svg = (colouring: Colouring | null): string =>
        pictureSvg(sceneWith({ colouring, selection: new Set([node]) }), close, "t", "c");
      expect(marks(svg(colouring), `fill="${LIGHT.accent}"`)).toBe(0);
      expect(marks(svg(colouring), `stroke="${LIGHT.accent}"`)).toBe(1);
      expect(marks(svg(null), `fill="${LIGHT.accent}"`)).toBe(1);
    });
  });

  it("only what is in sight, in the colours of the night", () => {
    const close = { ...look, view: { x: 40, y: 40, scale: 8 } };
    const scene = sceneWith({ palette: DARK });
    const svg = pictureSvg(scene, close, "t", "c");
    expect(svg).toContain(DARK.paper);
    expect(svg).not.toContain(LIGHT.positive);
    expect(curves(svg)).toBeLessThan(data.edges);
  });
});

describe("which edges are drawn", () => {
  it("in sight: exactly those whose box is", () => {
    const scene = sceneWith();
    const everything = { left: -1e9, top: -1e9, right: 1e9, bottom: 1e9 };
    expect([...edgesInSight(scene, everything)]).toEqual([...scene.shown.order]);
    expect(edgesInSight(scene, { left: 1e8, top: 0, right: 1e9, bottom: 1 }).length).toBe(0);
  });

  it("around nodes: the strongest shown, once each", () => {
    const scene = sceneWith();
    const edge = scene.shown.order[0] ?? 0;
    const ends = [data.source[edge] ?? 0, data.target[edge] ?? 0];
    const around = [...edgesAround(scene, ends, 1000)];
    expect(around[0]).toBe(edge);
    expect(new Set(around).size).toBe(around.length);
    const expected = [...scene.shown.order].filter(
      (one) => ends.includes(data.source[one] ?? -1) || ends.includes(data.target[one] ?? -1),
    );
    expect(around).toEqual(expected);
    expect([...edgesAround(scene, ends, 2)]).toEqual(expected.slice(0, 2));
  });
});
