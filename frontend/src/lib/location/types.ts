/** What the page shows: each page, and what it remembers besides. Pure: no browser here. */

export const METRICS = ["attr", "attr_abs", "attr_frozen"] as const;
export type Metric = (typeof METRICS)[number];

export const SORTS = [
  "-mean_ci",
  "mean_ci",
  "-density",
  "density",
  "-max_ci",
  "max_ci",
  "-activation_rms",
  "activation_rms",
  "-strongest_source",
  "-strongest_target",
  "-fires_on",
  "label",
  "key",
] as const;
export type Sort = (typeof SORTS)[number];

/** Whose label a component has to have; `none`: it has none. */
export const LABELLED = ["any", "none", "person", "model"] as const;
export type Labelled = (typeof LABELLED)[number];

/** How examples are chosen: a random sample of all firings, or those with the largest CI. */
export const EXAMPLES = ["random", "strongest"] as const;
export type ExampleKind = (typeof EXAMPLES)[number];

export const SIZES = [5, 10, 20, 50] as const;
/** A walk longer than this forgets its beginning, so that the address stays short enough to send. */
export const TRAIL_LIMIT = 60;

/** Tabs of the panel beside a graph. */
export const PANELS = ["node", "pins", "intervene", "circuits", "compare", "about", "none"] as const;
export type Panel = (typeof PANELS)[number];

/** Which edges of a graph are shown; `strongest` is as many as are easily read. */
export type Cut =
  | { readonly kind: "strongest" }
  | { readonly kind: "top"; readonly n: number }
  | { readonly kind: "least"; readonly value: number };

export interface Viewport {
  readonly x: number;
  readonly y: number;
  readonly scale: number;
}

/**
 * `outputs`: what leads to the outputs; `groups`: the pinned subgraph with each group as one node;
 * `clusters`: the whole graph with the components of each cluster in one layer at one position as one node;
 * `difference`: against the compared graph.
 */
export const SCOPES = [
  "outputs",
  "all",
  "matches",
  "near",
  "pins",
  "groups",
  "clusters",
  "difference",
] as const;
export type Scope = (typeof SCOPES)[number];

/** What nodes are told apart by. */
export const NODE_COLOURS = ["plain", "cluster"] as const;
export type NodeColour = (typeof NODE_COLOURS)[number];

/** What the address of a graph holds beside the graph itself. */
export interface GraphView {
  readonly as: "canvas" | "table";
  readonly cut: Cut;
  readonly find: string;
  readonly scope: Scope;
  /** Addresses of layers and positions that are shown; empty: all. */
  readonly layers: readonly string[];
  readonly tokens: readonly number[];
  /** Node keys, or ranges of node numbers such as `12-40`. */
  readonly selection: readonly string[];
  /** The selected edge as `source~target`. */
  readonly edge: string | null;
  /** `null`: the whole graph in sight. */
  readonly viewport: Viewport | null;
  readonly panel: Panel;
  readonly compare: number | null;
  readonly colour: NodeColour;
}

export type Page =
  | { readonly kind: "runs" }
  | { readonly kind: "overview"; readonly run: string }
  | { readonly kind: "components"; readonly run: string }
  | { readonly kind: "clusters"; readonly run: string }
  | { readonly kind: "card"; readonly run: string; readonly key: string }
  | { readonly kind: "prompts"; readonly run: string }
  | { readonly kind: "prompt"; readonly run: string; readonly prompt: number }
  | { readonly kind: "graph"; readonly run: string; readonly prompt: number; readonly graph: number }
  | {
      readonly kind: "document";
      readonly run: string;
      readonly document: number;
      /** The token of the document that is to be in sight. */
      readonly at: number;
      readonly key: string | null;
    }
  | TextPage
  | LabelsPage
  | ToyPage
  | { readonly kind: "lost"; readonly path: string };

export const MODES = ["words", "exact"] as const;
export type SearchMode = (typeof MODES)[number];

/** Searching the text of a run. */
export interface TextPage {
  readonly kind: "text";
  readonly run: string;
  readonly find: string;
  readonly mode: SearchMode;
  readonly matchCase: boolean;
  readonly document: number | null;
  /** Counted from 1, as it is shown. */
  readonly page: number;
  readonly hit: number | null;
}

/** Labels that language models gave. */
export interface LabelsPage {
  readonly kind: "labels";
  readonly run: string;
  /** Labels are to be made: of `key` where there is one, of the rest of `set`, or of others. */
  readonly make: boolean;
  /** Only what failed. */
  readonly failed: boolean;
  readonly set: number | null;
  readonly other: number | null;
  readonly find: string;
  /** Counted from 1, as it is shown. */
  readonly page: number;
  readonly key: string | null;
}

/** Orders of a toy model's components; `expected` is the one that shows the known solution. */
export const TOY_ORDERS = ["expected", "identity", "dense", "index"] as const;
export type ToyOrder = (typeof TOY_ORDERS)[number];

export const TOY_SHOWS = ["importance", "activation"] as const;
export type ToyShow = (typeof TOY_SHOWS)[number];

/** A decomposed model of features. */
export interface ToyPage {
  readonly kind: "toy";
  readonly run: string;
  /** Address of the matrix whose answers are shown; `null`: the first with components. */
  readonly matrix: string | null;
  /** The component whose card is open. */
  readonly key: string | null;
  /** What a single feature is set to; `null`: the standard. */
  readonly value: number | null;
  readonly order: ToyOrder;
  readonly shows: ToyShow;
  /** Columns in which nothing acts, too. */
  readonly all: boolean;
  /** The input that is tried, `feature:value` separated by commas. */
  readonly input: string;
}

export interface View {
  readonly page: Page;
  readonly site: string | null;
  readonly q: string;
  readonly sort: Sort;
  readonly metric: Metric;
  readonly raw: boolean;
  readonly k: number;
  readonly subrun: string | null;
  readonly clustering: string | null;
  readonly merges: number | null;
  /** A cluster's number, `alone` or `unknown`. */
  readonly cluster: string | null;
  readonly trail: readonly string[];
  /** A prompt that is being typed; on a card: a text that it is tried on. */
  readonly text: string;
  /** The exact tokens of `text`, where it came from elsewhere than the keyboard. */
  readonly ids: readonly number[];
  readonly examples: ExampleKind;
  /** Only examples whose firing token has this id. */
  readonly token: number | null;
  /** Filters of the table: a token's text, and a range of the share of positions on which a component is alive. */
  readonly fires: string;
  readonly rare: number | null;
  readonly often: number | null;
  /** The least and the largest mean CI. */
  readonly weak: number | null;
  readonly strong: number | null;
  /** Words of its label, and whose label it is. */
  readonly label: string;
  readonly labelled: Labelled | null;
  /** What its strongest source and target are: a key, a site, a layer or a token, as the server reads it. */
  readonly source: string;
  readonly target: string;
  readonly graph: GraphView;
}

export const GRAPH: GraphView = {
  as: "canvas",
  cut: { kind: "strongest" },
  find: "",
  scope: "outputs",
  layers: [],
  tokens: [],
  selection: [],
  edge: null,
  viewport: null,
  panel: "node",
  compare: null,
  colour: "plain",
};

export const INITIAL: View = {
  page: { kind: "runs" },
  site: null,
  q: "",
  sort: "-mean_ci",
  metric: "attr",
  raw: false,
  k: 10,
  subrun: null,
  clustering: null,
  merges: null,
  cluster: null,
  trail: [],
  text: "",
  ids: [],
  examples: "random",
  token: null,
  fires: "",
  rare: null,
  often: null,
  weak: null,
  strong: null,
  label: "",
  labelled: null,
  source: "",
  target: "",
  graph: GRAPH,
};
