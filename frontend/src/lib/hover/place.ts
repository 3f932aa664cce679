/** Where a small card goes: beside what it belongs to, inside the window, never over the pointer. */

export interface Box {
  readonly x: number;
  readonly y: number;
  readonly width: number;
  readonly height: number;
}

const GAP = 8;

/** Below the anchor where there is room, else above; shifted sideways to stay in the window. */
export function placeBeside(
  anchor: Box,
  size: Pick<Box, "width" | "height">,
  window: Pick<Box, "width" | "height">,
): { x: number; y: number } {
  const below = anchor.y + anchor.height + GAP;
  const above = anchor.y - GAP - size.height;
  const y = below + size.height <= window.height - GAP || above < GAP ? below : above;
  const x = Math.min(Math.max(GAP, anchor.x), window.width - size.width - GAP);
  return { x: Math.max(GAP, x), y: Math.max(GAP, Math.min(y, window.height - size.height - GAP)) };
}
