/** A card as files: JSON for programs, CSV for tables. Numbers are written as they came. */

import type { ComponentCard, Entry } from "../api/types";
import type { CardEvidence } from "./cardEvidence";

export interface Provenance {
  readonly link: string;
  readonly trail: readonly string[];
}

/** The card and, beside it, what else is known of the component. */
export function cardJson(card: ComponentCard, provenance: Provenance, more: CardEvidence): string {
  return JSON.stringify({ ...provenance, card, ...more }, null, 2) + "\n";
}

const COLUMNS = [
  "direction",
  "sign",
  "key",
  "label",
  "value",
  "standard_error",
  "support",
  "scale_free",
  "metric",
  "normalised",
  "unit",
] as const;

/** Quoted where the format needs it, and where a reader would otherwise trim a token's spaces. */
export function csvCell(text: string): string {
  return /[",\n\r]/.test(text) || text !== text.trim() ? `"${text.replaceAll('"', '""')}"` : text;
}

function entryCells(entry: Entry): string[] {
  return [
    entry.key,
    entry.label ?? "",
    String(entry.value),
    entry.standard_error === null ? "" : String(entry.standard_error),
    entry.support === null ? "" : String(entry.support),
    String(entry.scale_free),
  ];
}

/** The attributions alone. */
export function cardCsv(card: ComponentCard): string {
  const lists = [card.sources_positive, card.sources_negative, card.targets_positive, card.targets_negative];
  const lines: string[] = [COLUMNS.join(",")];
  for (const list of lists) {
    if (list.status !== "available") continue;
    for (const entry of list.entries) {
      const cells = [
        list.direction,
        list.sign,
        ...entryCells(entry),
        list.metric,
        String(list.normalised),
        list.unit,
      ];
      lines.push(cells.map(csvCell).join(","));
    }
  }
  return lines.join("\r\n") + "\r\n";
}
