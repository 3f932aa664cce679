/**
 * Keeps the canvases of a graph up to date without ever holding up a frame. Nothing here knows Svelte.
 *
 * While one pans or zooms, the edges that are already painted are moved as a bitmap; when the movement rests
 * they are painted anew, strongest first and each batch beneath the ones before it, a few milliseconds a
 * frame: the picture is right at once where it matters and complete soon after. The edge canvases are made to
 * be read (`willReadFrequently`), so that painting happens where it is measured, on every machine alike.
 */

import { DensityField } from "./density";
import {
  type Size,
  type View,
  fit,
  hold,
  inSight,
  toDrawingX,
  toDrawingY,
  toScreenX,
  toScreenY,
} from "./geometry";
import {
  type Cross,
  GUTTER,
  HEAD,
  type Look,
  edgeCurve,
  edgesAround,
  edgesInSight,
  paintEdges,
  paintEnds,
  paintFrame,
  paintNodes,
  paintPointed,
  radiusOf,
} from "./paint";
import { channels } from "./palette";
import { CanvasPen } from "./pen";
import { EdgePicker, NodePicker } from "./picking";
import type { Scene } from "./scene";
import { CLASSES, MASS_FROM, alphaOf, classOf } from "./style";
import type { Hit } from "./types";

/** Painted around the window, so that a short pan brings no blank strip. */
const MARGIN = 160;
/** Window in which alphas are as style.ts says, in square pixels. */
export const COMFORTABLE_AREA = 1300 * 760;
const SLICE_MS = 7;
const REST_MS = 90;
/** Edges painted around what is pointed at; the strongest, where there are more. */
const AROUND_POINTED = 400;
const AROUND_SELECTED = 4000;
/** So many marks are painted in every frame of a movement. */
const QUICK_NODES = 1200;
const NEAR_NODE = 9;
const NEAR_EDGE = 4;

export interface Canvases {
  readonly frame: HTMLCanvasElement;
  /** The weak edges, and two for the strong ones: the one on screen and the one being painted. */
  readonly mass: HTMLCanvasElement;
  readonly edges: readonly [HTMLCanvasElement, HTMLCanvasElement];
  readonly focus: HTMLCanvasElement;
  readonly nodes: HTMLCanvasElement;
  readonly overlay: HTMLCanvasElement;
}

/** One canvas, and where it was looking when it was painted. */
class Layer {
  readonly canvas: HTMLCanvasElement;
  readonly context: CanvasRenderingContext2D;
  readonly pen: CanvasPen;
  painted: View | null = null;
  scene: Scene | null = null;

  constructor(canvas: HTMLCanvasElement, read: boolean) {
    const context = canvas.getContext("2d", { willReadFrequently: read });
    if (context === null) throw new Error("This browser has no canvas");
    this.canvas = canvas;
    this.context = context;
    this.pen = new CanvasPen(context);
  }

  resize(width: number, height: number, ratio: number): void {
    const [w, h] = [Math.max(1, Math.round(width * ratio)), Math.max(1, Math.round(height * ratio))];
    this.painted = null;
    if (this.canvas.width === w && this.canvas.height === h) return;
    this.canvas.width = w;
    this.canvas.height = h;
    this.canvas.style.width = `${width}px`;
    this.canvas.style.height = `${height}px`;
  }

  /** Clear, and put the origin at `offset` pixels from the corner. */
  begin(ratio: number, offset: number, view: View): void {
    this.context.setTransform(1, 0, 0, 1, 0, 0);
    this.context.globalCompositeOperation = "source-over";
    this.context.clearRect(0, 0, this.canvas.width, this.canvas.height);
    this.context.setTransform(ratio, 0, 0, ratio, offset * ratio, offset * ratio);
    this.painted = view;
    this.canvas.style.transform = "";
  }
}

/** Something to paint a little of each frame. */
interface Work {
  readonly name: "gather" | "strong" | "mass" | "pick" | "focus";
  /** Go on until `deadline`; whether all is done. */
  readonly go: (deadline: number) => boolean;
}

/** Time that painting took, for the benchmark: script of one frame, in milliseconds. */
export type Timing = (kind: "move" | "point" | "paint" | "rest", milliseconds: number) => void;

export class GraphRenderer {
  readonly #layers: {
    frame: Layer;
    mass: Layer;
    edges: [Layer, Layer];
    focus: Layer;
    nodes: Layer;
    overlay: Layer;
  };
  #field: DensityField | null = null;
  #pixels = new ImageData(1, 1);
  #scene: Scene;
  #size: Size = { width: 0, height: 0 };
  #ratio = 1;
  /** `null`: everything. */
  #view: View | null = null;
  #pointed: Hit | null = null;
  #focused: number | null = null;
  #nodePicker: NodePicker;
  #edgePicker: EdgePicker | null = null;
  /** Of the edges around the selection, which stand out and are what one points at. */
  #focusPicker: EdgePicker | null = null;
  #work: Work[] = [];
  #chunk = 200;
  #frame = 0;
  #restTimer: ReturnType<typeof setTimeout> | undefined;
  #stale = { moved: true, overlay: true, picture: true, focus: true };
  #restDue = false;
  onTiming: Timing | null = null;
  /** The strongest edges of a new picture are painted, or all in sight are. */
  onStage: ((stage: "first" | "complete") => void) | null = null;

  constructor(canvases: Canvases, scene: Scene) {
    const [first, second] = canvases.edges;
    this.#layers = {
      frame: new Layer(canvases.frame, false),
      mass: new Layer(canvases.mass, true),
      edges: [new Layer(first, true), new Layer(second, true)],
      focus: new Layer(canvases.focus, true),
      nodes: new Layer(canvases.nodes, false),
      overlay: new Layer(canvases.overlay, false),
    };
    this.#scene = scene;
    this.#nodePicker = new NodePicker(scene.layout);
  }

  get window(): Size {
    return {
      width: Math.max(1, this.#size.width - GUTTER),
      height: Math.max(1, this.#size.height - HEAD),
    };
  }

  get fitted(): View {
    return fit(this.#scene.layout, this.window);
  }

  get view(): View {
    return this.#view ?? this.fitted;
  }

  get scene(): Scene {
    return this.#scene;
  }

  get complete(): boolean {
    return this.#work.length === 0 && !this.#stale.picture && !this.#restDue;
  }

  set(scene: Scene): void {
    const before = this.#scene;
    this.#scene = scene;
    if (before.layout !== scene.layout) this.#nodePicker = new NodePicker(scene.layout);
    const edges = edgesDiffer(before, scene);
    if (edges) {
      this.#edgePicker = null;
      this.#stale.picture = true;
    }
    this.#stale.moved = true;
    this.#stale.focus = true;
    this.#stale.overlay = true;
    this.#request();
  }

  resize(size: Size, ratio: number): void {
    this.#size = size;
    this.#ratio = Math.min(2, Math.max(1, ratio));
    const { frame, mass, edges, focus, nodes, overlay } = this.#layers;
    const { width, height } = this.window;
    // The mass is soft: one pixel of the page is fine enough for it on every screen.
    mass.resize(width + 2 * MARGIN, height + 2 * MARGIN, 1);
    frame.resize(size.width, size.height, this.#ratio);
    for (const layer of [...edges, focus, nodes])
      layer.resize(width + 2 * MARGIN, height + 2 * MARGIN, this.#ratio);
    overlay.resize(width, height, this.#ratio);
    this.#stale = { moved: true, overlay: true, picture: true, focus: true };
    this.#request();
  }

  look(view: View | null): void {
    const wanted = view === null ? null : hold(view, this.#scene.layout, this.window);
    const unmoved =
      wanted === null || this.#view === null
        ? wanted === this.#view
        : wanted.x === this.#view.x && wanted.y === this.#view.y && wanted.scale === this.#view.scale;
    if (unmoved) return;
    this.#view = wanted;
    this.#stale.moved = true;
    this.#stale.overlay = true;
    this.#restDue = true;
    // What is being painted is for another view.
    this.#work = [];
    clearTimeout(this.#restTimer);
    this.#restTimer = setTimeout(() => {
      this.#restDue = false;
      this.#stale.moved = true;
      this.#stale.picture = true;
      this.#stale.focus = true;
      this.#request();
    }, REST_MS);
    this.#request();
  }

  point(hit: Hit | null): void {
    this.#pointed = hit;
    this.#stale.overlay = true;
    this.#request();
  }

  focus(node: number | null): void {
    this.#focused = node;
    this.#stale.overlay = true;
    this.#request();
  }

  /** What lies under a point of the element, its heads included. */
  pick(x: number, y: number): Hit | null {
    const [px, py] = [x - GUTTER, y - HEAD];
    if (px < 0 || py < 0) return null;
    const { view, window } = this;
    const [dx, dy] = [toDrawingX(view, window, px), toDrawingY(view, window, py)];
    const { selection, pinned, shown } = this.#scene;
    const node = this.#nodePicker.nearest(
      dx,
      dy,
      NEAR_NODE / view.scale,
      (one) => shown.nodes[one] === 1 || selection.has(one) || pinned.has(one),
    );
    if (node !== null) return { kind: "node", node };
    const reach = NEAR_EDGE / view.scale;
    const edge =
      this.#focusPicker?.nearest(dx, dy, reach) ?? this.#edgePicker?.nearest(dx, dy, reach) ?? null;
    return edge === null ? null : { kind: "edge", edge };
  }

  /** Centre of a node and half its mark's size, in pixels of the element. */
  placeOf(node: number): { x: number; y: number; radius: number } {
    const { view, window } = this;
    const { layout } = this.#scene;
    return {
      x: GUTTER + toScreenX(view, window, layout.x[node] ?? 0),
      y: HEAD + toScreenY(view, window, layout.y[node] ?? 0),
      radius: radiusOf(this.#scene, node, view.scale),
    };
  }

  destroy(): void {
    cancelAnimationFrame(this.#frame);
    clearTimeout(this.#restTimer);
    this.#work = [];
    this.#frame = -1;
  }

  #request(): void {
    if (this.#frame === 0) this.#frame = requestAnimationFrame(() => this.#draw());
  }

  get #look(): Look {
    return { view: this.view, window: this.window, fitScale: this.fitted.scale };
  }

  #draw(): void {
    this.#frame = 0;
    if (this.#size.width === 0) return;
    const begun = performance.now();
    const kind = this.#stale.picture
      ? "rest"
      : this.#stale.moved
        ? "move"
        : this.#stale.overlay
          ? "point"
          : "paint";
    if (this.#stale.moved || this.#stale.overlay) this.#drawFrame();
    if (this.#stale.moved) this.#drawMoved();
    if (this.#stale.overlay) this.#drawOverlay();
    if (this.#stale.focus && !this.#restDue) this.#beginFocus();
    if (this.#stale.picture && !this.#restDue) this.#beginPicture();
    this.#stale.moved = false;
    this.#stale.overlay = false;
    this.#paintSome(begun);
    if (kind === "rest") this.onStage?.("first");
    this.onTiming?.(kind, performance.now() - begun);
    if (this.#work.length > 0) this.#request();
  }

  #drawFrame(): void {
    const { frame } = this.#layers;
    frame.begin(this.#ratio, 0, this.view);
    paintFrame(frame.pen, this.#scene, this.#look, this.#cross());
  }

  #cross(): Cross | null {
    const { data } = this.#scene;
    // The heads say where a node is; an edge has two places.
    const node = this.#pointed?.kind === "node" ? this.#pointed.node : this.#focused;
    if (node === null) return null;
    return { site: data.site[node] ?? 0, position: data.position[node] ?? 0 };
  }

  /** Move the bitmaps of the edges to where they now belong, and paint the nodes, which are few. */
  #drawMoved(): void {
    const { mass, edges, focus, nodes } = this.#layers;
    for (const layer of [mass, ...edges, focus]) this.#place(layer);
    // Many marks are moved too while a movement lasts, and painted when it rests.
    if (this.#restDue && nodes.painted !== null && this.#scene.shown.nodeCount > QUICK_NODES)
      this.#place(nodes);
    else this.#drawNodes();
  }

  #drawNodes(): void {
    const { nodes } = this.#layers;
    nodes.begin(this.#ratio, MARGIN, this.view);
    paintNodes(nodes.pen, this.#scene, this.#look, MARGIN);
  }

  #place({ painted, canvas }: Layer): void {
    if (painted === null) return;
    const { view, window } = this;
    const x = (painted.x - view.x) * view.scale;
    const y = (painted.y - view.y) * view.scale;
    canvas.style.transformOrigin = `${window.width / 2 + MARGIN}px ${window.height / 2 + MARGIN}px`;
    canvas.style.transform = `translate(${x}px, ${y}px) scale(${view.scale / painted.scale})`;
  }

  #drawOverlay(): void {
    const { overlay, mass, edges, focus } = this.#layers;
    const { selection, data } = this.#scene;
    overlay.begin(this.#ratio, 0, this.view);
    const pointed = this.#pointed ?? (this.#focused === null ? null : { kind: "node", node: this.#focused });
    const chosen = [...selection].some((node) => node < data.nodes);
    const dim = pointed !== null ? "0.16" : chosen ? "0.22" : "1";
    for (const layer of [mass, ...edges]) layer.canvas.style.opacity = dim;
    focus.canvas.style.opacity = pointed !== null ? "0.3" : "1";
    if (pointed === null) return;
    const around =
      pointed.kind === "edge"
        ? Uint32Array.of(pointed.edge)
        : edgesAround(this.#scene, [pointed.node], AROUND_POINTED);
    overlay.context.globalCompositeOperation = "destination-over";
    paintEdges(overlay.pen, this.#scene, this.#look, around, 0, around.length, { crowd: null, dashes: true });
    overlay.context.globalCompositeOperation = "source-over";
    // The marks at the other ends lie above the edges that were just painted over them.
    const ends = new Set<number>();
    for (const edge of around) ends.add(data.source[edge] ?? 0).add(data.target[edge] ?? 0);
    paintNodes(overlay.pen, { ...this.#scene, matches: null }, this.#look, 0, ends);
    if (pointed.kind === "edge") paintEnds(overlay.pen, this.#scene, this.#look, pointed.edge);
    if (pointed.kind === "node")
      paintPointed(overlay.pen, this.#scene, this.#look, pointed.node, pointed.node === this.#focused);
  }

  #beginPicture(): void {
    this.#stale.picture = false;
    const scene = this.#scene;
    const look = this.#look;
    const { mass } = this.#layers;
    const [front, back] = this.#layers.edges;
    back.begin(this.#ratio, MARGIN, look.view);
    back.context.globalCompositeOperation = "destination-over";
    this.#layers.edges = [back, front];
    // The bitmaps of before stay beneath until the new ones are complete, unless they show something else.
    const other = front.scene === null || edgesDiffer(front.scene, scene);
    if (other) front.canvas.style.visibility = "hidden";
    if (other) mass.canvas.style.visibility = "hidden";
    back.scene = scene;
    back.canvas.style.visibility = "visible";

    this.#work = this.#work.filter((work) => work.name === "focus");
    const gather = (): boolean => {
      const edges = edgesInSight(scene, inSight(look.view, look.window, MARGIN));
      const crowd = edges.length * (COMFORTABLE_AREA / (look.window.width * look.window.height));
      let strong = 0;
      while (strong < edges.length && (scene.rank[edges[strong] ?? 0] ?? 0) < MASS_FROM) strong++;
      const lines = this.#lines(back, scene, look, edges, strong, crowd);
      const density = this.#density(scene, look, edges, strong, crowd);
      const paint = (deadline: number): boolean => {
        if (!lines(deadline)) return false;
        front.context.setTransform(1, 0, 0, 1, 0, 0);
        front.context.clearRect(0, 0, front.canvas.width, front.canvas.height);
        front.painted = null;
        return true;
      };
      const pick = (): boolean => {
        this.#edgePicker = new EdgePicker(scene, edges);
        return true;
      };
      this.#work.push(
        { name: "strong", go: paint },
        { name: "pick", go: pick },
        { name: "mass", go: density },
      );
      return true;
    };
    this.#work.push({ name: "gather", go: gather });
  }

  #beginFocus(): void {
    this.#stale.focus = false;
    const { focus } = this.#layers;
    const { selection, data } = this.#scene;
    const look = this.#look;
    const nodes = [...selection].filter((node) => node < data.nodes);
    focus.begin(this.#ratio, MARGIN, look.view);
    focus.context.globalCompositeOperation = "destination-over";
    this.#work = this.#work.filter((work) => work.name !== "focus");
    const scene = this.#scene;
    const edges = edgesAround(scene, nodes, AROUND_SELECTED);
    this.#focusPicker = null;
    if (edges.length === 0) return;
    const pick = (): boolean => {
      this.#focusPicker = new EdgePicker(scene, edges);
      return true;
    };
    this.#work.unshift(
      { name: "focus", go: this.#lines(focus, scene, look, edges, edges.length, null) },
      { name: "focus", go: pick },
    );
  }

  /** Paint the first `count` edges as lines. Reading a pixel makes the browser paint what it was told. */
  #lines(
    layer: Layer,
    scene: Scene,
    look: Look,
    edges: Uint32Array,
    count: number,
    crowd: number | null,
  ): Work["go"] {
    let next = 0;
    return (deadline) => {
      while (next < count) {
        const before = performance.now();
        if (before >= deadline) return false;
        const to = Math.min(count, next + this.#chunk);
        paintEdges(layer.pen, scene, look, edges, next, to, { crowd, dashes: true });
        layer.context.getImageData(0, 0, 1, 1);
        next = to;
        const took = performance.now() - before;
        if (took > SLICE_MS / 3) this.#chunk = Math.max(16, this.#chunk >> 1);
        else if (took < SLICE_MS / 8) this.#chunk = Math.min(1024, this.#chunk << 1);
      }
      return true;
    };
  }

  /** Paint the edges from `from` on as a density. */
  #density(scene: Scene, look: Look, edges: Uint32Array, from: number, crowd: number): Work["go"] {
    const { mass } = this.#layers;
    const [width, height] = [mass.canvas.width, mass.canvas.height];
    let field = this.#field;
    if (field?.width !== width || field.height !== height)
      field = this.#field = new DensityField(width, height);
    const made = field;
    const weights = CLASSES.map((edgeClass) => alphaOf(edgeClass, crowd) * Math.min(1, edgeClass.width));
    // The margin becomes part of the window, so that curves come in pixels of the canvas.
    const wide: Look = { ...look, window: { width, height } };
    let [next, row] = [-1, 0];
    return (deadline) => {
      if (next < 0) {
        made.clear();
        next = from;
      }
      while (next < edges.length) {
        if (performance.now() >= deadline) return false;
        for (const to = Math.min(edges.length, next + 200); next < to; next++) {
          const edge = edges[next] ?? 0;
          const weight = weights[classOf(scene.rank[edge] ?? 0)] ?? 0;
          made.add(edgeCurve(scene, wide, edge), weight, (scene.strength.value[edge] ?? 0) >= 0);
        }
      }
      const pixels = this.#pixels;
      const [positive, negative] = [channels(scene.palette.positive), channels(scene.palette.negative)];
      for (; row < height; row += 40) {
        if (performance.now() >= deadline) return false;
        made.write(pixels.data, positive, negative, row, row + 40);
      }
      mass.begin(1, 0, look.view);
      mass.context.putImageData(pixels, 0, 0);
      mass.canvas.style.visibility = "visible";
      // One may have moved on while this was painted.
      this.#place(mass);
      return true;
    };
  }

  #paintSome(begun: number): void {
    const deadline = begun + SLICE_MS;
    while (this.#work.length > 0 && performance.now() < deadline) {
      const work = this.#work[0];
      if (work === undefined || !work.go(deadline)) return;
      this.#work.shift();
      if (this.#work.length === 0) this.onStage?.("complete");
    }
  }
}

function edgesDiffer(a: Scene, b: Scene): boolean {
  return a.layout !== b.layout || a.shown !== b.shown || a.strength !== b.strength || a.palette !== b.palette;
}
