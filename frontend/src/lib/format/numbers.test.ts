import { describe, expect, it } from "vitest";

import { count, errorInScale, importance, inScale, number, percent, scaleOf } from "./numbers";

describe("a scale for a list", () => {
  it("gives all numbers the same decimals, so that points align", () => {
    const scale = scaleOf([1.5, -0.0123, 0.4]);
    expect([1.5, -0.0123, 0.4].map((value) => inScale(value, scale))).toEqual(["+1.500", "−0.012", "+0.400"]);
  });

  it("keeps three significant digits below one", () => {
    expect([0.2345, 0.02345].map((value) => inScale(value, scaleOf([value])))).toEqual(["+0.234", "+0.0234"]);
    expect(number(0.002346)).toBe("2.35e−3");
  });

  it("never writes a standard error as zero for want of two digits", () => {
    const scale = scaleOf([0.214, -0.13], [0.0004, null, 0.001]);
    expect(inScale(0.0004, scale, false)).toBe("0.0004");
    expect(scaleOf([0.214], [1e-9]).decimals).toBe(5);
    expect(scaleOf([0.214], [0, null])).toEqual(scaleOf([0.214]));
  });

  it("writes large numbers without useless decimals", () => {
    const scale = scaleOf([12345, -678]);
    expect([12345, -678].map((value) => inScale(value, scale))).toEqual(["+12345", "−678"]);
  });

  it("takes a power of ten out where numbers are very small or very large", () => {
    const small = scaleOf([2.5e-7, -1e-8]);
    expect([2.5e-7, -1e-8].map((value) => inScale(value, small))).toEqual(["+2.50e−7", "−0.10e−7"]);
    expect(inScale(3.2e6, scaleOf([3.2e6]), false)).toBe("3.20e6");
    expect(scaleOf([2.5e-7], [1e-12])).toEqual(scaleOf([2.5e-7]));
    expect([3.6e-10, 0].map((error) => errorInScale(error, small))).toEqual(["3.6e−10", "0.00e−7"]);
    expect(errorInScale(0.0004, scaleOf([0.2], [0.0004]))).toBe("0.0004");
  });

  it("survives nothing and zeros", () => {
    expect(inScale(0, scaleOf([]))).toBe("+0.00");
    expect(inScale(0, scaleOf([0, 0]), false)).toBe("0.00");
  });
});

describe("single numbers", () => {
  it("number", () => {
    expect(number(2.4123)).toBe("2.412");
    expect(number(-0.5)).toBe("−0.500");
    expect(number(3.21e-6)).toBe("3.21e−6");
    expect(number(0)).toBe("0");
  });

  it("importance", () => {
    expect([0, 0.0045, 1.86e-7, 1].map(importance)).toEqual(["0.0000", "0.0045", "1.86e−7", "1.0000"]);
  });

  it("count", () => expect(count(1048576)).toBe("1,048,576"));

  it("percent never rounds something to nothing or to everything", () => {
    expect([0, 0.000001, 0.0005, 0.0123, 0.5, 0.99999, 1].map(percent)).toEqual([
      "0 %",
      "< 0.001 %",
      "0.050 %",
      "1.23 %",
      "50.0 %",
      "> 99.9 %",
      "100.0 %",
    ]);
  });
});
