/**
 * The labels of each run, in one place for everything that shows components: asked for once, changed as
 * they are saved here, and asked for again when another tab saved some, when the page is looked at again,
 * and when the server comes back. The answer to asking again is mostly that nothing changed.
 */

import { forgetComponents } from "../api/client";
import { connection } from "../api/connection.svelte";
import { type Failure, RequestFailed } from "../api/failure";
import { location } from "../location/location.svelte";
import { type Label, getLabels } from "./api";
import { type ByKey, byKey, replaced, textsOf, wordsOf } from "./content";

const CHANNEL = "tributary-labels";
/** A page that is looked at again asks at most this often. */
const AGAIN_MS = 5000;

export class RunLabels {
  /** Key → label. */
  all: ByKey = $state.raw(byKey([]));
  /** Labels from before the run was made again; none of them is shown. */
  earlier = $state(0);
  /** They came at least once. */
  loaded = $state(false);
  failure: Failure | null = $state.raw(null);
  /** Key → the few words that stand for the component in lists, drawings and searches. */
  readonly words: ReadonlyMap<string, string> = $derived(wordsOf(this.all));
  readonly texts: ReadonlyMap<string, string> = $derived(textsOf(this.all));
  readonly #run: string;
  #asked = 0;
  #busy: Promise<void> | null = null;
  #again = false;
  /** Counts what was saved here: an answer that was under way then may not know of it. */
  #saved = 0;

  constructor(run: string) {
    this.#run = run;
  }

  /** Ask once more; who asks while one is under way waits for one that begins after it. */
  refresh(): Promise<void> {
    if (this.#busy !== null) {
      this.#again = true;
      return this.#busy;
    }
    this.#busy = this.#load().finally(() => {
      this.#busy = null;
    });
    return this.#busy;
  }

  get stale(): boolean {
    return Date.now() - this.#asked > AGAIN_MS;
  }

  async #load(): Promise<void> {
    do {
      this.#again = false;
      this.#asked = Date.now();
      const saved = this.#saved;
      try {
        const answer = await getLabels(this.#run);
        if (saved !== this.#saved) {
          this.#again = true;
          continue;
        }
        this.all = byKey(answer.labels);
        if (this.loaded) forgetComponents(this.#run);
        this.earlier = answer.earlier;
        this.loaded = true;
        this.failure = null;
      } catch (error) {
        if (!(error instanceof RequestFailed)) throw error;
        // What is known stays in sight; the connection says when to ask again.
        this.failure = error.failure;
      }
    } while (this.#again);
  }

  /** Saved from here: `null` where nothing is said any more. */
  put(key: string, label: Label | null): void {
    this.#saved += 1;
    forgetComponents(this.#run);
    this.all = replaced(this.all, key, label);
  }
}

class Labels {
  readonly #runs: Record<string, RunLabels> = {};
  readonly #channel = typeof BroadcastChannel === "undefined" ? null : new BroadcastChannel(CHANNEL);

  constructor() {
    this.#channel?.addEventListener("message", ({ data }: MessageEvent<unknown>) => {
      if (typeof data === "string") void this.#runs[data]?.refresh();
    });
    if (typeof document !== "undefined") {
      document.addEventListener("visibilitychange", () => {
        if (document.visibilityState !== "visible") return;
        for (const labels of Object.values(this.#runs)) if (labels.stale) void labels.refresh();
      });
    }
    if (typeof window !== "undefined") {
      $effect.root(() => {
        $effect(() => {
          if (connection.epoch === 0) return;
          for (const labels of Object.values(this.#runs)) void labels.refresh();
        });
      });
    }
  }

  /** The labels of a run; asked for with the first who wants them. */
  of(run: string): RunLabels {
    let labels = this.#runs[run];
    if (labels === undefined) {
      // State belongs to whatever is being derived while it is made, and that would never hear of its changes:
      // whoever draws the first label of a page.
      $effect.root(() => {
        this.#runs[run] = new RunLabels(run);
      });
      const made = this.#runs[run] as RunLabels;
      labels = made;
      // Not within what is being drawn: it must not depend on the connection.
      queueMicrotask(() => void made.refresh());
    }
    return labels;
  }

  /** Saved from here; other tabs of this browser are told. */
  put(run: string, key: string, label: Label | null): void {
    this.of(run).put(key, label);
    this.tell(run);
  }

  /** Much was changed at once, as by an import. */
  changed(run: string): void {
    void this.of(run).refresh();
    this.tell(run);
  }

  tell(run: string): void {
    this.#channel?.postMessage(run);
  }
}

export const labels = new Labels();

/** What a component of the run on screen is called. */
export function labelHere(key: string | null): Label | undefined {
  const { page } = location.view;
  return key !== null && "run" in page ? labels.of(page.run).all.get(key) : undefined;
}

const AUTHOR = "tributary-author";

/** What the person at this browser is called in changes; kept in the browser. */
class Author {
  #name = $state("");

  constructor() {
    try {
      this.#name = localStorage.getItem(AUTHOR) ?? "";
    } catch {
      // A browser that keeps nothing asks again next time.
    }
  }

  get name(): string {
    return this.#name;
  }

  set name(name: string) {
    this.#name = name;
    try {
      localStorage.setItem(AUTHOR, name);
    } catch {
      // As above.
    }
  }
}

export const author = new Author();
