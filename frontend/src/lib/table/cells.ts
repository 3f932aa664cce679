/** Numbers in the cells of the table. Pure. */

/** Decimals that align, and never a rounded 0 that is not one, nor a rounded `most`. */
export function fixed(value: number | null, decimals: number, most = Infinity): string {
  if (value === null) return "–";
  const step = 10 ** -decimals;
  if (value > 0 && value < step / 2) return `<${step.toFixed(decimals)}`;
  if (value < most && value > most - step / 2) return `>${(most - step).toFixed(decimals)}`;
  return value.toFixed(decimals);
}
