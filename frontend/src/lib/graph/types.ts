/** What the graph's components take and report; shared by the canvas, the table and whoever mounts them. */

import type { Colouring } from "./colouring";
import type { GraphData, GraphMetric } from "./data";
import type { Shown } from "./filters";
import type { CellOrder } from "./layout";

/** A node or an edge, by its number in the graph's data. */
export type Hit =
  { readonly kind: "node"; readonly node: number } | { readonly kind: "edge"; readonly edge: number };

/** Where something lies on the page, in client pixels. */
export interface Box {
  readonly x: number;
  readonly y: number;
  readonly width: number;
  readonly height: number;
}

/**
 * Where one looks: the middle of the window in shares of the drawing (0 to 1 from its left and top), and the
 * scale in multiples of the one at which everything fits. `null` in its place: everything.
 */
export interface Viewport {
  readonly x: number;
  readonly y: number;
  readonly scale: number;
}

/** What both views of a graph, picture and table, need. */
export interface GraphViewProps {
  readonly data: GraphData;
  readonly metric: GraphMetric;
  /** What the filters let through; `showAll` or `applyFilter` of graph/filters.ts. */
  readonly shown: Shown;
  readonly selection: ReadonlySet<number>;
  readonly pinned: ReadonlySet<number>;
  /** Nodes that the search found; `null` where nothing is searched. */
  readonly matches: ReadonlySet<number> | null;
  /** What people call components, by their keys over the whole run. */
  readonly called?: ReadonlyMap<string, string>;
  /** What nodes are told apart by. */
  readonly colouring?: Colouring | null;
  /** A node to point out because something elsewhere on the page is about it, such as a row under the pointer. */
  readonly lit?: number | null;
  /** `at` is the box of the node (or the point of the edge) under the pointer or the keyboard. */
  readonly onhover: (hit: Hit | null, at: Box | null) => void;
  /** A click, Enter or Escape (`null`); `add` where the selection is to be extended (shift, ctrl or meta). */
  readonly onselect: (hit: Hit | null, add: boolean) => void;
}

export interface GraphCanvasProps extends GraphViewProps {
  /** Where to look; `null` shows everything. Changing it from outside moves the picture. */
  readonly viewport: Viewport | null;
  /** After a movement has come to rest. */
  readonly onmove: (viewport: Viewport | null) => void;
  /** Lay out only what is shown: the pinned subgraph's own view. Otherwise filters move nothing. */
  readonly compact?: boolean;
  /** Of the nodes inside a cell. */
  readonly order?: CellOrder;
  /** The strongest edges are on screen (`first`), or all that are in sight (`complete`). */
  readonly onready?: (stage: "first" | "complete") => void;
}

export type GraphTableProps = GraphViewProps;
