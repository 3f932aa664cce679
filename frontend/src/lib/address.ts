/**
 * Addresses and component keys as the page sees them: the only place where their text is taken apart.
 *
 * The grammar is the server's: `embed:42`, `position:3`, `output:7`, `<block>.<kind>.<projection>:17`,
 * `<site>:delta`, `<site>:bias`.
 */

export type NodeKind = "component" | "embed" | "position" | "output" | "delta" | "bias";

export interface SiteAddress {
  readonly block: number;
  readonly kind: string;
  readonly projection: string;
}

const SITE = /^(\d{1,4})\.([a-z_]+)\.([a-z]+)$/;
const KEY = /^((?:\d{1,4}\.[a-z_]+\.[a-z]+)|embed|position|output):(delta|bias|0|[1-9]\d{0,8})$/;
const PROJECTION_ORDER = ["q", "k", "v", "qkv", "o", "gate", "up", "down"];
const KIND_ORDER = ["attn", "attn_fused", "glu", "mlp"];

/** Parse a site's address; `null` for `embed`, `output` and anything that is no address. */
export function parseSite(text: string): SiteAddress | null {
  const match = SITE.exec(text);
  if (match === null) return null;
  const [, block = "", kind = "", projection = ""] = match;
  return { block: Number(block), kind, projection };
}

export function isKey(text: string): boolean {
  return KEY.test(text);
}

/** The address in front of a key's index: `0.attn.q` of `0.attn.q:17`. */
export function addressOf(key: string): string {
  return key.slice(0, key.lastIndexOf(":"));
}

/** What follows the address in a key: `17`, `delta`, `bias` or a token id. */
export function indexOf(key: string): string {
  return key.slice(key.lastIndexOf(":") + 1);
}

export function kindOf(key: string): NodeKind {
  const index = indexOf(key);
  if (index === "delta" || index === "bias") return index;
  const address = addressOf(key);
  return address === "embed" || address === "position" || address === "output" ? address : "component";
}

export function isToken(address: string): boolean {
  return address === "embed" || address === "output";
}

/** A column of the site map: the sites of every block that have the same kind and projection. */
export interface SiteColumn {
  readonly kind: string;
  readonly projection: string;
}

function rank(list: readonly string[], value: string): number {
  const index = list.indexOf(value);
  return index < 0 ? list.length : index;
}

/** The columns that occur among some sites, in display order: q k v o, then gate up down. */
export function siteColumns(addresses: readonly string[]): SiteColumn[] {
  const columns = new Map<string, SiteColumn>();
  for (const address of addresses) {
    const site = parseSite(address);
    if (site !== null) columns.set(`${site.kind}.${site.projection}`, site);
  }
  return [...columns.values()]
    .map(({ kind, projection }) => ({ kind, projection }))
    .sort(
      (a, b) =>
        rank(KIND_ORDER, a.kind) - rank(KIND_ORDER, b.kind) ||
        rank(PROJECTION_ORDER, a.projection) - rank(PROJECTION_ORDER, b.projection),
    );
}
