import { describe, expect, it } from "vitest";

import { dense, notable, parseInput, printInput, withFeature } from "./input";

describe("an input in the address", () => {
  it("is read as it is printed", () => {
    const input = parseInput("3:0.75,0:-1,12:1e-3", 20);
    expect([...input]).toEqual([
      [3, 0.75],
      [0, -1],
      [12, 0.001],
    ]);
    expect(printInput(input)).toBe("3:0.75,0:-1,12:0.001");
    expect(parseInput(printInput(input), 20)).toEqual(input);
  });

  it("leaves out what makes no sense", () => {
    expect(parseInput("", 5).size).toBe(0);
    expect([...parseInput("5:1,x:1,1:,2:1e99,3:NaN,4:0.5", 5)]).toEqual([[4, 0.5]]);
  });

  it("is one number for each feature", () => {
    expect(dense(parseInput("1:0.5", 3), 3)).toEqual([0, 0.5, 0]);
  });

  it("features are set and taken away", () => {
    const input = withFeature(parseInput("1:0.5", 3), 2, 1);
    expect(printInput(input)).toBe("1:0.5,2:1");
    expect(printInput(withFeature(input, 1, null))).toBe("2:1");
    expect(printInput(withFeature(input, 1, 0))).toBe("1:0,2:1");
  });

  it("shows features where something happens", () => {
    expect(
      notable(
        [
          [0, 0.5, 0.001],
          [0, 0, -0.2],
        ],
        0.01,
      ),
    ).toEqual([1, 2]);
  });
});
