/** A graph's workspace on the server. The note on the graph itself is kept with the graph there. */

import { getGraphs, getWorkspace, saveWorkspace, updateGraph } from "../api/prompts";
import type { GraphSummary, Workspace } from "../api/promptTypes";
import { GRAPH_NOTE, noteOf } from "./model";
import type { Store, Stored } from "./session";

/** Which graph; what its detail and its summary both have. */
export interface GraphRef {
  readonly id: number;
  readonly run: string;
  readonly prompt_id: number;
  readonly created: string;
}

export interface Requests {
  readonly getWorkspace: (graph: number) => Promise<Workspace>;
  readonly saveWorkspace: (graph: number, workspace: Workspace) => Promise<Workspace>;
  readonly getGraphs: (run: string, prompt: number) => Promise<readonly GraphSummary[]>;
  readonly updateGraph: (graph: number, change: { readonly note: string }) => Promise<GraphSummary>;
}

export function serverStore(
  graph: GraphRef,
  requests: Requests = { getWorkspace, saveWorkspace, getGraphs, updateGraph },
): Store {
  let note = "";
  /** The workspace was saved and the note was not: the version moved on, and who asks does not know it yet. */
  let ahead: { readonly from: number; readonly to: number } | null = null;

  async function load(): Promise<Stored> {
    const [{ version, pins, groups, notes }, graphs] = await Promise.all([
      requests.getWorkspace(graph.id),
      requests.getGraphs(graph.run, graph.prompt_id),
    ]);
    note = graphs.find((one) => one.id === graph.id)?.note ?? "";
    ahead = null;
    return {
      version,
      pins,
      groups,
      notes: note === "" ? notes : [...notes, { key: GRAPH_NOTE, text: note }],
    };
  }

  async function save({ version, pins, groups, notes }: Stored): Promise<{ readonly version: number }> {
    // The version guards the note too: it is written only after the workspace was accepted.
    const saved = await requests.saveWorkspace(graph.id, {
      version: ahead?.from === version ? ahead.to : version,
      pins,
      groups,
      notes: notes.filter((one) => one.key !== GRAPH_NOTE),
    });
    ahead = { from: version, to: saved.version };
    const text = noteOf({ pins, groups, notes }, GRAPH_NOTE);
    if (text !== note) {
      await requests.updateGraph(graph.id, { note: text });
      note = text;
    }
    ahead = null;
    return { version: saved.version };
  }

  return { load, save };
}
