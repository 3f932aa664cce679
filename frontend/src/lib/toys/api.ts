/** Requests about toy runs. A run does not change while it is served: its answers are kept. */

import { AnswerCache } from "../api/cache";
import { get, send } from "../api/http";
import type { components } from "../api/schema";
import type { ToyOrder } from "../location/view";

type Schemas = components["schemas"];
export type ToyAnswer = Readonly<Schemas["ToyAnswer"]>;
export type ToyComponent = Readonly<Schemas["ToyComponent"]>;
export type ToyDescription = Readonly<Schemas["ToyDescription"]>;
export type ToyErrors = Readonly<Schemas["ToyErrors"]>;
export type ToyEvaluation = Readonly<Schemas["ToyEvaluation"]>;
export type ToyLink = Readonly<Schemas["ToyLink"]>;
export type ToyMatrix = Readonly<Schemas["ToyMatrix"]>;
export type ToyPattern = Readonly<Schemas["ToyPattern"]>;
export type ToyResponse = Readonly<Schemas["ToyResponse"]>;
export type ToySpace = ToyMatrix["reads"];

const cache = new AnswerCache(60);

function ask<T>(run: string, rest: string): Promise<T> {
  const path = `/api/runs/${encodeURIComponent(run)}/toy${rest}`;
  return cache.get(path, () => get<T>(path));
}

export function getToy(run: string): Promise<ToyDescription> {
  return ask(run, "");
}

/** The server came back, perhaps with another run of the same name. */
export function forgetToys(): void {
  cache.clear();
}

export function getResponse(
  run: string,
  matrix: string,
  value: number,
  order: ToyOrder,
): Promise<ToyResponse> {
  return ask(run, `/matrices/${matrix}?value=${value}&order=${order}`);
}

export function getToyComponent(run: string, key: string, value: number): Promise<ToyComponent> {
  return ask(run, `/components/${key}?value=${value}`);
}

export function getToyEvaluation(run: string, value: number): Promise<ToyEvaluation> {
  return ask(run, `/evaluation?value=${value}`);
}

export function answerInput(run: string, input: readonly number[], signal: AbortSignal): Promise<ToyAnswer> {
  const path = `/api/runs/${encodeURIComponent(run)}/toy/answers`;
  return send<ToyAnswer>("POST", path, { inputs: [input] }, signal);
}
