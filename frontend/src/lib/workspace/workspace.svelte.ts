/**
 * The workspace of the graph on screen, for components. Made once by the page (`new Workspace(() => graph)`,
 * during its set-up) and passed to every panel; follows the graph when another one is opened. Ctrl-Z and
 * Ctrl-Shift-Z work anywhere outside of text fields.
 */

import { connection } from "../api/connection.svelte";
import { begin, redoWords, undoWords } from "./history";
import {
  type Command,
  type Contents,
  EMPTY,
  type Group,
  freshName,
  noteOf,
  notesOf,
  pinnedOf,
} from "./model";
import { browserNet } from "./net";
import { type SaveState, Session, type SessionState } from "./session";
import { directionOf, isTyping } from "./shortcuts";
import { type GraphRef, serverStore } from "./store";

const CLOSED: SessionState = { history: begin(EMPTY), save: { kind: "loading" } };

function newId(): string {
  return Array.from(crypto.getRandomValues(new Uint8Array(6)), (byte) =>
    byte.toString(16).padStart(2, "0"),
  ).join("");
}

export class Workspace {
  #state: SessionState = $state.raw(CLOSED);
  #session: Session | null = null;
  #pinned = $derived(pinnedOf(this.#state.history.present));
  #notes = $derived(notesOf(this.#state.history.present));

  /** `graph`: the graph on screen, or `null` while there is none. Must be called where effects may be made. */
  constructor(graph: () => GraphRef | null) {
    const identity = $derived.by(() => {
      const found = graph();
      return found === null ? null : JSON.stringify([found.id, found.run, found.prompt_id, found.created]);
    });
    $effect(() => {
      if (identity === null) return;
      const [id, run, prompt_id, created] = JSON.parse(identity) as [number, string, number, string];
      // With its date: another database may give the same number to another graph.
      const net = browserNet(`tributary-workspace ${id} ${created}`);
      const session = new Session(serverStore({ id, run, prompt_id, created }), net, (state) => {
        this.#state = state;
      });
      this.#session = session;
      void session.open();
      return () => {
        session.close();
        this.#session = null;
        this.#state = CLOSED;
      };
    });
    $effect(() => {
      if (connection.epoch > 0) this.#session?.retry();
    });
    $effect(() => {
      const hidden = (): void => {
        if (document.visibilityState === "hidden") void this.#session?.flush();
      };
      const pressed = (event: KeyboardEvent): void => {
        const direction = event.defaultPrevented || isTyping(event.target) ? null : directionOf(event);
        if (direction === null) return;
        event.preventDefault();
        this[direction]();
      };
      document.addEventListener("visibilitychange", hidden);
      window.addEventListener("keydown", pressed);
      return () => {
        document.removeEventListener("visibilitychange", hidden);
        window.removeEventListener("keydown", pressed);
      };
    });
  }

  get contents(): Contents {
    return this.#state.history.present;
  }

  get save(): SaveState {
    return this.#state.save;
  }

  /** Read from the server: before that nothing can be changed. */
  get ready(): boolean {
    return this.save.kind !== "loading" && this.save.kind !== "unread";
  }

  /** Keys of the pinned nodes. */
  get pinned(): ReadonlySet<string> {
    return this.#pinned;
  }

  /** Texts by key; the note on the graph itself under the empty key. */
  get notes(): ReadonlyMap<string, string> {
    return this.#notes;
  }

  get groups(): readonly Group[] {
    return this.contents.groups;
  }

  /** What undo would undo, in words; `null` where there is nothing. */
  get undoWords(): string | null {
    return undoWords(this.#state.history);
  }

  get redoWords(): string | null {
    return redoWords(this.#state.history);
  }

  do(command: Command, tag: string | null = null): void {
    this.#session?.do(command, tag);
  }

  undo(): void {
    this.#session?.undo();
  }

  redo(): void {
    this.#session?.redo();
  }

  pin(keys: readonly string[]): void {
    this.do({ kind: "pin", keys });
  }

  unpin(keys: readonly string[]): void {
    this.do({ kind: "unpin", keys });
  }

  /** Unpins where all are pinned, else pins. */
  togglePins(keys: readonly string[]): void {
    if (keys.every((key) => this.#pinned.has(key))) this.unpin(keys);
    else this.pin(keys);
  }

  /** Gives the new group's id. */
  createGroup(members: readonly string[], name: string = freshName(this.contents)): string {
    const id = newId();
    this.do({ kind: "create_group", id, name, members });
    return id;
  }

  note(key: string): string {
    return noteOf(this.contents, key);
  }

  /** While it is typed; `settle` when it is left. */
  writeNote(key: string, text: string): void {
    this.do({ kind: "write_note", key, text }, `note ${key}`);
  }

  settle(): void {
    this.#session?.settle();
  }

  /** Send at once what waits to be sent. */
  async flush(): Promise<void> {
    await this.#session?.flush();
  }

  retry(): void {
    this.#session?.retry();
  }

  takeTheirs(): void {
    this.#session?.takeTheirs();
  }

  keepMine(): void {
    this.#session?.keepMine();
  }

  keepBoth(): void {
    this.#session?.keepBoth();
  }
}
