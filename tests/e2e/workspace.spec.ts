import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

import type { Browser, Page } from "@playwright/test";

import { type Server, expect, expectAccessible, test } from "./support";

const TEXT = "And the king said to his servants";

interface Made {
  readonly id: number;
  readonly prompt: number;
  /** Keys of the strongest edge. */
  readonly edge: readonly [string, string];
}

/** A graph that no other test has touched. */
async function makeGraph(server: Server, run: string, text: string): Promise<Made> {
  const ask = async (path: string, body?: unknown): Promise<never> => {
    const options =
      body === undefined
        ? {}
        : { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
    return (await (await fetch(server.url + path, options)).json()) as never;
  };
  type Job = { id: string; state: string; result: { graph_id: number } | null };
  let job: Job = await ask(`/api/runs/${run}/graphs`, { text, settings: {} });
  for (let n = 0; n < 300 && (job.state === "queued" || job.state === "running"); n += 1) {
    await new Promise((done) => setTimeout(done, 100));
    job = await ask(`/api/jobs/${job.id}`);
  }
  const id = job.result?.graph_id ?? 0;
  const graph: {
    prompt_id: number;
    addresses: string[];
    nodes: { site: number[]; position: number[]; index: number[] };
  } = await ask(`/api/graphs/${id}`);
  const edges = await (await fetch(`${server.url}/api/graphs/${id}/edges?top=1&metric=attr`)).arrayBuffer();
  const [source = 0, target = 0] = new Uint32Array(edges, 24, 2);
  const key = (node: number): string => {
    const index = graph.nodes.index[node] ?? 0;
    const last = index === -1 ? "delta" : index === -2 ? "bias" : String(index);
    return `${graph.addresses[graph.nodes.site[node] ?? 0]}:${graph.nodes.position[node]}:${last}`;
  };
  return { id, prompt: graph.prompt_id, edge: [key(source), key(target)] };
}

function address(server: Server, run: string, made: Made, query: string): string {
  return `${server.url}/runs/${run}/prompts/${made.prompt}/graphs/${made.id}?${query}`;
}

const saved = (page: Page): Promise<void> => expect(page.locator(".undo .state")).toHaveText("Saved");

async function otherWindow(browser: Browser, url: string): Promise<Page> {
  const page = await (await browser.newContext()).newPage();
  await page.goto(url);
  return page;
}

test("two windows change the same pins: nothing is lost, whatever is chosen", async ({
  page,
  browser,
  server,
  found,
  errors,
}) => {
  const made = await makeGraph(server, found.run, `${TEXT}, one`);
  await page.goto(address(server, found.run, made, "panel=pins&sel=0-2"));
  const other = await otherWindow(browser, address(server, found.run, made, "panel=pins&sel=5-6"));
  await other.getByRole("button", { name: "Pin 2 nodes" }).click();
  await saved(other);
  await page.getByRole("button", { name: "Pin 3 nodes" }).click();
  const question = page.getByRole("alert").filter({ hasText: "changed in another window" });
  await expect(question).toContainText("Theirs: 2 pins");
  await expectAccessible(page, "two versions");
  await question.getByRole("button", { name: "Join both" }).click();
  await saved(page);
  const pins = page.getByRole("heading", { name: /^Pins/, level: 3 });
  await expect(pins).toHaveText("Pins 5");
  await page.keyboard.press("Control+z");
  await expect(pins).toHaveText("Pins 3");
  await page.keyboard.press("Control+Shift+z");
  await expect(pins).toHaveText("Pins 5");
  await saved(page);

  await other.getByRole("button", { name: "Unpin all" }).click();
  await other.getByRole("button", { name: "Take theirs" }).click();
  await expect(other.getByRole("heading", { name: /^Pins/, level: 3 })).toHaveText("Pins 5");
  await other.context().close();
  // The browser logs every answer that is a refusal; these are the ones that are looked for.
  expect(errors.splice(0).every((error) => error.includes("409"))).toBe(true);
});

test("groups are named, folded into one node, undone; notes are kept while they are typed", async ({
  page,
  server,
  found,
}) => {
  const made = await makeGraph(server, found.run, `${TEXT}, two`);
  await page.goto(address(server, found.run, made, "panel=pins&sel=0-3"));
  await page.getByRole("button", { name: "Group 4 nodes" }).click();
  const name = page.getByRole("textbox", { name: "Name of the group" });
  await name.fill("The first words");
  await name.press("Enter");
  await page.getByRole("textbox", { name: "Note on this graph" }).fill("Typed, and never lost");
  await saved(page);
  await page.reload();
  await expect(name).toHaveValue("The first words");
  await expect(page.getByRole("textbox", { name: "Note on this graph" })).toHaveValue(
    "Typed, and never lost",
  );
  await page.getByRole("button", { name: "Delete The first words" }).click();
  await expect(name).toHaveCount(0);
  await page.getByRole("button", { name: "Undo: delete group “The first words”" }).click();
  await expect(name).toHaveValue("The first words");
  await saved(page);
  await page.goto(address(server, found.run, made, "only=groups&as=table"));
  await expect(page.getByText("of 1 nodes")).toBeVisible();
});

test("an edge is checked: what it predicts is what happens", async ({ page, server, found }) => {
  const made = await makeGraph(server, found.run, TEXT);
  await page.goto(address(server, found.run, made, `panel=node&edge=${made.edge.join("~")}`));
  await page.getByRole("button", { name: "Check this edge" }).click();
  await expect(page.getByText(/They agree to/)).toBeVisible();
  await expect(page.getByRole("row", { name: /predicted by the edge/ })).toBeVisible();
  await expect(page.getByRole("row", { name: /total, everything may follow/ })).toBeVisible();
  await expectAccessible(page, "a checked edge");
});

test("every export is a file; the page opens offline without a request", async ({
  page,
  browser,
  server,
  found,
}) => {
  const made = await makeGraph(server, found.run, TEXT);
  await page.goto(address(server, found.run, made, "panel=node"));
  await page.getByRole("button", { name: "Export" }).click();
  await expectAccessible(page, "the list of files");
  const files: Record<string, Buffer> = {};
  let offline = "";
  for (const kind of ["JSON", "CSV", "Parquet", "PNG", "SVG", "HTML"]) {
    const [download] = await Promise.all([
      page.waitForEvent("download"),
      page.getByRole("button", { name: new RegExp(`^${kind} `) }).click(),
    ]);
    const path = test.info().outputPath(download.suggestedFilename());
    await download.saveAs(path);
    files[kind] = readFileSync(path);
    if (kind === "HTML") offline = path;
    await expect(page.getByText(`${download.suggestedFilename()} is in your downloads.`)).toBeVisible();
  }
  const text = (kind: string): string => files[kind]?.toString("utf8") ?? "";
  expect(JSON.parse(text("JSON"))).toMatchObject({ format: "tributary-graph", run: found.run });
  const { edges } = JSON.parse(text("JSON")) as { edges: { source: number[] } };
  expect(text("CSV").trim().split("\n")).toHaveLength(edges.source.length + 1);
  expect(files["Parquet"]?.subarray(0, 4).toString()).toBe("PAR1");
  expect(files["Parquet"]?.subarray(-4).toString()).toBe("PAR1");
  expect(files["PNG"]?.subarray(1, 4).toString()).toBe("PNG");
  expect(text("SVG")).toContain("<svg");

  const context = await browser.newContext({ offline: true, colorScheme: "dark" });
  const alone = await context.newPage();
  const requests: string[] = [];
  const errors: string[] = [];
  alone.on("request", (request) => requests.push(request.url()));
  alone.on("console", (message) => errors.push(message.text()));
  alone.on("pageerror", (error) => errors.push(error.message));
  const url = pathToFileURL(offline).href;
  await alone.goto(url);
  const drawing = alone.getByRole("img");
  await expect(drawing).toHaveAttribute("data-drawn", /^[1-9]/);
  await drawing.focus();
  await alone.keyboard.press("n");
  await expect(alone.getByRole("complementary")).toContainText("embed:0:");
  const before = await drawing.screenshot();
  await alone.keyboard.press("+");
  await alone.keyboard.press("ArrowRight");
  await expect.poll(async () => before.equals(await drawing.screenshot())).toBe(false);
  await alone.getByText(/strongest of .* edges as a table/).click();
  await expect(alone.getByRole("table")).toBeVisible();
  await expectAccessible(alone, "the page that opens offline");
  expect([requests, errors]).toEqual([[url], []]);
  await context.close();
});

test("circuits are searched with live curves, found again after a reload, stopped, and opened", async ({
  page,
  server,
  found,
}) => {
  const made = await makeGraph(server, found.run, TEXT);
  const here = address(server, found.run, made, "panel=circuits");
  await page.goto(here);
  await page.getByRole("textbox", { name: /Coefficients/ }).fill("0.1, many");
  await expect(page.getByText("“many” is no coefficient")).toBeVisible();
  await page.getByRole("textbox", { name: /Coefficients/ }).fill("0.1, 1");
  await page.getByText(/300 steps, learning rate/).click();
  const steps = page.getByRole("spinbutton", { name: "steps", exact: true });
  await steps.fill("50000");
  await page.getByRole("button", { name: "Search 2 circuits" }).click();
  await expect(page.getByRole("img", { name: /nodes alive after [1-9]/ })).toBeVisible();
  await page.reload();
  await expect(page.getByRole("img", { name: /nodes alive after [1-9]\d* of 50000 steps/ })).toBeVisible();
  await expectAccessible(page, "a search that goes on");
  await page.getByRole("button", { name: "Cancel" }).click();
  await expect(page.getByText("Stopped.")).toBeVisible();

  await page.getByRole("textbox", { name: /Coefficients/ }).fill("0.1, 1");
  await page.getByText(/300 steps, learning rate/).click();
  await steps.fill("20");
  await page.getByRole("button", { name: "Search 2 circuits" }).click();
  await page.getByRole("button", { name: "Open the circuit of coefficient 1 as a graph" }).click();
  await expect(page).not.toHaveURL(new RegExp(`/graphs/${made.id}(\\?|$)`));
  await expect(page.getByRole("heading", { level: 1 })).toContainText("coefficient 1");
});
