import { describe, expect, it } from "vitest";

import { addressOf, indexOf, isKey, kindOf, parseSite, siteColumns } from "./address";

describe("keys", () => {
  it("are recognised as the server writes them", () => {
    for (const key of [
      "0.attn.q:17",
      "12.glu.down:delta",
      "0.mlp.up:bias",
      "embed:0",
      "output:1023",
      "position:5",
    ]) {
      expect(isKey(key)).toBe(true);
    }
    for (const text of ["", "0.attn.q", "0.attn.q:", "0.attn.q:01", "0.attn.q:-1", "x:3", "0.attn.q:1 "]) {
      expect(isKey(text)).toBe(false);
    }
  });

  it("come apart into address and index", () => {
    expect([addressOf("2.glu.down:delta"), indexOf("2.glu.down:delta")]).toEqual(["2.glu.down", "delta"]);
    expect(
      ["0.attn.q:1", "embed:1", "output:1", "position:1", "0.attn.q:delta", "0.mlp.up:bias"].map(kindOf),
    ).toEqual(["component", "embed", "output", "position", "delta", "bias"]);
  });
});

describe("sites", () => {
  it("parse", () => {
    expect(parseSite("10.attn_fused.qkv")).toEqual({ block: 10, kind: "attn_fused", projection: "qkv" });
    expect(parseSite("embed")).toBeNull();
  });

  it("give the columns of the map in display order", () => {
    const columns = siteColumns([
      "1.glu.down",
      "0.attn.o",
      "0.glu.gate",
      "0.attn.q",
      "1.attn.v",
      "0.attn.k",
      "0.glu.up",
    ]);
    expect(columns.map((column) => column.projection)).toEqual(["q", "k", "v", "o", "gate", "up", "down"]);
  });
});
