/** Everything that is known of a component beside its attributions: gathered for a file. */

import { getEvidence, getExamples } from "../api/client";
import { RequestFailed } from "../api/failure";
import type { ComponentCard, Evidence, Example } from "../api/types";
import { getBook } from "../clusters/clusters.svelte";
import type { ExampleKind } from "../location/view";
import { getLabel, getLabels } from "../labels/api";
import type { Label, LabelDetail } from "../labels/api";

/** The most that the server sends at a time. */
const ASSOCIATIONS = 200;
const EXAMPLES = 200;

/** Examples of one kind: all that the harvest keeps, of how many firings. */
export interface KeptExamples {
  /** The harvest that they are from. */
  readonly subrun: string;
  readonly total: number;
  readonly kept: number;
  readonly sampling: string;
  readonly examples: readonly Example[];
}

/** Where the component is in one clustering; `members` only of a cluster. */
export interface Place {
  readonly clustering: string;
  readonly kind: "computed" | "imported";
  readonly iteration: number;
  readonly placement: "cluster" | "alone" | "unknown";
  readonly cluster: number | null;
  readonly density: number | null;
  readonly members: readonly string[] | null;
  readonly settings: Readonly<Record<string, unknown>>;
  readonly provenance: Readonly<Record<string, unknown>>;
}

export interface CardEvidence {
  readonly evidence: Evidence | null;
  readonly examples: Readonly<Record<ExampleKind, KeptExamples>> | null;
  /** What people say, with every step of its history that the server keeps at hand. */
  readonly label: LabelDetail | null;
  /** What is shown: a person's label, else a language model's. */
  readonly shown_label: Label | null;
  readonly cluster: Place | null;
  /** Parts that are not here, each with the reason. */
  readonly missing: Readonly<Record<string, string>>;
  /** What is here of how much, in words. */
  readonly extent: readonly string[];
}

/** Which clusters are on screen. */
export interface Clustering {
  readonly clustering: string | null;
  readonly merges: number | null;
}

async function allExamples(run: string, key: string, kind: ExampleKind): Promise<KeptExamples> {
  const examples: Example[] = [];
  let cursor: string | null = null;
  for (;;) {
    const page = await getExamples(run, key, { kind, token: null }, cursor, EXAMPLES);
    examples.push(...page.examples);
    cursor = page.next_cursor;
    if (cursor !== null) continue;
    const { subrun, total, kept, sampling } = page;
    return { subrun, total, kept, sampling, examples };
  }
}

async function placeOf(run: string, key: string, at: Clustering): Promise<Place | null> {
  const book = await getBook(run, at.clustering, at.merges);
  if (book === null) return null;
  const placement = book.of(key);
  const { clustering, iteration } = book.detail;
  const cluster = placement.kind === "cluster" ? placement.cluster : null;
  return {
    clustering: clustering.subrun,
    kind: clustering.kind,
    iteration,
    placement: placement.kind,
    cluster: cluster?.cluster ?? null,
    density: cluster?.density ?? null,
    members: cluster?.members ?? null,
    settings: clustering.settings,
    provenance: clustering.provenance,
  };
}

/** Attributions that are listed, of how many. */
function listed(card: ComponentCard): string[] {
  const lists = [card.sources_positive, card.sources_negative, card.targets_positive, card.targets_negative];
  return lists.map((list) =>
    list.status === "available"
      ? `${list.direction}, ${list.sign}: ${list.entries.length} of ${list.total}`
      : `${list.direction}, ${list.sign}: none; ${list.reason}`,
  );
}

function extentOf(evidence: Evidence, examples: Readonly<Record<ExampleKind, KeptExamples>>): string[] {
  const lists = [
    ["input tokens", evidence.input_tokens],
    ["output tokens", evidence.output_tokens],
    ["co-firing components", evidence.cofiring],
  ] as const;
  return [
    ...lists.flatMap(([words, list]) => [
      `${words}, more than by chance: ${list.positive.length} of ${list.positive_total}`,
      `${words}, less than by chance: ${list.negative.length} of ${list.negative_total}`,
      ...(list.complete ? [] : [`${words}: only those that the small harvest keeps took part`]),
    ]),
    ...(["random", "strongest"] as const).map((kind) => {
      const { examples: listed, kept, total } = examples[kind];
      return `${kind} examples: ${listed.length} of the ${kept} kept, of ${total} firings`;
    }),
  ];
}

/** Ask for all parts at once. What is refused is named with the reason; without a server it fails as a whole. */
export async function gatherEvidence(card: ComponentCard, at: Clustering): Promise<CardEvidence> {
  const { run, key } = card;
  const missing: Record<string, string> = {};
  const part = async <T>(name: string, asked: Promise<T>): Promise<T | null> => {
    try {
      return await asked;
    } catch (error) {
      if (!(error instanceof RequestFailed) || error.failure.kind !== "refused") throw error;
      missing[name] = `${error.failure.body.message} (${error.failure.body.code})`;
      return null;
    }
  };
  const component = card.kind === "component";
  const labelled = component || card.kind === "delta" || card.kind === "bias";
  const nothing = Promise.resolve(null);
  const [evidence, random, strongest, label, labels, cluster] = await Promise.all([
    component ? part("evidence", getEvidence(run, key, ASSOCIATIONS)) : nothing,
    component ? part("examples", allExamples(run, key, "random")) : nothing,
    component ? part("examples", allExamples(run, key, "strongest")) : nothing,
    labelled ? part("label", getLabel(run, key)) : nothing,
    labelled ? part("label", getLabels(run)) : nothing,
    component ? part("cluster", placeOf(run, key, at)) : nothing,
  ]);
  if (!component) missing["evidence"] = "Only components have evidence";
  else if (cluster === null && missing["cluster"] === undefined)
    missing["cluster"] = "The components of this run are not clustered";
  const examples = random === null || strongest === null ? null : { random, strongest };
  return {
    evidence,
    examples,
    label,
    shown_label: labels?.labels.find((one) => one.key === key) ?? null,
    cluster,
    missing,
    extent: [
      ...listed(card),
      ...(evidence === null || examples === null ? [] : extentOf(evidence, examples)),
    ],
  };
}
