/** Numbers on screen: one unit and one number of decimals for a whole list, so that points align. */

const MINUS = "\u2212";
const SUPERSCRIPTS = "⁰¹²³⁴⁵⁶⁷⁸⁹";

/** How the numbers of one list are written: value = printed × 10^exponent. */
export interface Scale {
  readonly exponent: number;
  readonly decimals: number;
}

/**
 * Three or four significant digits for the largest of some values; powers of ten outside 0.01 … 99,999.
 * Up to two digits more where standard errors would otherwise be written as zero.
 */
export function scaleOf(values: readonly number[], errors: readonly (number | null)[] = []): Scale {
  const scale = plainScale(values);
  const smallest = Math.min(...errors.filter((error) => error !== null && error > 0).map(Number));
  if (!Number.isFinite(smallest)) return scale;
  const needed = Math.ceil(-Math.log10(smallest / 10 ** scale.exponent));
  const decimals = Math.max(scale.decimals, Math.min(scale.decimals + 2, needed));
  return { ...scale, decimals };
}

function plainScale(values: readonly number[]): Scale {
  const largest = Math.max(0, ...values.map(Math.abs).filter(Number.isFinite));
  if (largest === 0) return { exponent: 0, decimals: 2 };
  const magnitude = Math.floor(Math.log10(largest));
  if (magnitude < -2 || magnitude > 4) return { exponent: Math.floor(magnitude / 3) * 3, decimals: 2 };
  return { exponent: 0, decimals: magnitude < 0 ? 2 - magnitude : Math.max(0, 3 - magnitude) };
}

/** A value in a scale, its sign always written unless `signed` is false. */
export function inScale(value: number, scale: Scale, signed = true): string {
  const text = Math.abs(value / 10 ** scale.exponent).toFixed(scale.decimals);
  if (!signed) return text;
  return (value < 0 ? MINUS : "+") + text;
}

/** "×10⁻⁶", or nothing where numbers are written as they are. */
export function unitOf(scale: Scale): string {
  return scale.exponent === 0 ? "" : `×10${superscript(scale.exponent)}`;
}

function superscript(value: number): string {
  const digits = [...String(Math.abs(value))].map((digit) => SUPERSCRIPTS[Number(digit)] ?? "");
  return (value < 0 ? "⁻" : "") + digits.join("");
}

/** A number that stands alone, to three significant digits. */
export function number(value: number): string {
  const scale = scaleOf([value]);
  const text = inScale(value, scale, false);
  return (value < 0 ? MINUS : "") + text + unitOf(scale);
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
