import { describe, expect, it } from "vitest";

import { pieces, visible } from "./tokens";

describe("token text", () => {
  it("shows whitespace", () => {
    expect(visible(" the")).toBe("␣the");
    expect(visible("\n\n")).toBe("⏎⏎");
    expect(visible("a\tb")).toBe("a⇥b");
  });

  it("shows what has no glyph by its number", () => {
    expect(visible("\u0000\r\u00a0\u200b")).toBe("‹00›‹0D›‹A0›‹200B›");
  });

  it("leaves other text alone, and says when there is none", () => {
    expect(visible("né日🙂")).toBe("né日🙂");
    expect(visible("")).toBe("∅");
  });

  it("tells marks from text", () => {
    expect(pieces(" a b")).toEqual([
      { kind: "mark", text: "␣" },
      { kind: "text", text: "a" },
      { kind: "mark", text: "␣" },
      { kind: "text", text: "b" },
    ]);
  });
});
