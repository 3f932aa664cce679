import { describe, expect, it } from "vitest";

import { INITIAL } from "../location/view";
import { parsePercent } from "../evidence/associations";
import { endWords, filterWithout, filtersOf, noRange, parseCi, unfiltered } from "./filters";

const ALL = { harvested: true, clustered: true };
const many = {
  ...INITIAL,
  site: "0.attn.q",
  q: "dog ",
  fires: "the",
  sort: "-fires_on" as const,
  rare: 0.001,
  strong: 0.25,
  label: " grey foxes ",
  labelled: "model" as const,
  source: "0.attn",
  target: '"2.5"',
  cluster: "12",
};

describe("filters of the table", () => {
  it("are said in words, one each", () => {
    expect(filtersOf(many, ALL).map((filter) => filter.words)).toEqual([
      "in 0.attn.q",
      "search “dog␣”",
      "fires on “the”",
      "alive on at least 0.1 %",
      "mean CI at most 0.25",
      "label says “grey foxes”",
      "labelled by a model",
      "strongest source 0.attn",
      'strongest target "2.5"',
      "cluster 12",
    ]);
    expect(filtersOf(INITIAL, ALL)).toEqual([]);
    const range = { ...INITIAL, rare: 0.01, often: 0.05, weak: 0, strong: 1, cluster: "alone" };
    expect(filtersOf(range, ALL).map((filter) => filter.words)).toEqual([
      "alive on 1 % to 5 %",
      "mean CI 0 to 1",
      "alone, in no cluster",
    ]);
  });

  it("are taken away one by one, or all at once", () => {
    const filters = filtersOf(many, ALL);
    for (const filter of filters) {
      const rest = filtersOf({ ...many, ...filter.without }, ALL);
      expect(rest.map(({ id }) => id)).toEqual(filters.map(({ id }) => id).filter((id) => id !== filter.id));
    }
    expect({ ...many, ...unfiltered(filters) }).toEqual(INITIAL);
    expect(unfiltered([])).toEqual({});
  });

  it("do not hold where the run knows nothing of them", () => {
    const ids = filtersOf(many, { harvested: false, clustered: false }).map(({ id }) => id);
    expect(ids).not.toContain("fires");
    expect(ids).not.toContain("cluster");
  });

  it("leave a cluster's clustering when it goes, and keep it when another goes", () => {
    const { site, q, sort, fires, rare, often, weak, strong, label, labelled, source, target } = many;
    const within = { cluster: "12", clustering: null, merges: 3 };
    const asked = {
      site,
      q,
      sort,
      fires,
      rare,
      often,
      weak,
      strong,
      label,
      labelled,
      source,
      target,
      within,
    };
    const byId = new Map(filtersOf(many, ALL).map((filter) => [filter.id, filter]));
    const cluster = byId.get("cluster");
    const ci = byId.get("ci");
    if (cluster === undefined || ci === undefined) throw new Error("both hold");
    expect(filterWithout(asked, cluster)).toEqual({ ...asked, within: null });
    expect(filterWithout(asked, ci)).toEqual({ ...asked, weak: null, strong: null });
  });
});

describe("an end as the server read it", () => {
  it("says what it means", () => {
    const of = (kind: "key" | "site" | "layer" | "token", text: string, n = 0): string =>
      endWords({ kind, text, tokens: Array.from({ length: n }, (_, id) => ({ id, text })) }, "source");
    expect(of("key", "0.attn.q:3")).toBe("0.attn.q:3");
    expect(of("site", "0.attn.q")).toBe("anything in 0.attn.q");
    expect(of("site", "embed")).toBe("any input token");
    expect(of("layer", "3")).toBe("anything in block 3");
    expect(of("layer", "3.glu")).toBe("anything in layer 3.glu");
    expect(of("token", "the", 3)).toBe("the input token “the”, 3 of them");
    expect(of("token", "xyz")).toBe("no token reads “xyz”");
    expect(endWords(null, "target")).toBe("");
  });
});

describe("a range that a person writes", () => {
  it("has a mean CI from 0 to 1 at its ends", () => {
    expect(["0", "1", "0,25", " 1e-3 "].map(parseCi)).toEqual([0, 1, 0.25, 0.001]);
    expect(["", "2", "-0.1", "x", "5 %"].map(parseCi)).toEqual(Array(5).fill(null));
  });

  it("is none where an end is no number, or the least is above the largest", () => {
    expect(noRange("", "", parseCi)).toBe(false);
    expect(noRange("0.1", "", parseCi)).toBe(false);
    expect(noRange("0.1", "0.1", parseCi)).toBe(false);
    expect(noRange("0.2", "0.1", parseCi)).toBe(true);
    expect(noRange("much", "", parseCi)).toBe(true);
    expect(noRange("20", "10 %", parsePercent)).toBe(true);
  });
});
