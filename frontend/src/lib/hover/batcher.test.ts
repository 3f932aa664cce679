import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";

import { Batcher } from "./batcher";

beforeEach(() => vi.useFakeTimers());
afterEach(() => vi.useRealTimers());

function make(answer: (keys: readonly string[]) => Promise<Map<string, string>>) {
  const fetch = vi.fn(answer);
  return { fetch, batcher: new Batcher<string>({ fetch, gatherMs: 20, maximum: 3 }) };
}

const echo = (keys: readonly string[]) => Promise.resolve(new Map(keys.map((key) => [key, `card ${key}`])));
const live = () => new AbortController().signal;

describe("Batcher", () => {
  it("sends keys asked for within a moment in one request, each once", async () => {
    const { fetch, batcher } = make(echo);
    const answers = Promise.all(["a", "b", "a"].map((key) => batcher.ask(key, live())));
    await vi.runAllTimersAsync();
    expect(await answers).toEqual(["card a", "card b", "card a"]);
    expect(fetch.mock.calls).toEqual([[["a", "b"]]]);
  });

  it("never sends keys that nobody waits for any more", async () => {
    const { fetch, batcher } = make(echo);
    const gone = new AbortController();
    const answer = batcher.ask("a", gone.signal);
    gone.abort();
    await vi.runAllTimersAsync();
    expect(await answer).toBeNull();
    expect(fetch).not.toHaveBeenCalled();
  });

  it("has one request under way at a time", async () => {
    let finish: (() => void) | undefined;
    const { fetch, batcher } = make(
      (keys) => new Promise((done) => (finish = () => done(new Map([[keys[0] ?? "", "x"]])))),
    );
    const first = batcher.ask("a", live());
    await vi.advanceTimersByTimeAsync(50);
    const second = batcher.ask("b", live());
    await vi.advanceTimersByTimeAsync(500);
    expect(fetch).toHaveBeenCalledTimes(1);
    finish?.();
    await first;
    await vi.advanceTimersByTimeAsync(50);
    expect(fetch).toHaveBeenCalledTimes(2);
    finish?.();
    expect(await second).toBe("x");
  });

  it("splits what is too much for one request", async () => {
    const { fetch, batcher } = make(echo);
    const answers = Promise.all(["a", "b", "c", "d"].map((key) => batcher.ask(key, live())));
    await vi.runAllTimersAsync();
    expect((await answers)[3]).toBe("card d");
    expect(fetch.mock.calls.map(([keys]) => keys.length)).toEqual([3, 1]);
  });

  it("hands a failure to those who waited and goes on", async () => {
    const { fetch, batcher } = make(echo);
    fetch.mockRejectedValueOnce(new Error("stopped"));
    const failed = batcher.ask("a", live()).catch((error: unknown) => String(error));
    await vi.runAllTimersAsync();
    expect(await failed).toBe("Error: stopped");
    const answer = batcher.ask("b", live());
    await vi.runAllTimersAsync();
    expect(await answer).toBe("card b");
  });

  it("answers null for a key that has no card", async () => {
    const { batcher } = make(() => Promise.resolve(new Map()));
    const answer = batcher.ask("a", live());
    await vi.runAllTimersAsync();
    expect(await answer).toBeNull();
  });
});
