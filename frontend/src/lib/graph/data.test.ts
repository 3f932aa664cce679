import { describe, expect, it } from "vitest";

import { BIAS, DELTA, GraphFormatError, parseEdges, parseGraph, printEdges } from "./data";
import { madeAnswers, madeGraph } from "./testing";

/** Two components, a delta, an output and two edges, small enough to check by eye. */
function small(): { detail: Record<string, unknown>; edges: ArrayBuffer } {
  const edges = new ArrayBuffer(24 + 2 * 16);
  const view = new DataView(edges);
  [..."TRIBGRF1"].forEach((letter, n) => view.setUint8(n, letter.charCodeAt(0)));
  view.setUint32(8, 2, true);
  view.setUint32(12, 5, true);
  view.setFloat64(16, 0.25, true);
  [0, 1, 3, 3].forEach((node, n) => view.setUint32(24 + 4 * n, node, true));
  [1.5, -2, -1.5, 2].forEach((value, n) => view.setFloat32(40 + 4 * n, value, true));
  return {
    detail: {
      tokens: [
        { id: 7, text: "a" },
        { id: 8, text: " b" },
      ],
      addresses: ["embed", "0.attn.q", "output", "target"],
      targets: [{ name: "b − c", terms: [{ position: 1, token_id: 8, weight: 1 }] }],
      nodes: {
        site: [0, 1, 1, 2, 3],
        position: [0, 1, 1, 1, 1],
        index: [7, 17, -1, 8, 0],
        ci: [null, 0.5, null, null, null],
        activation: [1, -2, 0.1, 3, 4],
        scale: [1, 0.5, 1, 1, 1],
        probability: [null, null, null, 0.9, null],
        logit: [null, null, null, 3, 4],
        ci_probability: [null, null, null, 0.8, null],
        ci_logit: [null, null, null, 2.5, 3],
      },
      labels: { "0": "a", "3": " b" },
      omitted: { edges: 10, share: 0.1, share_abs: 0.2 },
    },
    edges,
  };
}

describe("a graph from the server's answers", () => {
  it("keeps every value", () => {
    const { detail, edges } = small();
    const graph = parseGraph(detail, edges);
    expect([0, 1, 2, 3, 4].map((node) => graph.key(node))).toEqual([
      "embed:0:7",
      "0.attn.q:1:17",
      "0.attn.q:1:delta",
      "output:1:8",
      "target:1:0",
    ]);
    expect([0, 1, 2, 3, 4].map((node) => graph.label(node))).toEqual(["a", null, null, " b", "b − c"]);
    expect(graph.find("0.attn.q:1:delta")).toBe(2);
    expect(graph.find("0.attn.q:0:delta")).toBeNull();
    expect([...graph.source]).toEqual([0, 1]);
    expect([...graph.target]).toEqual([3, 3]);
    expect([...graph.attr]).toEqual([1.5, -2]);
    expect([...graph.attrAbs]).toEqual([-1.5, 2]);
    expect(graph.ci[1]).toBe(0.5);
    expect(graph.ci[0]).toBeNaN();
    expect(graph.unsent).toEqual({ edges: 3, share: 0.25 });
    expect(graph.omitted).toEqual({ edges: 10, share: 0.1, shareAbs: 0.2 });
    expect([graph.nodes, graph.edges]).toEqual([5, 2]);
  });

  it("prints the edges as they came", () => {
    const { detail, edges } = madeAnswers({ nodes: 200, edges: 500 });
    expect(new Uint8Array(printEdges(parseGraph(detail, edges)))).toEqual(new Uint8Array(edges));
  });

  it("takes a graph without any edges or nodes", () => {
    const { detail } = small();
    const columns = Object.fromEntries(Object.keys(detail["nodes"] as object).map((name) => [name, []]));
    const { edges } = madeAnswers({ edges: 0 });
    const graph = parseGraph({ ...detail, nodes: columns, labels: {} }, edges);
    expect([graph.nodes, graph.edges]).toEqual([0, 0]);
  });

  it("knows deltas and biases", () => {
    expect([DELTA, BIAS]).toEqual([-1, -2]);
    const graph = madeGraph({ seed: 3 });
    const bias = graph.index.indexOf(BIAS);
    expect(graph.key(bias)).toMatch(/:bias$/);
  });
});

describe("malformed answers are refused", () => {
  const broken = (change: (edges: DataView) => void): (() => unknown) => {
    const { edges } = small();
    change(new DataView(edges));
    return () => parseEdges(edges, 5);
  };

  it("edges", () => {
    expect(() => parseEdges(new ArrayBuffer(10), 5)).toThrow(GraphFormatError);
    expect(() => parseEdges(small().edges.slice(0, -1), 5)).toThrow("2 edges need 56 bytes; there are 55");
    expect(() => parseEdges(small().edges, 3)).toThrow("Edge 0 joins node 0 and 3 of 3");
    expect(broken((view) => view.setUint8(0, 88))).toThrow("TRIBGRF1");
    expect(broken((view) => view.setUint32(8, 3, true))).toThrow("3 edges need");
    expect(broken((view) => view.setUint32(12, 1, true))).toThrow("2 edges of only 1");
    expect(broken((view) => view.setFloat64(16, 1.5, true))).toThrow("share");
    expect(broken((view) => view.setFloat64(16, NaN, true))).toThrow("share");
    expect(broken((view) => view.setFloat32(40, NaN, true))).toThrow("no number");
  });

  const changes: readonly [string, (detail: Record<string, unknown>) => unknown][] = [
    ["no object", () => []],
    ["tokens is no list", (detail) => ({ ...detail, tokens: "ab" })],
    ["tokens[0].text", (detail) => ({ ...detail, tokens: [{ id: 1 }, { id: 2, text: "b" }] })],
    ["addresses[0]", (detail) => ({ ...detail, addresses: [1] })],
    ["nodes.position[1] is 1, not a whole", (detail) => ({ ...detail, tokens: [{ id: 1, text: "a" }] })],
    ["nodes.site[4]", (detail) => ({ ...detail, addresses: ["embed", "0.attn.q", "output"] })],
    ["labels", (detail) => ({ ...detail, labels: { "9": "x" } })],
    ["A node of labels", (detail) => ({ ...detail, labels: { x: "x" } })],
    ["omitted", (detail) => ({ ...detail, omitted: null })],
    ["targets[0].name", (detail) => ({ ...detail, targets: [{ terms: [] }] })],
  ];
  it.each(changes)("detail: %s", (words, change) => {
    const { detail, edges } = small();
    expect(() => parseGraph(change(detail), edges)).toThrow(words);
  });

  const columns: readonly [string, string, unknown][] = [
    ["nodes.ci has 1 entries of 5", "ci", [0]],
    ["nodes.index[0]", "index", [-3, 0, 0, 0, 0]],
    ["nodes.index[0]", "index", [0.5, 0, 0, 0, 0]],
    ["nodes.scale[2] is NaN", "scale", [1, 1, null, 1, 1]],
    ["nodes.scale[2] is -1", "scale", [1, 1, -1, 1, 1]],
    ["nodes.activation[0] is no number", "activation", ["x", 1, 1, 1, 1]],
  ];
  it.each(columns)("column: %s", (words, name, values) => {
    const { detail, edges } = small();
    const nodes = { ...(detail["nodes"] as object), [name]: values };
    expect(() => parseGraph({ ...detail, nodes }, edges)).toThrow(words);
  });
});
