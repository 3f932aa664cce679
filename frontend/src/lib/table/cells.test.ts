import { describe, expect, it } from "vitest";

import { fixed } from "./cells";

describe("numbers in a column", () => {
  it("have the same decimals", () => {
    expect([0, 0.5, 12.344, 100].map((value) => fixed(value, 2, 100))).toEqual([
      "0.00",
      "0.50",
      "12.34",
      "100.00",
    ]);
    expect(fixed(null, 2)).toBe("–");
  });

  it("are rounded neither to a zero nor to an all that they are not", () => {
    expect(fixed(0.004, 2)).toBe("<0.01");
    expect(fixed(99.997, 2, 100)).toBe(">99.99");
    expect(fixed(99.99, 2, 100)).toBe("99.99");
    expect(fixed(99.997, 2)).toBe("100.00");
  });
});
