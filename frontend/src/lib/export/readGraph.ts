/** A file that somebody wants to bring in: is it a graph of this run? What else it must be, the server says. */

export type Read =
  | {
      readonly kind: "good";
      readonly document: Readonly<Record<string, unknown>>;
      readonly nodes: number;
      readonly edges: number;
    }
  | { readonly kind: "bad"; readonly why: string; readonly hint: string };

const HINT = "Choose a JSON file that was exported with “JSON” from a graph's Export menu.";

function bad(why: string, hint: string = HINT): Read {
  return { kind: "bad", why, hint };
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function lengthOf(columns: unknown, name: string): number | null {
  const column = isRecord(columns) ? columns[name] : undefined;
  return Array.isArray(column) ? column.length : null;
}

export function readGraph(text: string, run: string): Read {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    const where = error instanceof Error ? ` (${error.message})` : "";
    return bad(
      text.trim() === "" ? "The file is empty." : `The file is no JSON, or only a part of it${where}.`,
    );
  }
  if (!isRecord(value)) return bad("The file is JSON, but no graph.");
  if (value["format"] !== "tributary-graph")
    return bad(
      typeof value["format"] === "string"
        ? `The file says it is “${value["format"]}”, not a Tributary graph.`
        : "The file is JSON, but not a graph exported from Tributary.",
    );
  if (value["version"] !== 1)
    return bad(
      `The file has version ${String(value["version"])} of the format; this page reads version 1.`,
      "Export it again with this version of Tributary.",
    );
  if (value["run"] !== run)
    return bad(
      `The graph is of run “${String(value["run"])}”, not of “${run}”.`,
      "Open that run and bring it in there.",
    );
  const nodes = lengthOf(value["nodes"], "site");
  const edges = lengthOf(value["edges"], "source");
  if (nodes === null || edges === null) return bad("The file has no nodes or no edges.");
  return { kind: "good", document: value, nodes, edges };
}
