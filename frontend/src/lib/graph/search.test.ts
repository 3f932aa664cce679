import { describe, expect, it } from "vitest";

import { search } from "./search";
import { madeGraph } from "./testing";

const data = madeGraph({ nodes: 300, edges: 100 });

describe("search", () => {
  it("asks nothing for nothing", () => {
    expect(search(data, "")).toBeNull();
    expect(search(data, "  ")).toBeNull();
  });

  it("finds by key, token and label", () => {
    const keys = [...(search(data, "1.glu.up") ?? [])].map((node) => data.key(node));
    expect(keys.length).toBeGreaterThan(0);
    expect(keys.every((key) => key.startsWith("1.glu.up"))).toBe(true);
    const lily = [...(search(data, "␣lily") ?? [])];
    expect(lily.length).toBeGreaterThan(10);
    expect(lily.every((node) => data.tokens[data.position[node] ?? 0]?.text === " Lily")).toBe(true);
    const output = [...(search(data, "output once") ?? [])];
    expect(output.map((node) => data.label(node))).toEqual([" Once"]);
  });

  it("finds by what is written about a component, at every position", () => {
    const component = data.key(7).replace(/:\d+:/, ":");
    const written = new Map([[component, "plural nouns\nsee document 3"]]);
    const found = [...(search(data, "nouns document", new Map(), written) ?? [])];
    expect(found).toContain(7);
    expect(found.every((node) => data.key(node).replace(/:\d+:/, ":") === component)).toBe(true);
    expect(search(data, "nouns document")?.size).toBe(0);
  });

  it("finds by note, and needs every word", () => {
    const notes = new Map([
      [data.key(5), "names the Girl"],
      ["9.attn.q:0:0", "names nobody here"],
    ]);
    expect([...(search(data, "names girl", notes) ?? [])]).toEqual([5]);
    expect(search(data, "names boy", notes)?.size).toBe(0);
    expect([...(search(data, `${data.key(5)} names`, notes) ?? [])]).toEqual([5]);
  });
});
