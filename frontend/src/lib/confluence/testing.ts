/** Lists made up for unit tests. Never part of the page. */

import type { Entry, EntryList, Unavailable } from "../api/types";

export function entry(key: string, value: number, more: Partial<Entry> = {}): Entry {
  const index = Number(key.split(":")[1]);
  return {
    key,
    address: key.split(":")[0] ?? "",
    index,
    kind: "component",
    value,
    standard_error: null,
    support: 16,
    label: null,
    scale_free: false,
    ...more,
  };
}

export function list(
  sign: EntryList["sign"],
  values: readonly number[],
  more: Partial<EntryList> = {},
): EntryList {
  const shown = values.reduce((sum, value) => sum + value, 0);
  return {
    status: "available",
    run: "demo",
    key: "1.glu.down:7",
    direction: "sources",
    metric: "attr",
    sign,
    normalised: true,
    unit: "normalised",
    tokens: 1000,
    subrun: "20261121-100000",
    entries: values.map((value, n) => entry(`0.attn.q:${n}`, value)),
    total: values.length,
    total_value: shown,
    shown_value: shown,
    seconds: 0,
    ...more,
  };
}

export function unavailable(sign: EntryList["sign"], reason: string): Unavailable {
  return { status: "unavailable", direction: "sources", metric: "attr", sign, reason };
}
