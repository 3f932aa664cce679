import { describe, expect, it } from "vitest";

import type { ComponentCard } from "../api/types";
import { entry, list, unavailable } from "../confluence/testing";
import { cardCsv, cardJson, csvCell } from "./card";

const card: ComponentCard = {
  run: "demo",
  key: "1.glu.down:7",
  address: "1.glu.down",
  index: 7,
  kind: "component",
  label: null,
  summary: null,
  count: null,
  input_tokens: [],
  evidence: null,
  subrun: "20261121-100000",
  metric: "attr",
  normalised: true,
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

describe("exports", () => {
  it("CSV has a line for every entry, numbers in full and text quoted", () => {
    expect(cardCsv(card).split("\r\n")).toEqual([
      "direction,sign,key,label,value,standard_error,support,scale_free,metric,normalised",
      'sources,positive,embed:5," ""a"",",0.1234567890123,0.5,16,false,attr,true',
      "sources,negative,0.attn.q:0,,-2,,16,false,attr,true",
      "",
    ]);
  });

  it("JSON can be read back and says where it came from", () => {
    const written: unknown = JSON.parse(cardJson(card, { link: "http://localhost/x", trail: ["embed:1"] }));
    expect(written).toEqual({ link: "http://localhost/x", trail: ["embed:1"], card });
  });

  it("quotes line breaks", () => expect(csvCell("a\nb")).toBe('"a\nb"'));
});
