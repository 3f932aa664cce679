import { expect, it } from "vitest";

import { STEPS, before, begin, record, redo, redoWords, settle, undo, undoWords } from "./history";

it("goes back and forth through every state", () => {
  let history = begin("a");
  history = record(history, "b", "to b");
  history = record(history, "c", "to c");
  expect([undoWords(history), redoWords(history)]).toEqual(["to c", null]);
  history = undo(history);
  expect([history.present, undoWords(history), redoWords(history)]).toEqual(["b", "to b", "to c"]);
  history = undo(history);
  expect(undo(history)).toBe(history);
  history = redo(redo(history));
  expect(history.present).toBe("c");
  expect(redo(history)).toBe(history);
});

it("a change after undo forgets what was undone", () => {
  const history = record(undo(record(begin("a"), "b", "to b")), "c", "to c");
  expect(redo(history).present).toBe("c");
  expect(undo(history).present).toBe("a");
});

it("what changes nothing is no step", () => {
  const history = begin("a");
  expect(record(history, "a", "nothing")).toBe(history);
});

it("changes with one tag are one step, until they are settled", () => {
  let history = begin("");
  for (const text of ["n", "no", "not"]) history = record(history, text, "note", "note a");
  expect(history.past).toHaveLength(1);
  history = record(settle(history), "note", "note", "note a");
  expect(history.past).toHaveLength(2);
  expect(undo(history).present).toBe("not");
  expect(undo(undo(history)).present).toBe("");
});

it("changes with other tags are other steps, and undo ends a joined one", () => {
  let history = record(record(begin(""), "a", "x", "note a"), "b", "x", "note b");
  expect(history.past).toHaveLength(2);
  history = record(undo(history), "c", "x", "note a");
  expect(history.past).toHaveLength(2);
});

it("a state put before the present one is where undo leads", () => {
  const history = before(record(begin("a"), "mine", "m"), "theirs", "keeping");
  expect([history.present, undo(history).present, undo(undo(history)).present]).toEqual([
    "mine",
    "theirs",
    "a",
  ]);
});

it("remembers only so many steps", () => {
  let history = begin(0);
  for (let n = 1; n <= STEPS + 50; n += 1) history = record(history, n, "");
  expect(history.past).toHaveLength(STEPS);
  expect(history.past[0]?.state).toBe(50);
});
