import { describe, expect, it } from "vitest";

import { NO_FILTER, applyFilter, showAll } from "./filters";
import { cellAt, layOut } from "./layout";
import { LIGHT } from "./palette";
import { type Scene, makeScene } from "./scene";
import { edgesAt } from "./strength";
import { madeGraph } from "./testing";
import { announce, firstNode, step } from "./walk";

const data = madeGraph({ nodes: 900, edges: 3000 });
const layout = layOut(data, { order: "strength", proportion: 1.7, include: null });
const none: ReadonlySet<number> = new Set();

function sceneWith(shown = showAll(data, "attr"), selection = none): Scene {
  return makeScene({
    data,
    metric: "attr",
    layout,
    shown,
    palette: LIGHT,
    selection,
    pinned: none,
    matches: null,
  });
}

const scene = sceneWith();
const keys = (key: string, shift = false, alt = false): { key: string; shift: boolean; alt: boolean } => ({
  key,
  shift,
  alt,
});

describe("walking", () => {
  it("begins at an output", () => {
    expect(data.key(firstNode(scene) ?? -1)).toMatch(/^output:/);
  });

  it("sideways stays in the row, upwards in the column, and comes back", () => {
    const begin = data.find("embed:4:44") ?? -1;
    const right = step(scene, begin, null, keys("ArrowRight"))?.node ?? -1;
    expect([data.position[right], data.site[right]]).toEqual([5, data.site[begin]]);
    expect(step(scene, right, null, keys("ArrowLeft"))?.node).toBe(begin);
    const up = step(scene, begin, null, keys("ArrowUp"))?.node ?? -1;
    expect(data.position[up]).toBe(4);
    expect(data.addresses[data.site[up] ?? 0]).toBe("0.attn.q");
    expect(step(scene, up, null, keys("ArrowDown"))?.node).toBe(begin);
  });

  it("ends at the border", () => {
    expect(step(scene, data.find("embed:0:40") ?? -1, null, keys("ArrowLeft"))).toBeNull();
    expect(step(scene, data.find("embed:0:40") ?? -1, null, keys("ArrowDown"))).toBeNull();
    expect(step(scene, 0, null, keys("Home"))).toBeNull();
  });

  it("passes rows and tokens where nothing is shown", () => {
    const sparse = sceneWith(applyFilter(data, "attr", { ...NO_FILTER, strongest: 5 }));
    const edge = sparse.shown.order[0] ?? 0;
    let node: number | null = data.source[edge] ?? 0;
    for (let n = 0; n < 40 && node !== null; n++) {
      expect(sparse.shown.nodes[node]).toBe(1);
      node = step(sparse, node, null, keys("ArrowUp"))?.node ?? null;
    }
    expect(node).toBeNull();
  });

  it("inside a cell with Shift", () => {
    const row = layout.rows.findIndex((_, n) => cellAt(layout, n, 6).length > 3);
    const cell = cellAt(layout, row, 6);
    expect(step(scene, cell[0] ?? 0, null, keys("ArrowRight", true))?.node).toBe(cell[1]);
    expect(step(scene, cell[1] ?? 0, null, keys("ArrowLeft", true))?.node).toBe(cell[0]);
    expect(step(scene, cell[0] ?? 0, null, keys("ArrowLeft", true))).toBeNull();
  });

  it("along the strongest edges with Alt, and to their siblings", () => {
    const node =
      [...Array(data.nodes).keys()].find((one) => edgesAt(scene.strength.outgoing, one).length > 2) ?? 0;
    const edges = edgesAt(scene.strength.outgoing, node);
    const first = step(scene, node, null, keys("ArrowUp", false, true));
    expect(first?.node).toBe(data.target[edges[0] ?? 0]);
    const second = step(scene, first?.node ?? 0, first?.along ?? null, keys("ArrowRight", false, true));
    expect(second?.node).toBe(data.target[edges[1] ?? 0]);
    const back = step(scene, second?.node ?? 0, second?.along ?? null, keys("ArrowLeft", false, true));
    expect(back?.node).toBe(first?.node);
    expect(step(scene, back?.node ?? 0, back?.along ?? null, keys("ArrowLeft", false, true))).toBeNull();
    expect(step(scene, node, null, keys("ArrowRight", false, true))).toBeNull();
  });
});

describe("announcing", () => {
  it("tells key, token, values and edges", () => {
    const output = data.nodes - 5;
    const words = announce(sceneWith(showAll(data, "attr"), new Set([output])), output);
    const sources = edgesAt(scene.strength.incoming, output).length;
    expect(words).toContain("output:19:100, ␣Once, at token 19, ␣in, probability 0.");
    expect(words).toContain(`${sources} source${sources === 1 ? "" : "s"} and 0 targets shown, selected`);
  });
});
