/** An example of a firing as it is read: the firing token in the middle, its context on both sides. */

import type { Reading, Token } from "./reading";

/** What an example holds; the API's shape. */
export interface ExampleWindow {
  readonly left: number;
  readonly tokens: readonly (Token | null)[];
  readonly ci: readonly (number | null)[];
  readonly activation: readonly (number | null)[];
}

export interface Parts {
  readonly before: readonly Reading[];
  readonly firing: Reading | null;
  readonly after: readonly Reading[];
}

/** Places that the model did not see are left out. */
export function partsOf(example: ExampleWindow): Parts {
  const read = (from: number, to: number): Reading[] => {
    const readings: Reading[] = [];
    for (let place = from; place < to; place += 1) {
      const token = example.tokens[place] ?? null;
      if (token === null) continue;
      readings.push({
        token,
        ci: example.ci[place] ?? 0,
        activation: example.activation[place] ?? null,
      });
    }
    return readings;
  };
  const { left } = example;
  return {
    before: read(0, left),
    firing: read(left, left + 1)[0] ?? null,
    after: read(left + 1, example.tokens.length),
  };
}

/** The window as a prompt: the tokens themselves, since their text may be cut into others when read anew. */
export function promptOf(tokens: readonly (Token | null)[]): { text: string; ids: number[] } {
  const seen = tokens.filter((token) => token !== null);
  return { text: seen.map((token) => token.text).join(""), ids: seen.map((token) => token.id) };
}

/** The end of `before` and the start of `after` that fit into so many characters on each side. */
export function snippet(parts: Parts, characters: number): Parts {
  const fitting = (readings: readonly Reading[]): Reading[] => {
    const kept: Reading[] = [];
    let room = characters;
    for (const reading of readings) {
      room -= reading.token.text.length;
      if (room < 0) break;
      kept.push(reading);
    }
    return kept;
  };
  return {
    before: fitting([...parts.before].reverse()).reverse(),
    firing: parts.firing,
    after: fitting(parts.after),
  };
}
