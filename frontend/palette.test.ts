import { readFileSync } from "node:fs";

import { expect, it } from "vitest";

import { DARK, LIGHT } from "./src/lib/graph/palette";

const css = readFileSync("src/app.css", "utf8");

/** A canvas cannot read `light-dark(…)`: the picture's colours are written down a second time. */
it.each([
  ["light", LIGHT, 1],
  ["dark", DARK, 2],
] as const)("the colours of the picture are those of the page, %s", (_, palette, group) => {
  const { hues, ...named } = palette;
  const all = { ...named, ...Object.fromEntries(hues.map((hue, n) => [`hue-${n + 1}`, hue])) };
  for (const [name, value] of Object.entries(all)) {
    const property = name.replaceAll(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
    const found = new RegExp(`--${property}: light-dark\\((#\\w+), (#\\w+)\\)`).exec(css);
    expect(found?.[group], property).toBe(value);
  }
});
