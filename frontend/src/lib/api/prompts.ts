/** Requests about prompts, their graphs and what is done with them. None is cached: all of it can change. */

import { get, getBlob, getBytes, remove, send } from "./http";
import type {
  Circuit,
  CircuitRequest,
  EdgeCheckResult,
  GraphDetail,
  GraphEstimate,
  GraphMetric,
  GraphSettings,
  GraphSummary,
  Intervention,
  InterventionRequest,
  Job,
  NodeEdges,
  Opening,
  Predictions,
  Prompt,
  PromptDetail,
  PromptSource,
  Workspace,
} from "./promptTypes";

const at = (run: string): string => `/api/runs/${encodeURIComponent(run)}`;

// ---- prompts --------------------------------------------------------------------------------------

export async function getPrompts(run: string): Promise<readonly Prompt[]> {
  return (await get<{ prompts: readonly Prompt[] }>(`${at(run)}/prompts`)).prompts;
}

export function getPrompt(run: string, id: number): Promise<PromptDetail> {
  return get(`${at(run)}/prompts/${id}`);
}

/** How some documents of the run's corpus begin; none where the run came without its corpus. */
export async function getOpenings(run: string): Promise<readonly Opening[]> {
  return (await get<{ openings: readonly Opening[] }>(`${at(run)}/openings`)).openings;
}

/** The prompt with this text; the one that was there already where there is one. */
export function addPrompt(run: string, source: PromptSource, title = ""): Promise<Prompt> {
  return send("POST", `${at(run)}/prompts`, title === "" ? source : { ...source, title });
}

export function renamePrompt(run: string, id: number, title: string): Promise<Prompt> {
  return send("PATCH", `${at(run)}/prompts/${id}`, { title });
}

/** Its graphs go with it. */
export function deletePrompt(run: string, id: number): Promise<void> {
  return remove(`${at(run)}/prompts/${id}`);
}

export interface PredictionOptions {
  readonly k: number;
  readonly positions: "last" | "all";
  /** Search tokens by text; the answer is ordered by probability at the last position. */
  readonly q?: string;
}

export function predict(
  run: string,
  source: PromptSource,
  options: PredictionOptions,
  signal?: AbortSignal,
): Promise<Predictions> {
  return send("POST", `${at(run)}/predictions`, { ...source, ...options }, signal);
}

// ---- graphs ---------------------------------------------------------------------------------------

export type GraphRequest = (PromptSource | { readonly prompt_id: number }) & {
  readonly settings: GraphSettings;
  readonly circuit_id?: number;
  readonly title?: string;
};

/** Starts the computation. A graph that is there already comes as a job that is done. */
export function startGraph(run: string, request: GraphRequest): Promise<Job> {
  return send("POST", `${at(run)}/graphs`, request);
}

/** What the computation would need, and whether it fits into the server's memory. */
export function estimateGraph(
  run: string,
  request: GraphRequest,
  signal?: AbortSignal,
): Promise<GraphEstimate> {
  return send("POST", `${at(run)}/graphs:estimate`, request, signal);
}

export async function getGraphs(run: string, prompt?: number): Promise<readonly GraphSummary[]> {
  const query = prompt === undefined ? "" : `?prompt=${prompt}`;
  return (await get<{ graphs: readonly GraphSummary[] }>(`${at(run)}/graphs${query}`)).graphs;
}

export function getGraph(id: number): Promise<GraphDetail> {
  return get(`/api/graphs/${id}`);
}

export function updateGraph(
  id: number,
  change: { readonly title?: string; readonly note?: string },
): Promise<GraphSummary> {
  return send("PATCH", `/api/graphs/${id}`, change);
}

export function deleteGraph(id: number): Promise<void> {
  return remove(`/api/graphs/${id}`);
}

/** The strongest `top` edges as a binary block; `lib/graph/data.ts` reads it. */
export function getEdges(
  id: number,
  top: number,
  metric: GraphMetric,
  signal?: AbortSignal,
): Promise<ArrayBuffer> {
  return getBytes(`/api/graphs/${id}/edges?top=${top}&metric=${metric}`, signal);
}

/** The strongest edges of a node, of all that are stored. */
export function getNodeEdges(
  id: number,
  node: number,
  metric: GraphMetric,
  k: number,
  signal?: AbortSignal,
): Promise<NodeEdges> {
  return get(`/api/graphs/${id}/nodes/${node}/edges?metric=${metric}&k=${k}`, signal);
}

/** The whole graph as a file of the server's. */
function exportPath(id: number, format: "json" | "csv"): string {
  return `/api/graphs/${id}/export?format=${format}`;
}

export function exportGraph(id: number, format: "json" | "csv", signal?: AbortSignal): Promise<Blob> {
  return getBlob(exportPath(id, format), signal);
}

/** Takes what `exportGraph(…, "json")` gave, workspace included. */
export function importGraph(run: string, document: unknown): Promise<GraphSummary> {
  return send("POST", `${at(run)}/graphs:import`, document);
}

// ---- what is done with a graph --------------------------------------------------------------------

export function getWorkspace(graph: number): Promise<Workspace> {
  return get(`/api/graphs/${graph}/workspace`);
}

/** Refused with 409 where somebody saved since `workspace.version`. */
export function saveWorkspace(graph: number, workspace: Workspace): Promise<Workspace> {
  return send("PUT", `/api/graphs/${graph}/workspace`, workspace);
}

export function startIntervention(graph: number, request: InterventionRequest): Promise<Job> {
  return send("POST", `/api/graphs/${graph}/interventions`, request);
}

export async function getInterventions(graph: number): Promise<readonly Intervention[]> {
  const answer = await get<{ interventions: readonly Intervention[] }>(`/api/graphs/${graph}/interventions`);
  return answer.interventions;
}

export function getIntervention(id: number): Promise<Intervention> {
  return get(`/api/interventions/${id}`);
}

export function deleteIntervention(id: number): Promise<void> {
  return remove(`/api/interventions/${id}`);
}

export function checkEdge(
  graph: number,
  edge: { readonly source: string; readonly target: string; readonly epsilon: number },
): Promise<EdgeCheckResult> {
  return send("POST", `/api/graphs/${graph}/edges:check`, edge);
}

export function startCircuits(graph: number, request: CircuitRequest): Promise<Job> {
  return send("POST", `/api/graphs/${graph}/circuits`, request);
}

export async function getCircuits(graph: number): Promise<readonly Circuit[]> {
  return (await get<{ circuits: readonly Circuit[] }>(`/api/graphs/${graph}/circuits`)).circuits;
}

export function getCircuit(id: number): Promise<Circuit> {
  return get(`/api/circuits/${id}`);
}

export function deleteCircuit(id: number): Promise<void> {
  return remove(`/api/circuits/${id}`);
}

// ---- jobs -----------------------------------------------------------------------------------------

export function getJob(id: string): Promise<Job> {
  return get(`/api/jobs/${encodeURIComponent(id)}`);
}

export async function getJobs(): Promise<readonly Job[]> {
  return (await get<{ jobs: readonly Job[] }>("/api/jobs")).jobs;
}

/** Stops the computation itself. */
export function cancelJob(id: string): Promise<void> {
  return remove(`/api/jobs/${encodeURIComponent(id)}`);
}
