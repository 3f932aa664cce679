/** Shapes of prompts, graphs, jobs and circuits on the wire. Hand-written until the generated ones are there. */

import type { ErrorBody } from "./types";

export interface Prompt {
  readonly id: number;
  readonly run: string;
  readonly text: string;
  readonly token_ids: readonly number[];
  readonly tokens: readonly string[];
  readonly title: string;
  readonly created: string;
  /** How many graphs it has. */
  readonly graphs: number;
}

export interface PromptDetail extends Omit<Prompt, "graphs"> {
  readonly graphs: readonly GraphSummary[];
}

/** A prompt as text, or as the tokens themselves. */
export type PromptSource = { readonly text: string } | { readonly token_ids: readonly number[] };

export interface Prediction {
  readonly token_id: number;
  readonly text: string;
  readonly probability: number;
  readonly logit: number;
}

export interface PositionPredictions {
  readonly position: number;
  readonly top: readonly Prediction[];
}

export interface Predictions {
  readonly token_ids: readonly number[];
  readonly tokens: readonly string[];
  /** The most tokens this model reads. */
  readonly context: number;
  readonly positions: readonly PositionPredictions[];
  /** How many tokens match a search; without one, all. */
  readonly total: number;
}

export interface OutputTerm {
  readonly position: number;
  readonly token_id: number;
  readonly weight: number;
}

export interface CustomTarget {
  readonly name: string;
  readonly terms: readonly OutputTerm[];
}

export type DeltaTreatment = "node" | "off" | "through";

export interface GraphSettings {
  readonly delta: DeltaTreatment;
  readonly alive_above: number;
  readonly output_probability: number;
  readonly outputs_at_most: number;
  readonly output_positions: "last" | "all" | readonly number[];
  readonly targets: readonly CustomTarget[];
  readonly threshold: number;
  readonly max_edges: number | null;
}

export interface Omitted {
  readonly edges: number;
  readonly share: number;
  readonly share_abs: number;
}

export interface GraphSummary {
  readonly id: number;
  readonly run: string;
  readonly prompt_id: number;
  readonly circuit_id: number | null;
  readonly title: string;
  readonly note: string;
  readonly settings: GraphSettings;
  readonly n_nodes: number;
  readonly n_edges: number;
  readonly omitted: Omitted;
  readonly method: string;
  readonly method_reason: string;
  readonly seconds: number;
  readonly peak_bytes: number;
  /** Read from a file rather than computed here. */
  readonly imported: boolean;
  readonly created: string;
}

/** What a graph would need, before it is computed. */
export interface GraphEstimate {
  readonly n_tokens: number;
  readonly nodes: number;
  readonly edges: number;
  readonly bytes: number;
  readonly limit_bytes: number;
  readonly fits: boolean;
  readonly advice: string;
}

export interface GraphToken {
  readonly id: number;
  readonly text: string;
}

type Column = readonly (number | null)[];

export interface GraphNodes {
  readonly site: readonly number[];
  readonly position: readonly number[];
  readonly index: readonly number[];
  readonly ci: Column;
  readonly activation: Column;
  readonly scale: Column;
  readonly probability: Column;
  readonly logit: Column;
  readonly ci_probability: Column;
  readonly ci_logit: Column;
}

export interface GraphDetail {
  readonly id: number;
  readonly run: string;
  readonly prompt_id: number;
  readonly circuit_id: number | null;
  readonly title: string;
  readonly note: string;
  readonly settings: GraphSettings;
  readonly text: string;
  readonly tokens: readonly GraphToken[];
  readonly addresses: readonly string[];
  readonly nodes: GraphNodes;
  /** Node number -> text of its token. */
  readonly labels: Readonly<Record<string, string>>;
  readonly targets: readonly CustomTarget[];
  readonly n_edges: number;
  readonly omitted: Omitted;
  readonly method: string;
  readonly method_reason: string;
  readonly seconds: number;
  readonly peak_bytes: number;
  readonly imported: boolean;
  readonly provenance: Readonly<Record<string, string>>;
  readonly created: string;
}

export interface NodeEdge {
  readonly node: number;
  readonly key: string;
  readonly value: number;
}

export interface NodeEdgeList {
  readonly entries: readonly NodeEdge[];
  /** How many edges of this sign there are, and what they sum to. */
  readonly total: number;
  readonly total_value: number;
}

export interface NodeEdges {
  readonly sources_positive: NodeEdgeList;
  readonly sources_negative: NodeEdgeList;
  readonly targets_positive: NodeEdgeList;
  readonly targets_negative: NodeEdgeList;
}

export type GraphMetric = "attr" | "attr_abs";

export interface WorkspaceGroup {
  readonly id: string;
  readonly name: string;
  readonly members: readonly string[];
}

export interface WorkspaceNote {
  readonly key: string;
  readonly text: string;
}

export interface Workspace {
  readonly version: number;
  readonly pins: readonly string[];
  readonly groups: readonly WorkspaceGroup[];
  readonly notes: readonly WorkspaceNote[];
}

export type Regime = "ci" | "stochastic" | "adversarial" | "target_sans";

export interface NodeChange {
  readonly key: string;
  readonly factor: number;
}

export interface InterventionRequest {
  readonly selected: readonly string[];
  readonly regimes: readonly Regime[];
  readonly changes: readonly NodeChange[];
  readonly seed: number;
  readonly adversary: { readonly steps: number; readonly step_size: number };
}

export interface ChangedToken extends Prediction {
  readonly probability_before: number;
  readonly logit_before: number;
}

export interface ChangedPredictions {
  readonly position: number;
  readonly top: readonly ChangedToken[];
}

export interface Intervention extends InterventionRequest {
  readonly id: number;
  readonly graph_id: number;
  readonly created: string;
  /** Selected nodes that are no components; nothing can be done to them. */
  readonly ignored: number;
  readonly tokens: readonly GraphToken[];
  readonly before: readonly PositionPredictions[];
  /** By regime, and `changes` where single nodes were changed. */
  readonly after: Readonly<Record<string, readonly ChangedPredictions[]>>;
  readonly kl: Readonly<Record<string, readonly number[]>>;
}

export interface EdgeCheckResult {
  readonly epsilon: number;
  readonly predicted: number;
  readonly actual: number;
  readonly total: number;
  readonly before: number;
  readonly after: number;
}

export interface CircuitRequest {
  readonly loss: "ce" | "kl" | "logit";
  readonly position: number;
  readonly token_id: number | null;
  readonly coefficients: readonly number[];
  readonly steps: number;
  readonly masks: "stochastic" | "ci";
  readonly adversary_steps: number;
  readonly seed: number;
}

/** One entry for each coefficient of the sweep. */
export interface CircuitSnapshot {
  readonly step: number;
  readonly loss: readonly number[];
  readonly alive: readonly number[];
  readonly probability: readonly number[];
}

export interface Circuit {
  readonly id: number;
  readonly graph_id: number;
  readonly coefficient: number;
  readonly settings: CircuitRequest;
  readonly alive: number;
  readonly loss: number;
  readonly kl: number;
  readonly probability: number;
  /** Each entry's lists hold one number: this coefficient's. */
  readonly history: readonly CircuitSnapshot[];
  /** Graphs that were computed from it. */
  readonly graphs: readonly number[];
  readonly created: string;
}

export type JobState = "queued" | "running" | "done" | "failed" | "cancelled";

export interface JobResult {
  readonly graph_id?: number | null;
  readonly intervention_id?: number | null;
  readonly circuit_ids?: readonly number[] | null;
}

export interface Job {
  readonly id: string;
  readonly kind: "graph" | "intervention" | "circuits";
  readonly run: string;
  readonly state: JobState;
  readonly phase: string;
  readonly done: number;
  readonly total: number;
  readonly seconds_left: number | null;
  readonly seconds: number;
  /** Jobs that are computed before it while it is queued. */
  readonly ahead: number;
  readonly created: string;
  readonly error: ErrorBody | null;
  readonly result: JobResult | null;
}
