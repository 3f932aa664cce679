/**
 * Nodes told apart by what they belong to. What that is, others say; here are its classes and how each is
 * painted: in a hue, in the neutral that stands for everything beyond the hues, in plain ink, or as a cross.
 */

import type { Palette } from "./palette";

/** A hue's number, or a way that no hue can be mistaken for. */
export type Ink = number | "neutral" | "ink" | "cross";

export interface NodeClass {
  readonly id: string;
  readonly words: string;
  /** In a sentence, for whoever asks. */
  readonly means: string;
  readonly ink: Ink;
}

export interface Colouring {
  /** What the colours say, for a caption. */
  readonly words: string;
  readonly classes: readonly NodeClass[];
  /** Place of each node's class; −1: it can be in none, such as a token, or stands for nodes of several. */
  readonly of: Int16Array;
  /** What each node itself belongs to, which its class may only sum up; `null` where it is in none. */
  readonly own: readonly (string | null)[];
}

/** As many as both palettes have. */
export const HUES = 8;

export function colourOf(ink: Ink, palette: Palette): string {
  if (typeof ink === "number") return palette.hues[ink] ?? palette.neutral;
  return { neutral: palette.neutral, ink: palette.ink, cross: palette.inkSoft }[ink];
}

export function classAt(colouring: Colouring | null, node: number): NodeClass | null {
  return colouring?.classes[colouring.of[node] ?? -1] ?? null;
}

/** How many nodes each class has, of all or of those that are shown. */
export function sizesOf(colouring: Colouring, shown: Uint8Array | null = null): readonly number[] {
  const sizes = colouring.classes.map(() => 0);
  colouring.of.forEach((place, node) => {
    if (place >= 0 && (shown === null || shown[node] === 1)) sizes[place] = (sizes[place] ?? 0) + 1;
  });
  return sizes;
}

/** The nodes of one class that are shown. */
export function nodesOf(colouring: Colouring, id: string, shown: Uint8Array): number[] {
  const place = colouring.classes.findIndex((one) => one.id === id);
  const nodes: number[] = [];
  colouring.of.forEach((of, node) => {
    if (of === place && shown[node] === 1) nodes.push(node);
  });
  return place < 0 ? [] : nodes;
}

/** The same classes where nodes stand for several: `members` of each, by the numbers that `colouring` knows. */
export function standingFor(colouring: Colouring, members: readonly (readonly number[])[]): Colouring {
  const of = Int16Array.from(members, (nodes) => common(nodes.map((node) => colouring.of[node] ?? -1)) ?? -1);
  const own = members.map((nodes, n) => {
    const name = common(nodes.map((node) => colouring.own[node] ?? null));
    return name ?? colouring.classes[of[n] ?? -1]?.words ?? null;
  });
  return { ...colouring, of, own };
}

/** What all of them are; `null` where they differ, or where there are none. */
function common<T>(values: readonly T[]): T | null {
  const [first, ...others] = new Set(values);
  return first === undefined || others.length > 0 ? null : first;
}
