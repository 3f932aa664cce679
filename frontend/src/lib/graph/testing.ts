/** Made-up graphs with the shape of real ones, for tests, the benchmark and a look at the picture. */

import { BIAS, DELTA, type GraphData, parseGraph } from "./data";

/** Mulberry32: the same numbers from the same seed everywhere. */
export function random(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

export interface Made {
  readonly tokens?: readonly string[];
  readonly blocks?: number;
  readonly nodes?: number;
  readonly edges?: number;
  readonly outputs?: number;
  readonly seed?: number;
}

export const SENTENCE: readonly string[] =
  "Once| upon| a| time|,| there| was| a| little| girl| named| Lily|.| She| loved| to| play|\n|outside| in".split(
    "|",
  );

const PROJECTIONS = ["attn.q", "attn.k", "attn.v", "attn.o", "glu.gate", "glu.up", "glu.down"];

/** The two answers of a server about a made-up graph. */
export function madeAnswers(made: Made = {}): { detail: Record<string, unknown>; edges: ArrayBuffer } {
  const next = random(made.seed ?? 7);
  const tokens = made.tokens ?? SENTENCE;
  const blocks = made.blocks ?? 4;
  const wanted = made.nodes ?? 600;
  const outputs = made.outputs ?? 5;
  const addresses = [
    "embed",
    ...Array.from({ length: blocks }, (_, block) => PROJECTIONS.map((name) => `${block}.${name}`)).flat(),
    "output",
  ];
  const columns: Record<string, (number | null)[]> = Object.fromEntries(
    [
      "site",
      "position",
      "index",
      "ci",
      "activation",
      "scale",
      "probability",
      "logit",
      "ci_probability",
      "ci_logit",
    ].map((name) => [name, []]),
  );
  const labels: Record<string, string> = {};
  const add = (site: number, position: number, index: number, values: Record<string, number> = {}): void => {
    const entry: Record<string, number | null> = { site, position, index, scale: 1, ...values };
    for (const [name, column] of Object.entries(columns)) column.push(entry[name] ?? null);
  };
  const component = (site: number, position: number, index: number): void =>
    add(site, position, index, {
      ci: Math.min(1, 0.02 + next() ** 2),
      activation: (next() - 0.4) * 6,
      scale: 0.3 + 2 * next(),
    });
  tokens.forEach((text, position) => {
    labels[String(columns["site"]?.length ?? 0)] = text;
    add(0, position, 40 + position, { activation: 1 + next() });
  });
  // Skewed like real ones: a few sites are busy at every position, most have under three alive components.
  const busy = Array.from({ length: addresses.length }, (_, site) => (site % 9 === 4 ? 30 : 1.2 * next()));
  const weight = busy.slice(1, -1).reduce((sum, value) => sum + value, 0) * tokens.length;
  const fixed = tokens.length * (1 + (addresses.length - 2)) + outputs;
  const share = Math.max(0, wanted - fixed) / weight;
  for (let site = 1; site < addresses.length - 1; site++)
    tokens.forEach((_, position) => {
      const mean = (busy[site] ?? 1) * share * (0.4 + 1.2 * next());
      const alive = Math.floor(mean) + (next() < mean % 1 ? 1 : 0);
      const used = new Set<number>();
      while (used.size < alive) used.add(Math.floor(next() * Math.max(1536, 2 * alive)));
      for (const index of [...used].sort((a, b) => a - b)) component(site, position, index);
      add(site, position, DELTA, { activation: next() });
      if (made.seed !== undefined && site % 7 === 0 && position % 5 === 0) add(site, position, BIAS);
    });
  const words = [" Once", " upon", " the", " a", "\n", " her", " outside", " with"];
  let left = 1;
  for (let n = 0; n < outputs; n++) {
    const probability = left * (0.3 + 0.3 * next());
    left -= probability;
    labels[String(columns["site"]?.length ?? 0)] = words[n % words.length] ?? " x";
    add(addresses.length - 1, tokens.length - 1, 100 + n, {
      activation: 10 - n,
      logit: 10 - n,
      probability,
      ci_probability: probability * 0.9,
      ci_logit: 9.5 - n,
    });
  }
  const edges = madeEdges(columns as Record<"site" | "position", number[]>, made.edges ?? 4000, next);
  return {
    detail: {
      tokens: tokens.map((text, n) => ({ id: 40 + n, text })),
      addresses,
      targets: [],
      nodes: columns,
      labels,
      omitted: { edges: 0, share: 0, share_abs: 0 },
    },
    edges,
  };
}

function madeEdges(
  nodes: Record<"site" | "position", number[]>,
  wanted: number,
  next: () => number,
): ArrayBuffer {
  const count = nodes.site.length;
  const used = new Map<number, number>();
  for (let tries = 0; used.size < wanted && tries < 40 * wanted; tries++) {
    const a = Math.floor(next() * count);
    const b = Math.floor(next() * count);
    const [source, target] = (nodes.site[a] ?? 0) < (nodes.site[b] ?? 0) ? [a, b] : [b, a];
    if (nodes.site[source] === nodes.site[target]) continue;
    const [from, to] = [nodes.position[source] ?? 0, nodes.position[target] ?? 0];
    if (from > to) continue;
    // Most attributions stay at their token and near their layer.
    const far = Math.abs((nodes.site[source] ?? 0) - (nodes.site[target] ?? 0));
    if (next() > Math.exp(-(to - from) / 2.5 - far / 12)) continue;
    const heavy = Math.exp(
      2.2 * Math.sqrt(-2 * Math.log(next() + 1e-12)) * Math.cos(2 * Math.PI * next()) - 4,
    );
    used.set(source * count + target, (next() < 0.42 ? -1 : 1) * heavy);
  }
  const sorted = [...used].sort(([a], [b]) => (a % count) - (b % count) || a - b);
  const buffer = new ArrayBuffer(24 + 16 * sorted.length);
  const view = new DataView(buffer);
  [..."TRIBGRF1"].forEach((letter, n) => view.setUint8(n, letter.charCodeAt(0)));
  view.setUint32(8, sorted.length, true);
  view.setUint32(12, sorted.length, true);
  sorted.forEach(([pair, value], n) => {
    view.setUint32(24 + 4 * n, Math.floor(pair / count), true);
    view.setUint32(24 + 4 * (sorted.length + n), pair % count, true);
    view.setFloat32(24 + 4 * (2 * sorted.length + n), value, true);
    view.setFloat32(24 + 4 * (3 * sorted.length + n), value * (next() < 0.3 ? -1 : 1), true);
  });
  return buffer;
}

export function madeGraph(made: Made = {}): GraphData {
  const { detail, edges } = madeAnswers(made);
  return parseGraph(detail, edges);
}
