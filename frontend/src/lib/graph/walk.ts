/**
 * Walking through the picture by keyboard: which node comes next, and how a node is announced.
 *
 * | keys             | to                                                     |
 * |------------------|--------------------------------------------------------|
 * | ← →              | the same row at the neighbouring token                 |
 * | ↑ ↓              | the next row up or down at the same token              |
 * | Shift ← →        | the neighbour inside the cell                          |
 * | Alt ↑ ↓          | along the strongest edge to a target, from a source    |
 * | Alt ← →          | the next weaker or stronger of those, where one is     |
 */

import { count, number } from "../format/numbers";
import { visible } from "../format/tokens";
import { datasetKey } from "../workspace/nodes";
import { cellAt } from "./layout";
import type { Scene } from "./scene";
import { type Adjacency, edgesAt } from "./strength";

/** The last step along an edge, so that Alt ← → can go on to its siblings. */
export interface Along {
  readonly from: number;
  readonly direction: "up" | "down";
  readonly place: number;
}

export interface Walk {
  readonly node: number;
  readonly along: Along | null;
}

export interface Keys {
  readonly key: string;
  readonly shift: boolean;
  readonly alt: boolean;
}

function present(scene: Scene, node: number): boolean {
  return scene.shown.nodes[node] === 1 || scene.selection.has(node) || scene.pinned.has(node);
}

/** Where the walk begins: the strongest output shown, else the strongest node. */
export function firstNode(scene: Scene): number | null {
  const { data, places } = scene;
  let [best, rank] = [-1, Infinity];
  for (let node = 0; node < data.nodes; node++) {
    if (!present(scene, node) || Number.isNaN(scene.layout.x[node] ?? NaN)) continue;
    const address = data.addresses[data.site[node] ?? 0];
    const mine = (places[node] ?? 1) - (address === "output" || address === "target" ? 2 : 0);
    if (mine < rank) [best, rank] = [node, mine];
  }
  return best < 0 ? null : best;
}

function nearestInCell(scene: Scene, row: number, column: number, x: number): number | null {
  let [best, least] = [-1, Infinity];
  for (const node of cellAt(scene.layout, row, column)) {
    if (!present(scene, node)) continue;
    const distance = Math.abs((scene.layout.x[node] ?? 0) - x);
    if (distance < least) [best, least] = [node, distance];
  }
  return best < 0 ? null : best;
}

function firstFound(
  from: number,
  step: number,
  end: number,
  find: (n: number) => number | null,
): number | null {
  for (let n = from + step; n >= 0 && n < end; n += step) {
    const node = find(n);
    if (node !== null) return node;
  }
  return null;
}

/** The shown edges of a node on one side, strongest first. */
function shownAt(scene: Scene, adjacency: Adjacency, node: number): Uint32Array {
  return edgesAt(adjacency, node).filter((edge) => scene.shown.edges[edge] === 1);
}

function follow(scene: Scene, from: number, direction: "up" | "down", place: number): Walk | null {
  const { data, strength } = scene;
  const side = direction === "up" ? strength.outgoing : strength.incoming;
  const edge = shownAt(scene, side, from)[place];
  if (edge === undefined) return null;
  const node = (direction === "up" ? data.target : data.source)[edge] ?? 0;
  return { node, along: { from, direction, place } };
}

/** The step that keys mean from a node; `null` where there is nothing. */
export function step(scene: Scene, node: number, along: Along | null, keys: Keys): Walk | null {
  const { data, layout } = scene;
  const row = layout.rowOf[data.site[node] ?? 0] ?? -1;
  const column = layout.columnOf[data.position[node] ?? 0] ?? -1;
  const x = layout.x[node] ?? 0;
  const sideways = keys.key === "ArrowRight" ? 1 : keys.key === "ArrowLeft" ? -1 : 0;
  const upwards = keys.key === "ArrowUp" ? -1 : keys.key === "ArrowDown" ? 1 : 0;
  if (keys.alt) {
    if (upwards !== 0) return follow(scene, node, upwards < 0 ? "up" : "down", 0);
    if (along === null || sideways === 0 || along.place + sideways < 0) return null;
    return follow(scene, along.from, along.direction, along.place + sideways);
  }
  const to = (found: number | null): Walk | null => (found === null ? null : { node: found, along: null });
  if (keys.shift && sideways !== 0) {
    const cell = cellAt(layout, row, column);
    return to(
      firstFound(cell.indexOf(node), sideways, cell.length, (n) => {
        const other = cell[n] ?? 0;
        return present(scene, other) ? other : null;
      }),
    );
  }
  if (sideways !== 0) {
    const left = layout.columns[column]?.left ?? 0;
    const place = (n: number): number => (layout.columns[n]?.left ?? 0) + x - left;
    return to(
      firstFound(column, sideways, layout.columns.length, (n) => nearestInCell(scene, row, n, place(n))),
    );
  }
  if (upwards !== 0)
    return to(firstFound(row, upwards, layout.rows.length, (n) => nearestInCell(scene, n, column, x)));
  return null;
}

/** One sentence for the live region. */
export function announce(scene: Scene, node: number): string {
  const { data, strength } = scene;
  const position = data.position[node] ?? 0;
  const label = data.label(node);
  const parts = [data.key(node)];
  if (label !== null) parts.push(visible(label));
  const words = scene.called.get(datasetKey(data, node) ?? "");
  if (words !== undefined) parts.push(`called ${words}`);
  const own = scene.colouring?.own[node] ?? null;
  if (own !== null) parts.push(own);
  parts.push(`at token ${position}, ${visible(data.tokens[position]?.text ?? "")}`);
  const [ci, activation, probability] = [data.ci[node], data.activation[node], data.probability[node]];
  if (ci !== undefined && !Number.isNaN(ci)) parts.push(`causal importance ${number(ci)}`);
  if (probability !== undefined && !Number.isNaN(probability))
    parts.push(`probability ${number(probability)}`);
  if (activation !== undefined && !Number.isNaN(activation)) parts.push(`activation ${number(activation)}`);
  const sources = shownAt(scene, strength.incoming, node).length;
  const targets = shownAt(scene, strength.outgoing, node).length;
  parts.push(
    `${count(sources)} ${sources === 1 ? "source" : "sources"} and ${count(targets)} ${targets === 1 ? "target" : "targets"} shown`,
  );
  if (scene.selection.has(node)) parts.push("selected");
  if (scene.pinned.has(node)) parts.push("pinned");
  return parts.join(", ");
}
