/** All that is known of a component as CSV tables, one for each kind of thing, in one archive. */

import type { ComponentCard, Example } from "../api/types";
import { type Provenance, cardCsv, csvCell } from "./card";
import type { CardEvidence } from "./cardEvidence";
import { UNIT_NAMES } from "../words";
import type { TextFile } from "./zip";

type Cell = string | number | boolean | null | undefined;

function table(columns: readonly string[], rows: readonly (readonly Cell[])[]): string {
  const lines = [columns, ...rows].map((row) =>
    row.map((cell) => csvCell(cell === null || cell === undefined ? "" : String(cell))).join(","),
  );
  return lines.join("\r\n") + "\r\n";
}

/** Rows of things that have the same numbers: the columns named, in their order. */
function rowsOf<T extends object>(
  list: readonly T[],
  columns: readonly (keyof T & string)[],
  before: readonly Cell[] = [],
): Cell[][] {
  return list.map((one) => [...before, ...columns.map((name) => one[name] as Cell)]);
}

const SHARES = [
  "recall",
  "recall_low",
  "recall_high",
  "precision",
  "precision_low",
  "precision_high",
] as const;
const CHANCE = ["lift", "pmi", "pmi_low", "pmi_high"] as const;
const TOKEN = ["token_id", "text", "count", "token_total", "firing_count", ...SHARES, ...CHANCE] as const;
const OTHER = ["key", "count", "other_count", ...SHARES, "jaccard", ...CHANCE] as const;

function statistics(card: ComponentCard, more: CardEvidence): Cell[][] {
  const { evidence, shown_label: label, cluster } = more;
  const facts: [string, Cell][] = [
    ["run", card.run],
    ["key", card.key],
    ["attributions", card.subrun],
  ];
  if (evidence !== null) {
    const { activation } = evidence;
    facts.push(
      ["harvest", evidence.subrun],
      ["tokens", evidence.tokens],
      ["documents", evidence.documents],
      ["threshold", evidence.threshold],
      ["firing_count", evidence.firing_count],
      ["density", evidence.density],
      ["mean_ci", evidence.mean_ci],
      ["max_ci", evidence.max_ci],
      ["activation_mean", activation.mean],
      ["activation_rms", activation.rms],
      ["activation_min", activation.min],
      ["activation_max", activation.max],
      ["activation_mean_firing", activation.mean_firing],
    );
  }
  if (label !== null) {
    facts.push(
      ["label", label.name],
      ["label_note", label.text],
      ["label_rating", label.rating],
      ["label_author", label.author],
      ["label_source", label.source],
      ["label_updated", label.updated],
    );
  }
  if (cluster !== null) {
    facts.push(
      ["clustering", cluster.clustering],
      ["clustering_iteration", cluster.iteration],
      ["cluster", cluster.cluster ?? cluster.placement],
      ["cluster_density", cluster.density],
      ["cluster_members", cluster.members?.join(" ")],
    );
  }
  return facts;
}

/** One line for each token of each example; `offset` 0 is the token at which the component fires. */
function exampleRows(kind: string, examples: readonly Example[]): Cell[][] {
  return examples.flatMap((example, number) =>
    example.tokens.flatMap((token, place) => {
      if (token === null) return [];
      const offset = place - example.left;
      return [
        [
          kind,
          number,
          example.document,
          example.document_title,
          example.document_position + offset,
          example.corpus_position + offset,
          offset,
          token.id,
          token.text,
          example.ci[place],
          example.activation[place],
        ],
      ];
    }),
  );
}

/** What an archive holds and where it came from, for who opens it later. */
function about(
  card: ComponentCard,
  provenance: Provenance,
  more: CardEvidence,
  files: readonly string[],
): string {
  const { evidence } = more;
  const lines = [
    `${card.key} in ${card.run}`,
    provenance.link,
    "",
    `Attributions: ${card.metric}, ${UNIT_NAMES[card.unit]}, at most ${card.k} a list, of ${card.subrun ?? "none"}.`,
    ...card.notes,
    ...(evidence === null
      ? []
      : [
          `Evidence: harvest ${evidence.subrun}, ${evidence.tokens} tokens of ${evidence.documents} documents; ${evidence.unit}.`,
          evidence.ranking,
          `Examples: ${evidence.sampling}`,
          ...evidence.notes,
        ]),
    ...(more.extent.length === 0 ? [] : ["", "How much of how much:", ...more.extent]),
    ...Object.entries(more.missing).map(([name, why]) => `Not here: ${name}. ${why}`),
    "",
    ...files,
  ];
  return lines.join("\n") + "\n";
}

/** The tables of an archive; those of which nothing is known are left out. */
export function cardTables(card: ComponentCard, provenance: Provenance, more: CardEvidence): TextFile[] {
  const { evidence, examples } = more;
  const files: TextFile[] = [
    { name: "attributions.csv", text: cardCsv(card) },
    { name: "statistics.csv", text: table(["name", "value"], statistics(card, more)) },
  ];
  if (evidence !== null) {
    const { edges, counts } = evidence.histogram;
    const sides = [
      ["input", evidence.input_tokens],
      ["output", evidence.output_tokens],
    ] as const;
    const signs = ["positive", "negative"] as const;
    files.push(
      {
        name: "histogram.csv",
        text: table(
          ["activation_from", "activation_to", "firings"],
          counts.map((count, bin) => [edges[bin], edges[bin + 1], count]),
        ),
      },
      {
        name: "tokens.csv",
        text: table(
          ["side", "sign", ...TOKEN],
          sides.flatMap(([side, list]) => signs.flatMap((sign) => rowsOf(list[sign], TOKEN, [side, sign]))),
        ),
      },
      {
        name: "cofiring.csv",
        text: table(
          ["sign", ...OTHER],
          signs.flatMap((sign) => rowsOf(evidence.cofiring[sign], OTHER, [sign])),
        ),
      },
    );
  }
  if (examples !== null) {
    files.push({
      name: "examples.csv",
      text: table(
        "kind,example,document,title,document_position,corpus_position,offset,token_id,text,ci,activation".split(
          ",",
        ),
        (["random", "strongest"] as const).flatMap((kind) => exampleRows(kind, examples[kind].examples)),
      ),
    });
  }
  if (more.label !== null && more.label.steps.length > 0) {
    files.push({
      name: "label-history.json",
      text: JSON.stringify(more.label, null, 2) + "\n",
    });
  }
  const names = files.map(({ name }) => name);
  return [{ name: "about.txt", text: about(card, provenance, more, names) }, ...files];
}
