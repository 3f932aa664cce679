/**
 * One graph's workspace while it is open: its history, and its way to the server. Plain TypeScript with
 * its collaborators passed in.
 *
 * Every change is kept in the browser at once and sent a moment later. While the server is silent it is
 * sent again and again. Where another window saved in between, nothing is overwritten: the state says
 * `conflict` until the person has chosen, and what was not chosen stays in the history.
 */

import { type Failure, RequestFailed } from "../api/failure";
import * as histories from "./history";
import type { History } from "./history";
import { type Command, type Contents, EMPTY, apply, commandWords, same, union } from "./model";
import type { Net } from "./net";

/** Contents as the server has them. */
export interface Stored extends Contents {
  readonly version: number;
}

export interface Store {
  load(): Promise<Stored>;
  /** Gives the new version; refused with status 409 where `stored.version` is not the newest. */
  save(stored: Stored): Promise<{ readonly version: number }>;
}

/** Calls back after some milliseconds unless the returned function was called before. */
export type After = (milliseconds: number, then: () => void) => () => void;

export type SaveState =
  | { readonly kind: "loading" }
  /** Not even read yet; asked for again. */
  | { readonly kind: "unread"; readonly failure: Failure }
  | { readonly kind: "saved" }
  /** Changed a moment ago, to be sent in another. */
  | { readonly kind: "changed" }
  | { readonly kind: "saving" }
  /** The server is silent or busy: kept in this browser, sent again. */
  | { readonly kind: "kept" }
  | { readonly kind: "conflict"; readonly theirs: Stored }
  /** The server refuses it; kept in this browser. */
  | { readonly kind: "refused"; readonly failure: Failure };

export interface SessionState {
  readonly history: History<Contents>;
  readonly save: SaveState;
}

const QUIET_MS = 700;
const RETRY_MS = [1000, 2000, 5000, 10_000, 30_000] as const;

export const systemAfter: After = (milliseconds, then) => {
  const timer = setTimeout(then, milliseconds);
  return () => clearTimeout(timer);
};

function contentsOf({ pins, groups, notes }: Stored): Contents {
  return { pins, groups, notes };
}

/** A failure that time may heal. */
function passing(failure: Failure): boolean {
  return failure.kind === "offline" || failure.status === 503;
}

export class Session {
  #state: SessionState = { history: histories.begin(EMPTY), save: { kind: "loading" } };
  readonly #store: Store;
  readonly #net: Net;
  readonly #after: After;
  #listener: ((state: SessionState) => void) | null;
  /** What the server has, as far as we know; `null` until it was read. */
  #base: Stored | null = null;
  #stopTimer: () => void = () => undefined;
  #attempts = 0;
  #sending: Promise<void> | null = null;

  constructor(store: Store, net: Net, listener: (state: SessionState) => void, after: After = systemAfter) {
    this.#store = store;
    this.#net = net;
    this.#listener = listener;
    this.#after = after;
  }

  get state(): SessionState {
    return this.#state;
  }

  get contents(): Contents {
    return this.#state.history.present;
  }

  /** Read and known: before that nothing can be changed. */
  get ready(): boolean {
    return this.#base !== null;
  }

  async open(): Promise<void> {
    this.#stopTimer();
    let stored: Stored;
    try {
      stored = await this.#store.load();
    } catch (error) {
      if (!(error instanceof RequestFailed)) throw error;
      this.#put({ save: { kind: "unread", failure: error.failure } });
      if (passing(error.failure)) this.#again(() => void this.open());
      return;
    }
    this.#attempts = 0;
    this.#base = stored;
    const theirs = contentsOf(stored);
    const draft = this.#net.read();
    if (draft === null || same(draft.contents, theirs)) {
      this.#net.clear();
      this.#put({ history: histories.begin(theirs), save: { kind: "saved" } });
    } else if (draft.version === stored.version) {
      // Left over from a page that was closed before the server had it.
      const history = histories.record(histories.begin(theirs), draft.contents, "what was not saved yet");
      this.#put({ history, save: { kind: "changed" } });
      void this.flush();
    } else {
      this.#put({ history: histories.begin(draft.contents), save: { kind: "conflict", theirs: stored } });
    }
  }

  /** `tag`: changes that follow each other with one tag are undone together. */
  do(command: Command, tag: string | null = null): void {
    if (!this.ready) return;
    const { history } = this.#state;
    const next = apply(history.present, command);
    this.#move(histories.record(history, next, commandWords(command, history.present), tag));
  }

  undo(): void {
    this.#move(histories.undo(this.#state.history));
  }

  redo(): void {
    this.#move(histories.redo(this.#state.history));
  }

  /** A note is left: what is typed next is another step. */
  settle(): void {
    const history = histories.settle(this.#state.history);
    if (history !== this.#state.history) this.#put({ history });
  }

  /** Send now what is to be sent; done when it is there, or when it is known why not. */
  async flush(): Promise<void> {
    this.#stopTimer();
    while (this.#sending !== null) await this.#sending;
    const base = this.#base;
    const { kind } = this.#state.save;
    if (base === null || kind === "saved" || kind === "conflict") return;
    const contents = this.contents;
    if (same(contents, contentsOf(base))) {
      this.#saved(base);
      return;
    }
    this.#put({ save: { kind: "saving" } });
    const sent = this.#send({ version: base.version, ...contents });
    this.#sending = sent.then(
      () => undefined,
      () => undefined,
    );
    try {
      const conclude = await sent;
      this.#sending = null;
      conclude();
    } finally {
      this.#sending = null;
    }
  }

  /** Gives what is to be done with the answer, once the way is free for the next. */
  async #send(stored: Stored): Promise<() => void> {
    try {
      const { version } = await this.#store.save(stored);
      return () => this.#saved({ ...stored, version });
    } catch (error) {
      if (!(error instanceof RequestFailed)) throw error;
      const { failure } = error;
      if (failure.kind === "refused" && failure.status === 409) return this.#meet();
      return () => this.#failed(failure);
    }
  }

  /** The server is back, or the person does not want to wait. */
  retry(): void {
    if (this.#state.save.kind === "unread") void this.open();
    else if (this.#state.save.kind === "kept" || this.#state.save.kind === "refused") void this.flush();
  }

  /** Undo leads back to what was here. */
  takeTheirs(): void {
    const { save, history } = this.#state;
    if (save.kind !== "conflict") return;
    const theirs = contentsOf(save.theirs);
    this.#base = save.theirs;
    this.#net.clear();
    this.#put({
      history: histories.record(history, theirs, "taking the other version"),
      save: { kind: "saved" },
    });
  }

  /** Undo leads to what the others had. */
  keepMine(): void {
    const { save, history } = this.#state;
    if (save.kind !== "conflict") return;
    this.#settleConflict(
      save.theirs,
      histories.before(history, contentsOf(save.theirs), "keeping this version"),
    );
  }

  keepBoth(): void {
    const { save, history } = this.#state;
    if (save.kind !== "conflict") return;
    const both = union(history.present, contentsOf(save.theirs));
    this.#settleConflict(save.theirs, histories.record(history, both, "joining both versions"));
  }

  /** The page leaves the graph: what is open is sent, and nobody is told any more. */
  close(): void {
    this.#listener = null;
    void this.flush();
  }

  #settleConflict(theirs: Stored, history: History<Contents>): void {
    this.#base = theirs;
    this.#net.write({ version: theirs.version, contents: history.present });
    this.#put({ history, save: { kind: "changed" } });
    void this.flush();
  }

  #move(history: History<Contents>): void {
    if (history === this.#state.history || this.#base === null) return;
    this.#net.write({ version: this.#base.version, contents: history.present });
    const { save } = this.#state;
    if (save.kind === "conflict" || save.kind === "saving") {
      this.#put({ history });
      return;
    }
    this.#put({ history, save: { kind: "changed" } });
    this.#soon();
  }

  #soon(): void {
    this.#stopTimer();
    this.#stopTimer = this.#after(QUIET_MS, () => void this.flush());
  }

  #again(then: () => void): void {
    const wait = RETRY_MS[Math.min(this.#attempts, RETRY_MS.length - 1)] ?? QUIET_MS;
    this.#attempts += 1;
    this.#stopTimer();
    // A closed page tries no more: the net has what is left.
    if (this.#listener !== null) this.#stopTimer = this.#after(wait, then);
  }

  #saved(stored: Stored): void {
    this.#base = stored;
    this.#attempts = 0;
    if (same(this.contents, contentsOf(stored))) {
      this.#net.clear();
      this.#put({ save: { kind: "saved" } });
      return;
    }
    // Changed while it was on its way.
    this.#net.write({ version: stored.version, contents: this.contents });
    this.#put({ save: { kind: "changed" } });
    if (this.#listener === null) void this.flush();
    else this.#soon();
  }

  #failed(failure: Failure): void {
    if (passing(failure)) {
      this.#put({ save: { kind: "kept" } });
      this.#again(() => void this.flush());
    } else {
      this.#put({ save: { kind: "refused", failure } });
    }
  }

  /** Somebody else saved: see what, and whether it differs at all. */
  async #meet(): Promise<() => void> {
    let theirs: Stored;
    try {
      theirs = await this.#store.load();
    } catch (error) {
      if (!(error instanceof RequestFailed)) throw error;
      const { failure } = error;
      return () => this.#failed(failure);
    }
    const base = this.#base;
    if (base === null || same(this.contents, contentsOf(theirs))) return () => this.#saved(theirs);
    if (same(contentsOf(base), contentsOf(theirs))) {
      // The others changed it back: only the version is new.
      return () => {
        this.#base = theirs;
        this.#put({ save: { kind: "changed" } });
        this.#soon();
      };
    }
    return () => {
      this.#net.write({ version: base.version, contents: this.contents });
      this.#put({ save: { kind: "conflict", theirs } });
    };
  }

  #put(change: Partial<SessionState>): void {
    this.#state = { ...this.#state, ...change };
    this.#listener?.(this.#state);
  }
}
