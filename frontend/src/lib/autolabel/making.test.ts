import { describe, expect, it } from "vitest";

import type { LabelEstimate, LabelSet, Labelling, LabellingProgress } from "./api";
import {
  WISH,
  capsOf,
  goingOn,
  isOffered,
  keysOf,
  leftWords,
  requestOf,
  spentWords,
  suggestedCaps,
} from "./making";
import { money } from "./words";

const OFFERED: Labelling = {
  available: true,
  owner: true,
  endpoint: "127.0.0.1:8080",
  model: "org/toy",
  prices: { prompt: 1, completion: 4 },
  cap: 2,
  cap_tokens: null,
  cap_left: 0.5,
  cap_tokens_left: null,
  hint: "",
};
const ESTIMATE: LabelEstimate = {
  run: "toy",
  name: "evidence toy",
  label_set_id: null,
  strategy: "evidence",
  components: 100,
  never_fire: 0,
  too_dense: 0,
  requests: 100,
  prompt_tokens: 90_000,
  completion_tokens: 2500,
  cost: 0.1,
  spent: 0,
  spent_tokens: 0,
  digest: "d",
  seconds: 0.1,
};

describe("what is asked for", () => {
  it("is the most important components, or those named", () => {
    expect(requestOf(WISH)).toEqual({
      top: 100,
      max_density: 0.1,
      strategy: "evidence",
      examples: 12,
      trials: 1,
    });
    const named = {
      ...WISH,
      which: "keys",
      keys: " 0.attn.q:1,\n0.attn.q:2 0.attn.q:1",
      name: " mine ",
    } as const;
    expect(requestOf(named)).toEqual({
      keys: ["0.attn.q:1", "0.attn.q:2"],
      strategy: "evidence",
      examples: 12,
      trials: 1,
      name: "mine",
    });
    expect(keysOf(" ,\n")).toEqual([]);
  });

  it("says what is wrong in words", () => {
    expect(requestOf({ ...WISH, top: "0" })).toMatch(/from 1 to 50,000/);
    expect(requestOf({ ...WISH, density: "101" })).toMatch(/0 to 100/);
    expect(requestOf({ ...WISH, which: "keys" })).toMatch(/at least one component/);
    expect(requestOf({ ...WISH, examples: "x" })).toMatch(/texts/);
    expect(requestOf({ ...WISH, trials: "1.5" })).toMatch(/questions/);
    expect(goingOn(3, "2")).toEqual({ go_on: 3, trials: 2 });
    expect(goingOn(3, "")).toMatch(/questions/);
  });

  it("goes on only with sets of the model that is offered", () => {
    const set = { model: "org/toy", endpoint: "http://127.0.0.1:8080/v1", judge: null } as LabelSet;
    expect(isOffered(set, OFFERED)).toBe(true);
    expect(isOffered({ ...set, model: "other" }, OFFERED)).toBe(false);
    expect(isOffered({ ...set, endpoint: "http://127.0.0.1:8081/v1" }, OFFERED)).toBe(false);
    expect(isOffered({ ...set, endpoint: "" }, OFFERED)).toBe(false);
    const own = { model: set.model, endpoint: set.endpoint };
    expect(isOffered({ ...set, judge: own }, OFFERED)).toBe(true);
    expect(isOffered({ ...set, judge: { ...own, model: "better" } }, OFFERED)).toBe(false);
  });
});

describe("caps", () => {
  it("are proposed with room for what is set aside, and never above what is left", () => {
    // 0.1 × (1.5 + 20/100) = 0.17
    expect(suggestedCaps(ESTIMATE, OFFERED)).toEqual({ money: "0.17", tokens: null });
    expect(suggestedCaps({ ...ESTIMATE, cost: 0.4 }, OFFERED).money).toBe("0.5");
    // 0.101 × 1.7 = 0.1717, upwards
    expect(suggestedCaps({ ...ESTIMATE, cost: 0.101 }, OFFERED).money).toBe("0.18");
    const free = { ...OFFERED, prices: null, cap: null, cap_left: null };
    expect(suggestedCaps({ ...ESTIMATE, cost: null }, free)).toEqual({ money: null, tokens: "" });
    const counted = { ...free, cap_tokens: 1_000_000, cap_tokens_left: 100_000 };
    expect(suggestedCaps({ ...ESTIMATE, cost: null }, counted).tokens).toBe("100000");
  });

  it("are read, or refused in words", () => {
    expect(capsOf({ money: "0.5", tokens: null }, OFFERED)).toEqual({ cap: 0.5, cap_tokens: null });
    expect(capsOf({ money: "0.51", tokens: null }, OFFERED)).toMatch(/up to 0.5/);
    expect(capsOf({ money: "", tokens: null }, OFFERED)).toMatch(/how much/);
    expect(capsOf({ money: null, tokens: "" }, OFFERED)).toEqual({ cap: null, cap_tokens: null });
    expect(capsOf({ money: null, tokens: "1.5" }, OFFERED)).toMatch(/tokens/);
  });

  it("are said", () => {
    expect(leftWords(OFFERED)).toBe(
      "Of what may be spent from this page, 0.5 of 2 is left until the server is stopped.",
    );
    expect(leftWords({ ...OFFERED, cap: null, cap_left: null })).toMatch(/without a cap/);
    const progress = { cost: 0.01234, cap: 0.5, tokens: 1200, cap_tokens: null } as LabellingProgress;
    expect(spentWords(progress)).toBe("0.0123 of at most 0.5 spent");
    expect(spentWords({ ...progress, cost: null, cap: null })).toBe("1,200 tokens");
    expect([money(0), money(0.1), money(12.3456), money(0.000012)]).toEqual(["0", "0.1", "12.3", "1.20e−5"]);
  });
});
