/** How attributions were computed, in plain words. */

const METHODS: Readonly<Record<string, string>> = {
  closed_form: "in closed form",
  fallback: "by automatic differentiation",
};

/** "By automatic differentiation: 5 of 12 matrices are left whole, …"; what is not known stands as it is. */
export function methodWords(method: string, reason: string): string {
  const words = METHODS[method] ?? method.replaceAll("_", " ");
  const text = reason === "" ? words : `${words}: ${reason}`;
  return `${text.charAt(0).toUpperCase()}${text.slice(1)}`;
}
