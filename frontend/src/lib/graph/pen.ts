/** What the picture is drawn with: the same strokes on a canvas and in an SVG file. Lengths in pixels. */

import { escapeXml } from "../confluence/svg";
import type { Curve } from "./geometry";

export interface Paint {
  readonly fill?: string;
  readonly stroke?: string;
  readonly width?: number;
  readonly alpha?: number;
  readonly dash?: readonly number[];
}

export interface TextStyle {
  readonly colour: string;
  readonly align?: "left" | "center" | "right";
  readonly bold?: boolean;
  /** Upwards, from the point on. */
  readonly upwards?: boolean;
}

export type Shape = "dot" | "square" | "triangle" | "ring" | "diamond" | "cross";

/** `begin`, any number of curves and shapes, `end`: all of them painted together. */
export interface Pen {
  rect(x: number, y: number, width: number, height: number, fill: string): void;
  line(x0: number, y0: number, x1: number, y1: number, stroke: string): void;
  text(x: number, y: number, text: string, style: TextStyle): void;
  begin(paint: Paint): void;
  curve(curve: Curve): void;
  shape(shape: Shape, x: number, y: number, radius: number): void;
  end(): void;
  /** Paint only inside a rectangle until `unclip`. */
  clip(x: number, y: number, width: number, height: number): void;
  unclip(): void;
}

export const FONT_SIZE = 13;
/** Advance of a character of the monospaced face at FONT_SIZE. */
export const CHARACTER = 7.8;
/** Marks below this radius are painted as squares. */
const SMALL = 1.7;
/** Half the width of a cross by the radius of its mark. */
const CROSS = 0.85;
const FAMILY = '"Source Code Pro Variable", "Source Code Pro", ui-monospace, "DejaVu Sans Mono", monospace';

export type Context = CanvasRenderingContext2D | OffscreenCanvasRenderingContext2D;

export class CanvasPen implements Pen {
  readonly #context: Context;
  #paint: Paint = {};

  constructor(context: Context) {
    this.#context = context;
  }

  rect(x: number, y: number, width: number, height: number, fill: string): void {
    this.#context.fillStyle = fill;
    this.#context.fillRect(x, y, width, height);
  }

  line(x0: number, y0: number, x1: number, y1: number, stroke: string): void {
    const context = this.#context;
    context.strokeStyle = stroke;
    context.lineWidth = 1;
    context.beginPath();
    // On the middle of a pixel a line of one pixel is sharp.
    const sharp = (value: number): number => Math.floor(value) + 0.5;
    if (x0 === x1) {
      context.moveTo(sharp(x0), y0);
      context.lineTo(sharp(x1), y1);
    } else {
      context.moveTo(x0, sharp(y0));
      context.lineTo(x1, sharp(y1));
    }
    context.stroke();
  }

  text(x: number, y: number, text: string, style: TextStyle): void {
    const context = this.#context;
    context.font = `${style.bold === true ? 600 : 400} ${FONT_SIZE}px ${FAMILY}`;
    context.fillStyle = style.colour;
    context.textAlign = style.align ?? "left";
    context.textBaseline = "alphabetic";
    if (style.upwards !== true) {
      context.fillText(text, x, y);
      return;
    }
    context.save();
    context.translate(x, y);
    context.rotate(-Math.PI / 2);
    context.fillText(text, 0, 0);
    context.restore();
  }

  begin(paint: Paint): void {
    const context = this.#context;
    this.#paint = paint;
    context.globalAlpha = paint.alpha ?? 1;
    if (paint.fill !== undefined) context.fillStyle = paint.fill;
    if (paint.stroke !== undefined) {
      context.strokeStyle = paint.stroke;
      context.lineWidth = paint.width ?? 1;
      context.setLineDash(paint.dash === undefined ? [] : [...paint.dash]);
    }
    context.beginPath();
  }

  curve(curve: Curve): void {
    this.#context.moveTo(curve.x0, curve.y0);
    this.#context.bezierCurveTo(curve.x1, curve.y1, curve.x2, curve.y2, curve.x3, curve.y3);
  }

  shape(shape: Shape, x: number, y: number, radius: number): void {
    const context = this.#context;
    if (radius < SMALL && this.#paint.stroke === undefined) {
      // A disc of three pixels looks like a square and costs ten times as much.
      const half = radius * 0.89;
      context.fillRect(x - half, y - half, 2 * half, 2 * half);
      return;
    }
    switch (shape) {
      case "dot":
      case "ring":
        context.moveTo(x + radius, y);
        context.arc(x, y, radius, 0, 2 * Math.PI);
        break;
      case "square":
        context.rect(x - radius * 0.9, y - radius * 0.9, radius * 1.8, radius * 1.8);
        break;
      case "triangle":
        context.moveTo(x, y - radius);
        context.lineTo(x + radius, y + radius * 0.8);
        context.lineTo(x - radius, y + radius * 0.8);
        context.closePath();
        break;
      case "diamond":
        context.moveTo(x, y - radius * 1.2);
        context.lineTo(x + radius * 1.2, y);
        context.lineTo(x, y + radius * 1.2);
        context.lineTo(x - radius * 1.2, y);
        context.closePath();
        break;
      case "cross": {
        const arm = radius * CROSS;
        context.moveTo(x - arm, y - arm);
        context.lineTo(x + arm, y + arm);
        context.moveTo(x + arm, y - arm);
        context.lineTo(x - arm, y + arm);
      }
    }
  }

  end(): void {
    if (this.#paint.fill !== undefined) this.#context.fill();
    if (this.#paint.stroke !== undefined) this.#context.stroke();
    this.#context.globalAlpha = 1;
    if (this.#paint.dash !== undefined) this.#context.setLineDash([]);
  }

  clip(x: number, y: number, width: number, height: number): void {
    this.#context.save();
    this.#context.beginPath();
    this.#context.rect(x, y, width, height);
    this.#context.clip();
  }

  unclip(): void {
    this.#context.restore();
  }
}

const round = (value: number): string => String(Math.round(value * 10) / 10);

/** Collects the elements of an SVG file. */
export class SvgPen implements Pen {
  readonly #parts: string[] = [];
  #definitions: string[] = [];
  #paint: Paint = {};
  #path: string[] = [];

  get body(): string {
    const definitions = this.#definitions.length > 0 ? `<defs>${this.#definitions.join("")}</defs>\n` : "";
    return definitions + this.#parts.join("\n");
  }

  rect(x: number, y: number, width: number, height: number, fill: string): void {
    this.#parts.push(
      `<rect x="${round(x)}" y="${round(y)}" width="${round(width)}" height="${round(height)}" fill="${fill}"/>`,
    );
  }

  line(x0: number, y0: number, x1: number, y1: number, stroke: string): void {
    this.#parts.push(`<path d="M${round(x0)} ${round(y0)}L${round(x1)} ${round(y1)}" stroke="${stroke}"/>`);
  }

  text(x: number, y: number, text: string, style: TextStyle): void {
    const anchor = { left: "start", center: "middle", right: "end" }[style.align ?? "left"];
    const place =
      style.upwards === true
        ? `transform="translate(${round(x)} ${round(y)}) rotate(-90)"`
        : `x="${round(x)}" y="${round(y)}"`;
    const weight = style.bold === true ? ' font-weight="600"' : "";
    this.#parts.push(
      `<text ${place} text-anchor="${anchor}" fill="${style.colour}"${weight}>${escapeXml(text)}</text>`,
    );
  }

  begin(paint: Paint): void {
    this.#paint = paint;
    this.#path = [];
  }

  curve(curve: Curve): void {
    this.#path.push(
      `M${round(curve.x0)} ${round(curve.y0)}C${round(curve.x1)} ${round(curve.y1)} ` +
        `${round(curve.x2)} ${round(curve.y2)} ${round(curve.x3)} ${round(curve.y3)}`,
    );
  }

  shape(shape: Shape, x: number, y: number, radius: number): void {
    const r = radius;
    const point = (px: number, py: number): string => `${round(px)} ${round(py)}`;
    switch (shape) {
      case "dot":
      case "ring": {
        const arc = `a${round(r)} ${round(r)} 0 1 0 `;
        this.#path.push(`M${point(x - r, y)}${arc}${point(2 * r, 0)}${arc}${point(-2 * r, 0)}Z`);
        break;
      }
      case "square":
        this.#path.push(
          `M${point(x - r * 0.9, y - r * 0.9)}h${round(r * 1.8)}v${round(r * 1.8)}h${round(-r * 1.8)}Z`,
        );
        break;
      case "triangle":
        this.#path.push(`M${point(x, y - r)}L${point(x + r, y + r * 0.8)}L${point(x - r, y + r * 0.8)}Z`);
        break;
      case "diamond":
        this.#path.push(
          `M${point(x, y - r * 1.2)}L${point(x + r * 1.2, y)}L${point(x, y + r * 1.2)}L${point(x - r * 1.2, y)}Z`,
        );
        break;
      case "cross": {
        const arm = r * CROSS;
        this.#path.push(
          `M${point(x - arm, y - arm)}L${point(x + arm, y + arm)}M${point(x + arm, y - arm)}L${point(x - arm, y + arm)}`,
        );
      }
    }
  }

  end(): void {
    if (this.#path.length === 0) return;
    const { fill, stroke, width, alpha, dash } = this.#paint;
    const attributes = [
      `fill="${fill ?? "none"}"`,
      stroke === undefined ? "" : `stroke="${stroke}" stroke-width="${round(width ?? 1)}"`,
      alpha === undefined || alpha === 1 ? "" : `opacity="${Math.round(alpha * 1000) / 1000}"`,
      dash === undefined ? "" : `stroke-dasharray="${dash.join(" ")}"`,
    ].filter(Boolean);
    this.#parts.push(`<path ${attributes.join(" ")} d="${this.#path.join("")}"/>`);
  }

  clip(x: number, y: number, width: number, height: number): void {
    const id = `clip${this.#definitions.length}`;
    this.#definitions.push(
      `<clipPath id="${id}"><rect x="${round(x)}" y="${round(y)}" width="${round(width)}" height="${round(height)}"/></clipPath>`,
    );
    this.#parts.push(`<g clip-path="url(#${id})">`);
  }

  unclip(): void {
    this.#parts.push("</g>");
  }
}
