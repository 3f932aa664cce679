import { readFileSync } from "node:fs";

import type { Page } from "@playwright/test";

import { beyondLostServer, expect, expectAccessible, test } from "./support";

/** Suits any run: letters and spaces exist in every vocabulary. */
const TEXT = "the man who was in the house and";

/** Type a prompt and compute its graph with the usual settings; the page then shows the graph. */
async function compute(page: Page, url: string, run: string, text = TEXT): Promise<void> {
  await page.goto(`${url}/runs/${run}/prompts`);
  await page.getByRole("textbox", { name: /Type or paste some text/ }).fill(text);
  await expect(page.getByRole("list", { name: "Tokens" }).getByRole("button").first()).toBeVisible();
  await page.getByRole("button", { name: "Compute the graph" }).click();
  await expect(page).toHaveURL(/\/prompts\/\d+\/graphs\/\d+/);
  await expect(graph(page)).toBeVisible();
}

const graph = (page: Page) => page.getByRole("application", { name: /Prompt graph/ });
const panel = (page: Page) => page.getByRole("tabpanel");

/** Move over the drawing until a node answers. */
async function hoverNode(page: Page): Promise<{ x: number; y: number; key: string }> {
  const box = await graph(page).boundingBox();
  if (box === null) throw new Error("No drawing");
  const name = page.getByRole("tooltip").locator(".name .mono");
  for (let x = box.x + box.width - 20; x > box.x + 100; x -= 11) {
    for (let y = box.y + 80; y < box.y + box.height - 10; y += 23) {
      await page.mouse.move(x, y);
      if ((await page.getByRole("tooltip").getByText("In this prompt").count()) === 0) continue;
      return { x, y, key: (await name.textContent()) ?? "" };
    }
  }
  throw new Error("No node under the pointer anywhere");
}

test("from a sentence to a tested, exported circuit and back", async ({ page, server, found }) => {
  test.slow();
  await page.goto(`${server.url}/runs/${found.run}`);
  await page.getByRole("link", { name: "Prompts" }).click();
  await expect(page.getByRole("heading", { name: "A new prompt" })).toBeVisible();
  const field = page.getByRole("textbox", { name: /Type or paste some text/ });
  await expect(field).toBeFocused();
  await page.keyboard.type(TEXT);
  await expect(page).toHaveURL(/text=the%20man/);

  // What the model expects next; the second most probable token is found by its text.
  const rows = page.locator("table tbody tr");
  await expect(rows.first().locator(".probability .number")).toContainText("%");
  await expect(page.getByText(/About [\d,]+ nodes/)).toBeVisible();
  await rows.nth(0).getByRole("button", { name: /^Add / }).click();
  await rows
    .nth(1)
    .getByRole("button", { name: /^Subtract / })
    .click();
  const target = page.getByRole("listitem", { name: /^Target / });
  await expect(target).toHaveCount(1);
  const name = ((await target.getAttribute("aria-label")) ?? "").replace("Target ", "");
  expect(name).toContain(" − ");
  await page.getByRole("searchbox", { name: /Search tokens/ }).fill("e");
  await expect(page.getByText(/tokens that match/)).toBeVisible();

  await page.getByRole("button", { name: "Compute the graph" }).click();
  await expect(page).toHaveURL(/\/prompts\/\d+\/graphs\/\d+/);
  await expect(graph(page)).toBeVisible();
  await expect(page.locator("main .counts")).toContainText(/of [\d,]+\s+edges/);

  // Hover: values here, edges of this prompt, the card over the corpus; one request however long one looks.
  const batches: string[] = [];
  page.on("request", (request) => {
    if (request.url().endsWith("components:batch")) batches.push(request.url());
  });
  const tooltip = page.getByRole("tooltip");
  const node = await hoverNode(page);
  const early = await tooltip.boundingBox();
  await expect(tooltip.getByText("Gathering")).toHaveCount(0);
  await expect(tooltip).toContainText("Over the corpus");
  expect(await tooltip.boundingBox()).toEqual(early);
  expect(batches.length).toBeLessThanOrEqual(1);

  // Select, then pin, undo and redo by keyboard.
  await page.mouse.click(node.x, node.y);
  await expect(panel(page).getByRole("heading", { level: 2 })).toContainText(node.key);
  await expect(panel(page)).toContainText("over all stored edges");
  await expect(page).toHaveURL(/sel=/);
  await page.keyboard.press("p");
  const pinTab = page.getByRole("tab", { name: /^Pins/ });
  await expect(pinTab).toContainText("1");
  await page.keyboard.press("Control+z");
  await expect(pinTab).not.toContainText("1");
  await page.keyboard.press("Control+Shift+z");
  await expect(pinTab).toContainText("1");

  // The custom target is a node of its own and is found by its name.
  await page.keyboard.press("/");
  await expect(page.locator("#search")).toBeFocused();
  await page.keyboard.type("target:");
  await page.getByRole("button", { name: "Select 1", exact: true }).click();
  await expect(panel(page).getByRole("heading", { level: 2 })).toContainText(/^.*target:\d+:0/);
  await page.getByRole("button", { name: "Pin", exact: true }).click();
  await expect(pinTab).toContainText("2");

  // Intervene: keep what the search finds, in the default regimes.
  await page.locator("#search").fill("attn");
  await page.getByRole("button", { name: /^Select \d/ }).click();
  await page.getByRole("tab", { name: "Intervene" }).click();
  await panel(page).getByRole("button", { name: /^Run / }).click();
  await expect(panel(page).getByText(/Interventions on this graph/)).toBeVisible({ timeout: 60_000 });

  // Everything is in the address and on the server.
  await expect(page.getByText("Saved", { exact: true })).toBeVisible();
  const address = page.url();
  await page.reload();
  await expect(graph(page)).toBeVisible();
  expect(page.url()).toBe(address);
  await expect(pinTab).toContainText("2");
  await expect(panel(page).getByText(/Interventions on this graph/)).toBeVisible();

  // The pinned subgraph is a view of its own, and so is the table.
  await page.getByRole("group", { name: "Nodes" }).getByRole("button", { name: "pinned" }).click();
  await expect(page.locator("main .counts")).toContainText("of 2 nodes");
  await page.keyboard.press("t");
  await expect(page).toHaveURL(/as=table/);
  await page.keyboard.press("t");

  // Export, delete, import: pins and all.
  const exported = page.waitForEvent("download");
  await page.getByRole("button", { name: /^Export/ }).click();
  await page.getByRole("button", { name: /^JSON/ }).click();
  const file = await (await exported).path();
  expect(JSON.parse(readFileSync(file, "utf8"))).toMatchObject({ format: "tributary-graph", run: found.run });
  await page.goto(address.replace(/\/graphs.*/, ""));
  await page.getByRole("button", { name: "Delete this prompt" }).click();
  await page
    .getByRole("group", { name: /With its graph/ })
    .getByRole("button", { name: "Delete" })
    .click();
  await expect(page).toHaveURL(/\/prompts$/);
  await expect(page.getByRole("navigation", { name: "Saved prompts" })).not.toContainText(TEXT);
  await page.getByLabel("Graph file to import").setInputFiles({
    name: "graph.json",
    mimeType: "application/json",
    buffer: readFileSync(file),
  });
  await expect(graph(page)).toBeVisible();
  await expect(pinTab).toContainText("2");
  await page.getByRole("tab", { name: "About" }).click();
  await expect(panel(page)).toContainText("read from a file");
});

test("two graphs of a prompt are compared; names and settings are kept", async ({ page, server, found }) => {
  await compute(page, server.url, found.run, "the house of the man");
  const first = page.url();
  await page
    .getByRole("main")
    .getByRole("link", { name: /the house of the man/ })
    .click();
  await page
    .getByText(/^Explains the 5 likeliest/)
    .first()
    .click();
  await page.getByLabel("Least causal importance of a node").fill("0.2");
  await page.getByLabel("Least causal importance of a node").blur();
  await expect(page.getByText("components with CI above 0.2").first()).toBeVisible();
  await page.getByRole("button", { name: "Compute the graph" }).click();
  await expect(graph(page)).toBeVisible();
  expect(page.url()).not.toBe(first);
  await page
    .getByRole("main")
    .getByRole("link", { name: /the house of the man/ })
    .click();
  const graphs = page.getByRole("region", { name: /^Graphs/ });
  await graphs
    .getByRole("button", { name: /^Rename/ })
    .first()
    .click();
  await page.getByLabel("Name of the graph").fill("only the clear ones");
  await page.keyboard.press("Enter");
  await expect(graphs.getByRole("link", { name: "only the clear ones" })).toBeVisible();
  for (const box of await graphs.getByRole("checkbox").all()) await box.check();
  await graphs.getByRole("link", { name: "Compare the two" }).click();
  await expect(panel(page)).toContainText("nodes in both");
  await panel(page).getByRole("button", { name: "differences" }).click();
  await expect(page).toHaveURL(/only=difference/);
  await expect(page.locator("main .counts")).toContainText("edges that differ");
  await page.reload();
  await expect(page.locator("main .counts")).toContainText("edges that differ");
});

/** Start a computation that takes long enough to be watched: a long prompt, influence through the deltas. */
async function computeSlowly(page: Page, url: string, run: string): Promise<void> {
  await page.goto(`${url}/runs/${run}/prompts`);
  const long = "the man went to the house and he was ".repeat(8).trim();
  await page.getByRole("textbox", { name: /Type or paste some text/ }).fill(long);
  await page.getByText(/^Explains the 5 likeliest/).click();
  await page.getByLabel(/passed through/).check();
  await page.getByRole("button", { name: "Compute the graph" }).click();
  // Not only asked for: on its way, so many of so many.
  await expect(page.locator("progress[value]")).toBeVisible();
}

test("a computation is cancelled in the middle, also after a reload, and the next one works", async ({
  page,
  server,
  found,
}) => {
  await computeSlowly(page, server.url, found.run);
  await expect(page).toHaveURL(/\/prompts\/\d+$/);
  await page.reload();
  await expect(page.getByRole("progressbar")).toBeVisible();
  await page.getByRole("button", { name: "Cancel" }).click();
  await expect(page.getByText("Stopped. Nothing was kept of it.")).toBeVisible({ timeout: 5000 });
  const { jobs } = (await (await page.request.get(`${server.url}/api/jobs`)).json()) as {
    jobs: { state: string }[];
  };
  expect(jobs[0]?.state).toBe("cancelled");
  await compute(page, server.url, found.run, "the man");
});

test("the server is killed in the middle of a computation: the page says so, and it can be started again", async ({
  page,
  server,
  found,
  errors,
}) => {
  await computeSlowly(page, server.url, found.run);
  await server.kill();
  await expect(page.getByText("The server has not answered since")).toBeVisible();
  await server.start();
  await expect(page.getByText("The server was restarted while it computed this.").last()).toBeVisible({
    timeout: 60_000,
  });
  await page.getByRole("button", { name: "Dismiss" }).click();
  await page.getByLabel(/a node of its own/).check();
  await page.getByRole("button", { name: "Compute the graph" }).click();
  await expect(graph(page)).toBeVisible({ timeout: 60_000 });
  // The browser logs what was refused or not found meanwhile; the page itself fails on nothing.
  expect(errors.filter((text) => !/ERR_|404/.test(text))).toEqual([]);
  errors.length = 0;
});

test("what is too large is refused with the numbers and with what would fit", async ({
  page,
  server,
  found,
  errors,
}) => {
  await page.goto(`${server.url}/runs/${found.run}/prompts`);
  await page.getByRole("textbox", { name: /Type or paste some text/ }).fill("the man was ".repeat(2000));
  await expect(page.getByRole("alert")).toContainText(/tokens/);
  await expect(page.getByRole("alert")).toContainText(/Leave out/);
  expect(errors.filter((text) => !text.includes("413"))).toEqual([]);
  errors.length = 0;
});

test("the server is killed and comes back: nothing that was saved is lost", async ({
  page,
  server,
  found,
  errors,
}) => {
  await compute(page, server.url, found.run, "the water in the house");
  await graph(page).focus();
  await page.keyboard.press("ArrowUp");
  await page.keyboard.press("Enter");
  await expect(panel(page).getByRole("button", { name: "Pin", exact: true })).toBeVisible();
  await server.kill();
  await page.keyboard.press("p");
  await expect(page.getByText("The server has not answered since")).toBeVisible();
  await expect(graph(page)).toBeVisible();
  await server.start();
  await expect(page.getByText("The server has not answered since")).toBeHidden({ timeout: 60_000 });
  await expect(page.getByText("Saved", { exact: true })).toBeVisible({ timeout: 60_000 });
  await page.reload();
  await expect(page.getByRole("tab", { name: /^Pins/ })).toContainText("1");
  expect(beyondLostServer(errors)).toEqual([]);
  errors.length = 0;
});

test("without a pointer: type, compute, walk, select, pin, table", async ({ page, server, found }) => {
  await page.goto(`${server.url}/runs/${found.run}/prompts`);
  await page.keyboard.type("the man and");
  await expect(page.getByText(/About [\d,]+ nodes/)).toBeVisible();
  await page.keyboard.press("Control+Enter");
  await expect(graph(page)).toBeVisible();
  await graph(page).focus();
  await page.keyboard.press("ArrowUp");
  await expect(page.getByRole("tooltip")).toBeVisible();
  await page.keyboard.press("Enter");
  await expect(page).toHaveURL(/sel=/);
  await page.keyboard.press("p");
  await expect(page.getByRole("tab", { name: /^Pins/ })).toContainText("1");
  await page.keyboard.press("t");
  await expect(page.getByRole("grid").or(page.getByRole("table")).first()).toBeVisible();
  await page.keyboard.press("m");
  await expect(page).toHaveURL(/metric=attr_abs/);
});

for (const colorScheme of ["light", "dark"] as const) {
  for (const width of [1440, 800]) {
    test(`axe finds nothing on prompts and graphs: ${colorScheme}, ${width} pixels wide`, async ({
      page,
      server,
      found,
    }) => {
      await page.emulateMedia({ colorScheme, reducedMotion: "reduce" });
      await page.setViewportSize({ width, height: 900 });
      await page.goto(`${server.url}/runs/${found.run}/prompts`);
      await expect(page.getByRole("heading", { name: "A new prompt" })).toBeVisible();
      await expectAccessible(page, "a new prompt");
      await compute(page, server.url, found.run, "the man was");
      await expectAccessible(page, "a graph");
      await graph(page).focus();
      await page.keyboard.press("ArrowUp");
      await page.keyboard.press("Enter");
      await expect(panel(page)).toContainText("over all stored edges");
      await expectAccessible(page, "a selected node");
      for (const name of ["Pins", "Intervene", "Circuits", "Compare", "About"]) {
        await page.getByRole("tab", { name }).click();
        await expectAccessible(page, `the panel ${name}`);
      }
      const overflow = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
      expect(overflow).toBeLessThanOrEqual(0);
      await page.getByRole("button", { name: "table", exact: true }).click();
      await expectAccessible(page, "the table of a graph");
      await page.goto(page.url().replace(/\/graphs.*/, ""));
      await page
        .getByText(/^Explains the 5 likeliest/)
        .first()
        .click();
      await expect(page.locator("table tbody tr").first()).toBeVisible();
      await expectAccessible(page, "a saved prompt");
    });
  }
}
