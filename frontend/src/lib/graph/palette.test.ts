import { describe, expect, it } from "vitest";

import { DARK, LIGHT, type Palette, channels } from "./palette";

function linear(colour: string): [number, number, number] {
  const [r, g, b] = channels(colour).map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
  return [r ?? 0, g ?? 0, b ?? 0];
}

const PLAIN = [
  [1, 0, 0],
  [0, 1, 0],
  [0, 0, 1],
] as const;

/** Dichromatic vision by Machado, Oliveira and Fernandes (2009), severity 1, on linear RGB. */
const BLIND: Readonly<Record<string, readonly (readonly [number, number, number])[]>> = {
  protanopia: [
    [0.152286, 1.052583, -0.204868],
    [0.114503, 0.786281, 0.099216],
    [-0.003882, -0.048116, 1.051998],
  ],
  deuteranopia: [
    [0.367322, 0.860646, -0.227968],
    [0.280085, 0.672501, 0.047413],
    [-0.01182, 0.04294, 0.968881],
  ],
  tritanopia: [
    [1.255528, -0.076749, -0.178779],
    [-0.078411, 0.930809, 0.147602],
    [0.004733, 0.691367, 0.3039],
  ],
};

function lab([r, g, b]: readonly [number, number, number]): [number, number, number] {
  const f = (t: number): number => (t > 0.008856 ? Math.cbrt(t) : 7.787 * t + 16 / 116);
  const x = f((0.4124 * r + 0.3576 * g + 0.1805 * b) / 0.9505);
  const y = f(0.2126 * r + 0.7152 * g + 0.0722 * b);
  const z = f((0.0193 * r + 0.1192 * g + 0.9505 * b) / 1.089);
  return [116 * y - 16, 500 * (x - y), 200 * (y - z)];
}

function difference(a: string, b: string, eyes: readonly (readonly [number, number, number])[]): number {
  const seen = (colour: string): [number, number, number] => {
    const [r, g, b] = linear(colour);
    const mix = (row: readonly [number, number, number] | undefined): number =>
      Math.min(1, Math.max(0, (row?.[0] ?? 0) * r + (row?.[1] ?? 0) * g + (row?.[2] ?? 0) * b));
    return lab([mix(eyes[0]), mix(eyes[1]), mix(eyes[2])]);
  };
  const [p, q] = [seen(a), seen(b)];
  return Math.hypot(p[0] - q[0], p[1] - q[1], p[2] - q[2]);
}

function contrast(a: string, b: string): number {
  const light = (colour: string): number => {
    const [r, g, b] = linear(colour);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b + 0.05;
  };
  return Math.max(light(a), light(b)) / Math.min(light(a), light(b));
}

describe.each([
  ["light", LIGHT],
  ["dark", DARK],
] as const)("the %s palette", (_, palette: Palette) => {
  it.each(Object.entries(BLIND))("tells the signs apart with %s", (_, eyes) => {
    // A difference of 10 is plain at a glance.
    expect(difference(palette.positive, palette.negative, eyes)).toBeGreaterThan(30);
  });

  it.each(Object.entries(BLIND))("tells groups of nodes apart with %s", (_, eyes) => {
    const { hues, neutral, ink } = palette;
    hues.forEach((hue, n) => {
      for (const other of hues.slice(n + 1)) expect(difference(hue, other, eyes)).toBeGreaterThan(20);
      for (const other of [neutral, ink]) expect(difference(hue, other, eyes)).toBeGreaterThan(13);
    });
    expect(difference(neutral, ink, eyes)).toBeGreaterThan(30);
  });

  it("lets no group of nodes look selected, like an edge, or be lost on its ground", () => {
    for (const colour of [...palette.hues, palette.neutral]) {
      for (const ground of [palette.paper, palette.paperRaised, palette.wash])
        expect(contrast(colour, ground)).toBeGreaterThan(3);
      expect(difference(colour, palette.accent, PLAIN)).toBeGreaterThan(20);
    }
    for (const hue of palette.hues)
      for (const sign of [palette.positive, palette.negative])
        expect(difference(hue, sign, PLAIN)).toBeGreaterThan(25);
  });

  it("can be read", () => {
    expect(contrast(palette.inkSoft, palette.paper)).toBeGreaterThan(4.5);
    expect(contrast(palette.ink, palette.accentWash)).toBeGreaterThan(4.5);
    for (const line of [palette.positive, palette.negative, palette.accent])
      expect(contrast(line, palette.paper)).toBeGreaterThan(4.5);
  });
});
