/** Toy models in words. Pure. */

import { count, number } from "../format/numbers";
import type { ToyDescription, ToyMatrix, ToyPattern, ToySpace } from "./api";

/** What one entry of a vector is called. */
export const ENTRY: Readonly<Record<ToySpace, string>> = {
  features: "feature",
  hidden: "hidden dimension",
  residual: "residual dimension",
  neurons: "neuron",
  outputs: "output",
};

export function kindWords(toy: ToyDescription): string {
  return toy.kind === "tms" ? "toy model of superposition" : "residual MLP";
}

/** What the model computes, as one line of mathematics. */
export function formula(toy: ToyDescription): string {
  if (toy.kind === "resid_mlp")
    return `each block adds mlp_out(${toy.activation ?? ""}(mlp_in(r))) to the residual stream r = x W_E; the outputs are r W_U`;
  const hidden = toy.matrices.length - 2;
  const middle = hidden === 0 ? "" : hidden === 1 ? "H " : "… H ";
  return `outputs = ReLU(W₂ ${middle}W₁ x + b)${toy.tied === true ? ", W₂ = W₁ᵀ" : ""}`;
}

/** What it was trained to put out. */
export function labelWords(toy: ToyDescription): string | null {
  const c = toy.label_coefficients === null ? "" : "c·";
  if (toy.label === "abs") return `|${c}x| for every feature x`;
  if (toy.label === "act_plus_resid") return `${toy.activation ?? "act"}(${c}x) + x for every feature x`;
  return null;
}

/** What it was trained on: "each feature with probability 0.05, uniform between 0 and 1". */
export function inputWords(toy: ToyDescription): string | null {
  const inputs = toy.inputs;
  if (inputs === null) return null;
  const active =
    inputs.generation === "at_least_zero_active"
      ? `each feature active with probability ${inputs.feature_probability}`
      : `${inputs.generation.replace("_active", "").replaceAll("_", " ")} feature active at a time`;
  const together =
    inputs.synced.length === 0
      ? ""
      : `; together: ${inputs.synced.map((group) => `{${group.join(", ")}}`).join(" ")}`;
  return `${active}, uniform between ${inputs.low} and ${inputs.high}${together}`;
}

export function patternWords(pattern: ToyPattern | null): string {
  if (pattern === null) return "not known";
  return pattern.pattern === "identity"
    ? "one component for each feature"
    : `${count(pattern.k)} components act, all others never`;
}

/** How a component is called: by the module's own name first. */
export function componentName(path: string, key: string): string {
  return `${path}:${key.slice(key.lastIndexOf(":") + 1)}`;
}

export function pathOf(toy: ToyDescription, address: string): string {
  return toy.matrices.find((matrix) => matrix.address === address)?.path ?? address;
}

export function decomposed(toy: ToyDescription): ToyMatrix[] {
  return toy.matrices.filter((matrix) => matrix.n_components > 0);
}

/** An importance, short. */
export function short(value: number): string {
  return value === 0 || value === 1
    ? String(value)
    : Math.abs(value) < 0.005
      ? number(value)
      : value.toFixed(2);
}
