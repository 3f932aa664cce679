/** The scene that is on screen as a file: SVG text, or a PNG painted at any scale. */

import { escapeXml } from "../confluence/svg";
import { type Colouring, type NodeClass, colourOf, sizesOf } from "./colouring";
import { inSight } from "./geometry";
import {
  GUTTER,
  HEAD,
  type Look,
  edgesAround,
  edgesInSight,
  paintEdges,
  paintFrame,
  paintNodes,
} from "./paint";
import { CHARACTER, CanvasPen, FONT_SIZE, type Pen, SvgPen } from "./pen";
import type { Palette } from "./palette";
import type { Scene } from "./scene";

const LINE = 18;
const MARGIN = 8;
/** More lines than this are not told apart at any size, and make files that nothing opens. */
const MOST_EDGES = 40_000;

interface Extent {
  readonly width: number;
  readonly height: number;
}

/** What stands above the drawing. */
interface Words {
  readonly title: readonly string[];
  readonly caption: readonly string[];
  /** What nodes are told apart by, with its place. */
  readonly legend: readonly LegendEntry[];
  readonly height: number;
}

interface LegendEntry {
  readonly of: NodeClass;
  readonly text: string;
  readonly x: number;
  readonly y: number;
}

/** A mark takes as much as two characters, and as much lies between entries. */
const MARK_ROOM = 2 * CHARACTER;

/** Entries in rows below the `lines` of text. */
function legendOf(
  colouring: Colouring | null,
  shown: Uint8Array,
  inside: number,
  lines: number,
): LegendEntry[] {
  if (colouring === null) return [];
  const sizes = sizesOf(colouring, shown);
  let [x, row] = [0, 0];
  return colouring.classes.map((of, n) => {
    const text = `${of.words}: ${(sizes[n] ?? 0).toLocaleString("en")}`;
    const width = MARK_ROOM + text.length * CHARACTER;
    if (x > 0 && x + width > inside) [x, row] = [0, row + 1];
    const entry = { of, text, x: MARGIN + x, y: 20 + (lines + row) * LINE };
    x += width + MARK_ROOM;
    return entry;
  });
}

function paintLegend(pen: Pen, legend: readonly LegendEntry[], palette: Palette): void {
  for (const { of, text, x, y } of legend) {
    const colour = colourOf(of.ink, palette);
    const cross = of.ink === "cross";
    pen.begin(cross ? { stroke: colour, width: 1.5 } : { fill: colour });
    pen.shape(cross ? "cross" : "dot", x + 5, y - 4, 5);
    pen.end();
    pen.text(x + MARK_ROOM, y, text, { colour: palette.inkSoft });
  }
}

function extentOf(look: Look, words: Words): Extent {
  return { width: GUTTER + look.window.width, height: words.height + HEAD + look.window.height };
}

/** Text in lines of at most so many characters; only a word longer than a line is cut. */
export function wrapped(text: string, most: number): string[] {
  const lines: string[] = [];
  let line = "";
  for (const word of text.split(" ")) {
    if (line !== "" && line.length + 1 + word.length > most) {
      lines.push(line);
      line = "";
    }
    line = line === "" ? word : `${line} ${word}`;
    while (line.length > most) {
      lines.push(line.slice(0, most));
      line = line.slice(most);
    }
  }
  return [...lines, line];
}

function wordsOf(scene: Scene, look: Look, title: string, caption: string): Words {
  const inside = GUTTER + look.window.width - 2 * MARGIN;
  const most = Math.max(8, Math.floor(inside / CHARACTER));
  const lines = {
    title: wrapped(title, most),
    caption: wrapped(captionOf(scene, look, caption), most),
  };
  const above = lines.title.length + lines.caption.length;
  const legend = legendOf(scene.colouring, scene.shown.nodes, inside, above);
  const bottom = Math.max(20 + (above - 1) * LINE, ...legend.map(({ y }) => y));
  return { ...lines, legend, height: bottom + 10 };
}

/** Every line with its place. */
function placed(words: Words): { readonly y: number; readonly text: string; readonly bold: boolean }[] {
  const bold = words.title.length;
  return [...words.title, ...words.caption].map((text, n) => ({
    y: 20 + n * LINE,
    text,
    bold: n < bold,
  }));
}

function offset(look: Look, x: number, y: number): Look {
  // Edges and nodes are painted from the corner of the window: moved by shifting what is looked at.
  const { view } = look;
  return {
    ...look,
    view: { ...view, x: view.x - x / view.scale, y: view.y - y / view.scale },
  };
}

/** Paint everything below the title, weakest edges first. The pen's origin is the corner of the heads. */
function paintScene(pen: Pen, scene: Scene, look: Look): void {
  paintFrame(pen, scene, look, null);
  const edges = edgesInSight(scene, inSight(look.view, look.window)).subarray(0, MOST_EDGES);
  const inner = offset(look, GUTTER, HEAD);
  const chosen = scene.selection.size > 0;
  pen.clip(GUTTER, HEAD, look.window.width, look.window.height);
  const BATCH = 512;
  for (let to = edges.length; to > 0; to -= BATCH)
    paintEdges(pen, scene, inner, edges, Math.max(0, to - BATCH), to, {
      crowd: edges.length * (chosen ? 8 : 1),
      dashes: true,
    });
  if (chosen) {
    const around = edgesAround(scene, scene.selection, MOST_EDGES);
    paintEdges(pen, scene, inner, around, 0, around.length, { crowd: null, dashes: true });
  }
  paintNodes(pen, scene, inner, GUTTER + HEAD);
  pen.unclip();
}

function captionOf(scene: Scene, look: Look, caption: string): string {
  const { hidden } = scene.shown;
  const edges = edgesInSight(scene, inSight(look.view, look.window)).length;
  const parts = [
    caption,
    `${scene.strength.metric}: blue positive, solid, bowed right; orange negative, bowed left`,
  ];
  if (scene.colouring !== null) parts.push(scene.colouring.words);
  if (hidden.edges > 0)
    parts.push(`${hidden.edges} edges hidden by filters (${(100 * hidden.share).toFixed(1)} % of all)`);
  if (edges > MOST_EDGES) parts.push(`the strongest ${MOST_EDGES} of ${edges} edges in sight drawn`);
  return parts.filter(Boolean).join(" · ");
}

export function pictureSvg(scene: Scene, look: Look, title: string, caption: string): string {
  const words = wordsOf(scene, look, title, caption);
  const { width, height } = extentOf(look, words);
  const { palette } = scene;
  const pen = new SvgPen();
  paintScene(pen, scene, look);
  const legend = new SvgPen();
  paintLegend(legend, words.legend, palette);
  const texts = placed(words).map(
    ({ y, text, bold }) =>
      `<text x="${MARGIN}" y="${y}"${bold ? ' font-weight="600"' : ""} fill="${bold ? palette.ink : palette.inkSoft}">${escapeXml(text)}</text>`,
  );
  return `<?xml version="1.0" encoding="UTF-8"?>
<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" font-family="monospace" font-size="${FONT_SIZE}">
<title>${escapeXml(title)}</title>
<rect width="${width}" height="${height}" fill="${palette.paper}"/>
${[...texts, legend.body].filter(Boolean).join("\n")}
<g transform="translate(0 ${words.height})">
${pen.body}
</g>
</svg>
`;
}

export async function picturePng(
  scene: Scene,
  look: Look,
  title: string,
  caption: string,
  scale: number,
): Promise<Blob> {
  const words = wordsOf(scene, look, title, caption);
  const { width, height } = extentOf(look, words);
  const canvas = new OffscreenCanvas(Math.round(width * scale), Math.round(height * scale));
  const context = canvas.getContext("2d");
  if (context === null) throw new Error("This browser cannot paint off screen");
  context.scale(scale, scale);
  const pen = new CanvasPen(context);
  pen.rect(0, 0, width, height, scene.palette.paper);
  context.save();
  context.translate(0, words.height);
  paintScene(pen, scene, look);
  context.restore();
  for (const { y, text, bold } of placed(words))
    pen.text(MARGIN, y, text, { colour: bold ? scene.palette.ink : scene.palette.inkSoft, bold });
  paintLegend(pen, words.legend, scene.palette);
  return canvas.convertToBlob({ type: "image/png" });
}
