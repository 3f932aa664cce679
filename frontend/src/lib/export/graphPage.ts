/**
 * What is on screen of a graph as one HTML file that opens anywhere, offline: the drawing with pan, zoom and
 * hover values, and its strongest edges as a table. It holds data, one script and its styles; a content
 * security policy inside it forbids every request.
 */

import { escapeXml } from "../confluence/svg";
import { visible } from "../format/tokens";
import { type Colouring, type Ink, classAt, colourOf, sizesOf } from "../graph/colouring";
import { BIAS, DELTA, type GraphData, type GraphMetric } from "../graph/data";
import type { Shown } from "../graph/filters";
import { layOut } from "../graph/layout";
import { DARK, LIGHT } from "../graph/palette";
import { strengths } from "../graph/strength";
import { CLASSES, alphaOf } from "../graph/style";
import type { Viewport } from "../graph/types";
import { datasetKey } from "../workspace/nodes";
import viewer from "./viewer.js?raw";

export interface OnScreen {
  readonly title: string;
  readonly data: GraphData;
  readonly metric: GraphMetric;
  readonly shown: Shown;
  readonly selection: ReadonlySet<number>;
  readonly pinned: ReadonlySet<number>;
  readonly matches: ReadonlySet<number> | null;
  /** What people call components, by their keys over the whole run. */
  readonly called?: ReadonlyMap<string, string>;
  /** What nodes are told apart by. */
  readonly colouring?: Colouring | null;
  /** Texts by node key. */
  readonly notes: ReadonlyMap<string, string>;
  readonly viewport: Viewport | null;
  /** Only what is shown is laid out: the pinned subgraph. */
  readonly compact: boolean;
  readonly proportion?: number;
  /** The note on the graph. */
  readonly note: string;
  /** Where the page came from. */
  readonly link: string;
}

/** The file is for looking at: beyond this it says what it leaves out. */
export const MOST_EDGES = 20_000;
const TABLE_ROWS = 100;

type Shape = "dot" | "square" | "triangle" | "ring" | "diamond";

function shapeOf(data: GraphData, node: number): Shape {
  if (data.index[node] === DELTA) return "triangle";
  if (data.index[node] === BIAS) return "ring";
  const address = data.addresses[data.site[node] ?? -1] ?? "";
  if (address === "target") return "diamond";
  return ["embed", "output", "position"].includes(address) ? "square" : "dot";
}

/** Four digits: enough to read, a third of the bytes. */
function short(value: number | undefined): number | null {
  return value === undefined || !Number.isFinite(value) ? null : Number(value.toPrecision(4));
}

const tenth = (value: number | undefined): number => Math.round(10 * (value ?? 0)) / 10;

/** A group has its name alone; what people call a component is written as they wrote it. */
function shownLabel({ data, called }: OnScreen, node: number): string | null {
  if (typeof data.name?.(node) === "string") return null;
  const label = data.label(node);
  return label === null ? (called?.get(datasetKey(data, node) ?? "") ?? null) : visible(label);
}

interface Drawn {
  /** Of the whole graph's numbers; the file counts anew. */
  readonly nodes: readonly number[];
  readonly edges: readonly number[];
}

function drawn(screen: OnScreen): Drawn {
  const { data, shown } = screen;
  const edges = [...shown.order.subarray(0, MOST_EDGES)];
  const wanted = new Set<number>([...screen.selection, ...screen.pinned]);
  for (const edge of edges) {
    wanted.add(data.source[edge] ?? 0);
    wanted.add(data.target[edge] ?? 0);
  }
  const nodes = Array.from({ length: data.nodes }, (_, node) => node).filter(
    (node) =>
      wanted.has(node) && (shown.nodes[node] === 1 || screen.selection.has(node) || screen.pinned.has(node)),
  );
  return { nodes, edges };
}

function payload(screen: OnScreen, { nodes, edges }: Drawn): unknown {
  const { data, metric, shown } = screen;
  const layout = layOut(data, {
    order: "strength",
    proportion: screen.proportion ?? 1.6,
    include: screen.compact ? shown.nodes : null,
  });
  const placed = nodes.filter((node) => Number.isFinite(layout.x[node]));
  const number = new Map(placed.map((node, n) => [node, n]));
  const kept = edges.filter(
    (edge) => number.has(data.source[edge] ?? 0) && number.has(data.target[edge] ?? 0),
  );
  const { value, through } = strengths(data, metric);
  const most = placed.reduce((best, node) => Math.max(best, through[node] ?? 0), 0);
  const column = (values: Float32Array): (number | null)[] => placed.map((node) => short(values[node]));
  return {
    metric,
    width: tenth(layout.width),
    height: tenth(layout.height),
    /** Scale at which marks have the size that is written here. */
    scale: 3,
    viewport: screen.viewport,
    palettes: { light: LIGHT, dark: DARK },
    look: CLASSES.map((one) => ({
      from: one.from,
      width: one.width,
      alpha: short(alphaOf(one, kept.length)),
    })),
    rows: layout.rows.map(({ name, block, top, height }) => ({
      name,
      block,
      top: tenth(top),
      height: tenth(height),
    })),
    columns: layout.columns.map(({ position, left, width }) => ({
      position,
      text: visible(data.tokens[position]?.text ?? ""),
      left: tenth(left),
      width: tenth(width),
    })),
    nodes: {
      x: placed.map((node) => tenth(layout.x[node])),
      y: placed.map((node) => tenth(layout.y[node])),
      r: placed.map((node) => tenth(2.5 + (most > 0 ? 3.5 * Math.sqrt((through[node] ?? 0) / most) : 0))),
      s: placed.map((node) => shapeOf(data, node)),
      k: placed.map((node) => data.name?.(node) ?? data.key(node)),
      l: placed.map((node) => shownLabel(screen, node)),
      /** Names that are written beside the marks. */
      w: placed.map((node) => data.name?.(node) ?? null),
      f: placed.map((node) => Number(screen.selection.has(node)) + 2 * Number(screen.pinned.has(node))),
      /** The class that a node is painted as, and what that says. */
      c: placed.map((node) => classAt(screen.colouring ?? null, node)?.ink ?? null),
      b: placed.map((node) => screen.colouring?.own[node] ?? null),
      n: placed.map((node) => screen.notes.get(data.key(node)) ?? ""),
    },
    values: [
      ["CI", column(data.ci)],
      ["activation", column(data.activation)],
      ["probability", column(data.probability)],
      ["probability of the CI-masked model", column(data.ciProbability)],
      ["logit", column(data.logit)],
    ],
    edges: {
      s: kept.map((edge) => number.get(data.source[edge] ?? 0)),
      t: kept.map((edge) => number.get(data.target[edge] ?? 0)),
      v: kept.map((edge) => short(value[edge])),
    },
  };
}

/** What the colours of nodes say, and how many shown nodes have each. */
function legend({ colouring, shown }: OnScreen): string {
  if (colouring === undefined || colouring === null) return "";
  const sizes = sizesOf(colouring, shown.nodes);
  const mark = (ink: Ink): string => {
    const style = `color: light-dark(${colourOf(ink, LIGHT)}, ${colourOf(ink, DARK)})`;
    return `<b style="${style}">${ink === "cross" ? "×" : "●"}</b>`;
  };
  const entries = colouring.classes.map(
    ({ ink, words }, n) =>
      `<span>${mark(ink)} ${escapeXml(words)}: ${(sizes[n] ?? 0).toLocaleString("en-US")}</span>`,
  );
  return `<p class="soft legend">${escapeXml(colouring.words)} ${entries.join(" ")}</p>\n`;
}

/** What the file says it leaves out. */
function omission(screen: OnScreen): string {
  const { data, shown, metric } = screen;
  const { value, total } = strengths(data, metric);
  const cut = shown.order.subarray(MOST_EDGES);
  const sum = cut.reduce((all, edge) => all + Math.abs(value[edge] ?? 0), 0);
  const hidden = shown.hidden.edges + cut.length + data.unsent.edges + data.omitted.edges;
  if (screen.compact) {
    const weaker = shown.hidden.edges + cut.length;
    const words = "Only the pinned nodes and the edges between them.";
    return weaker === 0
      ? words
      : `${words} The ${weaker.toLocaleString("en-US")} weakest are not in this file.`;
  }
  if (hidden === 0) return "All edges of the graph are here.";
  const share = shown.hidden.share + (total > 0 ? sum / total : 0);
  // Shares of different wholes: what the server holds, of which so much was sent, of which so much is shown.
  const sent = (1 - data.omitted.share) * (1 - data.unsent.share) * (1 - share);
  return `${hidden.toLocaleString("en-US")} weaker or filtered edges are not in this file: ${(100 * (1 - sent)).toPrecision(3)} % of the graph's attribution.`;
}

function table(screen: OnScreen, edges: readonly number[]): string {
  const { data, metric } = screen;
  const { value } = strengths(data, metric);
  const name = (node: number): string => {
    const label = shownLabel(screen, node);
    const key = data.name?.(node) ?? data.key(node);
    return escapeXml(label === null ? key : `${key} ${label}`);
  };
  const rows = edges
    .slice(0, TABLE_ROWS)
    .map(
      (edge) =>
        `<tr><td>${name(data.source[edge] ?? 0)}</td><td>${name(data.target[edge] ?? 0)}</td><td>${short(value[edge])}</td></tr>`,
    )
    .join("\n");
  return `<table>
<thead><tr><th>from</th><th>to</th><th>${metric}</th></tr></thead>
<tbody>
${rows}
</tbody>
</table>`;
}

const STYLE = `
:root { color-scheme: light dark; --paper: light-dark(${LIGHT.paper}, ${DARK.paper}); --ink: light-dark(${LIGHT.ink}, ${DARK.ink});
  --soft: light-dark(${LIGHT.inkSoft}, ${DARK.inkSoft}); --line: light-dark(${LIGHT.hairline}, ${DARK.hairline}); }
* { box-sizing: border-box; }
html, body { height: 100%; margin: 0; }
body { display: flex; flex-direction: column; background: var(--paper); color: var(--ink); font: 15px/20px Charter, Georgia, serif; }
header { display: flex; flex-wrap: wrap; align-items: baseline; gap: 4px 16px; padding: 12px 16px 8px; }
h1 { margin: 0; font-size: 18px; }
p { margin: 0; }
.legend { display: flex; flex-wrap: wrap; gap: 0 16px; }
.soft { color: var(--soft); font-size: 13px; line-height: 17px; }
.note { white-space: pre-line; max-width: 90ch; padding: 0 16px 8px; }
main { flex: 1; display: flex; flex-direction: column; min-height: 0; }
.stage { flex: 1; min-height: 320px; display: grid; grid-template-columns: minmax(0, 1fr) 260px; border-top: 1px solid var(--line); }
canvas { display: block; width: 100%; height: 100%; min-height: 0; cursor: grab; touch-action: none; }
canvas:focus-visible, button:focus-visible, summary:focus-visible { outline: 2px solid ${LIGHT.accent}; outline-offset: -2px; }
aside { overflow: auto; padding: 12px 16px; border-left: 1px solid var(--line); font: 13px/19px ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace; overflow-wrap: anywhere; }
button { min-height: 28px; padding: 0 10px; border: 1px solid var(--line); border-radius: 2px; background: none; color: inherit; font: inherit; font-size: 13px; cursor: pointer; }
details { padding: 8px 16px 16px; }
summary { cursor: pointer; min-height: 24px; }
table { border-collapse: collapse; font: 13px/18px ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace; }
th, td { padding: 2px 16px 2px 0; border-bottom: 1px solid var(--line); text-align: left; }
td:last-child, th:last-child { text-align: right; }
@media (max-width: 800px) { .stage { grid-template-columns: minmax(0, 1fr); grid-template-rows: minmax(280px, 1fr) 180px; } aside { border-left: 0; border-top: 1px solid var(--line); } }
`;

export function graphHtml(screen: OnScreen): string {
  const picture = drawn(screen);
  const { title, metric, note, link } = screen;
  const prompt = screen.data.tokens.map((token) => token.text).join("");
  // Nothing inside may end the script element, whatever tokens and notes say.
  const json = JSON.stringify(payload(screen, picture)).replaceAll("<", "\\u003c");
  const rest =
    "Point at a node or an edge to read its values. Drag to move, turn the wheel to zoom; with the keyboard: arrows, + and −, 0 shows everything, n and p go from node to node.";
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'">
<title>${escapeXml(title)}</title>
<style>${STYLE}</style>
</head>
<body>
<header>
<h1>${escapeXml(title)}</h1>
<button id="in" type="button">Zoom in</button>
<button id="out" type="button">Zoom out</button>
<button id="fit" type="button">Everything</button>
${prompt === title ? "" : `<p class="soft">${escapeXml(prompt)}</p>`}
<p class="soft">${metric}, in units of the target's shown activation (logits for outputs). Solid and bowed right: positive; dashed and bowed left: negative. ${escapeXml(omission(screen))} From ${escapeXml(link)}</p>
${legend(screen)}</header>
<main>
${note.trim() === "" ? "" : `<p class="note">${escapeXml(note)}</p>`}
<div class="stage">
<canvas id="drawing" tabindex="0" role="img" aria-label="${escapeXml(`${title}: ${picture.nodes.length} nodes, ${picture.edges.length} edges. The strongest are listed below.`)}"></canvas>
<aside id="told" aria-label="What is pointed at" aria-live="polite" data-rest="${escapeXml(rest)}">${escapeXml(rest)}</aside>
</div>
<details>
<summary>The ${Math.min(TABLE_ROWS, picture.edges.length)} strongest of ${picture.edges.length} edges as a table</summary>
${table(screen, picture.edges)}
</details>
</main>
<script type="application/json" id="graph">${json}</script>
<script>
${viewer}
</script>
</body>
</html>
`;
}
