import { describe, expect, it } from "vitest";

import { curveInto, curveX, curveY, newCurve } from "./geometry";
import { layOut } from "./layout";
import { showAll } from "./filters";
import { LIGHT } from "./palette";
import { EdgePicker, NodePicker } from "./picking";
import { makeScene } from "./scene";
import { madeGraph, random } from "./testing";

const data = madeGraph({ nodes: 800, edges: 400 });
const layout = layOut(data, { order: "key", proportion: 1.4, include: null });
const none: ReadonlySet<number> = new Set();
const shown = showAll(data, "attr");
const scene = makeScene({
  data,
  metric: "attr",
  layout,
  shown,
  palette: LIGHT,
  selection: none,
  pinned: none,
  matches: null,
});

describe("picking nodes", () => {
  const picker = new NodePicker(layout);

  it("is what looking at every node finds", () => {
    const next = random(1);
    const accepts = (node: number): boolean => node % 3 !== 0;
    for (let n = 0; n < 200; n++) {
      const [x, y, reach] = [next() * layout.width, next() * layout.height, next() * 40];
      let [best, least] = [null as number | null, reach];
      for (let node = 0; node < data.nodes; node++) {
        const distance = Math.hypot((layout.x[node] ?? 0) - x, (layout.y[node] ?? 0) - y);
        if (accepts(node) && distance < least) [best, least] = [node, distance];
      }
      expect(picker.nearest(x, y, reach, accepts)).toBe(best);
    }
  });

  it("finds nothing in an empty graph", () => {
    const empty = layOut(madeGraph({ tokens: [], nodes: 0, edges: 0, outputs: 0 }), {
      order: "key",
      proportion: 1,
      include: null,
    });
    expect(new NodePicker(empty).nearest(0, 0, 100, () => true)).toBeNull();
  });
});

describe("picking edges", () => {
  it("finds an edge at every point of it", () => {
    const picker = new EdgePicker(scene, shown.order.slice(0, 1));
    const edge = shown.order[0] ?? 0;
    const [source, target] = [data.source[edge] ?? 0, data.target[edge] ?? 0];
    const curve = curveInto(
      newCurve(),
      layout.x[source] ?? 0,
      layout.y[source] ?? 0,
      layout.x[target] ?? 0,
      layout.y[target] ?? 0,
      (scene.strength.value[edge] ?? 0) >= 0,
    );
    for (let t = 0; t <= 1; t += 0.1)
      expect(picker.nearest(curveX(curve, t) + 0.5, curveY(curve, t), 4)).toBe(edge);
    expect(picker.nearest(curve.x0, curve.y0 + 200, 4)).toBeNull();
  });

  it("prefers the stronger of equally near ones", () => {
    const picker = new EdgePicker(scene, shown.order);
    const edge = shown.order[0] ?? 0;
    const source = data.source[edge] ?? 0;
    expect(picker.nearest(layout.x[source] ?? 0, layout.y[source] ?? 0, 3)).toBe(edge);
  });
});
