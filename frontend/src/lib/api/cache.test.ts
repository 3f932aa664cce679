import { describe, expect, it, vi } from "vitest";

import { AnswerCache } from "./cache";

describe("AnswerCache", () => {
  it("joins requests in flight and asks once", async () => {
    const cache = new AnswerCache(10);
    const ask = vi.fn(() => Promise.resolve(42));
    expect(await Promise.all([cache.get("a", ask), cache.get("a", ask)])).toEqual([42, 42]);
    expect(await cache.get("a", ask)).toBe(42);
    expect(ask).toHaveBeenCalledTimes(1);
  });

  it("does not keep failures", async () => {
    const cache = new AnswerCache(10);
    await expect(cache.get("a", () => Promise.reject(new Error("no")))).rejects.toThrow("no");
    expect(await cache.get("a", () => Promise.resolve(1))).toBe(1);
  });

  it("drops what was not used for longest", async () => {
    const cache = new AnswerCache(2);
    await cache.get("a", () => Promise.resolve("a"));
    await cache.get("b", () => Promise.resolve("b"));
    cache.peek("a");
    await cache.get("c", () => Promise.resolve("c"));
    expect([cache.peek("a"), cache.peek("b"), cache.peek("c")]).toEqual(["a", undefined, "c"]);
  });

  it("forgets by how names begin, also what is in flight", async () => {
    const cache = new AnswerCache(10);
    let finish: ((value: string) => void) | undefined;
    await cache.get("list a", () => Promise.resolve("old"));
    await cache.get("card a", () => Promise.resolve("kept"));
    const old = cache.get("list b", () => new Promise<string>((done) => (finish = done)));
    cache.forget("list ");
    finish?.("old");
    await old;
    expect([cache.peek("list a"), cache.peek("list b"), cache.peek("card a")]).toEqual([
      undefined,
      undefined,
      "kept",
    ]);
  });

  it("keeps no answer to a question from before it was cleared", async () => {
    const cache = new AnswerCache(10);
    let finish: ((value: string) => void) | undefined;
    const old = cache.get("a", () => new Promise<string>((done) => (finish = done)));
    cache.clear();
    finish?.("old");
    expect(await old).toBe("old");
    expect(cache.peek("a")).toBeUndefined();
  });
});
