import { describe, expect, it } from "vitest";

import { layOut } from "./geometry";
import { flowsOf, placeRows } from "./rows";
import { drawSvg, escapeXml } from "./svg";
import { entry, list } from "./testing";

describe("drawSvg", () => {
  const sources = placeRows(
    list("positive", [], {
      entries: [entry("embed:5", 2, { label: ' <a&"', standard_error: 0.25 })],
      total: 3,
      total_value: 4,
      shown_value: 2,
    }),
    list("negative", [-1]),
  );
  const targets = placeRows(list("positive", [1]), list("negative", []));
  const height = Math.max(sources.height, targets.height);
  const svg = drawSvg({
    title: "1.glu.down:7 in demo",
    caption: "attr, normalised",
    key: "1.glu.down:7",
    confluence: layOut(flowsOf(sources), flowsOf(targets), {
      width: 240,
      height,
      trunkWidth: 28,
      thickest: 18,
      restLimit: 36,
    }),
    sources: sources.rows,
    targets: targets.rows,
    scales: {
      sources: { exponent: 0, decimals: 3 },
      targets: { exponent: 0, decimals: 3 },
    },
    flowWidth: 240,
    height,
  });

  it("names what it shows, with numbers, errors and what is left out", () => {
    for (const text of [
      "1.glu.down:7 in demo",
      "attr, normalised",
      "+2.000 ±0.250",
      "−1.000",
      "1 of 3 shown",
    ]) {
      expect(svg).toContain(text);
    }
  });

  it("escapes token text and refers to nothing outside itself", () => {
    expect(svg).toContain("␣&lt;a&amp;&quot;");
    expect(svg).not.toMatch(/href|<image|<script/);
  });

  it("hatches negative bands, so that colour is not the only sign", () => {
    expect(svg.match(/url\(#hatch\)/g)).toHaveLength(1);
  });
});

describe("escapeXml", () => {
  it("replaces characters that XML forbids", () => {
    expect(escapeXml("a\u0001b")).toBe("a\ufffdb");
  });
});
