import { describe, expect, it } from "vitest";

import {
  type Command,
  type Contents,
  EMPTY,
  GRAPH_NOTE,
  NAME_LIMIT,
  apply,
  commandWords,
  contentsWords,
  freshName,
  noteOf,
  same,
  union,
} from "./model";

function after(...commands: readonly Command[]): Contents {
  return commands.reduce(apply, EMPTY);
}

describe("commands", () => {
  it("pins keep their order and occur once", () => {
    const contents = after({ kind: "pin", keys: ["b", "a"] }, { kind: "pin", keys: ["a", "c"] });
    expect(contents.pins).toEqual(["b", "a", "c"]);
    expect(apply(contents, { kind: "unpin", keys: ["a", "z"] }).pins).toEqual(["b", "c"]);
  });

  it("groups are made, named, filled, emptied and deleted", () => {
    const made = after({ kind: "create_group", id: "1", name: "  subject ", members: ["a", "a", "b"] });
    expect(made.groups).toEqual([{ id: "1", name: "subject", members: ["a", "b"] }]);
    const named = apply(made, { kind: "rename_group", id: "1", name: "verb" });
    expect(named.groups[0]?.name).toBe("verb");
    const filled = apply(named, { kind: "add_members", id: "1", keys: ["c", "b"] });
    expect(filled.groups[0]?.members).toEqual(["a", "b", "c"]);
    const emptied = apply(filled, { kind: "remove_members", id: "1", keys: ["a", "b", "c"] });
    expect(emptied.groups[0]?.members).toEqual([]);
    expect(apply(emptied, { kind: "delete_group", id: "1" }).groups).toEqual([]);
  });

  it("a note replaces the one on the same node; an empty one is none", () => {
    const contents = after(
      { kind: "write_note", key: "a", text: "first" },
      { kind: "write_note", key: GRAPH_NOTE, text: "on the graph" },
      { kind: "write_note", key: "a", text: "second" },
    );
    expect(noteOf(contents, "a")).toBe("second");
    expect(contents.notes).toHaveLength(2);
    expect(apply(contents, { kind: "write_note", key: "a", text: "  " }).notes).toHaveLength(1);
  });

  it.each<Command>([
    { kind: "pin", keys: ["a"] },
    { kind: "unpin", keys: ["z"] },
    { kind: "create_group", id: "1", name: "again", members: [] },
    { kind: "create_group", id: "2", name: "   ", members: [] },
    { kind: "rename_group", id: "1", name: "one" },
    { kind: "rename_group", id: "1", name: "" },
    { kind: "rename_group", id: "9", name: "nobody" },
    { kind: "add_members", id: "1", keys: ["a"] },
    { kind: "remove_members", id: "1", keys: ["z"] },
    { kind: "delete_group", id: "9" },
    { kind: "write_note", key: "a", text: "n" },
    { kind: "write_note", key: "z", text: "" },
  ])("what changes nothing gives the same contents: $kind", (command) => {
    const contents = after(
      { kind: "pin", keys: ["a"] },
      { kind: "create_group", id: "1", name: "one", members: ["a"] },
      { kind: "write_note", key: "a", text: "n" },
    );
    expect(apply(contents, command)).toBe(contents);
  });

  it("names are cut, never refused", () => {
    const contents = after({ kind: "create_group", id: "1", name: "x".repeat(500), members: [] });
    expect(contents.groups[0]?.name).toHaveLength(NAME_LIMIT);
  });

  it("say what they do", () => {
    const before = after({ kind: "create_group", id: "1", name: "one", members: ["a"] });
    expect(commandWords({ kind: "pin", keys: ["0.attn.q:3:17"] }, before)).toBe("pin 0.attn.q:3:17");
    expect(commandWords({ kind: "unpin", keys: ["a", "b"] }, before)).toBe("unpin 2 nodes");
    expect(commandWords({ kind: "delete_group", id: "1" }, before)).toBe("delete group “one”");
    expect(commandWords({ kind: "write_note", key: GRAPH_NOTE, text: "" }, before)).toBe("note on the graph");
  });
});

describe("two versions", () => {
  const mine: Contents = {
    pins: ["a", "b"],
    groups: [{ id: "1", name: "mine", members: ["a"] }],
    notes: [
      { key: "a", text: "one" },
      { key: "b", text: "same" },
    ],
  };
  const theirs: Contents = {
    pins: ["c", "a"],
    groups: [
      { id: "1", name: "theirs", members: ["b"] },
      { id: "2", name: "new", members: ["c"] },
    ],
    notes: [
      { key: "b", text: "same" },
      { key: "a", text: "two" },
    ],
  };

  it("joined lose nothing of either", () => {
    expect(union(mine, theirs)).toEqual({
      pins: ["a", "b", "c"],
      groups: [
        { id: "1", name: "mine", members: ["a", "b"] },
        { id: "2", name: "new", members: ["c"] },
      ],
      notes: [
        { key: "b", text: "same" },
        { key: "a", text: "one\n\ntwo" },
      ],
    });
  });

  it("joining with oneself changes nothing", () => expect(same(union(mine, mine), mine)).toBe(true));

  it("a longer note that holds the shorter one wins", () => {
    const short: Contents = { ...EMPTY, notes: [{ key: "a", text: "one" }] };
    const long: Contents = { ...EMPTY, notes: [{ key: "a", text: "one and more" }] };
    expect(noteOf(union(short, long), "a")).toBe("one and more");
    expect(noteOf(union(long, short), "a")).toBe("one and more");
  });

  it("compare by what they say, not by the order of notes", () => {
    expect(same(mine, { ...mine, notes: [...mine.notes].reverse() })).toBe(true);
    expect(same(mine, { ...mine, pins: ["b", "a"] })).toBe(false);
    expect(same(mine, theirs)).toBe(false);
  });

  it("are told in words", () => expect(contentsWords(theirs)).toBe("2 pins, 2 groups, 2 notes"));
});

it("a fresh name is not taken", () => {
  const contents = after({ kind: "create_group", id: "1", name: "Group 1", members: [] });
  expect(freshName(EMPTY)).toBe("Group 1");
  expect(freshName(contents)).toBe("Group 2");
});
