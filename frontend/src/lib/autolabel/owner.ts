/**
 * The right to have labels made, which cost money: a secret in the link that `tributary serve` prints, behind
 * the `#` so that it is never sent in an address. This tab keeps it; it is gone with the tab.
 */

const MARK = "owner=";
const NAME = "tributary-owner";

export interface Place {
  readonly hash: string;
  readonly pathname: string;
  readonly search: string;
}

/** The secret of an address, or null. */
export function secretOf(hash: string): string | null {
  const part = hash
    .replace(/^#/, "")
    .split("&")
    .find((one) => one.startsWith(MARK));
  const secret = part?.slice(MARK.length) ?? "";
  return /^[\w-]{1,200}$/.test(secret) ? secret : null;
}

/** Move the secret from the address to the tab, and say what the tab has. */
export function takeSecret(
  place: Place,
  history: Pick<History, "replaceState">,
  kept: Storage,
): string | null {
  const found = secretOf(place.hash);
  if (found === null) return remembered(kept);
  // Out of sight before anything else: an address is copied, bookmarked and photographed.
  history.replaceState(null, "", place.pathname + place.search);
  try {
    kept.setItem(NAME, found);
  } catch {
    // A browser that keeps nothing: the right lasts until the page is loaded again.
  }
  return found;
}

function remembered(kept: Storage): string | null {
  try {
    return kept.getItem(NAME);
  } catch {
    return null;
  }
}
