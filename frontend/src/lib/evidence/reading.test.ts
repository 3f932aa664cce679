import { describe, expect, it } from "vitest";

import { ciWords, endsLine, hueOf, readingWords, readingsOf, shadeOf, stretches } from "./reading";

const token = (text: string, id = 0) => ({ id, text });

describe("how a token is drawn", () => {
  it("leaves what does not fire on paper, and shows whatever does", () => {
    expect(shadeOf(0)).toBe(0);
    expect(shadeOf(NaN)).toBe(0);
    expect(shadeOf(1e-6)).toBeGreaterThan(0.1);
  });

  it("grows with the CI and never hides the text", () => {
    const shades = [0.001, 0.1, 0.5, 0.9, 1, 1.4].map(shadeOf);
    expect([...shades].sort((a, b) => a - b)).toEqual(shades);
    expect(shades.at(-1)).toBeLessThan(0.85);
  });

  it("takes its hue from the sign of the activation, only where it fires", () => {
    expect(hueOf({ token: token("a"), ci: 0.5, activation: -2 })).toBe("negative");
    expect(hueOf({ token: token("a"), ci: 0.5, activation: 2 })).toBe("positive");
    expect(hueOf({ token: token("a"), ci: 0, activation: -2 })).toBe("none");
    expect(hueOf({ token: token("a"), ci: 0.5, activation: null })).toBe("positive");
  });
});

describe("what is said of a token", () => {
  it("gives both numbers, with the sign of the activation", () => {
    expect(readingWords({ token: token(" the"), ci: 0.87, activation: -2.3114 })).toBe(
      "␣the: CI 0.8700, activation −2.311",
    );
    expect(readingWords({ token: token("\n"), ci: 0, activation: null })).toBe("⏎: CI 0, activation –");
  });

  it("never writes a CI above 0 as 0", () => expect(ciWords(1e-7)).toBe("1.00e−7"));

  it("joins parallel lists, and takes missing values for silence", () => {
    const tokens = [token("a", 1), token("b", 2)];
    expect(readingsOf(tokens, [0.5, null], [1, null])).toEqual([
      { token: tokens[0], ci: 0.5, activation: 1 },
      { token: tokens[1], ci: 0, activation: null },
    ]);
    expect(readingsOf(tokens, null, null).map(({ ci }) => ci)).toEqual([0, 0]);
  });
});

describe("running text", () => {
  it("keeps spaces and marks what has no glyph", () => {
    expect(stretches(" the\n")).toEqual([
      { kind: "text", text: " the" },
      { kind: "mark", text: "⏎" },
    ]);
    expect(stretches("")).toEqual([{ kind: "mark", text: "∅" }]);
    expect(stretches("\t\u0000x")).toEqual([
      { kind: "mark", text: "⇥‹00›" },
      { kind: "text", text: "x" },
    ]);
  });

  it("ends lines where the text does", () => {
    expect(["a", "\n", ".\n"].map(endsLine)).toEqual([false, true, true]);
  });
});
