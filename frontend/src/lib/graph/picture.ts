/** The scene that is on screen as a file: SVG text, or a PNG painted at any scale. */

import { escapeXml } from "../confluence/svg";
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
import { CanvasPen, FONT_SIZE, type Pen, SvgPen } from "./pen";
import type { Scene } from "./scene";

const TITLE = 48;
/** More lines than this are not told apart at any size, and make files that nothing opens. */
const MOST_EDGES = 40_000;

interface Extent {
  readonly width: number;
  readonly height: number;
}

function extentOf(look: Look): Extent {
  return { width: GUTTER + look.window.width, height: TITLE + HEAD + look.window.height };
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
function paintScene(
  pen: Pen,
  scene: Scene,
  look: Look,
): { readonly drawn: number; readonly inSight: number } {
  paintFrame(pen, scene, look, null);
  const all = edgesInSight(scene, inSight(look.view, look.window));
  const edges = all.subarray(0, MOST_EDGES);
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
  return { drawn: edges.length, inSight: all.length };
}

function captionOf(scene: Scene, counts: { drawn: number; inSight: number }, caption: string): string {
  const { hidden } = scene.shown;
  const parts = [
    caption,
    `${scene.strength.metric}: blue positive, solid, bowed right; orange negative, bowed left`,
  ];
  if (hidden.edges > 0)
    parts.push(`${hidden.edges} edges hidden by filters (${(100 * hidden.share).toFixed(1)} % of all)`);
  if (counts.drawn < counts.inSight)
    parts.push(`the strongest ${counts.drawn} of ${counts.inSight} edges in sight drawn`);
  return parts.filter(Boolean).join(" · ");
}

export function pictureSvg(scene: Scene, look: Look, title: string, caption: string): string {
  const { width, height } = extentOf(look);
  const { palette } = scene;
  const pen = new SvgPen();
  const counts = paintScene(pen, scene, look);
  return `<?xml version="1.0" encoding="UTF-8"?>
<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" font-family="monospace" font-size="${FONT_SIZE}">
<title>${escapeXml(title)}</title>
<rect width="${width}" height="${height}" fill="${palette.paper}"/>
<text x="8" y="20" font-weight="600" fill="${palette.ink}">${escapeXml(title)}</text>
<text x="8" y="38" fill="${palette.inkSoft}">${escapeXml(captionOf(scene, counts, caption))}</text>
<g transform="translate(0 ${TITLE})">
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
  const { width, height } = extentOf(look);
  const canvas = new OffscreenCanvas(Math.round(width * scale), Math.round(height * scale));
  const context = canvas.getContext("2d");
  if (context === null) throw new Error("This browser cannot paint off screen");
  context.scale(scale, scale);
  const pen = new CanvasPen(context);
  pen.rect(0, 0, width, height, scene.palette.paper);
  context.save();
  context.translate(0, TITLE);
  const counts = paintScene(pen, scene, look);
  context.restore();
  pen.text(8, 20, title, { colour: scene.palette.ink, bold: true });
  pen.text(8, 38, captionOf(scene, counts, caption), { colour: scene.palette.inkSoft });
  return canvas.convertToBlob({ type: "image/png" });
}
