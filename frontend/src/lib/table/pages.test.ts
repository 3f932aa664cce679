import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";

import type { getComponents } from "../api/client";
import { RequestFailed } from "../api/failure";
import { INITIAL } from "../location/view";
import { ComponentPages } from "./pages.svelte";

const answers = vi.fn<typeof getComponents>();
const whole = { total: 1, tokens: 9, fires_on: null, strongest_source: null, strongest_target: null };
const page = { run: "demo", ...whole, components: [], next_cursor: null, scan_seconds: 1, seconds: 1 };
const refused = (status: number): RequestFailed =>
  new RequestFailed({ kind: "refused", status, body: { code: "busy", message: "34 % done", hint: "" } });
const ask = (): ComponentPages => new ComponentPages("demo", { ...INITIAL, within: null }, answers);

describe("the rows of a list", () => {
  beforeEach(() => void vi.useFakeTimers());
  afterEach(() => {
    vi.useRealTimers();
    answers.mockReset();
  });

  it("are asked for again while the server works out what they are sorted by", async () => {
    answers.mockRejectedValueOnce(refused(503)).mockRejectedValueOnce(refused(503)).mockResolvedValue(page);
    const pages = ask();
    await vi.advanceTimersByTimeAsync(100);
    expect(pages.state.kind).toBe("failed");
    await vi.advanceTimersByTimeAsync(2000);
    expect(pages.state.kind).toBe("failed");
    await vi.advanceTimersByTimeAsync(2000);
    expect(pages.state).toMatchObject({ kind: "ready", whole });
    await vi.advanceTimersByTimeAsync(9000);
    expect(answers).toHaveBeenCalledTimes(3);
  });

  it("are not asked for again where they were refused, or nobody looks any more", async () => {
    answers.mockRejectedValueOnce(refused(422));
    ask();
    await vi.advanceTimersByTimeAsync(9000);
    expect(answers).toHaveBeenCalledTimes(1);
    answers.mockRejectedValue(refused(503));
    const pages = ask();
    await vi.advanceTimersByTimeAsync(3000);
    pages.stop();
    await vi.advanceTimersByTimeAsync(9000);
    expect(answers).toHaveBeenCalledTimes(3);
  });
});
