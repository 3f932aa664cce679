import { describe, expect, it } from "vitest";

import type { LabelScore, LabelSet } from "./api";
import {
  deleteQuestion,
  differenceWords,
  judgeWords,
  labelledWords,
  purposeWords,
  scoreTitle,
  scoreWords,
  setScoreWords,
  settingsWords,
  spendingWords,
  stateWords,
} from "./words";

const NONE: LabelScore = { right: 0, judged: 0, accuracy: null, interval: null, failed: 0, impossible: 0 };
const GOOD: LabelScore = {
  ...NONE,
  right: 9,
  judged: 10,
  accuracy: 0.9,
  interval: { low: 0.596, high: 0.982 },
};

const SET: LabelSet = {
  id: 1,
  name: "evidence large",
  strategy: "evidence",
  model: "large",
  endpoint: "https://models.example/v1",
  judge: null,
  settings: { examples: 12, harvest: "20260101-000000", prompts: "1", seed: 0 },
  created: "2026-01-01T00:00:00+00:00",
  ended: "finished",
  components: 1200,
  labelled: 1199,
  failed: 1,
  detection: { components: 0, mean: null, interval: null, failed: 0, impossible: 0 },
  fuzzing: { components: 0, mean: null, interval: null, failed: 0, impossible: 0 },
  spending: {
    requests: 1300,
    failed: 3,
    prompt_tokens: 2_000_000,
    completion_tokens: 90_000,
    uncounted: 2,
    cost: 1.25,
  },
};

describe("a score", () => {
  it("is a count, and never zero where nothing was answered", () => {
    expect(scoreWords(GOOD)).toBe("9 of 10");
    expect(scoreWords(NONE)).toBe("–");
    expect(scoreWords({ ...NONE, failed: 2 })).toBe("failed");
    expect(scoreWords({ ...NONE, impossible: 1 })).toBe("too few texts");
  });

  it("says its interval and what was left out", () => {
    expect(scoreTitle({ ...GOOD, failed: 1, impossible: 2 })).toBe(
      "9 of 10 texts judged rightly; 95 % interval 60–98 %; guessing gives 50 %. one question without an answer, " +
        "not counted. 2 questions could not be asked: too few texts",
    );
    expect(scoreTitle(NONE)).toBe("");
  });

  it("of a set is a mean over labels", () => {
    const scored = {
      components: 48,
      mean: 0.742,
      interval: { low: 0.6, high: 0.844 },
      failed: 0,
      impossible: 0,
    };
    expect(setScoreWords(scored)).toBe("74 % (60–84 %) over 48 labels");
    expect(setScoreWords(SET.detection)).toBe("not scored");
    expect(setScoreWords({ ...SET.detection, failed: 3 })).toBe("3 questions failed");
  });

  it("of two sets differs clearly or not", () => {
    const interval = { low: 0.02, high: 0.2 };
    expect(differenceWords({ components: 40, mean: 0.1, interval })).toBe(
      "+10 points (+2 to +20) over 40 components: the first is better",
    );
    expect(differenceWords({ components: 40, mean: -0.1, interval: { low: -0.3, high: 0.1 } })).toContain(
      "no clear difference",
    );
    expect(differenceWords({ components: 0, mean: null, interval: null })).toBe(
      "no component scored in both",
    );
  });
});

describe("a set", () => {
  it("says how far it came and what it cost", () => {
    expect(labelledWords(SET)).toBe("1,199 of 1,200 labelled, 1 failed");
    expect(spendingWords(SET)).toBe(
      "1,300 requests, 2,000,000 + 90,000 tokens, cost 1.25, 2 of the requests at their upper bound",
    );
    expect(settingsWords(SET)).toBe(
      "12 texts a component, harvest 20260101-000000, prompts of version 1, seed 0",
    );
  });

  it("says why the work ended", () => {
    const states = ["finished", "cap", "interrupted", "", "endpoint: status 401"];
    expect(states.map((ended) => stateWords({ ...SET, ended }))).toEqual([
      "finished",
      "stopped before its cap",
      "interrupted",
      "under way, or broken off",
      "stopped",
    ]);
  });
});

it("questions have names", () => {
  expect(purposeWords("unify")).toBe("one label from the two");
  expect(purposeWords("detection 0")).toBe("detection, question 1");
  expect(purposeWords("something")).toBe("something");
});

describe("judges", () => {
  it("are named, unless a model judges itself", () => {
    expect(judgeWords(SET)).toBe("not judged yet");
    const own = { model: SET.model, endpoint: SET.endpoint };
    expect(judgeWords({ ...SET, judge: own })).toMatch(/flatters/);
    // The same name at another server may be another model.
    const far = { ...own, endpoint: "http://127.0.0.1:1/v1" };
    expect(judgeWords({ ...SET, judge: far })).toBe("judged by large at http://127.0.0.1:1/v1");
  });
});

describe("deleting", () => {
  it("names what is lost", () => {
    const spending = { ...SET.spending, requests: 1300, cost: 0.25 };
    expect(deleteQuestion({ ...SET, spending })).toBe(
      "Delete 1,199 labels and the answers to 1,300 requests, which cost 0.25, for good?",
    );
    expect(deleteQuestion({ ...SET, labelled: 1, spending: { ...spending, requests: 1, cost: 0 } })).toBe(
      "Delete one label and the answer for good?",
    );
  });
});
