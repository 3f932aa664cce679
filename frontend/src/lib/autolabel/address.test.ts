import { describe, expect, it } from "vitest";

import { parseView, printView, showLabels } from "../location/view";

describe("the address of label sets", () => {
  const round = (address: string): string => {
    const [path = "", query = ""] = address.split("?");
    return printView(parseView(path, query === "" ? "" : `?${query}`));
  };

  it("holds the set, the one beside it, the search and what is open", () => {
    for (const address of [
      "/runs/demo/labels",
      "/runs/demo/labels?set=3",
      "/runs/demo/labels?set=3&with=2&find=commas%20in&page=4&key=0.attn.q:1",
    ]) {
      expect(round(address)).toBe(address);
    }
    expect(round("/runs/demo/labels?set=x&page=0&key=nonsense")).toBe("/runs/demo/labels");
    expect(round("/runs/demo/labels/3")).toBe("/runs/demo/labels/3");
  });

  it("begins anew from other pages, and changes what it is told to", () => {
    const card = parseView("/runs/demo/components/0.attn.q:1", "?k=20&find=x");
    expect(printView(showLabels(card))).toBe("/runs/demo/labels?k=20");
    const labels = parseView("/runs/demo/labels", "?set=3&page=2");
    expect(printView(showLabels(labels, { page: 3 }))).toBe("/runs/demo/labels?set=3&page=3");
  });
});
