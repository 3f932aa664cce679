import { describe, expect, it } from "vitest";

import { secretOf, takeSecret } from "./owner";

/** A tab: what it keeps, and the addresses that it showed. */
function tab(hash: string, before: string | null = null) {
  const values = new Map<string, string>(before === null ? [] : [["tributary-owner", before]]);
  const shown: string[] = [];
  const kept = {
    getItem: (name: string) => values.get(name) ?? null,
    setItem: (name: string, value: string) => void values.set(name, value),
  } as Storage;
  const history = { replaceState: (_: unknown, __: string, address: string) => void shown.push(address) };
  const place = { hash, pathname: "/runs/toy/labels", search: "?set=3" };
  return { found: takeSecret(place, history as unknown as History, kept), values, shown };
}

describe("the owner's link", () => {
  it("is taken out of the address and kept for the tab", () => {
    const { found, values, shown } = tab("#owner=a_B-9");
    expect(found).toBe("a_B-9");
    expect(shown).toEqual(["/runs/toy/labels?set=3"]);
    expect([...values.values()]).toEqual(["a_B-9"]);
  });

  it("is remembered where the address has none, and replaced by a newer one", () => {
    expect(tab("", "old")).toMatchObject({ found: "old", shown: [] });
    expect(tab("#owner=new", "old").found).toBe("new");
    expect(tab("", null).found).toBeNull();
  });

  it("is nothing but a secret", () => {
    expect(secretOf("#main")).toBeNull();
    expect(secretOf("#owner=")).toBeNull();
    expect(secretOf("#owner=a b")).toBeNull();
    expect(secretOf("#owner=%0d%0a")).toBeNull();
    expect(secretOf("#x=1&owner=abc")).toBe("abc");
  });
});
