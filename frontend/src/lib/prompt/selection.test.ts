import { describe, expect, it } from "vitest";

import { madeGraph } from "../graph/testing";
import { parseSelection, printSelection } from "./selection";

const data = madeGraph({ nodes: 120, edges: 300 });

describe("a selection in the address", () => {
  it("is keys where it is small, ranges where it is large", () => {
    expect(printSelection(data, [5, 3])).toEqual([data.key(3), data.key(5)]);
    const many = [...Array.from({ length: 20 }, (_, n) => n + 10), 40, 2];
    expect(printSelection(data, many)).toEqual(["2", "10-29", "40"]);
  });

  it("is read back as it was", () => {
    for (const nodes of [[], [7], [0, 1, 2], Array.from({ length: 50 }, (_, n) => 2 * n)]) {
      expect(parseSelection(data, printSelection(data, nodes))).toEqual(new Set(nodes));
    }
  });

  it("leaves out what the graph does not have", () => {
    expect(parseSelection(data, ["9.attn.q:0:1", "x", "", `${data.nodes - 1}-999999999`])).toEqual(
      new Set([data.nodes - 1]),
    );
  });
});
