/** Which rows of a long list of equally high rows must exist for what is in sight. */

export interface Slice {
  readonly start: number;
  /** One past the last. */
  readonly end: number;
}

/** Rows rendered above and below what is in sight, so that scrolling does not show gaps. */
const MARGIN = 12;

export function visibleRows(scrollTop: number, height: number, rowHeight: number, total: number): Slice {
  const first = Math.floor(scrollTop / rowHeight) - MARGIN;
  const last = Math.ceil((scrollTop + height) / rowHeight) + MARGIN;
  const start = Math.min(Math.max(0, first), total);
  return { start, end: Math.max(start, Math.min(total, last)) };
}

/** The scroll position that brings a row into sight with the least movement. */
export function scrollToRow(row: number, scrollTop: number, height: number, rowHeight: number): number {
  const top = row * rowHeight;
  if (top < scrollTop) return top;
  const bottom = top + rowHeight;
  return bottom > scrollTop + height ? bottom - height : scrollTop;
}
