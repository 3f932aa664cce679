import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";

import { RequestFailed } from "../api/failure";
import type { LabelContent, LabelDetail, LabelStep } from "./api";
import { NOTHING, contentOf, same } from "./content";
import { type Kept, type Keeper, LabelDraft, type Requests } from "./draft";

function refused(status: number, code: string): RequestFailed {
  return new RequestFailed({ kind: "refused", status, body: { code, message: "no", hint: "" } });
}

/** A server with one label: every save is a step, undo and redo walk along them. */
class FakeServer implements Requests {
  version = 0;
  states: LabelContent[] = [NOTHING];
  undone: LabelContent[] = [];
  away = false;
  refusing = false;
  saves = 0;
  gate: Promise<void> | null = null;

  get content(): LabelContent {
    return this.states.at(-1) ?? NOTHING;
  }

  detail(): LabelDetail {
    const step = (after: LabelContent): LabelStep => ({
      step: 1,
      kind: "edit",
      state: "done",
      before: NOTHING,
      after,
      author: "",
      changed: "",
    });
    const { content, version } = this;
    return {
      run: "toy",
      key: "0.attn.q:1",
      label: same(content, NOTHING)
        ? null
        : { ...content, key: "0.attn.q:1", author: "", created: "", updated: "", source: "person", version },
      version,
      undo: this.states.length > 1 ? step(content) : null,
      redo: this.undone.length > 0 ? step(this.undone.at(-1) ?? NOTHING) : null,
      steps: [],
      n_steps: 0,
      seconds: 0,
    };
  }

  #answer(): LabelDetail {
    if (this.away) throw new RequestFailed({ kind: "offline" });
    return this.detail();
  }

  load = async (): Promise<LabelDetail> => {
    await this.gate;
    return this.#answer();
  };

  save = async ({
    version,
    name,
    text,
    rating,
  }: LabelContent & { version: number }): Promise<LabelDetail> => {
    this.saves += 1;
    await this.gate;
    this.#answer();
    if (this.refusing) throw refused(422, "bad_input");
    if (version !== this.version) throw refused(409, "changed_meanwhile");
    this.change({ name, text, rating });
    return this.detail();
  };

  turn = async (verb: "undo" | "redo", version: number): Promise<LabelDetail> => {
    await this.gate;
    this.#answer();
    if (version !== this.version) throw refused(409, "changed_meanwhile");
    const [from, to] = verb === "undo" ? [this.states, this.undone] : [this.undone, this.states];
    to.push(from.pop() ?? NOTHING);
    this.version += 1;
    return this.detail();
  };

  /** Also what somebody else saves. */
  change(part: Partial<LabelContent>): void {
    this.states.push({ ...this.content, ...part });
    this.undone = [];
    this.version += 1;
  }
}

class FakeKeeper implements Keeper {
  kept: Kept | null = null;
  read = (): Kept | null => this.kept;
  write = (kept: Kept | null): void => {
    this.kept = kept;
  };
}

describe("LabelDraft", () => {
  let server: FakeServer;
  let keeper: FakeKeeper;
  let draft: LabelDraft;

  beforeEach(async () => {
    vi.useFakeTimers();
    server = new FakeServer();
    keeper = new FakeKeeper();
    draft = new LabelDraft(server, keeper, () => undefined);
    await draft.open();
  });
  afterEach(() => {
    vi.useRealTimers();
  });

  const pause = (): Promise<unknown> => vi.advanceTimersByTimeAsync(700);

  it("saves once when the fingers rest, and leaves alone what is being typed", async () => {
    draft.change({ name: "plu" });
    expect(draft.saving.kind).toBe("changed");
    await vi.advanceTimersByTimeAsync(300);
    draft.change({ name: "plural " });
    expect(server.saves).toBe(0);
    await pause();
    expect(server.saves).toBe(1);
    expect(server.content.name).toBe("plural");
    expect(draft.content.name).toBe("plural ");
    expect(draft.saving.kind).toBe("saved");
    draft.change({ name: "plural" });
    await pause();
    expect(server.saves).toBe(1);
  });

  it("sends what was typed while an answer was under way", async () => {
    let open = (): void => undefined;
    server.gate = new Promise((resolve) => (open = resolve));
    draft.change({ name: "a" });
    await pause();
    draft.change({ name: "ab" });
    await pause();
    expect(server.saves).toBe(1);
    open();
    await pause();
    expect(server.content.name).toBe("ab");
    expect(draft.saving.kind).toBe("saved");
  });

  it("joins what others changed in other fields", async () => {
    server.change({ rating: 4 });
    draft.change({ name: "mine" });
    await pause();
    expect(server.content).toEqual({ name: "mine", text: "", rating: 4 });
    expect(draft.content.rating).toBe(4);
    expect(draft.saving.kind).toBe("saved");
  });

  it("asks where both wrote the same field, and keeps mine when told", async () => {
    server.change({ name: "theirs" });
    draft.change({ name: "mine" });
    await pause();
    expect(draft.saving).toMatchObject({ kind: "conflict", fields: ["name"] });
    expect(draft.content.name).toBe("mine");
    draft.change({ name: "mine, and more" });
    await pause();
    expect(server.content.name).toBe("theirs");
    await draft.keepMine();
    expect(server.content.name).toBe("mine, and more");
    expect(server.states.map((state) => state.name)).toContain("theirs");
    expect(draft.saving.kind).toBe("saved");
  });

  it("takes theirs when told, and mine is one redo away", async () => {
    server.change({ name: "theirs" });
    draft.change({ name: "mine" });
    await pause();
    await draft.takeTheirs();
    expect(server.content.name).toBe("theirs");
    expect(draft.content.name).toBe("theirs");
    await draft.turn("redo");
    expect(draft.content.name).toBe("mine");
  });

  it("keeps what the silent server cannot take, also for the next visit", async () => {
    server.away = true;
    draft.change({ text: "written in the train" });
    await pause();
    expect(draft.saving.kind).toBe("kept");
    expect(keeper.kept?.content.text).toBe("written in the train");
    server.away = false;
    server.change({ name: "theirs meanwhile" });
    const next = new LabelDraft(server, keeper, () => undefined);
    await next.open();
    expect(server.content).toEqual({ name: "theirs meanwhile", text: "written in the train", rating: null });
    expect(keeper.kept).toBeNull();
    expect(next.saving.kind).toBe("saved");
  });

  it("sends again when the server is back", async () => {
    server.away = true;
    draft.change({ rating: 2 });
    await pause();
    server.away = false;
    await draft.retry();
    expect(server.content.rating).toBe(2);
  });

  it("says what was refused, and does not try again by itself", async () => {
    server.refusing = true;
    draft.change({ name: "x" });
    await pause();
    await pause();
    expect(draft.saving.kind).toBe("refused");
    expect(server.saves).toBe(1);
  });

  it("undoes what was saved, after sending what was not", async () => {
    server.change({ name: "first" });
    await draft.reload();
    draft.change({ name: "second" });
    await draft.turn("undo");
    expect(server.states).toHaveLength(2);
    expect(draft.content.name).toBe("first");
    expect(draft.detail?.redo?.after.name).toBe("second");
  });

  it("shows what is there where the last step was another's, and undoes nothing unseen", async () => {
    draft.change({ name: "mine" });
    await pause();
    server.change({ name: "theirs" });
    await draft.turn("undo");
    expect(server.content.name).toBe("theirs");
    expect(draft.content.name).toBe("theirs");
  });

  it("does not read anew over what is being written", async () => {
    server.change({ name: "theirs" });
    draft.change({ text: "mine" });
    await draft.reload();
    expect(draft.content).toEqual({ name: "", text: "mine", rating: null });
    await pause();
    expect(contentOf(server.detail().label)).toEqual({ name: "theirs", text: "mine", rating: null });
  });

  it("says that it was never read", async () => {
    server.away = true;
    const other = new LabelDraft(server, keeper, () => undefined);
    await other.open();
    expect(other.saving.kind).toBe("unread");
    other.change({ name: "x" });
    expect(other.content).toEqual(NOTHING);
    server.away = false;
    await other.retry();
    expect(other.saving.kind).toBe("saved");
  });
});
