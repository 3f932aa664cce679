/** Names for the generated types of prompts, graphs, jobs and circuits; read-only, as answers are. */

import type { components } from "./schema";

type Schemas = components["schemas"];

/** The same in depth: nothing that came from the server is changed in place. */
type Frozen<T> = T extends readonly (infer Item)[]
  ? readonly Frozen<Item>[]
  : T extends object
    ? { readonly [Key in keyof T]: Frozen<T[Key]> }
    : T;

/** What every answer says of itself. */
type Cost = "seconds" | "peak_bytes";

export type Prompt = Frozen<Schemas["Prompt"]>;
export type PromptDetail = Frozen<Schemas["PromptDetail"]>;
/** A prompt as text, or as the tokens themselves. */
export type PromptSource = { readonly text: string } | { readonly token_ids: readonly number[] };

export type Opening = Frozen<Schemas["Opening"]>;
export type Prediction = Frozen<Schemas["PredictedToken"]>;
export type PositionPredictions = Frozen<Schemas["PositionPredictions"]>;
export type Predictions = Frozen<Schemas["Predictions"]>;

export type OutputTerm = Frozen<Schemas["OutputTerm"]>;
export type CustomTarget = Frozen<Schemas["CustomTarget"]>;
export type GraphSettings = Frozen<Schemas["GraphSettings"]>;
export type DeltaTreatment = GraphSettings["delta"];
export type Omitted = Frozen<Schemas["Omitted"]>;
export type GraphEstimate = Frozen<Schemas["GraphEstimate"]>;
export type GraphSummary = Frozen<Schemas["GraphSummary"]>;
export type GraphToken = Frozen<Schemas["Token"]>;
export type GraphNodes = Frozen<Schemas["GraphNodes"]>;
export type GraphDetail = Frozen<Schemas["GraphDetail"]>;
export type NodeEdge = Frozen<Schemas["NodeEdge"]>;
export type NodeEdgeList = Frozen<Schemas["NodeEdgeList"]>;
export type NodeEdges = Frozen<Schemas["NodeEdges"]>;
export type GraphMetric = NodeEdges["metric"];

export type Workspace = Frozen<Schemas["Workspace"]>;
export type WorkspaceGroup = Frozen<Schemas["Group"]>;
export type WorkspaceNote = Frozen<Schemas["NodeNote"]>;

export type InterventionRequest = Frozen<Schemas["InterventionRequest"]>;
export type Intervention = Omit<Frozen<Schemas["Intervention"]>, "run" | Cost>;
export type Regime = Intervention["regimes"][number];
export type NodeChange = Frozen<Schemas["NodeChange"]>;
export type ChangedToken = Frozen<Schemas["ChangedToken"]>;
export type ChangedPredictions = Frozen<Schemas["ChangedPredictions"]>;
export type EdgeCheckResult = Omit<Frozen<Schemas["EdgeCheck"]>, "source" | "target" | Cost>;

export type CircuitRequest = Frozen<Schemas["CircuitRequest"]>;
/** One entry in each list for each coefficient of the sweep. */
export type CircuitSnapshot = Frozen<Schemas["CircuitSnapshot"]>;
export type Circuit = Omit<Frozen<Schemas["Circuit"]>, "settings"> & {
  readonly settings: CircuitRequest;
};

export type Job = Frozen<Schemas["Job"]>;
export type JobState = Job["state"];
export type JobResult = Frozen<Schemas["JobResult"]>;
