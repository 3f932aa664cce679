import { describe, expect, it } from "vitest";

import type { ClusteringDetail } from "./api";
import { ClusterBook, bySite, shortPlacement, unknownWords } from "./book";

const SUMMARY = {
  subrun: "20260101-000000",
  kind: "computed",
  created: "",
  notes: "",
  n_positions: 16384,
  iterations: 3,
  default_iteration: 2,
  settings: { least: "1" },
  provenance: {},
} as const;

const DETAIL: ClusteringDetail = {
  run: "toy",
  clustering: SUMMARY,
  iteration: 2,
  description_length: 7,
  clusters: [
    { cluster: 5, size: 3, density: 0.1, members: ["0.attn.k:1", "0.attn.k:2", "1.glu.up:0"] },
    { cluster: 0, size: 2, density: 0.2, members: ["0.attn.q:0", "0.attn.q:3"] },
  ],
  alone: ["0.attn.q:1"],
  n_unknown: 4,
  seconds: 0,
};

describe("where a component is", () => {
  const book = new ClusterBook(DETAIL);

  it("is in a cluster, alone, or unknown, and these are three things", () => {
    expect(book.of("0.attn.k:2")).toEqual({ kind: "cluster", cluster: DETAIL.clusters[0] });
    expect(book.of("0.attn.q:1")).toEqual({ kind: "alone" });
    expect(book.of("0.attn.q:2")).toEqual({ kind: "unknown" });
    expect(["0.attn.k:2", "0.attn.q:1", "0.attn.q:2"].map((key) => shortPlacement(book.of(key)))).toEqual([
      "5",
      "alone",
      "unknown",
    ]);
  });

  it("finds clusters by number, 0 included", () => {
    expect(book.cluster(0)?.members).toEqual(["0.attn.q:0", "0.attn.q:3"]);
    expect(book.cluster(1)).toBeNull();
    expect(book.clustered).toBe(5);
  });

  it("says what unknown means there", () => {
    expect(unknownWords(SUMMARY)).toBe("never active at the 16,384 sampled positions");
    expect(unknownWords({ ...SUMMARY, settings: { least: "5" } })).toMatch(/^active fewer than 5 times/);
    expect(unknownWords({ ...SUMMARY, kind: "imported" })).toBe("not mentioned in the imported mapping");
  });

  it("lists members by site in the order of the model, sites that are not in it last", () => {
    expect(
      bySite(["1.glu.up:0", "0.attn.k:1", "9.x.y:2", "0.attn.k:0"], ["0.attn.k", "0.attn.q", "1.glu.up"]),
    ).toEqual([
      ["0.attn.k", ["0.attn.k:1", "0.attn.k:0"]],
      ["1.glu.up", ["1.glu.up:0"]],
      ["9.x.y", ["9.x.y:2"]],
    ]);
  });
});
