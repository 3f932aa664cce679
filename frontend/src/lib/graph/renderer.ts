/**
 * Keeps the canvases of a graph up to date without ever holding up a frame. Nothing here knows Svelte.
 *
 * While one pans or zooms, the edges that are already painted are moved as a bitmap; when the movement rests
 * they are painted anew, strongest first and each batch beneath the ones before it, a few milliseconds a
 * frame: the picture is right at once where it matters and complete soon after. The edge canvases are made to
 * be read (`willReadFrequently`), so that painting happens where it is measured, on every machine alike.
 */

import { type Size, fit, hold, inSight, toDrawingX, toDrawingY, toScreenX, toScreenY } from "./geometry";
import {
  type Cross,
  GUTTER,
  HEAD,
  type Look,
  edgesAround,
  edgesInSight,
  paintEdges,
  paintFrame,
  paintNodes,
  paintPointed,
} from "./paint";
import { CanvasPen } from "./pen";
import { EdgePicker, NodePicker } from "./picking";
import type { Scene } from "./scene";
import { CLASSES, markRadius } from "./style";
import type { Hit, Viewport } from "./types";

/** Painted around the window, so that a short pan brings no blank strip. */
const MARGIN = 160;
const SLICE_MS = 7;
const REST_MS = 90;
/** Edges painted around what is pointed at; the strongest, where there are more. */
const AROUND_POINTED = 400;
const AROUND_SELECTED = 4000;
const NEAR_NODE = 9;
const NEAR_EDGE = 4;

export interface Canvases {
  readonly frame: HTMLCanvasElement;
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
  painted: Viewport | null = null;

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
  begin(ratio: number, offset: number, viewport: Viewport): void {
    this.context.setTransform(1, 0, 0, 1, 0, 0);
    this.context.globalCompositeOperation = "source-over";
    this.context.clearRect(0, 0, this.canvas.width, this.canvas.height);
    this.context.setTransform(ratio, 0, 0, ratio, offset * ratio, offset * ratio);
    this.painted = viewport;
    this.canvas.style.transform = "";
  }
}

interface Work {
  readonly layer: Layer;
  readonly look: Look;
  readonly edges: Uint32Array;
  readonly dashes: boolean;
  readonly crowd: number | null;
  readonly done: () => void;
  next: number;
}

/** Time that painting took, for the benchmark: script of one frame, in milliseconds. */
export type Timing = (kind: "move" | "point" | "paint" | "rest", milliseconds: number) => void;

export class GraphRenderer {
  readonly #layers: { frame: Layer; edges: [Layer, Layer]; focus: Layer; nodes: Layer; overlay: Layer };
  #scene: Scene;
  #size: Size = { width: 0, height: 0 };
  #ratio = 1;
  /** `null`: everything. */
  #viewport: Viewport | null = null;
  #pointed: Hit | null = null;
  #focused: number | null = null;
  #nodePicker: NodePicker;
  #edgePicker: EdgePicker | null = null;
  #work: Work[] = [];
  #chunk = 200;
  #frame = 0;
  #restTimer: ReturnType<typeof setTimeout> | undefined;
  #stale = { moved: true, overlay: true, picture: true, focus: true };
  #restDue = false;
  onTiming: Timing | null = null;
  /** The picture is complete: every edge in sight is painted. */
  onComplete: (() => void) | null = null;

  constructor(canvases: Canvases, scene: Scene) {
    const [first, second] = canvases.edges;
    this.#layers = {
      frame: new Layer(canvases.frame, false),
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

  get fitted(): Viewport {
    return fit(this.#scene.layout, this.window);
  }

  get viewport(): Viewport {
    return this.#viewport ?? this.fitted;
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
    const edges =
      before.layout !== scene.layout ||
      before.shown !== scene.shown ||
      before.strength !== scene.strength ||
      before.palette !== scene.palette;
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
    const { frame, edges, focus, nodes, overlay } = this.#layers;
    const { width, height } = this.window;
    frame.resize(size.width, size.height, this.#ratio);
    for (const layer of [...edges, focus]) layer.resize(width + 2 * MARGIN, height + 2 * MARGIN, this.#ratio);
    for (const layer of [nodes, overlay]) layer.resize(width, height, this.#ratio);
    this.#stale = { moved: true, overlay: true, picture: true, focus: true };
    this.#request();
  }

  look(viewport: Viewport | null): void {
    this.#viewport = viewport === null ? null : hold(viewport, this.#scene.layout, this.window);
    this.#stale.moved = true;
    this.#stale.overlay = true;
    this.#restDue = true;
    // What is being painted is for another viewport.
    this.#work = [];
    clearTimeout(this.#restTimer);
    this.#restTimer = setTimeout(() => {
      this.#restDue = false;
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
    const { viewport, window } = this;
    const [dx, dy] = [toDrawingX(viewport, window, px), toDrawingY(viewport, window, py)];
    const { selection, pinned, shown } = this.#scene;
    const node = this.#nodePicker.nearest(
      dx,
      dy,
      NEAR_NODE / viewport.scale,
      (one) => shown.nodes[one] === 1 || selection.has(one) || pinned.has(one),
    );
    if (node !== null) return { kind: "node", node };
    const edge = this.#edgePicker?.nearest(dx, dy, NEAR_EDGE / viewport.scale) ?? null;
    return edge === null ? null : { kind: "edge", edge };
  }

  /** Centre of a node and half its mark's size, in pixels of the element. */
  placeOf(node: number): { x: number; y: number; radius: number } {
    const { viewport, window } = this;
    const { layout, places } = this.#scene;
    return {
      x: GUTTER + toScreenX(viewport, window, layout.x[node] ?? 0),
      y: HEAD + toScreenY(viewport, window, layout.y[node] ?? 0),
      radius: markRadius(places[node] ?? 1, viewport.scale),
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
    return { viewport: this.viewport, window: this.window, fitScale: this.fitted.scale };
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
    this.onTiming?.(kind, performance.now() - begun);
    if (this.#work.length > 0) this.#request();
  }

  #drawFrame(): void {
    const { frame } = this.#layers;
    frame.begin(this.#ratio, 0, this.viewport);
    paintFrame(frame.pen, this.#scene, this.#look, this.#cross());
  }

  #cross(): Cross | null {
    const { data } = this.#scene;
    const node = this.#pointed?.kind === "node" ? this.#pointed.node : this.#focused;
    if (node === null) return null;
    return { site: data.site[node] ?? 0, position: data.position[node] ?? 0 };
  }

  /** Move the bitmaps of the edges to where they now belong, and paint the nodes, which are few. */
  #drawMoved(): void {
    const { viewport, window } = this;
    const { edges, focus, nodes } = this.#layers;
    for (const layer of [...edges, focus]) {
      const { painted, canvas } = layer;
      if (painted === null) continue;
      const scale = viewport.scale / painted.scale;
      const [cx, cy] = [window.width / 2 + MARGIN, window.height / 2 + MARGIN];
      const x = (painted.x - viewport.x) * viewport.scale;
      const y = (painted.y - viewport.y) * viewport.scale;
      canvas.style.transformOrigin = `${cx}px ${cy}px`;
      canvas.style.transform = `translate(${x}px, ${y}px) scale(${scale})`;
    }
    nodes.begin(this.#ratio, 0, viewport);
    paintNodes(nodes.pen, this.#scene, this.#look);
  }

  #drawOverlay(): void {
    const { overlay, edges, focus } = this.#layers;
    const { selection, data } = this.#scene;
    overlay.begin(this.#ratio, 0, this.viewport);
    const pointed = this.#pointed ?? (this.#focused === null ? null : { kind: "node", node: this.#focused });
    const chosen = [...selection].some((node) => node < data.nodes);
    const dim = pointed !== null ? "0.16" : chosen ? "0.22" : "1";
    for (const layer of edges) layer.canvas.style.opacity = dim;
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
    for (const edge of around) {
      ends.add(data.source[edge] ?? 0);
      ends.add(data.target[edge] ?? 0);
    }
    if (pointed.kind === "node") ends.delete(pointed.node);
    this.#repaintMarks(overlay, ends);
    if (pointed.kind === "node")
      paintPointed(overlay.pen, this.#scene, this.#look, pointed.node, pointed.node === this.#focused);
  }

  #repaintMarks(layer: Layer, nodes: ReadonlySet<number>): void {
    const mask = new Uint8Array(this.#scene.data.nodes);
    for (const node of nodes) mask[node] = 1;
    const none: ReadonlySet<number> = new Set();
    const only = (chosen: ReadonlySet<number>): ReadonlySet<number> =>
      chosen.size === 0 ? none : new Set([...chosen].filter((node) => mask[node] === 1));
    paintNodes(
      layer.pen,
      {
        ...this.#scene,
        shown: { ...this.#scene.shown, nodes: mask },
        selection: only(this.#scene.selection),
        pinned: only(this.#scene.pinned),
        matches: null,
      },
      this.#look,
    );
  }

  #beginPicture(): void {
    this.#stale.picture = false;
    const [front, back] = this.#layers.edges;
    const look = this.#look;
    const edges = edgesInSight(this.#scene, inSight(look.viewport, look.window, MARGIN));
    back.begin(this.#ratio, MARGIN, look.viewport);
    back.context.globalCompositeOperation = "destination-over";
    this.#layers.edges = [back, front];
    this.#work = this.#work.filter((work) => work.layer === this.#layers.focus);
    const scene = this.#scene;
    this.#work.push({
      layer: back,
      look,
      edges,
      dashes: true,
      crowd: edges.length,
      next: 0,
      done: () => {
        front.context.setTransform(1, 0, 0, 1, 0, 0);
        front.context.clearRect(0, 0, front.canvas.width, front.canvas.height);
        front.painted = null;
        this.#edgePicker = new EdgePicker(scene, edges);
      },
    });
    // What the other canvas shows is of another scene: nothing of it may stay.
    if (front.painted !== null && !sameScale(front.painted, look.viewport))
      front.canvas.style.visibility = "hidden";
    back.canvas.style.visibility = "visible";
  }

  #beginFocus(): void {
    this.#stale.focus = false;
    const { focus } = this.#layers;
    const { selection, data } = this.#scene;
    const look = this.#look;
    const nodes = [...selection].filter((node) => node < data.nodes);
    focus.begin(this.#ratio, MARGIN, look.viewport);
    focus.context.globalCompositeOperation = "destination-over";
    this.#work = this.#work.filter((work) => work.layer !== focus);
    const edges = edgesAround(this.#scene, nodes, AROUND_SELECTED);
    if (edges.length === 0) return;
    this.#work.unshift({
      layer: focus,
      look,
      edges,
      dashes: true,
      crowd: null,
      next: 0,
      done: () => undefined,
    });
  }

  /** Paint until the frame's time is used up. Reading a pixel makes the browser paint what it was told. */
  #paintSome(begun: number): void {
    let now = performance.now();
    while (this.#work.length > 0 && now - begun < SLICE_MS) {
      const work = this.#work[0];
      if (work === undefined) return;
      const to = Math.min(work.edges.length, work.next + this.#chunk);
      paintEdges(work.layer.pen, this.#scene, work.look, work.edges, work.next, to, {
        crowd: work.crowd,
        dashes: work.dashes,
      });
      work.layer.context.getImageData(0, 0, 1, 1);
      work.next = to;
      const after = performance.now();
      const took = after - now;
      now = after;
      if (took > SLICE_MS / 2) this.#chunk = Math.max(48, this.#chunk >> 1);
      else if (took < SLICE_MS / 6) this.#chunk = Math.min(4096, this.#chunk << 1);
      if (work.next < work.edges.length) continue;
      this.#work.shift();
      work.done();
      if (this.#work.length === 0) this.onComplete?.();
    }
  }
}

function sameScale(a: Viewport, b: Viewport): boolean {
  return Math.abs(a.scale / b.scale - 1) < 1e-6;
}

void CLASSES;
