/**
 * Where each component is: in a cluster of two or more, alone, or unknown to the clustering. The three are
 * different things: whoever is alone was looked at and joined nobody; of the unknown nothing is known.
 */

import { addressOf } from "../address";
import type { Cluster, ClusteringDetail, ClusteringSummary } from "./api";

export type Placement =
  | { readonly kind: "cluster"; readonly cluster: Cluster }
  | { readonly kind: "alone" }
  | { readonly kind: "unknown" };

const ALONE: Placement = { kind: "alone" };
const UNKNOWN: Placement = { kind: "unknown" };

export class ClusterBook {
  readonly detail: ClusteringDetail;
  readonly #places = new Map<string, Placement>();
  readonly #byNumber: ReadonlyMap<number, Cluster>;

  constructor(detail: ClusteringDetail) {
    this.detail = detail;
    for (const cluster of detail.clusters) {
      const placement: Placement = { kind: "cluster", cluster };
      for (const key of cluster.members) this.#places.set(key, placement);
    }
    for (const key of detail.alone) this.#places.set(key, ALONE);
    this.#byNumber = new Map(detail.clusters.map((cluster) => [cluster.cluster, cluster]));
  }

  /** Of a component's key. */
  of(key: string): Placement {
    return this.#places.get(key) ?? UNKNOWN;
  }

  /** The cluster of a number, where there is one at this iteration. */
  cluster(number: number): Cluster | null {
    return this.#byNumber.get(number) ?? null;
  }

  get clustered(): number {
    return this.detail.clusters.reduce((sum, cluster) => sum + cluster.size, 0);
  }
}

/** Bits a position, as exactly as they are told apart by eye. */
export function bits(value: number): string {
  return value.toLocaleString("en", { maximumFractionDigits: value < 100 ? 2 : 1 });
}

/** Keys by the address of their site, in the order of `addresses`; sites without a key are left out. */
export function bySite(
  keys: readonly string[],
  addresses: readonly string[],
): readonly (readonly [string, readonly string[]])[] {
  const groups = new Map<string, string[]>(addresses.map((address) => [address, []]));
  for (const key of keys) {
    const address = addressOf(key);
    const group = groups.get(address);
    if (group === undefined) groups.set(address, [key]);
    else group.push(key);
  }
  return [...groups].filter(([, group]) => group.length > 0);
}

/** A placement in as few words as a cell of a table has room for. */
export function shortPlacement(placement: Placement): string {
  return placement.kind === "cluster" ? String(placement.cluster.cluster) : placement.kind;
}

/** A placement where nothing around it says that clusters are meant. */
export function placementWords(placement: Placement): string {
  return placement.kind === "cluster" ? `cluster ${placement.cluster.cluster}` : placement.kind;
}

/** What being unknown means in this clustering. */
export function unknownWords(clustering: ClusteringSummary): string {
  if (clustering.kind === "imported") return "not mentioned in the imported mapping";
  const least = clustering.settings["least"] ?? "1";
  const times = least === "1" ? "never active" : `active fewer than ${least} times`;
  return `${times} at the ${clustering.n_positions.toLocaleString("en")} sampled positions`;
}
