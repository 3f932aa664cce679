import { afterAll, beforeAll, beforeEach, describe, expect, it, vi } from "vitest";

import { connection } from "./connection.svelte";
import { RequestFailed } from "./failure";
import { get, getBlob, getBytes, send } from "./http";

/** The beginning of an answer; then the connection breaks off, as when a server is killed. */
function half(status = 200): Response {
  return new Response(
    new ReadableStream({
      start(stream) {
        stream.enqueue(new TextEncoder().encode('{"a": [1,'));
        stream.error(new TypeError("network error"));
      },
    }),
    { status },
  );
}

const answers: Readonly<Record<string, () => Response>> = {
  "/half": () => half(),
  "/half-refused": () => half(404),
  "/gateway": () => new Response("<p>Bad gateway</p>", { status: 403 }),
  "/whole": () => new Response('{"a": 1}'),
  "/other": () => new Response("<p>Please log in</p>"),
};

beforeAll(() =>
  vi.stubGlobal("fetch", (path: string, options: RequestInit): Promise<Response> => {
    const aborted = new DOMException("This operation was aborted", "AbortError");
    if (options.signal?.aborted === true) return Promise.reject(aborted);
    return Promise.resolve(answers[path]?.() ?? Response.error());
  }),
);
afterAll(() => vi.unstubAllGlobals());

const lost = vi.spyOn(connection, "lost").mockImplementation(() => undefined);
beforeEach(() => lost.mockClear());

async function failureOf(request: Promise<unknown>): Promise<RequestFailed["failure"]> {
  const error: unknown = await request.then(
    () => new Error("It was answered"),
    (reason: unknown) => reason,
  );
  if (!(error instanceof RequestFailed)) throw error;
  return error.failure;
}

describe("an answer that breaks off", () => {
  it.each([
    ["JSON", (): Promise<unknown> => get("/half")],
    ["an answer to what was sent", (): Promise<unknown> => send("POST", "/half", {})],
    ["a file", (): Promise<unknown> => getBlob("/half")],
    ["a refusal", (): Promise<unknown> => get("/half-refused")],
    ["numbers", (): Promise<unknown> => getBytes("/half")],
  ])("is a server that was lost: %s", async (_, ask) => {
    expect(await failureOf(ask())).toEqual({ kind: "offline" });
    expect(lost).toHaveBeenCalledOnce();
  });

  it("is nothing where the page itself lost interest", async () => {
    const abort = new AbortController();
    abort.abort();
    await expect(get("/whole", abort.signal)).rejects.toThrow(/abort/);
    expect(lost).not.toHaveBeenCalled();
  });
});

it("an answer that is no JSON came from something else, which asking again will not change", async () => {
  expect(await failureOf(get("/other"))).toMatchObject({
    kind: "refused",
    body: { code: "unreadable_answer" },
  });
  expect(await failureOf(get("/gateway"))).toMatchObject({ kind: "refused", status: 403 });
  expect(lost).not.toHaveBeenCalled();
});

it("a whole answer is read", async () => {
  expect(await get("/whole")).toEqual({ a: 1 });
});
