import { describe, expect, it } from "vitest";

import { entry, list, unavailable } from "../confluence/testing";
import type { ComponentCard, Evidence, Example } from "../api/types";
import { cardCsv, cardJson, csvCell } from "./card";
import type { CardEvidence } from "./cardEvidence";
import { cardTables } from "./cardTables";
import { crc32, zip } from "./zip";

const card: ComponentCard = {
  run: "demo",
  key: "1.glu.down:7",
  address: "1.glu.down",
  index: 7,
  kind: "component",
  label: null,
  summary: null,
  statistics_tokens: null,
  count: null,
  input_tokens: [],
  evidence: null,
  subrun: "20261121-100000",
  metric: "attr",
  normalised: true,
  unit: "normalised",
  k: 10,
  sources_positive: list("positive", [], {
    entries: [entry("embed:5", 0.1234567890123, { label: ' "a",', standard_error: 0.5 })],
  }),
  sources_negative: list("negative", [-2]),
  targets_positive: unavailable("positive", "not computed"),
  targets_negative: unavailable("negative", "not computed"),
  notes: [],
  seconds: 0,
};

const share = {
  recall: 0.1234567890123,
  recall_low: 0.1,
  recall_high: 0.2,
  precision: 1,
  precision_low: 0.5,
  precision_high: 1,
  lift: 2,
  pmi: 0.6931471805599453,
  pmi_low: 0.25,
  pmi_high: 1.125,
};

const evidence: Evidence = {
  run: "demo",
  key: "1.glu.down:7",
  subrun: "20261121-110000",
  tokens: 1_048_576,
  documents: 9,
  threshold: 0,
  firing_count: 18,
  density: 0.0000171661376953125,
  mean_ci: 7.030468935909084e-7,
  max_ci: 0.5,
  activation: { mean: -0.25, rms: 0.5, min: -1, max: 1, mean_firing: null },
  histogram: { edges: [-1, 0, 1], counts: [7, 11] },
  unit: "activation scaled by ‖U‖",
  sampling: "drawn",
  ranking: "ranked",
  n_random: 1,
  n_strongest: 1,
  input_tokens: {
    positive: [{ token_id: 5, text: " a,\n", count: 3, token_total: 4, firing_count: 18, ...share }],
    negative: [],
    positive_total: 7,
    negative_total: 0,
    complete: true,
  },
  output_tokens: { positive: [], negative: [], positive_total: 0, negative_total: 0, complete: true },
  cofiring: {
    positive: [],
    negative: [{ key: "0.attn.q:1", count: 0, other_count: 90, jaccard: 0, ...share }],
    positive_total: 0,
    negative_total: 1,
    complete: true,
  },
  notes: [],
  seconds: 0,
};

const example: Example = {
  document: 3,
  document_title: "Genesis 1",
  corpus_position: 1000,
  document_position: 40,
  left: 2,
  tokens: [null, { id: 1, text: '"' }, { id: 2, text: "x" }, { id: 3, text: " y" }],
  ci: [null, 0, 0.1234567890123, 0],
  activation: [null, 0.5, -2, 1e-9],
};

const kept = {
  subrun: "20261121-110000",
  total: 18,
  kept: 1,
  sampling: "drawn",
  examples: [example],
};
const more: CardEvidence = {
  evidence,
  examples: { random: kept, strongest: { ...kept, examples: [] } },
  label: null,
  shown_label: null,
  cluster: null,
  missing: { cluster: "not clustered" },
  extent: ["input tokens: 1 of 7"],
};
const provenance = { link: "http://localhost/x", trail: ["embed:1"] };

describe("exports", () => {
  it("CSV has a line for every entry, numbers in full and text quoted", () => {
    expect(cardCsv(card).split("\r\n")).toEqual([
      "direction,sign,key,label,value,standard_error,support,scale_free,metric,normalised,unit",
      'sources,positive,embed:5," ""a"",",0.1234567890123,0.5,16,false,attr,true,normalised',
      "sources,negative,0.attn.q:0,,-2,,16,false,attr,true,normalised",
      "",
    ]);
  });

  it("JSON can be read back and says where it came from", () => {
    const written: unknown = JSON.parse(cardJson(card, provenance, more));
    expect(written).toEqual({ ...provenance, card, ...more });
  });

  it("quotes line breaks", () => expect(csvCell("a\nb")).toBe('"a\nb"'));

  it("tables hold every number in full, one line for each thing", () => {
    const files = new Map(cardTables(card, provenance, more).map(({ name, text }) => [name, text]));
    const lines = (name: string) => files.get(name)?.split("\r\n") ?? [];
    expect([...files.keys()]).toEqual([
      "about.txt",
      "attributions.csv",
      "statistics.csv",
      "histogram.csv",
      "tokens.csv",
      "cofiring.csv",
      "examples.csv",
    ]);
    expect(files.get("attributions.csv")).toBe(cardCsv(card));
    expect(lines("statistics.csv")).toContain("mean_ci,7.030468935909084e-7");
    expect(lines("statistics.csv")).toContain("activation_mean_firing,");
    expect(lines("histogram.csv")).toEqual(["activation_from,activation_to,firings", "-1,0,7", "0,1,11", ""]);
    // The line end within a token is within quotes, and no end of the row.
    expect(files.get("tokens.csv")).toContain(
      'input,positive,5," a,\n",3,4,18,0.1234567890123,0.1,0.2,1,0.5,1,2,0.6931471805599453,0.25,1.125\r\n',
    );
    expect(lines("cofiring.csv")[1]).toMatch(/^negative,0\.attn\.q:1,0,90,0\.1234567890123,.*,0,2,0\.69/);
    // Positions are those of each token; what is before the document's beginning is no line.
    expect(lines("examples.csv").slice(1)).toEqual([
      'random,0,3,Genesis 1,39,999,-1,1,"""",0,0.5',
      "random,0,3,Genesis 1,40,1000,0,2,x,0.1234567890123,-2",
      'random,0,3,Genesis 1,41,1001,1,3," y",0,1e-9',
      "",
    ]);
    const about = files.get("about.txt") ?? "";
    for (const words of ["http://localhost/x", "harvest 20261121-110000", "1 of 7", "Not here: cluster"])
      expect(about).toContain(words);
    // What is unknown has no table.
    const bare = { ...more, evidence: null, examples: null };
    expect(cardTables(card, provenance, bare).map(({ name }) => name)).toEqual([
      "about.txt",
      "attributions.csv",
      "statistics.csv",
    ]);
  });

  it("an archive lists its files with their sizes and checksums", async () => {
    expect(crc32(new TextEncoder().encode("123456789"))).toBe(0xcbf43926);
    const archive = await zip([
      { name: "a.txt", text: "123456789" },
      { name: "ü.csv", text: "" },
    ]).arrayBuffer();
    const view = new DataView(archive);
    const end = archive.byteLength - 22;
    expect(view.getUint32(end, true)).toBe(0x06054b50);
    expect(view.getUint16(end + 10, true)).toBe(2);
    const directory = view.getUint32(end + 16, true);
    expect(directory + view.getUint32(end + 12, true)).toBe(end);
    expect(view.getUint32(directory, true)).toBe(0x02014b50);
    expect(view.getUint32(directory + 16, true)).toBe(0xcbf43926);
    const second = directory + 46 + "a.txt".length;
    const local = view.getUint32(second + 42, true);
    expect(view.getUint32(local, true)).toBe(0x04034b50);
    expect(local).toBe(30 + "a.txt".length + "123456789".length);
    expect(new TextDecoder().decode(new Uint8Array(archive, local + 30, 6))).toBe("ü.csv");
  });
});
