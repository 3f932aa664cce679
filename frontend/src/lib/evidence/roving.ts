/**
 * Moving among the tokens of highlighted lines with the arrow keys: one token can be reached with Tab,
 * left and right move along its line, up and down to the lines beside it, Home and End to a line's ends.
 *
 * Lines are elements with `data-line`, tokens what has `data-ci` in them. Lines come and go, so
 * which token can be reached is kept on the elements themselves, not in the components that draw them.
 */

const TOKENS = "[data-ci]";

function tokensOf(line: Element): HTMLElement[] {
  return [...line.querySelectorAll<HTMLElement>(TOKENS)];
}

/** The token of another line that belongs to the one left: the firing token, else the one at the same place. */
function counterpart(line: Element, place: number): HTMLElement | undefined {
  const tokens = tokensOf(line);
  return tokens.find((token) => token.dataset["firing"] !== undefined) ?? tokens[place] ?? tokens.at(-1);
}

/** Attach to the element around the lines. */
export function roving(around: HTMLElement): () => void {
  const reachable = (token: HTMLElement): void => {
    for (const other of around.querySelectorAll<HTMLElement>(`${TOKENS}[tabindex="0"]`))
      if (other !== token) other.tabIndex = -1;
    token.tabIndex = 0;
  };
  const settle = (): void => {
    if (around.querySelector(`${TOKENS}[tabindex="0"]`) !== null) return;
    const first = around.querySelector("[data-line]");
    const token = first === null ? undefined : counterpart(first, 0);
    if (token !== undefined) token.tabIndex = 0;
  };

  function focused(event: FocusEvent): void {
    if (event.target instanceof HTMLElement && event.target.matches(TOKENS)) reachable(event.target);
  }

  function pressed(event: KeyboardEvent): void {
    const token = event.target;
    if (!(token instanceof HTMLElement) || !token.matches(TOKENS)) return;
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const line = token.closest("[data-line]");
    if (line === null) return;
    const tokens = tokensOf(line);
    const place = tokens.indexOf(token);
    const lines = [...around.querySelectorAll("[data-line]")];
    const above = lines[lines.indexOf(line) - 1];
    const below = lines[lines.indexOf(line) + 1];
    const moves: Readonly<Record<string, () => HTMLElement | undefined>> = {
      ArrowLeft: () => tokens[place - 1],
      ArrowRight: () => tokens[place + 1],
      Home: () => tokens[0],
      End: () => tokens.at(-1),
      ArrowUp: () => (above === undefined ? undefined : counterpart(above, place)),
      ArrowDown: () => (below === undefined ? undefined : counterpart(below, place)),
    };
    const move = moves[event.key];
    if (move === undefined) return;
    event.preventDefault();
    move()?.focus();
  }

  const observer = new MutationObserver(settle);
  observer.observe(around, { childList: true, subtree: true });
  around.addEventListener("focusin", focused);
  around.addEventListener("keydown", pressed);
  settle();
  return () => {
    observer.disconnect();
    around.removeEventListener("focusin", focused);
    around.removeEventListener("keydown", pressed);
  };
}
