/**
 * The colours of the picture, in both lights: those of app.css, which a canvas cannot read from there. A test
 * holds the two together, and measures that the hues of sign, and those of groups of nodes, stay apart for
 * colour-blind eyes.
 */

export interface Palette {
  readonly paper: string;
  readonly paperRaised: string;
  readonly wash: string;
  readonly ink: string;
  readonly inkSoft: string;
  readonly hairline: string;
  readonly rule: string;
  readonly rest: string;
  readonly positive: string;
  readonly negative: string;
  readonly accent: string;
  readonly accentWash: string;
  /** Of what nodes are told apart by; the first go to what most nodes belong to. */
  readonly hues: readonly string[];
  /** Of what is beyond the hues. */
  readonly neutral: string;
}

export const LIGHT: Palette = {
  paper: "#fbfaf6",
  paperRaised: "#fffefb",
  wash: "#f2efe6",
  ink: "#1d1b16",
  inkSoft: "#5a5549",
  hairline: "#dfdacd",
  rule: "#a9a291",
  rest: "#cfc9ba",
  positive: "#1c5c9c",
  negative: "#a94a0b",
  accent: "#0d665a",
  accentWash: "#e0eee8",
  hues: ["#6a884c", "#b042b0", "#a67e10", "#4c74f6", "#a62e60", "#6a2e10", "#10107e", "#421042"],
  neutral: "#8d8776",
};

export const DARK: Palette = {
  paper: "#161511",
  paperRaised: "#1f1d18",
  wash: "#211f1a",
  ink: "#ece7db",
  inkSoft: "#aea797",
  hairline: "#35322a",
  rule: "#5f5a4e",
  rest: "#4a463c",
  positive: "#86b7ec",
  negative: "#f0a264",
  accent: "#72cbb7",
  accentWash: "#1c332d",
  hues: ["#749c10", "#ce2e9c", "#f6ce38", "#6074f6", "#d8104c", "#e2889c", "#10d8f6", "#baf6a6"],
  neutral: "#7d7768",
};

/** `#rrggbb` as red, green and blue from 0 to 1. */
export function channels(colour: string): readonly [number, number, number] {
  const value = Number.parseInt(colour.slice(1), 16);
  return [((value >> 16) & 255) / 255, ((value >> 8) & 255) / 255, (value & 255) / 255];
}
