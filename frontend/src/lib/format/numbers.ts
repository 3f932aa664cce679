/** Numbers on screen: one exponent and one number of decimals for a whole list, so that points align. */

const MINUS = "\u2212";

/** How the numbers of one list are written. Every number carries its exponent, so that each can be read alone. */
export interface Scale {
  readonly exponent: number;
  readonly decimals: number;
}

/**
 * Three or four significant digits for the largest of some values; powers of ten outside 0.01 … 99,999.
 * Without a power of ten, up to two digits more where standard errors would otherwise be written as zero.
 */
export function scaleOf(values: readonly number[], errors: readonly (number | null)[] = []): Scale {
  const scale = plainScale(values);
  const smallest = Math.min(...errors.filter((error) => error !== null && error > 0).map(Number));
  if (!Number.isFinite(smallest) || scale.exponent !== 0) return scale;
  const needed = Math.ceil(-Math.log10(smallest));
  const decimals = Math.max(scale.decimals, Math.min(scale.decimals + 2, needed));
  return { ...scale, decimals };
}

function plainScale(values: readonly number[]): Scale {
  const largest = Math.max(0, ...values.map(Math.abs).filter(Number.isFinite));
  if (largest === 0) return { exponent: 0, decimals: 2 };
  const magnitude = Math.floor(Math.log10(largest));
  if (magnitude < -2 || magnitude > 4) return { exponent: magnitude, decimals: 2 };
  return { exponent: 0, decimals: magnitude < 0 ? 2 - magnitude : Math.max(0, 3 - magnitude) };
}

/** A value in a scale, its sign always written unless `signed` is false. */
export function inScale(value: number, scale: Scale, signed = true): string {
  const text = Math.abs(value / 10 ** scale.exponent).toFixed(scale.decimals) + power(scale.exponent);
  if (!signed) return text;
  return (value < 0 ? MINUS : "+") + text;
}

/** A standard error in the scale of its value; beside a power of ten to two digits of its own. */
export function errorInScale(error: number, scale: Scale): string {
  if (scale.exponent === 0 || error === 0) return inScale(error, scale, false);
  return inScale(error, { exponent: Math.floor(Math.log10(error)), decimals: 1 }, false);
}

function power(exponent: number): string {
  return exponent === 0 ? "" : `e${exponent < 0 ? MINUS : ""}${Math.abs(exponent)}`;
}

/** A number that stands alone, to three significant digits. */
export function number(value: number): string {
  if (value === 0) return "0";
  const scale = scaleOf([value]);
  const text = inScale(value, scale, false);
  return (value < 0 ? MINUS : "") + text;
}

/** A mean causal importance: four decimals, powers of ten where those would say little. */
export function importance(value: number): string {
  return value !== 0 && value < 0.001 ? number(value) : value.toFixed(4);
}

const counts = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });

export function count(value: number): string {
  return counts.format(value);
}

/** A share as a percentage: 12.3 %, 0.012 %, and never a rounded 0 or 100 that is not one. */
export function percent(share: number): string {
  const value = share * 100;
  if (value === 0) return "0 %";
  if (Math.abs(value) < 0.001) return "< 0.001 %";
  if (value < 100 && value > 99.95) return "> 99.9 %";
  const decimals = Math.abs(value) >= 9.95 ? 1 : Math.abs(value) >= 0.0995 ? 2 : 3;
  return `${value.toFixed(decimals)} %`;
}
