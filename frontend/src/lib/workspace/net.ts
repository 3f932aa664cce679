/**
 * A safety net in this browser: what is not on the server yet survives a reload, a crash and a server that
 * is gone. A browser that keeps nothing (private windows, a full disk) is no error: the page goes on.
 */

import type { Contents, Group, Note } from "./model";

export interface Draft {
  /** The version on the server that these contents were made from. */
  readonly version: number;
  readonly contents: Contents;
}

export interface Net {
  read(): Draft | null;
  write(draft: Draft): void;
  /** Forget what this net wrote; what another window wrote since stays. */
  clear(): void;
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function isTexts(value: unknown): value is readonly string[] {
  return Array.isArray(value) && value.every((one) => typeof one === "string");
}

function isGroup(value: unknown): value is Group {
  return (
    isRecord(value) &&
    typeof value["id"] === "string" &&
    typeof value["name"] === "string" &&
    isTexts(value["members"])
  );
}

function isNote(value: unknown): value is Note {
  return isRecord(value) && typeof value["key"] === "string" && typeof value["text"] === "string";
}

function isContents(value: unknown): value is Contents {
  return (
    isRecord(value) &&
    isTexts(value["pins"]) &&
    Array.isArray(value["groups"]) &&
    value["groups"].every(isGroup) &&
    Array.isArray(value["notes"]) &&
    value["notes"].every(isNote)
  );
}

/** `null` for anything that this page did not write. */
export function parseDraft(text: string): Draft | null {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return null;
  }
  if (!isRecord(value) || typeof value["version"] !== "number" || !isContents(value["contents"])) return null;
  return { version: value["version"], contents: value["contents"] };
}

type Storage = Pick<globalThis.Storage, "getItem" | "setItem" | "removeItem">;

/** A net under one name; `storage` throws where the browser allows none. */
export function browserNet(name: string, storage: () => Storage = () => localStorage): Net {
  let written: string | null = null;
  const attempt = <T>(what: () => T): T | null => {
    try {
      return what();
    } catch {
      return null;
    }
  };
  return {
    read() {
      const text = attempt(() => storage().getItem(name));
      const draft = text === null ? null : parseDraft(text);
      if (draft !== null) written = text;
      return draft;
    },
    write(draft) {
      const text = JSON.stringify(draft);
      written = text;
      attempt(() => storage().setItem(name, text));
    },
    clear() {
      attempt(() => {
        if (storage().getItem(name) === written) storage().removeItem(name);
      });
      written = null;
    },
  };
}
