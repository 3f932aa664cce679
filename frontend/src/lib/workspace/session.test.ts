import { beforeEach, describe, expect, it } from "vitest";

import { RequestFailed } from "../api/failure";
import { type Contents, EMPTY } from "./model";
import { type Draft, type Net, browserNet } from "./net";
import { Session, type SessionState, type Store, type Stored } from "./session";

function refused(status: number): RequestFailed {
  return new RequestFailed({ kind: "refused", status, body: { code: "x", message: "no", hint: "" } });
}

/** A server with one workspace; it can be away, slow, or refuse. */
class FakeServer implements Store {
  stored: Stored = { version: 0, ...EMPTY };
  away = false;
  refusing: number | null = null;
  saves = 0;
  /** What is asked while this is set is answered only after it. */
  gate: Promise<void> | null = null;

  async load(): Promise<Stored> {
    await this.gate;
    if (this.away) throw new RequestFailed({ kind: "offline" });
    return this.stored;
  }

  async save(stored: Stored): Promise<{ version: number }> {
    this.saves += 1;
    await this.gate;
    if (this.away) throw new RequestFailed({ kind: "offline" });
    if (this.refusing !== null) throw refused(this.refusing);
    if (stored.version !== this.stored.version) throw refused(409);
    this.stored = { ...stored, version: stored.version + 1 };
    return { version: this.stored.version };
  }

  /** Somebody else saves. */
  change(contents: Partial<Contents>): void {
    this.stored = { ...this.stored, ...contents, version: this.stored.version + 1 };
  }
}

/** Time that passes when it is told to. */
class FakeClock {
  #waiting: { readonly at: number; readonly then: () => void }[] = [];
  #now = 0;

  after = (milliseconds: number, then: () => void): (() => void) => {
    const entry = { at: this.#now + milliseconds, then };
    this.#waiting.push(entry);
    return () => {
      this.#waiting = this.#waiting.filter((one) => one !== entry);
    };
  };

  async pass(milliseconds: number): Promise<void> {
    this.#now += milliseconds;
    const due = this.#waiting.filter((one) => one.at <= this.#now);
    this.#waiting = this.#waiting.filter((one) => one.at > this.#now);
    for (const { then } of due) then();
    await settled();
  }

  get waiting(): number {
    return this.#waiting.length;
  }
}

/** Everything that waits only for promises has happened. */
async function settled(): Promise<void> {
  await new Promise((resolve) => setTimeout(resolve, 0));
}

class FakeStorage {
  readonly entries = new Map<string, string>();
  getItem = (name: string): string | null => this.entries.get(name) ?? null;
  setItem = (name: string, text: string): void => void this.entries.set(name, text);
  removeItem = (name: string): void => void this.entries.delete(name);
}

let server: FakeServer;
let clock: FakeClock;
let storage: FakeStorage;
let seen: SessionState[];

function net(): Net {
  return browserNet("graph", () => storage);
}

function draft(): Draft | null {
  return net().read();
}

async function opened(): Promise<Session> {
  const session = new Session(server, net(), (state) => seen.push(state), clock.after);
  await session.open();
  return session;
}

beforeEach(() => {
  server = new FakeServer();
  clock = new FakeClock();
  storage = new FakeStorage();
  seen = [];
});

const pins = (session: Session): readonly string[] => session.contents.pins;

describe("saving", () => {
  it("sends changes together, a moment later", async () => {
    const session = await opened();
    session.do({ kind: "pin", keys: ["a"] });
    session.do({ kind: "pin", keys: ["b"] });
    expect([session.state.save.kind, server.saves]).toEqual(["changed", 0]);
    expect(draft()?.contents.pins).toEqual(["a", "b"]);
    await clock.pass(1000);
    expect(session.state.save.kind).toBe("saved");
    expect([server.saves, server.stored.version, server.stored.pins]).toEqual([1, 1, ["a", "b"]]);
    expect(draft()).toBeNull();
    expect(seen.map((state) => state.save.kind)).toContain("saving");
  });

  it("does nothing before it was read", () => {
    const session = new Session(server, net(), () => undefined, clock.after);
    session.do({ kind: "pin", keys: ["a"] });
    expect(pins(session)).toEqual([]);
  });

  it("undo and redo are saved like any change; back at the saved state nothing is sent", async () => {
    const session = await opened();
    session.do({ kind: "pin", keys: ["a"] });
    session.undo();
    await clock.pass(1000);
    expect([server.saves, session.state.save.kind]).toEqual([0, "saved"]);
    session.redo();
    await clock.pass(1000);
    expect([server.saves, server.stored.pins]).toEqual([1, ["a"]]);
  });

  it("what is changed on the way is sent after it, with the new version", async () => {
    const session = await opened();
    let open = (): void => undefined;
    server.gate = new Promise((resolve) => (open = resolve));
    session.do({ kind: "pin", keys: ["a"] });
    await clock.pass(1000);
    session.do({ kind: "pin", keys: ["b"] });
    expect(session.state.save.kind).toBe("saving");
    open();
    server.gate = null;
    await settled();
    expect(session.state.save.kind).toBe("changed");
    expect(draft()).toEqual({ version: 1, contents: { pins: ["a", "b"], groups: [], notes: [] } });
    await clock.pass(1000);
    expect([server.stored.pins, server.stored.version]).toEqual([["a", "b"], 2]);
  });

  it("who asks for it to be sent waits for what is on its way, and for what came since", async () => {
    const session = await opened();
    let open = (): void => undefined;
    server.gate = new Promise((resolve) => (open = resolve));
    session.do({ kind: "pin", keys: ["a"] });
    void session.flush();
    session.do({ kind: "pin", keys: ["b"] });
    const flushed = session.flush();
    open();
    await flushed;
    expect([server.stored.pins, session.state.save.kind, server.saves]).toEqual([["a", "b"], "saved", 2]);
  });

  it("closing sends what is open, and tells nobody", async () => {
    const session = await opened();
    session.do({ kind: "pin", keys: ["a"] });
    const before = seen.length;
    session.close();
    await settled();
    expect([server.stored.pins, seen.length, clock.waiting]).toEqual([["a"], before, 0]);
  });
});

describe("a server that is away", () => {
  it("keeps the work and sends it again and again until the server is back", async () => {
    const session = await opened();
    server.away = true;
    session.do({ kind: "pin", keys: ["a"] });
    await clock.pass(1000);
    expect(session.state.save.kind).toBe("kept");
    await clock.pass(1000);
    await clock.pass(2000);
    expect([session.state.save.kind, server.saves]).toEqual(["kept", 3]);
    session.do({ kind: "pin", keys: ["b"] });
    server.away = false;
    await clock.pass(1000);
    expect([session.state.save.kind, server.stored.pins]).toEqual(["saved", ["a", "b"]]);
  });

  it("is asked at once when it is known to be back", async () => {
    const session = await opened();
    server.away = true;
    session.do({ kind: "pin", keys: ["a"] });
    await clock.pass(1000);
    server.away = false;
    session.retry();
    await settled();
    expect(session.state.save.kind).toBe("saved");
  });

  it("a page that is closed meanwhile leaves the work to the next one", async () => {
    const first = await opened();
    server.away = true;
    first.do({ kind: "pin", keys: ["a"] });
    first.close();
    await settled();
    expect(clock.waiting).toBe(0);
    server.away = false;
    const second = await opened();
    await settled();
    expect([pins(second), server.stored.pins, draft()]).toEqual([["a"], ["a"], null]);
    second.undo();
    expect(pins(second)).toEqual([]);
  });

  it("is read again when it was away at the beginning", async () => {
    server.away = true;
    const session = await opened();
    expect([session.state.save.kind, session.ready]).toEqual(["unread", false]);
    server.away = false;
    server.change({ pins: ["x"] });
    await clock.pass(1000);
    expect([session.state.save.kind, pins(session)]).toEqual(["saved", ["x"]]);
  });

  it("a busy one is away for a moment; one that refuses is told apart and not asked again", async () => {
    const session = await opened();
    server.refusing = 503;
    session.do({ kind: "pin", keys: ["a"] });
    await clock.pass(1000);
    expect(session.state.save.kind).toBe("kept");
    server.refusing = 404;
    await clock.pass(1000);
    expect([session.state.save.kind, clock.waiting]).toEqual(["refused", 0]);
    expect(draft()?.contents.pins).toEqual(["a"]);
  });
});

describe("two windows", () => {
  async function conflict(): Promise<Session> {
    const session = await opened();
    session.do({ kind: "pin", keys: ["mine"] });
    server.change({ pins: ["theirs"] });
    await clock.pass(1000);
    expect(session.state.save).toMatchObject({ kind: "conflict", theirs: { pins: ["theirs"], version: 1 } });
    expect([pins(session), server.stored.pins]).toEqual([["mine"], ["theirs"]]);
    return session;
  }

  it("theirs are taken, mine are one undo away", async () => {
    const session = await conflict();
    session.takeTheirs();
    expect([pins(session), session.state.save.kind, draft()]).toEqual([["theirs"], "saved", null]);
    session.undo();
    await clock.pass(1000);
    expect([server.stored.pins, server.stored.version]).toEqual([["mine"], 2]);
  });

  it("mine are kept, theirs are one undo away", async () => {
    const session = await conflict();
    session.keepMine();
    await settled();
    expect([server.stored.pins, server.stored.version]).toEqual([["mine"], 2]);
    session.undo();
    await clock.pass(1000);
    expect([pins(session), server.stored.pins]).toEqual([["theirs"], ["theirs"]]);
  });

  it("both are joined", async () => {
    const session = await conflict();
    session.keepBoth();
    await settled();
    expect([server.stored.pins, session.state.save.kind]).toEqual([["mine", "theirs"], "saved"]);
    session.undo();
    expect(pins(session)).toEqual(["mine"]);
  });

  it("nothing is sent while it is not decided, and work goes on", async () => {
    const session = await conflict();
    const { saves } = server;
    session.do({ kind: "pin", keys: ["more"] });
    await clock.pass(60_000);
    await session.flush();
    expect([server.saves, session.state.save.kind]).toEqual([saves, "conflict"]);
    expect(draft()?.contents.pins).toEqual(["mine", "more"]);
  });

  it("a conflict that nobody decided is found again by the next page", async () => {
    const session = await conflict();
    session.close();
    const next = await opened();
    expect([next.state.save.kind, pins(next)]).toEqual(["conflict", ["mine"]]);
  });

  it("the same change in both is none", async () => {
    const session = await opened();
    session.do({ kind: "pin", keys: ["a"] });
    server.change({ pins: ["a"] });
    await clock.pass(1000);
    expect(session.state.save.kind).toBe("saved");
  });

  it("a change that the others took back is none either", async () => {
    const session = await opened();
    session.do({ kind: "pin", keys: ["a"] });
    server.change({ pins: ["x"] });
    server.change({ pins: [] });
    await clock.pass(1000);
    await clock.pass(1000);
    expect([session.state.save.kind, server.stored.pins, server.stored.version]).toEqual(["saved", ["a"], 3]);
  });
});

describe("the safety net", () => {
  it("ignores what this page did not write", async () => {
    for (const text of ["", "{", "null", "[]", '{"version":0}', '{"version":0,"contents":{"pins":[1]}}']) {
      storage.entries.set("graph", text);
      const session = await opened();
      expect([session.state.save.kind, pins(session)]).toEqual(["saved", []]);
    }
  });

  it("does not forget what another window wrote", () => {
    const [mine, theirs] = [net(), net()];
    mine.write({ version: 0, contents: { ...EMPTY, pins: ["mine"] } });
    theirs.write({ version: 0, contents: { ...EMPTY, pins: ["theirs"] } });
    mine.clear();
    expect(draft()?.contents.pins).toEqual(["theirs"]);
    theirs.clear();
    expect(draft()).toBeNull();
  });

  it("a browser that keeps nothing is no error", async () => {
    const broken = browserNet("graph", () => {
      throw new DOMException("no", "SecurityError");
    });
    const session = new Session(server, broken, () => undefined, clock.after);
    await session.open();
    session.do({ kind: "pin", keys: ["a"] });
    await clock.pass(1000);
    expect(server.stored.pins).toEqual(["a"]);
  });
});
