/**
 * A graph as it is looked at: what the address chooses of it, what of that is drawn, and what pointing and
 * choosing do. Made once by the page during its set-up; the components around the drawing take it whole.
 *
 * Three numberings meet here. The graph's own (`data`); that of the comparison, which begins with it
 * (`whole`); and that of what is drawn, where several nodes may be one (`drawn`). Selections are of `whole`.
 */

import type { GraphDetail } from "../api/promptTypes";
import { Resource, shown as shownOf } from "../api/resource.svelte";
import type { RunDetail } from "../api/types";
import { getBook } from "../clusters/clusters.svelte";
import { clusterColouring, rankedClusters } from "../clusters/colours";
import { foldedGraph } from "../clusters/groups";
import { type Colouring, nodesOf, standingFor } from "../graph/colouring";
import type { GraphData, GraphMetric } from "../graph/data";
import type { Shown } from "../graph/filters";
import { search } from "../graph/search";
import type { Box, Hit } from "../graph/types";
import { labels } from "../labels/store.svelte";
import { location } from "../location/location.svelte";
import { type GraphView, type Panel, look } from "../location/view";
import { type Subgraph, pinnedSubgraph } from "../workspace/subgraph";
import { Workspace } from "../workspace/workspace.svelte";
import { filterDrawn, fromDrawn, ofOneOnly, toDrawn } from "./drawn";
import { edgeName, findEdge } from "./facts";
import { withNodes } from "./influence";
import { OtherGraph } from "./otherGraph.svelte";
import { parseSelection, printSelection } from "./selection";

const NONE: ReadonlySet<number> = new Set();

interface Given {
  readonly detail: RunDetail;
  readonly graph: GraphDetail;
  readonly data: GraphData;
}

export class Bench {
  readonly #given: () => Given;
  readonly workspace = new Workspace(() => this.graph);
  readonly #other: OtherGraph;
  readonly #clusters: Resource<Awaited<ReturnType<typeof getBook>>>;

  /** Must be called where effects may be made. */
  constructor(given: () => Given) {
    this.#given = given;
    this.#other = new OtherGraph(() => ({ data: this.data, metric: this.metric, other: this.other }));
    this.#clusters = new Resource(() =>
      this.clustered ? getBook(this.detail.name, this.#clustering, this.#merges) : Promise.resolve(null),
    );
    $effect(() => {
      void this.drawn;
      this.hovered = null;
      this.lit = null;
    });
  }

  get detail(): RunDetail {
    return this.#given().detail;
  }

  get graph(): GraphDetail {
    return this.#given().graph;
  }

  get data(): GraphData {
    return this.#given().data;
  }

  // ---- what the address says ----------------------------------------------------------------------

  readonly held = $derived(location.view.graph);
  // One by one: what was not changed keeps its identity, and nothing is filtered anew when one only looks around.
  readonly #cut = $derived(this.held.cut);
  readonly #find = $derived(this.held.find);
  readonly scope = $derived(this.held.scope);
  readonly #layers = $derived(this.held.layers);
  readonly #tokens = $derived(this.held.tokens);
  readonly #chosen = $derived(this.held.selection);
  readonly #chosenEdge = $derived(this.held.edge);
  readonly other = $derived(this.held.compare);
  readonly #clustering = $derived(location.view.clustering);
  readonly #merges = $derived(location.view.merges);
  readonly metric: GraphMetric = $derived(location.view.metric === "attr_abs" ? "attr_abs" : "attr");

  go(change: Partial<GraphView>, merge: string | null = null): void {
    location.go(look(location.view, change), merge === null ? {} : { merge });
  }

  // ---- what is drawn ------------------------------------------------------------------------------

  /** What people call components. */
  readonly said = $derived(labels.of(this.detail.name));
  readonly difference = $derived(
    this.scope === "difference" && this.compared.kind === "ready" ? this.compared.comparison : null,
  );
  readonly whole: GraphData = $derived(this.difference?.data ?? this.data);
  readonly selection = $derived(parseSelection(this.whole, this.#chosen));
  readonly edge = $derived(this.difference === null ? findEdge(this.data, this.#chosenEdge) : null);
  readonly found = $derived(search(this.whole, this.#find, this.workspace.notes, this.said.texts));
  readonly clustered = $derived(this.detail.clusterings.length > 0);
  readonly subgraph: Subgraph | null = $derived.by(() => {
    const { data, scope, metric, book } = this;
    if (scope === "pins" || scope === "groups")
      return pinnedSubgraph(data, this.workspace.contents, scope === "groups", metric);
    return scope !== "clusters" || book === null ? null : foldedGraph(data, book, metric);
  });
  readonly drawn: GraphData = $derived(this.subgraph?.data ?? this.whole);

  readonly #filtered: Shown = $derived(
    filterDrawn(this.drawn, {
      metric: this.metric,
      cut: this.#cut,
      scope: this.scope,
      layers: this.#layers,
      tokens: this.#tokens,
      found: this.found,
      // Nothing else depends on it: choosing a node filters nothing anew.
      selection: this.scope === "near" ? this.selection : NONE,
    }),
  );
  readonly drawnSelection = $derived.by(() => {
    const { edge, data, selection } = this;
    const ends = edge === null ? [] : [data.source[edge] ?? 0, data.target[edge] ?? 0];
    return toDrawn(this.subgraph, [...selection, ...ends]);
  });
  /** Where only what is shown has a place, what is selected is given one. */
  readonly compact = $derived(this.subgraph !== null || this.scope === "outputs");
  readonly shown: Shown = $derived(
    this.compact ? withNodes(this.#filtered, this.drawnSelection) : this.#filtered,
  );
  readonly #byCluster = $derived(this.held.colour === "cluster");
  readonly #ranked = $derived(
    this.#byCluster && this.book !== null ? rankedClusters(this.data, this.book) : null,
  );
  readonly #wholeColouring = $derived(
    this.#ranked === null || this.book === null
      ? null
      : clusterColouring(this.whole, this.book, this.#ranked),
  );
  /** What the drawn nodes are told apart by; `null`: nothing. */
  readonly colouring: Colouring | null = $derived(
    this.#wholeColouring === null || this.subgraph === null
      ? this.#wholeColouring
      : standingFor(this.#wholeColouring, this.subgraph.members),
  );
  readonly pinned = $derived.by(() => {
    const nodes = [...this.workspace.pinned].map((key) => this.whole.find(key));
    return toDrawn(
      this.subgraph,
      nodes.filter((node) => node !== null),
    );
  });
  readonly matches = $derived.by(() => {
    const { difference, found } = this;
    if (found !== null) return toDrawn(this.subgraph, found);
    return difference === null ? null : ofOneOnly(difference);
  });

  /** The other graph, where one is compared. */
  get compared(): OtherGraph["state"] {
    return this.#other.state;
  }

  /** The clusters of the run; `null` where it has none, or until they are here. */
  get book(): Awaited<ReturnType<typeof getBook>> {
    return shownOf(this.#clusters.state);
  }

  get clustersFailed(): boolean {
    return this.#clusters.state.kind === "failed";
  }

  // ---- pointing and choosing ----------------------------------------------------------------------

  /** The node of a row that is pointed at in the panel. */
  lit: number | null = $state(null);
  readonly drawnLit = $derived(
    this.lit === null ? null : ([...toDrawn(this.subgraph, [this.lit])][0] ?? null),
  );
  /** What is pointed at in the drawing. */
  hovered: { readonly hit: Hit; readonly at: Box } | null = $state.raw(null);

  hover(hit: Hit | null, at: Box | null): void {
    this.hovered = hit === null || at === null ? null : { hit, at };
  }

  /** The panel now says what the tooltip said. */
  select(nodes: readonly number[], panel: Panel = this.held.panel): void {
    this.hovered = null;
    this.lit = null;
    this.go({ selection: printSelection(this.whole, nodes), edge: null, panel }, "selection");
  }

  /** The drawn nodes of one class that are shown; chosen once more, none. */
  selectClass(id: string): void {
    const { colouring, subgraph } = this;
    if (colouring === null) return;
    const drawn = nodesOf(colouring, id, this.shown.nodes);
    const again = this.isSelected(drawn);
    this.select(again ? [] : drawn.flatMap((node) => fromDrawn(subgraph, node)));
  }

  /** Whether these drawn nodes, and no others, are selected. */
  isSelected(drawn: readonly number[]): boolean {
    const { drawnSelection } = this;
    return (
      drawn.length > 0 &&
      drawn.length === drawnSelection.size &&
      drawn.every((node) => drawnSelection.has(node))
    );
  }

  choose(hit: Hit | null, add: boolean): void {
    const { held, selection } = this;
    if (hit === null) {
      if (held.selection.length > 0 || held.edge !== null) this.select([]);
      return;
    }
    if (hit.kind === "edge") {
      this.#chooseEdge(hit.edge);
      return;
    }
    const nodes = fromDrawn(this.subgraph, hit.node);
    if (!add) {
      this.select(nodes, held.panel === "none" ? "node" : held.panel);
      return;
    }
    const others = [...selection].filter((node) => !nodes.includes(node));
    const all = nodes.every((node) => selection.has(node));
    this.select(all ? others : [...others, ...nodes]);
  }

  /** An edge of a merged node is no edge of the graph, of differences neither: its ends are selected. */
  #chooseEdge(edge: number): void {
    const { drawn } = this;
    const name = edgeName(drawn, edge);
    if (this.difference !== null || findEdge(this.data, name) === null) {
      const [source, target] = [drawn.source[edge] ?? 0, drawn.target[edge] ?? 0];
      this.select([...fromDrawn(this.subgraph, source), ...fromDrawn(this.subgraph, target)]);
      return;
    }
    this.hovered = null;
    this.go({ selection: [], edge: name, panel: "node" }, "selection");
  }
}
