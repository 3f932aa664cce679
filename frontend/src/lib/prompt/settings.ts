/** Settings of a graph: what is usual, and every choice in words. */

import type { DeltaTreatment, GraphSettings } from "../api/promptTypes";
import { count, number } from "../format/numbers";

export const USUAL: GraphSettings = {
  delta: "node",
  alive_above: 0,
  output_probability: 0.01,
  outputs_at_most: 5,
  output_positions: "last",
  targets: [],
  threshold: 0,
  max_edges: null,
};

export const DELTA_WORDS: Readonly<
  Record<DeltaTreatment, { readonly name: string; readonly means: string }>
> = {
  node: {
    name: "a node of its own",
    means: "Numbers are the target model's; what no component explains is a source that you can see.",
  },
  off: {
    name: "left out",
    means: "The model runs on its components alone. Its predictions can differ from the target model's.",
  },
  through: {
    name: "passed through",
    means: "Influence flows through what is unexplained as if it were wire. Slower.",
  },
};

/** A number that somebody types; `null` where it is none or out of bounds. */
export function typed(text: string, least: number, most: number, whole = false): number | null {
  const trimmed = text.trim();
  if (trimmed === "") return null;
  const value = Number(trimmed);
  if (!Number.isFinite(value) || value < least || value > most) return null;
  return whole && !Number.isInteger(value) ? null : value;
}

/** A number as somebody typed it. */
export function plain(value: number): string {
  return String(Number(value.toPrecision(6)));
}

function outputWords(settings: GraphSettings): string {
  const { targets, outputs_at_most: most, output_positions: where } = settings;
  const custom = targets.length === 0 ? "" : targets.map((target) => target.name).join(", ");
  if (most === 0) return custom === "" ? "no output" : custom;
  const place =
    where === "last"
      ? "at the last position"
      : where === "all"
        ? "at every position"
        : `at position ${where.join(", ")}`;
  const likely = `the ${most === 1 ? "likeliest token" : `${most} likeliest tokens`} of at least ${plain(settings.output_probability * 100)} % ${place}`;
  return custom === "" ? likely : `${custom}, and ${likely}`;
}

/** The settings as one sentence. */
export function settingsWords(settings: GraphSettings): string {
  const most = settings.max_edges ?? null;
  const parts = [`Explains ${outputWords(settings)}`];
  if (settings.alive_above > 0) parts.push(`components with CI above ${plain(settings.alive_above)}`);
  parts.push(`delta is ${DELTA_WORDS[settings.delta].name}`);
  if (settings.threshold > 0) parts.push(`edges of at least ${plain(settings.threshold)}`);
  parts.push(most === null ? "every edge" : `the ${count(most)} strongest edges`);
  return `${parts.join("; ")}.`;
}

export function bytesWords(bytes: number): string {
  const units = ["bytes", "kB", "MB", "GB", "TB"] as const;
  let value = bytes;
  let unit = 0;
  while (value >= 999.5 && unit < units.length - 1) {
    value /= 1000;
    unit += 1;
  }
  return `${unit === 0 ? count(value) : number(value)} ${units[unit]}`;
}

/** A duration as somebody would say it. */
export function durationWords(seconds: number): string {
  if (seconds < 0.95) return `${Math.max(1, Math.round(seconds * 1000))} ms`;
  if (seconds < 9.95) return `${seconds.toFixed(1)} s`;
  if (seconds < 90) return `${Math.round(seconds)} s`;
  const minutes = Math.round(seconds / 60);
  return minutes < 90 ? `${minutes} min` : `${(minutes / 60).toFixed(1)} h`;
}
