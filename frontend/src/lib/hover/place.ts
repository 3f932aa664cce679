/** Where a small card goes: beside what it belongs to, inside the window, never in the pointer's way. */

export interface Box {
  readonly x: number;
  readonly y: number;
  readonly width: number;
  readonly height: number;
}

/** In lists the pointer moves up and down: cards lie left or right of them. Elsewhere below. */
export type Preference = "below" | "left" | "right";

const GAP = 8;

const clamp = (value: number, least: number, most: number): number => Math.max(least, Math.min(value, most));

/** The preferred side where there is room, else below, else above; moved along it to stay in the window. */
export function placeBeside(
  anchor: Box,
  size: Pick<Box, "width" | "height">,
  window: Pick<Box, "width" | "height">,
  preference: Preference,
): { x: number; y: number } {
  const mostX = window.width - size.width - GAP;
  const mostY = window.height - size.height - GAP;
  const beside = preference === "right" ? anchor.x + anchor.width + GAP : anchor.x - GAP - size.width;
  if (preference !== "below" && beside >= GAP && beside <= mostX) {
    return { x: beside, y: clamp(anchor.y - GAP, GAP, Math.max(GAP, mostY)) };
  }
  const below = anchor.y + anchor.height + GAP;
  const above = anchor.y - GAP - size.height;
  const y = below <= mostY || above < GAP ? below : above;
  return { x: clamp(anchor.x, GAP, Math.max(GAP, mostX)), y: clamp(y, GAP, Math.max(GAP, mostY)) };
}
