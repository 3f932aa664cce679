/** Clusters on the page: the list and its slider, card, table and graph. On a toy run that has them. */

import { readFileSync } from "node:fs";

import { type Found, Server, card, test as base, expect, expectAccessible, settled } from "./support";

const test = base.extend<object, { server: Server; found: Found }>({
  server: [
    // eslint-disable-next-line no-empty-pattern -- a fixture's dependencies are read from this pattern
    async ({}, use) => {
      const server = await Server.create("clustered");
      await server.start();
      await use(server);
      await server.remove();
    },
    { scope: "worker", timeout: 120_000 },
  ],
});

interface Detail {
  readonly iteration: number;
  readonly clustering: { readonly subrun: string; readonly iterations: number };
  readonly clusters: readonly {
    readonly cluster: number;
    readonly size: number;
    readonly members: readonly string[];
  }[];
  readonly alone: readonly string[];
  readonly n_unknown: number;
}

async function ask<T>(server: Server, path: string, body?: unknown): Promise<T> {
  const options =
    body === undefined
      ? {}
      : { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
  return (await (await fetch(server.url + path, options)).json()) as T;
}

const clusters = (server: Server, found: Found, merges?: number): Promise<Detail> =>
  ask(server, `/api/runs/${found.run}/clusters/newest${merges === undefined ? "" : `?iteration=${merges}`}`);

/** After so many merges a toy run has clusters, components that are alone, and unknown ones. */
const EARLY = 140;

test("the list of clusters: members, the slider over the merges, the address, the file", async ({
  page,
  server,
  found,
}) => {
  const shown = await clusters(server, found);
  await page.goto(`${server.url}/runs/${found.run}`);
  await page.getByRole("link", { name: "Clusters", exact: true }).click();
  const rows = page.getByRole("grid", { name: "Clusters" }).getByRole("row");
  await expect(rows).toHaveCount(shown.clusters.length + 1);
  const slider = page.getByRole("slider", { name: "Merges" });
  await expect(slider).toHaveValue(String(shown.iteration));
  await expect(page.getByRole("button", { name: "Shortest description" })).toBeDisabled();
  await expectAccessible(page, "the clusters");

  const largest = shown.clusters[0];
  if (largest === undefined) throw new Error("The toy run has no cluster");
  await rows.nth(1).getByRole("link").click();
  await expect(page).toHaveURL(new RegExp(`cluster=${largest.cluster}$`));
  const members = page.getByRole("region", { name: "Members" });
  await expect(members.getByRole("heading", { level: 2 })).toHaveText(`Cluster ${largest.cluster}`);
  await expect(members.getByRole("listitem")).toHaveCount(largest.size);
  await expectAccessible(page, "the members of a cluster");

  // The keyboard moves the slider; numbers, list and address follow.
  await slider.focus();
  await slider.press("ArrowLeft");
  await expect(page).toHaveURL(new RegExp(`merges=${shown.iteration - 1}`));
  await expect(slider).toHaveAttribute("aria-valuetext", new RegExp(`^after ${shown.iteration - 1} of`));
  const before = await clusters(server, found, shown.iteration - 1);
  await expect(rows).toHaveCount(before.clusters.length + 1);
  await page.goBack();
  await expect(slider).toHaveValue(String(shown.iteration));
  await slider.fill("0");
  await expect(page.getByText("0 clusters of 0 components")).toBeVisible();
  await expect(members).toContainText("There is no cluster");
  await page.getByRole("button", { name: "Shortest description" }).click();
  await expect(rows).toHaveCount(shown.clusters.length + 1);
  expect(new URL(page.url()).searchParams.get("merges")).toBeNull();

  const [download] = await Promise.all([
    page.waitForEvent("download"),
    page.getByRole("link", { name: "Mapping" }).click(),
  ]);
  const path = test.info().outputPath("mapping.json");
  await download.saveAs(path);
  const mapping = JSON.parse(readFileSync(path, "utf8")) as {
    iteration: number;
    clusters: Record<string, number | null>;
  };
  expect(mapping.iteration).toBe(shown.iteration);
  expect(mapping.clusters[largest.members[0] ?? ""]).toBe(largest.cluster);
});

test("a card says its cluster, or that it is alone, or that nothing is known", async ({
  page,
  server,
  found,
}) => {
  const early = await clusters(server, found, EARLY);
  const [cluster] = early.clusters;
  const [alone] = early.alone;
  if (cluster === undefined || alone === undefined) throw new Error("The toy run should have both");
  const [key = "", other = ""] = cluster.members;
  await page.goto(`${server.url}${card(found, key)}?merges=${EARLY}`);
  await settled(page, key);
  const main = page.getByRole("main");
  const line = main.locator("p.line");
  await expect(line.getByRole("link", { name: String(cluster.cluster), exact: true })).toBeVisible();
  await expect(line).toContainText(`with ${cluster.size - 1} other`);
  await expectAccessible(page, "a card with its cluster");
  await line.getByRole("link", { name: other, exact: true }).click();
  await settled(page, other);

  await page.goto(`${server.url}${card(found, alone)}?merges=${EARLY}`);
  await settled(page, alone);
  await expect(line).toContainText(`alone looked at, and joined to no other after ${EARLY} merges`);

  const page0 = await ask<{ components: { key: string }[] }>(
    server,
    `/api/runs/${found.run}/components?cluster=unknown&limit=1`,
  );
  const unknown = page0.components[0]?.key ?? "";
  await page.goto(`${server.url}${card(found, unknown)}?merges=${EARLY}`);
  await settled(page, unknown);
  await expect(line).toContainText("unknown active fewer than 300 times at the 1,504 sampled positions");
});

test("the narrow table says the cluster too, and shows the columns that were chosen", async ({
  page,
  server,
  found,
}) => {
  await page.setViewportSize({ width: 1440, height: 900 });
  await page.goto(`${server.url}${card(found)}?merges=${EARLY}`);
  await settled(page, found.key);
  const grid = page.getByRole("grid", { name: "Components" });
  const head = (name: string) => grid.getByRole("columnheader", { name, exact: true });
  await expect(head("cluster")).toBeVisible();
  await expect(head("alive %")).toBeHidden();

  await page.getByText("Columns", { exact: true }).click();
  await page.getByRole("checkbox", { name: "alive %" }).check();
  await page.getByRole("checkbox", { name: "activation" }).check();
  await page.keyboard.press("Escape");
  await expect(page.getByRole("checkbox", { name: "alive %" })).toBeHidden();
  await page.reload();
  for (const name of ["alive %", "activation", "cluster"]) await expect(head(name)).toBeAttached();
  // They need more room than there is: the last of them is reached by scrolling.
  const last = grid.getByRole("columnheader").last();
  await last.scrollIntoViewIfNeeded();
  await expect(last).toBeInViewport({ ratio: 0.9 });
  await page.getByText("Columns", { exact: true }).click();
  await page.getByRole("button", { name: "As many as fit" }).click();
  await expect(head("alive %")).toBeHidden();
});

test("the table is filtered by cluster, and its rows say theirs", async ({ page, server, found }) => {
  const early = await clusters(server, found, EARLY);
  const cluster = early.clusters.at(-1);
  if (cluster === undefined) throw new Error("The toy run has no cluster");
  await page.setViewportSize({ width: 1000, height: 800 });
  await page.goto(`${server.url}/runs/${found.run}/components?merges=${EARLY}&sort=key`);
  await page.getByRole("button", { name: "Filter" }).click();
  const choice = page.getByRole("combobox", { name: "cluster" });
  const status = page.getByRole("status").filter({ hasText: "component" });
  await choice.selectOption(String(cluster.cluster));
  await expect(status).toContainText(`${cluster.size} components in cluster ${cluster.cluster}`);
  const rows = page.getByRole("grid", { name: "Components" }).getByRole("row");
  await expect(rows).toHaveCount(cluster.size + 1);
  for (const [n, key] of cluster.members.entries()) {
    await expect(rows.nth(n + 1)).toContainText(key);
    await expect(
      rows.nth(n + 1).getByRole("link", { name: String(cluster.cluster), exact: true }),
    ).toBeVisible();
  }
  await expectAccessible(page, "the table of a cluster");
  await choice.selectOption("alone");
  await expect(status).toContainText(`${early.alone.length} components, alone`);
  await choice.selectOption("unknown");
  await expect(status).toContainText(`${early.n_unknown} components, unknown`);
  await expect(rows.nth(1)).toContainText("unknown");
  await page.reload();
  await page.getByRole("button", { name: "Filter" }).click();
  await expect(choice).toHaveValue("unknown");
  await choice.selectOption("");
  await expect(status).toContainText(`${found.components} components`);
});

/** A graph of a short prompt; its address. */
async function makeGraph(server: Server, found: Found): Promise<string> {
  type Job = { id: string; state: string; result: { graph_id: number } | null };
  let job = await ask<Job>(server, `/api/runs/${found.run}/graphs`, {
    text: "the quick brown fox jumps",
    settings: {},
  });
  for (let n = 0; n < 300 && (job.state === "queued" || job.state === "running"); n += 1) {
    await new Promise((done) => setTimeout(done, 100));
    job = await ask(server, `/api/jobs/${job.id}`);
  }
  const id = job.result?.graph_id ?? 0;
  const graph = await ask<{ prompt_id: number }>(server, `/api/graphs/${id}`);
  return `${server.url}/runs/${found.run}/prompts/${graph.prompt_id}/graphs/${id}`;
}

test("a graph is folded by cluster, and groups of clusters are made and undone", async ({
  page,
  server,
  found,
}) => {
  const address = await makeGraph(server, found);
  await page.goto(`${address}?only=all&panel=pins`);
  const counts = page.locator("p.counts");
  const nodes = async (): Promise<number> =>
    Number(/of ([\d,]+) nodes/.exec((await counts.textContent()) ?? "")?.[1]?.replaceAll(",", ""));
  await expect(counts).toContainText("nodes");
  const whole = await nodes();
  await page.getByRole("button", { name: "clusters", exact: true }).click();
  await expect(counts).toContainText("stand for several components of a cluster");
  await expect(page).toHaveURL(/only=clusters/);
  expect(await nodes()).toBeLessThan(whole);
  await expectAccessible(page, "a graph folded by cluster");

  await page.getByRole("button", { name: "Group the whole graph by cluster" }).click();
  const names = page.getByRole("textbox", { name: "Name of the group" });
  await expect(names.first()).toHaveValue(/^Cluster \d+ at \d+$/);
  const made = await names.count();
  await page.getByRole("button", { name: `Undo: make ${made} groups of clusters` }).click();
  await expect(names).toHaveCount(0);
  await page.getByRole("button", { name: `Redo: make ${made} groups of clusters` }).click();
  await expect(page.locator(".undo .state")).toHaveText("Saved");
  await page.reload();
  await expect(names).toHaveCount(made);
});

test("nodes are coloured by cluster: legend, table, address, export", async ({ page, server, found }) => {
  const address = await makeGraph(server, found);
  const early = await clusters(server, found, EARLY);
  await page.goto(`${address}?only=all&merges=${EARLY}`);
  const legend = page.getByRole("group", { name: "Nodes by cluster" });
  await expect(page.locator("p.counts")).toContainText("nodes");
  await expect(legend).toHaveCount(0);
  await page.getByRole("button", { name: "by cluster", exact: true }).click();
  await expect(page).toHaveURL(/colour=cluster/);
  const entries = legend.getByRole("button");
  await expect(entries.filter({ hasText: /^alone/ })).toHaveCount(1);
  await expect(entries.filter({ hasText: /^unknown/ })).toHaveCount(1);
  await expectAccessible(page, "a graph coloured by cluster");

  // Those with the most nodes come first, and a click selects exactly them.
  const [first] = await entries.allTextContents();
  const [, number, size] = /^cluster (\d+)\s*· (\d+)$/.exec(first?.trim() ?? "") ?? [];
  await entries.first().click();
  await expect(page.getByRole("heading", { level: 2 })).toHaveText(`${size} nodes selected`);
  await expect(entries.first()).toHaveAttribute("aria-pressed", "true");
  const members = early.clusters.find(({ cluster }) => cluster === Number(number))?.members ?? [];
  const selected = page.getByRole("tabpanel").locator("button[data-key]");
  const keys = await selected.evaluateAll((rows) => rows.map((row) => row.getAttribute("data-key") ?? ""));
  // The panel lists as many.
  expect(keys).toHaveLength(Math.min(200, Number(size)));
  expect(keys.every((key) => members.includes(key))).toBe(true);
  await entries.first().click();
  await expect(page.getByRole("heading", { level: 2 })).toHaveText("Nothing selected");

  await page.getByRole("button", { name: "Export" }).click();
  const [download] = await Promise.all([
    page.waitForEvent("download"),
    page.getByRole("button", { name: /^SVG / }).click(),
  ]);
  const svg = readFileSync(await download.path(), "utf8");
  // Long captions are broken into lines.
  const said = [...svg.matchAll(/<text[^>]*>([^<]*)</g)].map(([, text]) => text).join(" ");
  expect(said).toContain(`cluster ${number}: ${size}`);
  expect(said).toContain(`nodes by cluster (${early.clustering.subrun} after ${EARLY} merges)`);
  await page.keyboard.press("Escape");

  await page.getByRole("button", { name: "table", exact: true }).click();
  await page.getByRole("button", { name: /^Nodes \d/ }).click();
  await page.getByRole("button", { name: "cluster", exact: true }).click();
  const cells = page.getByRole("grid").getByRole("row").nth(1).getByRole("gridcell");
  await expect(cells.nth(1)).toHaveText(number ?? "");
  await expectAccessible(page, "the table of nodes with their clusters");
  await page.reload();
  await expect(entries.first()).toContainText(`cluster ${number}`);
});

test("small cards say the cluster, and ask for nothing more from one component to the next", async ({
  page,
  server,
  found,
}) => {
  const early = await clusters(server, found, EARLY);
  const [cluster] = early.clusters;
  const [alone] = early.alone;
  if (cluster === undefined || alone === undefined) throw new Error("The toy run should have both");
  const asked: string[] = [];
  page.on("request", (request) => {
    if (request.url().includes("/clusters")) asked.push(request.url());
  });
  const small = page.getByRole("tooltip");
  /** Point at the row of a component; `said` is what its small card has to say. */
  async function point(key: string, said: string): Promise<void> {
    await page.getByRole("searchbox", { name: "Search by key, label or token" }).fill(key);
    await page.getByRole("grid").getByRole("link", { name: key, exact: true }).hover();
    await expect(small).toContainText(said);
    await page.mouse.move(0, 0);
    await expect(small).toHaveCount(0);
  }
  await page.goto(`${server.url}/runs/${found.run}/components?merges=${EARLY}`);
  await point(cluster.members[0] ?? "", `cluster ${cluster.cluster}, ${cluster.size} components`);
  const before = asked.length;
  await point(cluster.members[1] ?? "", `cluster ${cluster.cluster}, ${cluster.size} components`);
  await point(alone, "cluster: alone");
  expect(asked).toHaveLength(before);
});
