/** The confluence as one self-contained SVG file, for papers and notes: same geometry, own colours. */

import type { Entry } from "../api/types";
import { errorInScale, inScale, type Scale } from "../format/numbers";
import { visible } from "../format/tokens";
import type { Confluence, Sign } from "./geometry";
import { HEADING, ROW, type Row } from "./rows";

export type Side = "sources" | "targets";

export interface Picture {
  readonly title: string;
  /** What the numbers are: metric, unit, tokens. */
  readonly caption: string;
  readonly key: string;
  readonly confluence: Confluence;
  readonly sources: readonly Row[];
  readonly targets: readonly Row[];
  readonly scales: Readonly<Record<Side, Scale>>;
  readonly flowWidth: number;
  readonly height: number;
}

const COLUMN = 300;
const MARGIN = 24;
const TITLE = 64;
const FILL: Readonly<Record<Sign | "rest", string>> = {
  positive: "#6f9fd0",
  negative: "#e0a06a",
  rest: "#cfc9ba",
};

export function escapeXml(text: string): string {
  return (
    text
      .replaceAll("&", "&amp;")
      .replaceAll("<", "&lt;")
      .replaceAll(">", "&gt;")
      .replaceAll('"', "&quot;")
      // Characters that XML 1.0 does not allow at all.
      // eslint-disable-next-line no-control-regex
      .replaceAll(/[\u0000-\u0008\u000b\u000c\u000e-\u001f\ufffe\uffff]/g, "\ufffd")
  );
}

function name(entry: Entry): string {
  return entry.label === null ? entry.key : `${visible(entry.label)}  ${entry.key}`;
}

function rowText(row: Row, scale: Scale): { text: string; number: string } {
  switch (row.kind) {
    case "heading":
      return { text: row.sign, number: "" };
    case "entry": {
      const { value, standard_error } = row.entry;
      const error = standard_error === null ? "" : ` ±${errorInScale(standard_error, scale)}`;
      return { text: name(row.entry), number: inScale(value, scale) + error };
    }
    case "rest":
      return {
        text: `${row.rest.shown} of ${row.rest.total} shown`,
        number: row.rest.value === 0 ? "" : inScale(row.rest.value, scale),
      };
    case "reason":
      return { text: "not available", number: "" };
  }
}

function column(side: Side, rows: readonly Row[], picture: Picture): string {
  const outer = side === "sources" ? MARGIN : MARGIN + COLUMN + picture.flowWidth + COLUMN;
  const inner = side === "sources" ? MARGIN + COLUMN - 8 : MARGIN + COLUMN + picture.flowWidth + 8;
  const [start, end] = side === "sources" ? ["start", "end"] : ["end", "start"];
  return rows
    .map((row) => {
      const y = TITLE + row.top + (row.kind === "heading" ? HEADING - 10 : ROW / 2 + 4);
      const { text, number } = rowText(row, picture.scales[side]);
      const heading = row.kind === "heading";
      const words = heading ? `${side}, ${text}` : text;
      return (
        `<text x="${outer}" y="${y}" text-anchor="${start}"${heading ? ' font-weight="bold"' : ""}>` +
        `${escapeXml(words)}</text>` +
        (number === "" ? "" : `<text x="${inner}" y="${y}" text-anchor="${end}">${escapeXml(number)}</text>`)
      );
    })
    .join("\n");
}

export function drawSvg(picture: Picture): string {
  const { confluence } = picture;
  const width = 2 * (MARGIN + COLUMN) + picture.flowWidth;
  const height = TITLE + picture.height + MARGIN;
  const bands = [...confluence.left, ...confluence.right]
    .map((band) => {
      const fill = band.rest ? FILL.rest : FILL[band.sign];
      const hatch =
        band.sign === "negative" && !band.rest ? `<path d="${band.path}" fill="url(#hatch)"/>` : "";
      return `<path d="${band.path}" fill="${fill}" fill-opacity="0.85"/>${hatch}`;
    })
    .join("\n");
  const { trunk } = confluence;
  return `<?xml version="1.0" encoding="UTF-8"?>
<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" font-family="monospace" font-size="12" fill="#1d1b16">
<title>${escapeXml(picture.title)}</title>
<defs><pattern id="hatch" width="5" height="5" patternUnits="userSpaceOnUse" patternTransform="rotate(45)"><path d="M0 0V5" stroke="#a94a0b" stroke-width="1"/></pattern></defs>
<rect width="${width}" height="${height}" fill="#ffffff"/>
<text x="${MARGIN}" y="28" font-size="16" font-weight="bold">${escapeXml(picture.title)}</text>
<text x="${MARGIN}" y="46" fill="#5a5549">${escapeXml(picture.caption)}</text>
<g transform="translate(${MARGIN + COLUMN} ${TITLE})">
${bands}
<rect x="${trunk.x}" y="${trunk.top}" width="${trunk.width}" height="${trunk.bottom - trunk.top}" fill="#1d1b16"/>
</g>
${column("sources", picture.sources, picture)}
${column("targets", picture.targets, picture)}
</svg>
`;
}
