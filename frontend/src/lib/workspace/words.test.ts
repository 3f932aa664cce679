import { describe, expect, it } from "vitest";

import type { Circuit, EdgeCheckResult, Intervention } from "../api/promptTypes";
import { agreement, agreementWords, discrepancy, scaled, totalWords } from "./checks";
import { curvesOf, joined, parseCoefficients, settingsWords, sweeps } from "./circuits";
import { along, axisOf, pathOf, ticksOf } from "./curves";
import { choicesOf, outcomesOf, requestWords, rowsOf, summaryOf } from "./regimes";
import { directionOf } from "./shortcuts";

const CHECK: EdgeCheckResult = {
  epsilon: 0.01,
  predicted: 0.02,
  actual: 0.02,
  total: 0.03,
  before: 2,
  after: 2.02,
};

describe("checked edges", () => {
  it.each([
    [{ actual: 0.0199 }, "exact"],
    [{ actual: 0.0185 }, "close"],
    [{ actual: 0.012 }, "bent"],
    [{ actual: 0.005 }, "none"],
    [{ actual: -0.02 }, "none"],
    [{ actual: 0, predicted: 0 }, "nothing"],
    [{ actual: 1e-8, predicted: -1e-8 }, "nothing"],
  ] as const)("%o: %s", (change, wanted) => {
    const result = { ...CHECK, ...change };
    expect(agreement(result)).toBe(wanted);
    expect(agreementWords(result)).not.toBe("");
  });

  it("say what flows by way of other nodes", () => {
    expect(totalWords(CHECK)).toContain("the same direction");
    expect(totalWords({ ...CHECK, total: 0.01 })).toContain("the opposite direction");
    expect(totalWords({ ...CHECK, total: 0.02 })).toContain("Hardly anything");
    expect(totalWords({ ...CHECK, actual: 0 })).toContain("All of it");
  });

  it("keep their agreement in another unit", () => {
    const other = scaled(CHECK, 3);
    expect(other.predicted).toBeCloseTo(0.06);
    expect(discrepancy(other)).toBeCloseTo(discrepancy(CHECK));
  });
});

describe("coefficients", () => {
  it("are read in any order and form", () =>
    expect(parseCoefficients(" 0.3 0.01,1e-3;0.3 ")).toEqual({ kind: "good", values: [0.001, 0.01, 0.3] }));
  it.each(["", "a", "-1", "1, Infinity", "1e7", Array.from({ length: 40 }, (_, n) => n).join(" ")])(
    "%s is none",
    (text) => expect(parseCoefficients(text).kind).toBe("bad"),
  );
});

describe("circuits", () => {
  const circuit = (id: number, coefficient: number, steps = 10): Circuit => ({
    id,
    graph_id: 1,
    prompt_id: 1,
    run: "demo",
    coefficient,
    settings: {
      loss: "ce",
      position: -1,
      token_id: null,
      coefficients: [0.1, 1],
      steps,
      learning_rate: 0.02,
      p: 1,
      masks: "ci",
      adversary_steps: 0,
      seed: 0,
    },
    alive: 3,
    loss: 1,
    kl: 0,
    probability: 0.5,
    kl_alone: 0,
    probability_alone: 0.5,
    seconds: 1,
    peak_bytes: 1,
    history: [
      { step: 0, loss: [coefficient], alive: [5], probability: [0.5] },
      { step: 10 * id, loss: [2 * coefficient], alive: [3], probability: [0.6] },
    ],
    graphs: [],
    created: "2026-11-21T15:00:00Z",
  });

  it("of one search lie together, by coefficient", () => {
    const groups = sweeps([circuit(3, 1, 20), circuit(2, 1), circuit(1, 0.1)]);
    expect(groups.map((group) => group.map((one) => one.id))).toEqual([[3], [1, 2]]);
  });

  it("of the same search made twice do not", () => {
    const groups = sweeps([circuit(4, 1), circuit(3, 0.1), circuit(2, 1), circuit(1, 0.1)]);
    expect(groups.map((group) => group.map((one) => one.id))).toEqual([
      [3, 4],
      [1, 2],
    ]);
  });

  it("of one search stay together over the turn of a minute", () => {
    const first = { ...circuit(1, 0.1), created: "2026-01-01T10:00:59.999+00:00" };
    const second = { ...circuit(2, 1), created: "2026-01-01T10:01:00.003+00:00" };
    expect(sweeps([second, first]).map((group) => group.map((one) => one.id))).toEqual([[1, 2]]);
  });

  it("join their histories into curves", () => {
    const snapshots = joined([circuit(1, 0.1), circuit(2, 1)]);
    expect(snapshots.map((one) => one.step)).toEqual([0, 10, 20]);
    expect(snapshots[1]?.loss).toEqual([0.2, NaN]);
    expect(curvesOf(snapshots, "alive")[0]).toEqual([
      [0, 5],
      [10, 3],
      [20, NaN],
    ]);
  });

  it("are told in words", () => expect(settingsWords(circuit(1, 1).settings)).toBe("CE, 10 steps, CI masks"));
});

describe("curves", () => {
  it("axes hold all values and begin at 0 where they may", () => {
    expect(axisOf([2, 5])).toEqual({ from: 0, to: 5, log: false });
    expect(axisOf([-1, NaN, 5])).toEqual({ from: -1, to: 5, log: false });
    expect(axisOf([10, 1000], true)).toEqual({ from: 10, to: 1000, log: true });
    expect(axisOf([0, 1000], true).log).toBe(false);
    expect(axisOf([])).toEqual({ from: 0, to: 1, log: false });
  });

  it("ticks are round and inside", () => {
    expect(ticksOf({ from: 0, to: 300, log: false }, 3).map((tick) => tick.value)).toEqual([
      0, 100, 200, 300,
    ]);
    for (const tick of ticksOf({ from: 43, to: 3172, log: true }, 3)) {
      expect(tick.at).toBeGreaterThanOrEqual(0);
      expect(tick.at).toBeLessThanOrEqual(1);
    }
  });

  it("a logarithmic axis puts the geometric mean in the middle", () =>
    expect(along({ from: 1, to: 100, log: true }, 10)).toBeCloseTo(0.5));

  it("paths have gaps where there is no number", () => {
    const axis = { from: 0, to: 10, log: false };
    const points = [
      [0, 0],
      [5, NaN],
      [10, 10],
    ] as const;
    expect(pathOf(points, axis, axis, { width: 100, height: 50 })).toBe("M0 50M100 0");
  });
});

describe("interventions", () => {
  const before = [{ position: 0, top: [{ token_id: 1, text: "a", probability: 0.6, logit: 1 }] }];
  const intervention: Intervention = {
    id: 1,
    graph_id: 1,
    selected: ["x", "y"],
    regimes: ["target_sans", "ci"],
    changes: [{ key: "0.attn.q:0:1", factor: 0 }],
    seed: 0,
    adversary: { steps: 4, step_size: 1 },
    ignored: 0,
    tokens: [{ id: 5, text: "t" }],
    before,
    after: {
      target_sans: [
        {
          position: 0,
          top: [
            { token_id: 2, text: "b", probability: 0.9, logit: 2, probability_before: 0.1, logit_before: 0 },
          ],
        },
      ],
      ci: [
        {
          position: 0,
          top: [
            { token_id: 1, text: "a", probability: 0.5, logit: 2, probability_before: 0.6, logit_before: 1 },
          ],
        },
      ],
      changes: [],
    },
    kl: { ci: [0.25], target_sans: [2] },
    created: "",
  };

  it("have their outcomes in one order", () =>
    expect(outcomesOf(intervention)).toEqual(["ci", "target_sans", "changes"]));

  it("have a row a position and a cell an outcome", () => {
    const rows = rowsOf(intervention, ["ci", "target_sans", "changes"]);
    expect(rows[0]?.before).toMatchObject({ text: "a", probability: 0.6 });
    expect(rows[0]?.cells).toEqual([
      { text: "a", probability: 0.5, kl: 0.25, kept: true },
      { text: "b", probability: 0.9, kl: 2, kept: false },
      null,
    ]);
    expect(summaryOf(rows, 0)).toEqual({ kl: 0.25, kept: 1, of: 1 });
    expect(summaryOf(rows, 2).of).toBe(0);
  });

  it("list what was on top before as well", () =>
    expect(choicesOf(before, intervention.after["target_sans"] ?? [], 0)).toEqual([
      { token_id: 2, text: "b", before: 0.1, after: 0.9 },
      { token_id: 1, text: "a", before: 0.6, after: NaN },
    ]));

  it("are told in words", () =>
    expect(requestWords(intervention)).toBe("2 nodes kept, 2 of 4 regimes; 0.attn.q:0:1 ablated"));
});

describe("keys", () => {
  const press = (key: string, held: Partial<Parameters<typeof directionOf>[0]>) =>
    directionOf({ key, ctrlKey: false, metaKey: false, shiftKey: false, altKey: false, ...held });

  it("undo and redo", () => {
    expect(press("z", { ctrlKey: true })).toBe("undo");
    expect(press("z", { metaKey: true })).toBe("undo");
    expect(press("Z", { ctrlKey: true, shiftKey: true })).toBe("redo");
    expect(press("y", { ctrlKey: true })).toBe("redo");
    expect(press("z", {})).toBeNull();
    expect(press("z", { ctrlKey: true, altKey: true })).toBeNull();
  });
});
