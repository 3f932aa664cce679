/**
 * One label while somebody writes it: saved as they type, merged with what others saved meanwhile, kept in
 * the browser while the server is silent. Knows no screen; `changed` is called after every change.
 */

import { type Failure, RequestFailed } from "../api/failure";
import type { LabelContent, LabelDetail } from "./api";
import { type Field, NOTHING, contentOf, merge, same, tidy } from "./content";

export type Saving =
  | { readonly kind: "loading" }
  | { readonly kind: "unread"; readonly failure: Failure }
  | { readonly kind: "saved" }
  | { readonly kind: "changed" }
  | { readonly kind: "saving" }
  /** The server is silent; the browser has it, and it is sent later. */
  | { readonly kind: "kept" }
  /** Somebody else wrote another thing in the same fields. */
  | { readonly kind: "conflict"; readonly theirs: LabelDetail; readonly fields: readonly Field[] }
  | { readonly kind: "refused"; readonly failure: Failure };

export interface Requests {
  readonly load: () => Promise<LabelDetail>;
  readonly save: (
    change: LabelContent & { readonly version: number; readonly new_step: boolean },
  ) => Promise<LabelDetail>;
  readonly turn: (verb: "undo" | "redo", version: number) => Promise<LabelDetail>;
}

/** What was written and not confirmed yet, with what it was written on. */
export interface Kept {
  readonly version: number;
  readonly base: LabelContent;
  readonly content: LabelContent;
}

export interface Keeper {
  readonly read: () => Kept | null;
  readonly write: (kept: Kept | null) => void;
}

const PAUSE_MS = 600;

function isConflict(failure: Failure): boolean {
  return failure.kind === "refused" && failure.status === 409 && failure.body.code === "changed_meanwhile";
}

export class LabelDraft {
  saving: Saving = { kind: "loading" };
  /** What the fields show. */
  content: LabelContent = NOTHING;
  /** What the server has, as far as is known. */
  detail: LabelDetail | null = null;
  readonly #requests: Requests;
  readonly #keeper: Keeper;
  readonly #changed: () => void;
  /** What the server confirmed, in the words in which it was sent. */
  #confirmed: LabelContent = NOTHING;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #pushing: Promise<void> | null = null;
  #newStep = false;

  constructor(requests: Requests, keeper: Keeper, changed: () => void) {
    this.#requests = requests;
    this.#keeper = keeper;
    this.#changed = changed;
  }

  get clean(): boolean {
    return same(tidy(this.content), this.#confirmed);
  }

  get ready(): boolean {
    return this.detail !== null;
  }

  /** Read the label, and go on with what this browser could not send before. */
  async open(): Promise<void> {
    const kept = this.#keeper.read();
    let detail: LabelDetail;
    try {
      detail = await this.#requests.load();
    } catch (error) {
      this.#set({ kind: "unread", failure: failureOf(error) });
      return;
    }
    this.#take(detail);
    this.#set({ kind: "saved" });
    if (kept === null || same(kept.content, this.#confirmed)) {
      this.#keeper.write(null);
      return;
    }
    this.content = kept.content;
    this.#keep();
    if (this.#joined(kept.base, detail)) await this.settle();
  }

  /** Somebody else saved, and nothing was written here since: show theirs. */
  async reload(): Promise<void> {
    if (!this.ready || !this.clean || this.#pushing !== null) return;
    let detail: LabelDetail;
    try {
      detail = await this.#requests.load();
    } catch (error) {
      failureOf(error);
      return; // what is shown stays; saving it would be told of the newer version
    }
    if (this.clean && this.#pushing === null && detail.version > (this.detail?.version ?? 0)) {
      this.#take(detail);
      this.#set({ kind: "saved" });
    }
  }

  change(part: Partial<LabelContent>): void {
    if (this.detail === null) return;
    this.content = { ...this.content, ...part };
    this.#keep();
    if (this.saving.kind === "conflict") {
      this.#changed();
      return;
    }
    this.#set({ kind: this.clean && this.#pushing === null ? "saved" : "changed" });
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => void this.settle(), PAUSE_MS);
  }

  /** Send what was written, now. */
  settle(): Promise<void> {
    clearTimeout(this.#timer);
    if (this.detail === null || this.saving.kind === "conflict") return Promise.resolve();
    this.#pushing ??= this.#push().finally(() => {
      this.#pushing = null;
    });
    return this.#pushing;
  }

  async turn(verb: "undo" | "redo"): Promise<void> {
    await this.settle();
    if (this.detail === null || !this.clean || this.saving.kind !== "saved") return;
    this.#set({ kind: "saving" });
    try {
      this.#take(await this.#requests.turn(verb, this.detail.version));
      this.#set({ kind: "saved" });
    } catch (error) {
      const failure = failureOf(error);
      if (failure.kind === "refused" && (failure.status === 404 || isConflict(failure))) {
        // It was changed elsewhere: what there is to undo now is to be seen first.
        await this.open();
        return;
      }
      this.#set({ kind: "refused", failure });
    }
  }

  /** In a conflict: what is written here replaces theirs, which stays in the history. */
  async keepMine(): Promise<void> {
    if (this.saving.kind !== "conflict") return;
    const mine = this.content;
    this.#take(this.saving.theirs);
    this.content = mine;
    this.#keep();
    this.#newStep = true;
    this.#set({ kind: "changed" });
    await this.settle();
  }

  /** In a conflict: theirs holds, and what was written here is one redo away. */
  async takeTheirs(): Promise<void> {
    await this.keepMine();
    if (this.saving.kind === "saved") await this.turn("undo");
  }

  /** The server is back, or somebody wants to try again. */
  async retry(): Promise<void> {
    if (this.saving.kind === "unread") {
      this.#set({ kind: "loading" });
      await this.open();
    } else if (this.saving.kind === "kept" || this.saving.kind === "refused") {
      await this.settle();
    }
  }

  async #push(): Promise<void> {
    while (!this.clean && this.detail !== null) {
      const sent = tidy(this.content);
      const base = this.#confirmed;
      this.#set({ kind: "saving" });
      try {
        const change = { ...sent, version: this.detail.version, new_step: this.#newStep };
        this.detail = await this.#requests.save(change);
        this.#confirmed = sent;
        this.#newStep = false;
        this.#keep();
      } catch (error) {
        const failure = failureOf(error);
        if (!isConflict(failure)) {
          this.#set(failure.kind === "offline" ? { kind: "kept" } : { kind: "refused", failure });
          return;
        }
        if (!(await this.#meet(base))) return;
      }
    }
    this.#set({ kind: "saved" });
  }

  /** Somebody saved meanwhile: whether both changes can hold. */
  async #meet(base: LabelContent): Promise<boolean> {
    let theirs: LabelDetail;
    try {
      theirs = await this.#requests.load();
    } catch (error) {
      const failure = failureOf(error);
      this.#set(failure.kind === "offline" ? { kind: "kept" } : { kind: "refused", failure });
      return false;
    }
    return this.#joined(base, theirs);
  }

  #joined(base: LabelContent, theirs: LabelDetail): boolean {
    const mine = this.content;
    const merged = merge(base, tidy(mine), contentOf(theirs.label));
    if (merged.kind === "conflict") {
      this.#set({ kind: "conflict", theirs, fields: merged.fields });
      return false;
    }
    this.#take(theirs);
    // What somebody is typing keeps the space at its end.
    this.content = same(merged.content, tidy(mine)) ? mine : merged.content;
    this.#keep();
    return true;
  }

  #take(detail: LabelDetail): void {
    this.detail = detail;
    this.content = this.#confirmed = contentOf(detail.label);
    this.#keep();
  }

  #keep(): void {
    const { detail } = this;
    this.#keeper.write(
      this.clean || detail === null
        ? null
        : { version: detail.version, base: this.#confirmed, content: tidy(this.content) },
    );
  }

  #set(saving: Saving): void {
    this.saving = saving;
    this.#changed();
  }
}

function failureOf(error: unknown): Failure {
  if (!(error instanceof RequestFailed)) throw error;
  return error.failure;
}
