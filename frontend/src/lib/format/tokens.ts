/** Token text with its whitespace made visible. */

export interface Piece {
  readonly kind: "text" | "mark";
  readonly text: string;
}

const MARKS: Readonly<Record<string, string>> = { " ": "␣", "\n": "⏎", "\t": "⇥" };

function markOf(character: string): string | null {
  const mark = MARKS[character];
  if (mark !== undefined) return mark;
  const code = character.codePointAt(0) ?? 0;
  const invisible = code < 0x20 || (code >= 0x7f && code < 0xa0) || /\p{Cf}|\p{Zs}/u.test(character);
  return invisible ? `‹${code.toString(16).toUpperCase().padStart(2, "0")}›` : null;
}

/** Split a token's text into plain stretches and marks that stand for one invisible character each. */
export function pieces(token: string): Piece[] {
  const result: { kind: "text" | "mark"; text: string }[] = [];
  for (const character of token) {
    const mark = markOf(character);
    const last = result.at(-1);
    if (mark !== null) result.push({ kind: "mark", text: mark });
    else if (last?.kind === "text") last.text += character;
    else result.push({ kind: "text", text: character });
  }
  return result.length > 0 ? result : [{ kind: "mark", text: "∅" }];
}

/** The same as one string, for titles, exports of pictures and assistive technology. */
export function visible(token: string): string {
  return pieces(token)
    .map((piece) => piece.text)
    .join("");
}
