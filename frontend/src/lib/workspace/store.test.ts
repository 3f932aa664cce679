import { expect, it } from "vitest";

import { RequestFailed } from "../api/failure";
import type { GraphSummary, Workspace } from "../api/promptTypes";
import { type Requests, serverStore } from "./store";

const GRAPH = { id: 7, run: "demo", prompt_id: 3, created: "now" };

class Server {
  workspace: Workspace = { version: 4, pins: ["a"], groups: [], notes: [{ key: "a", text: "node" }] };
  note = "graph";
  calls: string[] = [];
  noteFails = false;

  requests: Requests = {
    getWorkspace: async () => this.workspace,
    saveWorkspace: async (_, workspace) => {
      this.calls.push(`save ${workspace.version}`);
      if (workspace.version !== this.workspace.version)
        throw new RequestFailed({ kind: "refused", status: 409, body: { code: "", message: "", hint: "" } });
      this.workspace = { ...workspace, version: workspace.version + 1 };
      return this.workspace;
    },
    getGraphs: async () => [{ id: 7, note: this.note } as GraphSummary],
    updateGraph: async (_, { note }) => {
      this.calls.push("note");
      if (this.noteFails) throw new RequestFailed({ kind: "offline" });
      this.note = note;
      return { id: 7, note } as GraphSummary;
    },
  };
}

it("the note on the graph is one of the notes", async () => {
  const server = new Server();
  const store = serverStore(GRAPH, server.requests);
  const stored = await store.load();
  expect(stored.notes).toEqual([
    { key: "a", text: "node" },
    { key: "", text: "graph" },
  ]);
  expect(await store.save(stored)).toEqual({ version: 5 });
  expect(server.calls).toEqual(["save 4"]);
  expect(server.workspace.notes).toEqual([{ key: "a", text: "node" }]);
  await store.save({ ...stored, version: 5, notes: [{ key: "", text: "changed" }] });
  expect([server.note, server.workspace.notes]).toEqual(["changed", []]);
});

it("a note that did not arrive is no conflict the next time", async () => {
  const server = new Server();
  const store = serverStore(GRAPH, server.requests);
  const stored = { ...(await store.load()), notes: [] };
  server.noteFails = true;
  await expect(store.save(stored)).rejects.toThrow(RequestFailed);
  server.noteFails = false;
  expect(await store.save(stored)).toEqual({ version: 6 });
  expect([server.note, server.calls]).toEqual(["", ["save 4", "note", "save 5", "note"]]);
});

it("a stale version does not touch the note", async () => {
  const server = new Server();
  const store = serverStore(GRAPH, server.requests);
  const stored = { ...(await store.load()), notes: [] };
  server.workspace = { ...server.workspace, version: 9 };
  await expect(store.save(stored)).rejects.toThrow(RequestFailed);
  expect(server.note).toBe("graph");
});
