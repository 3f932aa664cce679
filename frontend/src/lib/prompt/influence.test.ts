import { describe, expect, it } from "vitest";

import { showAll } from "../graph/filters";
import { madeGraph } from "../graph/testing";
import { influence, towardsOutputs, withNodes } from "./influence";

const data = madeGraph({ nodes: 200, edges: 1500, outputs: 3, seed: 11 });
const address = (node: number): string => data.addresses[data.site[node] ?? 0] ?? "";

describe("what leads to the outputs", () => {
  it("hands on exactly what a target has", () => {
    const { flow } = influence(data, "attr");
    const incoming = new Float64Array(data.nodes);
    const outgoing = new Float64Array(data.nodes);
    flow.forEach((value, edge) => {
      const [source, target] = [data.source[edge] ?? 0, data.target[edge] ?? 0];
      incoming[target] = (incoming[target] ?? 0) + value;
      outgoing[source] = (outgoing[source] ?? 0) + value;
    });
    for (let node = 0; node < data.nodes; node += 1) {
      const got = incoming[node] ?? 0;
      if (got === 0) continue;
      const has = address(node) === "output" ? (data.probability[node] ?? 0) : (outgoing[node] ?? 0);
      expect(got).toBeCloseTo(has, 4);
    }
  });

  it("keeps the outputs in sight, and counts what it hides", () => {
    const all = showAll(data, "attr");
    const shown = towardsOutputs(data, "attr", all, 40);
    expect(shown.order.length).toBe(40);
    expect(shown.hidden.edges).toBe(data.edges - 40);
    expect(shown.hidden.nodes).toBe(all.nodeCount - shown.nodeCount);
    expect(shown.hidden.share).toBeGreaterThan(0);
    const kept = [...shown.nodes.keys()].filter((node) => shown.nodes[node] === 1);
    expect(kept.some((node) => address(node) === "output")).toBe(true);
    // Strongest first, as the drawing expects.
    expect([...shown.order]).toEqual([...all.order].filter((edge) => shown.edges[edge] === 1));
  });

  it("keeps what is selected in sight", () => {
    const shown = towardsOutputs(data, "attr", showAll(data, "attr"), 10);
    const hidden = shown.nodes.indexOf(0);
    const both = withNodes(shown, [hidden, data.target[shown.order[0] ?? 0] ?? 0]);
    expect(both.nodes[hidden]).toBe(1);
    expect([both.nodeCount, both.hidden.nodes]).toEqual([shown.nodeCount + 1, shown.hidden.nodes - 1]);
    expect(withNodes(both, [hidden])).toBe(both);
  });
});
