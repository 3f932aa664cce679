/**
 * How an edge looks by its rank among those shown: classes from the strongest few to the mass. Width says the
 * rank; the alpha of weak edges falls with the number of edges in sight, so that a dense picture stays a
 * picture.
 */

export interface EdgeClass {
  /** Rank of the first edge of the class. */
  readonly from: number;
  /** In pixels. */
  readonly width: number;
  readonly alpha: number;
  /** Whether negative edges are dashed; those of the mass are too short-lived for it and only bow left. */
  readonly dashed: boolean;
}

/** Strongest first. */
export const CLASSES: readonly EdgeClass[] = [
  { from: 0, width: 3.2, alpha: 0.95, dashed: true },
  { from: 12, width: 2.6, alpha: 0.9, dashed: true },
  { from: 40, width: 2.1, alpha: 0.82, dashed: true },
  { from: 120, width: 1.7, alpha: 0.7, dashed: true },
  { from: 300, width: 1.35, alpha: 0.5, dashed: true },
  { from: 800, width: 1.05, alpha: 0.3, dashed: false },
  { from: 2000, width: 0.85, alpha: 0.18, dashed: false },
  { from: 5000, width: 0.7, alpha: 0.11, dashed: false },
  { from: 12000, width: 0.6, alpha: 0.08, dashed: false },
  { from: 30000, width: 0.5, alpha: 0.06, dashed: false },
];

/** With so many edges in sight classes look as they are written; with more they fade. */
const COMFORTABLE = 6000;
/** With fewer than these even the weakest are drawn strongly. */
const FEW = 1200;

/** Edges from this rank on are the mass: hairlines that add up to a density rather than lines of their own. */
export const MASS_FROM = 2000;

export function classOf(rank: number): number {
  let found = 0;
  for (let n = 1; n < CLASSES.length && rank >= (CLASSES[n]?.from ?? Infinity); n++) found = n;
  return found;
}

/** Alpha of a class when `count` edges are in sight: the strongest keep theirs, the mass shares what is left. */
export function alphaOf(edgeClass: EdgeClass, count: number): number {
  if (count <= COMFORTABLE) {
    // With few edges there is no mass to keep quiet.
    const ease = Math.max(0, 1 - count / FEW);
    return Math.max(edgeClass.alpha, edgeClass.alpha + (0.8 - edgeClass.alpha) * ease);
  }
  const crowd = Math.sqrt(COMFORTABLE / count);
  return Math.max(0.03, edgeClass.alpha * (edgeClass.alpha + (1 - edgeClass.alpha) * crowd));
}

/** Lines grow a little with the scale: half as fast as the drawing. */
export function widthOf(edgeClass: EdgeClass, scale: number, fitScale: number): number {
  return edgeClass.width * Math.min(2, Math.max(0.8, Math.sqrt(scale / fitScale)));
}

export const DASH: readonly number[] = [5, 3];

/** Half the size of a node's mark in pixels, by its place among all nodes (0 strongest, 1 weakest). */
export function markRadius(place: number, scale: number): number {
  const largest = Math.min(9, Math.max(1.1, scale * 3.1));
  return Math.max(0.7, largest * (1 - 0.48 * place));
}
