/** The graph that the one on screen is compared with, read and compared whenever either of them changes. */

import { RequestFailed } from "../api/failure";
import type { GraphData, GraphMetric } from "../graph/data";
import { type Compared, compare } from "./compare";
import { loadGraph } from "./load";

interface Asked {
  readonly data: GraphData;
  readonly metric: GraphMetric;
  /** Its number; `null`: nothing is compared. */
  readonly other: number | null;
}

export class OtherGraph {
  state: Compared = $state.raw({ kind: "none" });

  /** Must be called where effects may be made. */
  constructor(asked: () => Asked) {
    $effect(() => {
      const { data, metric, other } = asked();
      if (other === null) {
        this.state = { kind: "none" };
        return;
      }
      this.state = { kind: "loading" };
      let current = true;
      loadGraph(other).then(
        (loaded) => {
          if (!current) return;
          this.state = { kind: "ready", other: loaded.graph, comparison: compare(data, loaded.data, metric) };
        },
        (error: unknown) => {
          if (!current) return;
          if (!(error instanceof RequestFailed)) throw error;
          this.state = { kind: "failed", failure: error.failure };
        },
      );
      return () => {
        current = false;
      };
    });
  }
}
