/** What a person says of a component: a name, a note, a rating. Plain functions on it. */

import type { Label, LabelContent, LabelStep } from "./api";

export const NOTHING: LabelContent = { name: "", text: "", rating: null };
export const LONGEST_NAME = 200;
export const LONGEST_NOTE = 20_000;
export const LONGEST_AUTHOR = 80;

const FIELDS = ["name", "text", "rating"] as const;
export type Field = (typeof FIELDS)[number];

export const FIELD_WORDS: Readonly<Record<Field, string>> = { name: "name", text: "note", rating: "rating" };

/** As the server keeps it: a name of one line, nothing around a note. */
export function tidy(content: LabelContent): LabelContent {
  return {
    name: content.name
      .replace(/\p{Cc}/gu, " ")
      .trim()
      .split(/\s+/)
      .join(" "),
    text: content.text
      .replace(/\r\n?/g, "\n")
      .replace(/(?![\t\n])\p{Cc}/gu, "")
      .trim(),
    rating: content.rating,
  };
}

export function differing(one: LabelContent, other: LabelContent): Field[] {
  return FIELDS.filter((field) => one[field] !== other[field]);
}

export function same(one: LabelContent, other: LabelContent): boolean {
  return differing(one, other).length === 0;
}

export function contentOf(label: LabelContent | null): LabelContent {
  return label === null ? NOTHING : { name: label.name, text: label.text, rating: label.rating };
}

export type Merged =
  | { readonly kind: "merged"; readonly content: LabelContent }
  /** Both changed these, each in another way. */
  | { readonly kind: "conflict"; readonly fields: readonly Field[] };

/** Two changes of one label: both hold where they are about different things. */
export function merge(base: LabelContent, mine: LabelContent, theirs: LabelContent): Merged {
  const changed = differing(base, theirs);
  const fields = differing(base, mine).filter(
    (field) => changed.includes(field) && mine[field] !== theirs[field],
  );
  if (fields.length > 0) return { kind: "conflict", fields };
  const pick = <F extends Field>(field: F): LabelContent[F] =>
    changed.includes(field) ? theirs[field] : mine[field];
  return { kind: "merged", content: { name: pick("name"), text: pick("text"), rating: pick("rating") } };
}

/** What stands for the component where there is room for a few words: its name, else how its note begins. */
export function shortWords(label: LabelContent): string {
  if (label.name !== "") return label.name;
  const line = label.text.split("\n", 1)[0] ?? "";
  return [...line].length > 60 ? `${[...line].slice(0, 59).join("")}…` : line;
}

export type ByKey = ReadonlyMap<string, Label>;

export function byKey(labels: readonly Label[]): ByKey {
  return new Map(labels.map((label) => [label.key, label]));
}

/** With this label for the key, or with none. */
export function replaced(all: ByKey, key: string, label: Label | null): ByKey {
  const changed = new Map(all);
  if (label === null) changed.delete(key);
  else changed.set(key, label);
  return changed;
}

/** Key → the few words that stand for the component in lists, drawings and searches. */
export function wordsOf(all: ByKey): ReadonlyMap<string, string> {
  const words = new Map<string, string>();
  for (const [key, label] of all) {
    const short = shortWords(label);
    if (short !== "") words.set(key, short);
  }
  return words;
}

/** Key → all that is written about the component, in small letters: what a search looks in. */
export function textsOf(all: ByKey): ReadonlyMap<string, string> {
  return new Map([...all].map(([key, { name, text }]) => [key, `${name}\n${text}`.toLowerCase()]));
}

export function stars(rating: number): string {
  return "★".repeat(rating) + "☆".repeat(5 - rating);
}

function quoted(text: string): string {
  const line = text.replaceAll("\n", " ");
  return `“${[...line].length > 40 ? `${[...line].slice(0, 39).join("")}…` : line}”`;
}

function changeWords(field: Field, before: LabelContent, after: LabelContent): string {
  const word = FIELD_WORDS[field];
  if (field === "rating") {
    if (after.rating === null) return "no rating any more";
    return before.rating === null ? `rating ${after.rating}` : `rating ${before.rating} → ${after.rating}`;
  }
  if (after[field] === "") return `${word} ${quoted(before[field])} taken away`;
  if (before[field] === "") return `${word} ${quoted(after[field])}`;
  return field === "text"
    ? `note now ${quoted(after.text)}`
    : `${word} ${quoted(before[field])} → ${quoted(after[field])}`;
}

/** What a step did: "name “plural” → “plural nouns”". */
export function stepWords(step: Pick<LabelStep, "before" | "after">): string {
  return differing(step.before, step.after)
    .map((field) => changeWords(field, step.before, step.after))
    .join(", ");
}

/** "2026-11-21 17:40" in the reader's own time. */
export function timeWords(iso: string): string {
  const date = new Date(iso);
  if (Number.isNaN(date.getTime())) return iso;
  const two = (value: number): string => String(value).padStart(2, "0");
  const day = `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
  return `${day} ${two(date.getHours())}:${two(date.getMinutes())}`;
}

export function byWords(author: string, source = "person"): string {
  if (source.startsWith("auto:")) return "given by a model";
  return author === "" ? "by somebody" : `by ${author}`;
}
