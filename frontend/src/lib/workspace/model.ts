/**
 * What a person adds to a graph: pins, named groups and notes. Immutable; every change is a command, and
 * a command that changes nothing gives back the very same contents. Nodes are named by their keys.
 */

export interface Group {
  readonly id: string;
  readonly name: string;
  readonly members: readonly string[];
}

export interface Note {
  /** A node's key, or `GRAPH_NOTE`. */
  readonly key: string;
  readonly text: string;
}

export interface Contents {
  /** In the order in which they were pinned. */
  readonly pins: readonly string[];
  readonly groups: readonly Group[];
  readonly notes: readonly Note[];
}

/** The key of the note on the graph itself. */
export const GRAPH_NOTE = "";
export const EMPTY: Contents = { pins: [], groups: [], notes: [] };
export const NAME_LIMIT = 80;

export type Command =
  | { readonly kind: "pin"; readonly keys: readonly string[] }
  | { readonly kind: "unpin"; readonly keys: readonly string[] }
  | {
      readonly kind: "create_group";
      readonly id: string;
      readonly name: string;
      readonly members: readonly string[];
    }
  | { readonly kind: "rename_group"; readonly id: string; readonly name: string }
  | { readonly kind: "add_members"; readonly id: string; readonly keys: readonly string[] }
  | { readonly kind: "remove_members"; readonly id: string; readonly keys: readonly string[] }
  | { readonly kind: "delete_group"; readonly id: string }
  | { readonly kind: "write_note"; readonly key: string; readonly text: string }
  /** All of it at once: what another window saved. */
  | { readonly kind: "replace"; readonly contents: Contents; readonly words: string };

function united(before: readonly string[], more: readonly string[]): readonly string[] {
  const all = new Set([...before, ...more]);
  return all.size === before.length ? before : [...all];
}

function without(before: readonly string[], gone: readonly string[]): readonly string[] {
  const out = new Set(gone);
  const rest = before.filter((key) => !out.has(key));
  return rest.length === before.length ? before : rest;
}

function withGroup(contents: Contents, id: string, change: (group: Group) => Group): Contents {
  let changed = false;
  const groups = contents.groups.map((group) => {
    const next = group.id === id ? change(group) : group;
    changed ||= next !== group;
    return next;
  });
  return changed ? { ...contents, groups } : contents;
}

function withMembers(group: Group, members: readonly string[]): Group {
  return members === group.members ? group : { ...group, members };
}

export function groupName(text: string): string {
  return text.trim().slice(0, NAME_LIMIT);
}

export function noteOf(contents: Contents, key: string): string {
  return contents.notes.find((note) => note.key === key)?.text ?? "";
}

export function pinnedOf(contents: Contents): ReadonlySet<string> {
  return new Set(contents.pins);
}

/** Texts by key. */
export function notesOf(contents: Contents): ReadonlyMap<string, string> {
  return new Map(contents.notes.map((note) => [note.key, note.text]));
}

function withNote(contents: Contents, key: string, text: string): Contents {
  if (noteOf(contents, key) === text) return contents;
  const others = contents.notes.filter((note) => note.key !== key);
  return { ...contents, notes: text.trim() === "" ? others : [...others, { key, text }] };
}

/** The contents after a command; the same object where it changes nothing. */
export function apply(contents: Contents, command: Command): Contents {
  switch (command.kind) {
    case "pin": {
      const pins = united(contents.pins, command.keys);
      return pins === contents.pins ? contents : { ...contents, pins };
    }
    case "unpin": {
      const pins = without(contents.pins, command.keys);
      return pins === contents.pins ? contents : { ...contents, pins };
    }
    case "create_group": {
      const name = groupName(command.name);
      if (name === "" || contents.groups.some((group) => group.id === command.id)) return contents;
      const members = [...new Set(command.members)];
      return { ...contents, groups: [...contents.groups, { id: command.id, name, members }] };
    }
    case "rename_group": {
      const name = groupName(command.name);
      if (name === "") return contents;
      return withGroup(contents, command.id, (group) => (group.name === name ? group : { ...group, name }));
    }
    case "add_members":
      return withGroup(contents, command.id, (group) =>
        withMembers(group, united(group.members, command.keys)),
      );
    case "remove_members":
      return withGroup(contents, command.id, (group) =>
        withMembers(group, without(group.members, command.keys)),
      );
    case "delete_group": {
      const groups = contents.groups.filter((group) => group.id !== command.id);
      return groups.length === contents.groups.length ? contents : { ...contents, groups };
    }
    case "write_note":
      return withNote(contents, command.key, command.text);
    case "replace":
      return same(contents, command.contents) ? contents : command.contents;
  }
}

function nodes(keys: readonly string[]): string {
  return keys.length === 1 ? (keys[0] ?? "") : `${keys.length} nodes`;
}

/** A command in words, for "Undo: …"; `before` is what it was applied to. */
export function commandWords(command: Command, before: Contents): string {
  const group = (id: string): string => {
    const name = before.groups.find((one) => one.id === id)?.name ?? id;
    return `group “${name}”`;
  };
  switch (command.kind) {
    case "pin":
      return `pin ${nodes(command.keys)}`;
    case "unpin":
      return `unpin ${nodes(command.keys)}`;
    case "create_group":
      return `make group “${groupName(command.name)}”`;
    case "rename_group":
      return `rename ${group(command.id)}`;
    case "add_members":
      return `add ${nodes(command.keys)} to ${group(command.id)}`;
    case "remove_members":
      return `take ${nodes(command.keys)} out of ${group(command.id)}`;
    case "delete_group":
      return `delete ${group(command.id)}`;
    case "write_note":
      return command.key === GRAPH_NOTE ? "note on the graph" : `note on ${command.key}`;
    case "replace":
      return command.words;
  }
}

function sameKeys(a: readonly string[], b: readonly string[]): boolean {
  return a.length === b.length && a.every((key, at) => key === b[at]);
}

/** Whether two contents say the same; the order of notes says nothing. */
export function same(a: Contents, b: Contents): boolean {
  if (a === b) return true;
  return (
    sameKeys(a.pins, b.pins) &&
    a.groups.length === b.groups.length &&
    a.groups.every((group, at) => {
      const other = b.groups[at];
      return (
        other !== undefined &&
        group.id === other.id &&
        group.name === other.name &&
        sameKeys(group.members, other.members)
      );
    }) &&
    a.notes.length === b.notes.length &&
    a.notes.every((note) => noteOf(b, note.key) === note.text)
  );
}

/**
 * Both of two versions in one: every pin, every group, every note of either. Two groups of one id become
 * one with the members of both under the name of `mine`; two notes on one node are joined.
 */
export function union(mine: Contents, theirs: Contents): Contents {
  let result: Contents = { ...mine, pins: united(mine.pins, theirs.pins) };
  for (const group of theirs.groups) {
    const known = result.groups.some((one) => one.id === group.id);
    result = apply(
      result,
      known ? { kind: "add_members", id: group.id, keys: group.members } : { kind: "create_group", ...group },
    );
  }
  for (const { key, text } of theirs.notes) {
    const own = noteOf(mine, key);
    if (own.includes(text)) continue;
    result = withNote(result, key, own === "" || text.includes(own) ? text : `${own}\n\n${text}`);
  }
  return result;
}

/** What a version has, in words: "3 pins, 1 group, no notes". */
export function contentsWords(contents: Contents): string {
  const some = (count: number, one: string): string =>
    count === 0 ? `no ${one}s` : count === 1 ? `1 ${one}` : `${count} ${one}s`;
  return [
    some(contents.pins.length, "pin"),
    some(contents.groups.length, "group"),
    some(contents.notes.length, "note"),
  ].join(", ");
}

/** A name for a new group that no group has yet. */
export function freshName(contents: Contents): string {
  const taken = new Set(contents.groups.map((group) => group.name));
  for (let number = 1; ; number += 1) {
    const name = `Group ${number}`;
    if (!taken.has(name)) return name;
  }
}
