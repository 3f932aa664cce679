import { describe, expect, it } from "vitest";

import { fitting, keyWidth, leastWidth, readColumns, shownColumns, template } from "./columns";

const KEY = 116;

describe("columns that fit", () => {
  it("are all where there is room", () => {
    expect(fitting(1000, KEY, true, "-mean_ci")).toEqual([
      "mean_ci",
      "density",
      "max_ci",
      "activation_rms",
      "cluster",
    ]);
    expect(fitting(1000, KEY, false, "-mean_ci")).not.toContain("cluster");
  });

  it("show what is sorted by and the cluster in the narrow pane", () => {
    expect(fitting(440, KEY, true, "-mean_ci")).toEqual(["mean_ci", "cluster"]);
    expect(fitting(440, KEY, true, "density")).toEqual(["density", "cluster"]);
    expect(fitting(440, KEY, true, "-activation_rms")).toEqual(["activation_rms", "cluster"]);
    expect(fitting(440, KEY, true, "label")).toEqual(["mean_ci", "cluster"]);
    expect(fitting(440, KEY, true, "-strongest_source", "source")).toEqual(["cluster"]);
    expect(fitting(440, KEY, true, "-mean_ci", "source")).toEqual(["mean_ci"]);
    expect(fitting(440, KEY, true, "-fires_on", "fires")).toEqual(["cluster"]);
    expect(fitting(440, KEY, false, "-mean_ci")).toEqual(["mean_ci", "density"]);
    expect(fitting(200, KEY, true, "-mean_ci")).toEqual([]);
  });

  it("never need more than there is", () => {
    for (let width = 300; width < 900; width += 7) {
      const columns = fitting(width, KEY, true, "-max_ci");
      if (columns.length > 0) expect(leastWidth(columns, KEY, "tokens")).toBeLessThanOrEqual(width);
    }
  });
});

describe("columns that were chosen", () => {
  it("are shown in their order, whatever fits", () => {
    expect(readColumns("cluster,density,nonsense")).toEqual(["density", "cluster"]);
    expect(readColumns("")).toEqual([]);
    expect(readColumns(null)).toBeNull();
    expect(shownColumns(["cluster", "density"], 300, KEY, true, "-mean_ci")).toEqual(["density", "cluster"]);
    expect(shownColumns(["cluster", "density"], 300, KEY, false, "-mean_ci")).toEqual(["density"]);
    expect(shownColumns(null, 440, KEY, true, "-mean_ci")).toEqual(["mean_ci", "cluster"]);
    expect(template(["density", "cluster"], KEY)).toBe("116px 60px 56px minmax(0, 1fr)");
  });

  it("leave room for the longest key", () => {
    expect(keyWidth(8)).toBe(116);
    expect(keyWidth(24)).toBeGreaterThanOrEqual(24 * 7.8);
  });
});
