/** Undo and redo over immutable states. Pure: every function gives a new history. */

export interface Step<T> {
  readonly state: T;
  /** What led from this state to the next one, in words. */
  readonly words: string;
}

export interface History<T> {
  readonly past: readonly Step<T>[];
  readonly present: T;
  /** The next redo comes last; its words say what led to its state. */
  readonly future: readonly Step<T>[];
  /** What the last change was part of: a further change with the same tag joins it. */
  readonly tag: string | null;
}

/** Older steps are forgotten. */
export const STEPS = 200;

export function begin<T>(present: T): History<T> {
  return { past: [], present, future: [], tag: null };
}

/**
 * A change. Changes that follow each other with the same `tag` are one step: a note is undone as a whole
 * and not letter by letter.
 */
export function record<T>(
  history: History<T>,
  next: T,
  words: string,
  tag: string | null = null,
): History<T> {
  if (next === history.present) return history;
  if (tag !== null && tag === history.tag) return { ...history, present: next, future: [] };
  const past = [...history.past, { state: history.present, words }].slice(-STEPS);
  return { past, present: next, future: [], tag };
}

export function undo<T>(history: History<T>): History<T> {
  const last = history.past.at(-1);
  if (last === undefined) return history;
  const future = [...history.future, { state: history.present, words: last.words }];
  return { past: history.past.slice(0, -1), present: last.state, future, tag: null };
}

export function redo<T>(history: History<T>): History<T> {
  const next = history.future.at(-1);
  if (next === undefined) return history;
  const past = [...history.past, { state: history.present, words: next.words }];
  return { past, present: next.state, future: history.future.slice(0, -1), tag: null };
}

/** Close what is being joined: the next change is a step of its own. */
export function settle<T>(history: History<T>): History<T> {
  return history.tag === null ? history : { ...history, tag: null };
}

/** Put a state in front of the present one, as something that undo leads back to. */
export function before<T>(history: History<T>, state: T, words: string): History<T> {
  return { ...history, past: [...history.past, { state, words }].slice(-STEPS), future: [], tag: null };
}

export function undoWords<T>(history: History<T>): string | null {
  return history.past.at(-1)?.words ?? null;
}

export function redoWords<T>(history: History<T>): string | null {
  return history.future.at(-1)?.words ?? null;
}
