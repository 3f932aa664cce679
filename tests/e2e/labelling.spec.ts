import { type Model, Server, expect, expectAccessible, startModel, test as base } from "./support";

/** A server that may ask a language model, which is a process of its own. */
const test = base.extend<object, { model: Model; server: Server }>({
  model: [
    // eslint-disable-next-line no-empty-pattern -- a fixture's dependencies are read from this pattern
    async ({}, use) => {
      const model = await startModel();
      await use(model);
      model.stop();
    },
    { scope: "worker", timeout: 120_000 },
  ],
  server: [
    async ({ model }, use) => {
      const server = await Server.create("evidence", {
        TRIBUTARY_LABEL_ENDPOINT: model.url,
        TRIBUTARY_LABEL_MODEL: "org/toy-1",
        TRIBUTARY_LABEL_PRICE_IN: "1",
        TRIBUTARY_LABEL_PRICE_OUT: "4",
        TRIBUTARY_LABEL_CAP: "2",
        TRIBUTARY_LABEL_CONCURRENCY: "1",
      });
      await server.start();
      await use(server);
      await server.remove();
    },
    { scope: "worker", timeout: 120_000 },
  ],
});

test("the owner has labels made: cost, cap, start, stop, on, failures; others only look", async ({
  page,
  browser,
  model,
  server,
  found,
}) => {
  const address = `${server.url}/runs/${found.run}/labels`;
  const secret = /#owner=(\S+)/.exec(server.said)?.[1] ?? "";
  expect(secret.length).toBeGreaterThan(30);

  // Somebody else: told how to get the right, and nothing to press.
  const visitor = await (await browser.newContext()).newPage();
  await visitor.goto(address);
  await expect(visitor.getByText("with the link that tributary serve printed in its terminal")).toBeVisible();
  await expect(visitor.getByRole("link", { name: "New labels" })).toHaveCount(0);
  await visitor.goto(`${address}?make=1#owner=guessed-${"x".repeat(30)}`);
  await expect(visitor.getByText("is of an earlier start of the server")).toBeVisible();

  await page.goto(`${address}#owner=${secret}`);
  await page.getByRole("link", { name: "New labels" }).click();
  expect(page.url()).not.toContain("owner");
  await page.getByLabel("How many components").fill("0");
  await page.getByRole("button", { name: "What would it cost?" }).click();
  await expect(page.getByRole("alert")).toContainText("from 1 to 50,000");
  await page.getByLabel("How many components").fill("6");
  await page.getByLabel("Percent of positions").fill("100");
  await page.getByLabel("Questions of each kind to score a label").fill("0");
  await page.getByRole("button", { name: "What would it cost?" }).click();
  await expect(page.getByText("6 at most, if none has to be asked twice")).toBeVisible();
  await expectAccessible(page, "what labels would cost");
  // Anything else would cost something else.
  await page.getByLabel("Name of the set").fill("mine");
  await expect(page.getByRole("button", { name: "Start labelling" })).toHaveCount(0);
  await page.getByRole("button", { name: "What would it cost?" }).click();
  await page.getByLabel("Spend at most").fill("3");
  await page.getByRole("button", { name: "Start labelling" }).click();
  await expect(page.getByRole("alert")).toContainText("up to 2");
  await page.getByLabel("Spend at most").fill("0.5");
  await model.quick(2);
  await page.getByRole("button", { name: "Start labelling" }).click();

  const bar = page.getByRole("region", { name: "Labelling" });
  await expect(bar).toContainText("mine: labels");
  await expect(bar).toContainText("of at most 0.5 spent");
  await expect(bar).toContainText("2/6");
  await expectAccessible(page, "labels under way");
  // Whoever looks sees it too, and cannot start another.
  await visitor.goto(address);
  await expect(visitor.getByRole("region", { name: "Labelling" })).toContainText("mine");
  const refused = await visitor.evaluate(async (run) => {
    const body = JSON.stringify({ go_on: 1, estimate: "x", cap: 1 });
    const headers = { "Content-Type": "application/json" };
    return (await fetch(`/api/runs/${run}/label-sets`, { method: "POST", headers, body })).status;
  }, found.run);
  expect(refused).toBe(403);
  await page.getByRole("button", { name: "Stop" }).click();
  await expect(bar).toContainText("Stopped.");
  await expect(page.getByText("2 of 6 labelled, interrupted.")).toBeVisible();

  await model.quick(1000);
  // Loaded again, the tab has its right still.
  await page.reload();
  await page.getByRole("link", { name: "Go on" }).click();
  await page.getByLabel("Questions of each kind to score a label").fill("0");
  await page.getByRole("button", { name: "What would it cost?" }).click();
  await page.getByRole("button", { name: "Start labelling" }).click();
  await expect(bar).toContainText("Finished.");
  await expect(page.getByText("5 of 6 labelled, 1 failed, finished.")).toBeVisible();
  await page.getByLabel("only what failed").check();
  await expect(page.getByText("refused with status 400: this one is too long for me")).toBeVisible();
  await expect(page.getByText("1–1 of 1")).toBeVisible();
  await visitor.context().close();
});

test("from a card and from the table to the form that labels just these", async ({ page, server, found }) => {
  const secret = /#owner=(\S+)/.exec(server.said)?.[1] ?? "";
  await page.goto(`${server.url}/runs/${found.run}/components/${found.key}#owner=${secret}`);
  await page.locator("main").getByRole("link", { name: "Ask a model" }).click();
  await expect(page.getByLabel("Keys of components")).toHaveValue(found.key);
  await page.goto(`${server.url}/runs/${found.run}/components?site=${found.site}`);
  await page.getByRole("button", { name: /^Labels/ }).click();
  await page.getByRole("button", { name: "Ask a model" }).click();
  const keys = (await page.getByLabel("Keys of components").inputValue()).split("\n");
  expect(keys).toContain(found.key);
  expect(new Set(keys.map((key) => key.split(":")[0]))).toEqual(new Set([found.site]));
});
