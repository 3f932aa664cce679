import { readFileSync } from "node:fs";

import { card, expect, rowOf, settled, test } from "./support";

test("the bare address leads to the run, the run to its components", async ({ page, server, found }) => {
  await page.goto(server.url);
  await expect(page).toHaveURL(new RegExp(`/runs/${found.run}$`));
  await expect(page.getByRole("heading", { name: "How good the decomposition is" })).toBeVisible();
  await expect(page.getByText("Provenance")).toBeVisible();
  const grid = page.getByRole("grid", { name: "Components" });
  await expect(grid).toHaveAttribute("aria-rowcount", String(found.components + 1));
  // Of the whole list only what is in sight exists.
  expect(await grid.getByRole("row").count()).toBeLessThan(80);
});

test("find a component, toggle the metric, follow three links, go Back through all of it", async ({
  page,
  server,
  found,
}) => {
  await page.goto(`${server.url}/runs/${found.run}`);
  await page.getByRole("searchbox", { name: "Search by key, label or token" }).fill(found.key);
  await expect(page).toHaveURL(/[?&]q=/);
  await page.getByRole("grid").getByRole("link", { name: found.key, exact: true }).click();
  await settled(page, found.key);
  await expect(page.getByRole("heading", { name: "positive sources" })).toBeVisible();
  await expect(page.getByRole("heading", { name: "negative targets" })).toBeVisible();

  const metric = page.getByRole("group", { name: "Metric" });
  await metric.getByRole("button", { name: "attr_abs" }).click();
  await expect(page).toHaveURL(/metric=attr_abs/);
  await settled(page, found.key);
  await expect(page.locator("main .units")).toContainText("magnitude");
  await page.getByRole("group", { name: "Unit" }).getByRole("button", { name: "raw" }).click();
  await expect(page).toHaveURL(/raw=1/);
  await page.goBack();
  await page.goBack();
  await expect(metric.getByRole("button", { name: "attr", exact: true })).toHaveAttribute(
    "aria-pressed",
    "true",
  );
  await settled(page, found.key);

  const walked = [found.key];
  for (let step = 0; step < 3; step += 1) {
    const side = step === 1 ? "targets" : "sources";
    const links = page.locator(`a.row[data-side="${side}"]`);
    const keys = await links.evaluateAll((all) => all.map((one) => one.getAttribute("data-key") ?? ""));
    // Walk on components: they have sources and targets both.
    const next = keys.findIndex((key) => /^\d+\..*:\d+$/.test(key) && !walked.includes(key));
    const key = keys[next] ?? keys[0] ?? "";
    await links.nth(Math.max(0, next)).click();
    await settled(page, key);
    walked.push(key);
  }
  const trail = page.getByRole("navigation", { name: "Trail" });
  await expect(trail.getByRole("link")).toHaveCount(3);
  await expect(trail.getByRole("link").first()).toHaveText(found.key);

  // A deep link holds all of it.
  const address = page.url();
  await page.reload();
  await settled(page, walked[3] ?? "");
  expect(page.url()).toBe(address);
  await expect(trail.getByRole("link")).toHaveCount(3);

  for (const key of walked.slice(0, -1).reverse()) {
    await page.goBack();
    await settled(page, key);
  }
  await page.goForward();
  await settled(page, walked[1] ?? "");
  await trail.getByRole("link", { name: found.key }).click();
  await settled(page, found.key);
  await expect(trail.getByRole("link")).toHaveCount(0);
});

test("a band is a link as well, and the picture says what it leaves out", async ({ page, server, found }) => {
  await page.goto(`${server.url}${card(found)}?k=5`);
  await settled(page, found.key);
  const band = page.locator(".bands a").first();
  const key = (await band.getAttribute("data-key")) ?? "";
  await expect(page.locator("h2 .of").first()).toContainText(/^5 of \d/);
  await expect(page.locator("p.rest").first()).toContainText(/more, .*%/);
  await band.click({ force: true });
  await settled(page, key);
});

test("sites filter the table; embeddings and outputs have cards", async ({ page, server, found }) => {
  await page.goto(`${server.url}/runs/${found.run}`);
  const sites = page.getByRole("navigation", { name: "Sites" });
  await sites.getByRole("button", { name: `${found.site}:` }).click();
  await expect(page).toHaveURL(new RegExp(`site=${found.site}`));
  await expect(rowOf(page)).toContainText(found.site);
  for (const [address, absent, present] of [
    ["embed", "sources", "positive targets"],
    ["output", "targets", "positive sources"],
  ] as const) {
    await sites.getByRole("button", { name: address }).click();
    const row = rowOf(page);
    const key = (await row.getByRole("link").getAttribute("data-key")) ?? "";
    await row.getByRole("link").click();
    await settled(page, key);
    await expect(page.getByRole("heading", { name: present })).toBeVisible();
    await expect(page.getByRole("heading", { name: absent, exact: true })).toBeVisible();
    await expect(page.locator("a.row").first()).toBeVisible();
  }
});

test("a list that there is not says why", async ({ page, server, found }) => {
  const path = `${server.url}/api/runs/${found.run}/components/output:1?metric=attr_abs`;
  const answer = (await (await page.request.get(path)).json()) as Record<string, { reason?: string }>;
  const reasons = Object.values(answer).flatMap((list) => (list?.reason === undefined ? [] : [list.reason]));
  expect(reasons.length).toBeGreaterThan(0);
  await page.goto(`${server.url}${card(found, "output:1")}?metric=attr_abs`);
  for (const reason of reasons) await expect(page.locator("main .reason").getByText(reason)).toBeVisible();
});

test("a delta has a card", async ({ page, server, found }) => {
  await page.goto(`${server.url}${card(found, `${found.site}:delta`)}`);
  await expect(page.getByRole("heading", { level: 1 })).toContainText(`${found.site}:delta`);
  await expect(page.locator("main .reason, main a.row").first()).toBeVisible();
});

test("unknown runs, keys and addresses are said to be so", async ({ page, server, found, errors }) => {
  await page.goto(`${server.url}${card(found, `${found.site}:99999`)}`);
  await expect(page.getByRole("alert")).toContainText(/99999/);
  await page.goto(`${server.url}/runs/no-such-run`);
  await expect(page.getByRole("alert")).toContainText(/no-such-run/);
  await page.goto(`${server.url}/nowhere/at/all`);
  await expect(page.getByRole("heading", { name: "Nothing lies at this address" })).toBeVisible();
  await page.goto(`${server.url}/runs/${found.run}?q=zzzzzzzz`);
  await expect(page.getByRole("heading", { name: "No component matches" })).toBeVisible();
  // The browser logs every answer of 404, which is what was asked for here.
  expect(errors.filter((text) => !text.includes("404"))).toEqual([]);
  errors.length = 0;
});

test("lists and picture can be taken along", async ({ page, server, found }) => {
  await page.goto(`${server.url}${card(found)}`);
  await settled(page, found.key);
  for (const [kind, expected] of [
    ["JSON", `"key": "${found.key}"`],
    ["Tables", "statistics.csv"],
    ["CSV", "direction,sign,key"],
    ["SVG", "<svg xmlns"],
  ] as const) {
    const download = page.waitForEvent("download");
    await page.getByRole("button", { name: kind, exact: true }).click();
    const path = await (await download).path();
    expect(readFileSync(path, "utf8")).toContain(expected);
  }
});

test("nothing comes from another host", async ({ page, server, found }) => {
  const foreign: string[] = [];
  page.on("request", (request) => {
    if (!request.url().startsWith(server.url) && !request.url().startsWith("data:"))
      foreign.push(request.url());
  });
  await page.goto(`${server.url}${card(found)}`);
  await settled(page, found.key);
  expect(foreign).toEqual([]);
});

test("800 pixels wide: one pane at a time, nothing cut off", async ({ page, server, found }) => {
  await page.setViewportSize({ width: 800, height: 900 });
  await page.goto(`${server.url}/runs/${found.run}`);
  const overflow = () => page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
  await expect(page.getByRole("heading", { level: 1 })).toBeVisible();
  expect(await overflow()).toBeLessThanOrEqual(0);
  await page.getByRole("link", { name: "Components" }).click();
  await expect(page.getByRole("grid", { name: "Components" })).toBeVisible();
  expect(await overflow()).toBeLessThanOrEqual(0);
  await rowOf(page).getByRole("link").first().click();
  await expect(page.getByRole("heading", { name: /positive/ }).first()).toBeVisible();
  await expect(page.getByRole("grid")).toBeHidden();
  expect(await overflow()).toBeLessThanOrEqual(0);
});
