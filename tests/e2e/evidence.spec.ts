import type { Page } from "@playwright/test";

import { Server, card, expect, expectAccessible, settled, test as base } from "./support";

const RUN = "tiny-evidence";

interface Evidence {
  readonly key: string;
  readonly firing_count: number;
  readonly tokens: number;
  readonly n_random: number;
  readonly input_tokens: {
    readonly positive: readonly { readonly token_id: number; readonly text: string }[];
  };
}

interface Harvested {
  readonly url: string;
  /** A component that fires on one token more than by chance, with more examples than one page. */
  readonly evidence: Evidence;
}

async function ask<T>(url: string): Promise<T> {
  const answer = await fetch(url);
  if (!answer.ok) throw new Error(`${url}: ${answer.status} ${await answer.text()}`);
  return (await answer.json()) as T;
}

/** A component of the toy run with something in every list. */
async function find(url: string): Promise<Evidence> {
  const at = `${url}/api/runs/${RUN}/components`;
  const { components } = await ask<{ components: { key: string }[] }>(`${at}?sort=density&limit=500`);
  for (const { key } of components) {
    const evidence = await ask<Evidence>(`${at}/${key}/evidence`);
    if (evidence.input_tokens.positive.length > 0 && evidence.n_random >= 4) return evidence;
  }
  throw new Error("No component of the toy run goes with a token");
}

const test = base.extend<object, { harvested: Harvested }>({
  harvested: [
    // eslint-disable-next-line no-empty-pattern -- a fixture's dependencies are read from this pattern
    async ({}, use) => {
      const server = await Server.create("evidence");
      await server.start();
      await use({ url: server.url, evidence: await find(server.url) });
      await server.remove();
    },
    { scope: "worker", timeout: 120_000 },
  ],
});

const examples = (page: Page) => page.getByRole("list", { name: "Examples" });
const tip = (page: Page) => page.locator(".tip");

async function openCard(page: Page, { url, evidence }: Harvested, query = ""): Promise<void> {
  await page.goto(`${url}/runs/${RUN}/components/${evidence.key}${query}`);
  await settled(page, evidence.key);
  await expect(page.getByRole("heading", { name: "Where it fires: the token that is read" })).toBeVisible();
}

test("a card says what a component responds to: examples, tokens, companions, activation", async ({
  page,
  harvested,
}) => {
  const { evidence } = harvested;
  await openCard(page, harvested);
  const sections = page.getByRole("navigation", { name: "On this card" });
  await sections.getByRole("link", { name: "Examples" }).click();
  await expect(page.getByRole("heading", { name: "Examples", exact: true })).toBeInViewport();
  await expect(page.getByRole("heading", { name: "Examples", exact: true })).toBeFocused();

  // Every example marks its firing token, and says how the sample was drawn.
  const lines = examples(page).getByRole("listitem");
  await expect(lines).toHaveCount(Math.min(12, evidence.n_random));
  await expect(lines.first().locator("[data-ci].firing")).toHaveCount(1);
  const status = page.getByRole("status").filter({ hasText: "firings" }).first();
  await expect(status).toContainText(evidence.firing_count.toLocaleString("en-US"));
  await expect(status).toContainText("without replacement");

  // The exact values of a token, by pointer and by keyboard; the strongest come in falling CI.
  await lines.first().locator("[data-ci].firing").hover();
  await expect(tip(page)).toContainText("scaled by ‖U‖");
  await page
    .getByRole("group", { name: "Which examples" })
    .getByRole("button", { name: "strongest" })
    .click();
  await expect(page).toHaveURL(/examples=strongest/);
  await expect(status).toContainText("strongest");
  const ci = await lines
    .locator("[data-ci].firing")
    .evaluateAll((all) => all.map((one) => Number((one as HTMLElement).dataset["ci"])));
  expect(ci.length).toBeGreaterThan(1);
  expect([...ci].sort((a, b) => b - a)).toEqual(ci);

  await expect(
    page.getByRole("img", { name: /Histogram of the activation at [\d,]+ firings/ }),
  ).toBeVisible();
  const together = page.getByRole("region", { name: "Other components at the same position" });
  await expect(together.getByRole("rowheader").first()).toBeVisible();
  await expectAccessible(page, "a card with evidence");
  await page.emulateMedia({ colorScheme: "dark" });
  await expectAccessible(page, "a card with evidence in the dark");
});

test("a token's count leads to its examples; the address holds it; Back leaves it", async ({
  page,
  harvested,
}) => {
  const token = harvested.evidence.input_tokens.positive[0];
  await openCard(page, harvested);
  const read = page.getByRole("region", { name: "Where it fires: the token that is read" });
  await read
    .getByRole("button", { name: /examples that fire on this token/ })
    .first()
    .click();
  await expect(page).toHaveURL(new RegExp(`token=${token?.token_id ?? ""}`));
  const firing = examples(page).locator("[data-ci].firing");
  const texts = async (): Promise<string[]> =>
    firing.evaluateAll((all) => [...new Set(all.map((one) => (one as HTMLElement).dataset["text"] ?? ""))]);
  // Of the few that a toy harvest keeps, it may be that none is on this token: that is said, too.
  await expect(firing.or(page.getByText(/none fires on/)).first()).toBeVisible();
  expect([[], [token?.text]]).toContainEqual(await texts());
  await page.reload();
  await expect(firing.or(page.getByText(/none fires on/)).first()).toBeVisible();
  await page.goBack();
  await expect(page).not.toHaveURL(/token=/);
  await expect.poll(async () => (await firing.count()) > 0).toBe(true);
});

test("arrow keys move among the tokens of the examples, and the values follow", async ({
  page,
  harvested,
}) => {
  await openCard(page, harvested);
  const lines = examples(page).getByRole("listitem");
  // One token of the list can be reached with Tab: the firing one of the first line.
  const reachable = examples(page).locator('[data-ci][tabindex="0"]');
  await expect(reachable).toHaveCount(1);
  await reachable.focus();
  await expect(tip(page)).toBeVisible();
  await page.keyboard.press("ArrowDown");
  await expect(lines.nth(1).locator("[data-ci].firing")).toBeFocused();
  await page.keyboard.press("Home");
  await expect(lines.nth(1).locator("[data-ci]").first()).toBeFocused();
  await expect(reachable).toHaveCount(1);
  await page.keyboard.press("Escape");
  await expect(tip(page)).toHaveCount(0);
});

test("one's own text is highlighted as it is typed and goes along to the next component", async ({
  page,
  harvested,
}) => {
  await openCard(page, harvested);
  const field = page.getByRole("textbox", { name: /Type or paste some text/ });
  await field.fill("the quick brown fox");
  const section = page.getByRole("region", { name: "Your own text" });
  await expect(section.locator("[data-ci]").first()).toBeVisible();
  await expect(section.getByRole("status")).toContainText(harvested.evidence.key);
  await expect(page).toHaveURL(/text=the%20quick/);
  const shown = await section.locator("[data-ci]").count();
  await field.press("End");
  await field.pressSequentially(" jumps");
  await expect.poll(() => section.locator("[data-ci]").count()).toBeGreaterThan(shown);

  // What fires at one token, and back to the whole text.
  await section.locator("[data-ci]").nth(1).click();
  await expect(section.getByRole("heading", { name: /Strongest on/ })).toBeVisible();
  await section.getByRole("button", { name: "The whole text" }).click();
  const others = section.getByRole("listitem").getByRole("link");
  const keys = await others.evaluateAll((all) => all.map((one) => one.getAttribute("data-key") ?? ""));
  const other = keys.findIndex((key) => key !== harvested.evidence.key);
  await others.nth(other).click();
  await settled(page, keys[other] ?? "");
  await expect(page.getByRole("textbox", { name: /Type or paste some text/ })).toHaveValue(
    "the quick brown fox jumps",
  );
});

test("from an example to its document and to a prompt of exactly its tokens", async ({ page, harvested }) => {
  await openCard(page, harvested);
  const line = examples(page).getByRole("listitem").first();
  const firing = line.locator("[data-ci].firing");
  const [text, position, ci] = await firing.evaluate((one) => {
    const { text, position, ci } = (one as HTMLElement).dataset;
    return [text ?? "", position ?? "", Number(ci)] as const;
  });
  const length = await line.locator("[data-ci]").count();

  await line.getByRole("link", { name: /^Document/ }).click();
  await expect(page).toHaveURL(/\/documents\/\d+\?at=\d+&key=/);
  const token = page.locator(`[data-position="${position}"]`);
  await expect(token).toBeInViewport();
  await expect(token).toHaveAttribute("aria-pressed", "true");
  await expect(token).toHaveAttribute("data-text", text);
  // The document is read in the windows of the harvest: the values are the example's.
  expect(Number(await token.getAttribute("data-ci"))).toBeCloseTo(ci, 4);
  await expectAccessible(page, "a document");
  await page.getByRole("link", { name: "Next document" }).click();
  await expect(page).toHaveURL(/\/documents\/\d+\?key=/);
  await page.goBack();
  await page.goBack();

  await line.getByRole("link", { name: /^As a prompt/ }).click();
  await expect(page).toHaveURL(/\/prompts\?text=.*&ids=/);
  await expect(page.getByRole("list", { name: "Tokens" }).getByRole("listitem")).toHaveCount(length);
});

test("the table finds what fires on a token, and what is alive within a range", async ({
  page,
  harvested,
}) => {
  const token = harvested.evidence.input_tokens.positive[0];
  await page.goto(`${harvested.url}/runs/${RUN}/components`);
  const grid = page.getByRole("grid", { name: "Components" });
  // While the table is empty it has no row but its header.
  await expect(grid.locator("[data-key]").first()).toBeVisible();
  const all = Number(await grid.getAttribute("aria-rowcount"));
  await page.getByRole("button", { name: "Filter" }).click();
  await page.getByRole("searchbox", { name: /fires on/ }).fill(token?.text ?? "");
  await expect(page).toHaveURL(/sort=-fires_on/);
  await expect(grid.getByRole("columnheader", { name: "of firings, when read" })).toBeVisible();
  await expect.poll(async () => Number(await grid.getAttribute("aria-rowcount"))).toBeLessThan(all);
  await expect(grid.getByRole("link", { name: harvested.evidence.key, exact: true })).toBeVisible();
  await page.getByRole("searchbox", { name: /fires on/ }).fill("");
  await expect(page).not.toHaveURL(/fires/);

  await page.getByRole("textbox", { name: "Alive on at most, per cent" }).fill("50");
  await expect(page).toHaveURL(/often=0\.5/);
  await expect.poll(async () => Number(await grid.getAttribute("aria-rowcount"))).toBeLessThan(all);
  await page.getByLabel("Order").selectOption("strongest source");
  await expect(grid.getByRole("columnheader", { name: "strongest source" })).toBeVisible();
  await expect(grid.locator("[data-key]:not(a)").first()).toBeVisible();
});

test("the table is filtered by mean CI, label and strongest source, and says what is too much", async ({
  page,
  harvested,
  errors,
}) => {
  const { url } = harvested;
  const { components } = await ask<{
    components: { key: string; strongest_source: { key: string } }[];
  }>(`${url}/api/runs/${RUN}/components?sort=-strongest_source&limit=1`);
  const first = components[0];
  if (first === undefined) throw new Error("The toy run has no component");
  const site = first.strongest_source.key.split(":")[0] ?? "";
  await page.setViewportSize({ width: 1440, height: 900 });
  await page.goto(`${url}/runs/${RUN}/components/${first.key}?sort=-strongest_source`);
  const grid = page.getByRole("grid", { name: "Components" });
  const chip = (words: string) => page.getByRole("button", { name: `Take away: ${words}` });
  await page.getByRole("button", { name: "Filter" }).click();

  await page.getByRole("searchbox", { name: "strongest source" }).fill(site);
  await page.keyboard.press("Enter");
  await expect(page).toHaveURL(new RegExp(`source=${site.replaceAll(".", "\\.")}`));
  await expect(grid.getByRole("columnheader", { name: "strongest source" })).toBeVisible();
  await expect(grid.getByRole("link", { name: first.key, exact: true })).toBeVisible();
  await expect(chip(`strongest source ${site}`)).toBeVisible();
  // Letter by letter and slowly: what is half written is left as it is.
  const least = page.getByRole("textbox", { name: "Mean CI at least" });
  await least.pressSequentially("0.00001", { delay: 300 });
  await expect(least).toHaveValue("0.00001");
  await expect(page).toHaveURL(/weak=0\.00001/);
  await page.getByRole("combobox", { name: "Labelled" }).selectOption("has no label");
  await expect(grid.getByRole("link", { name: first.key, exact: true })).toBeVisible();
  await expectAccessible(page, "the form of filters");

  // Bounds in the wrong order are marked, and asked for by nobody.
  const most = page.getByRole("textbox", { name: "Mean CI at most" });
  await most.fill("0");
  await expect(most).toHaveAttribute("aria-invalid", "true");
  // They stay as they were written, while other filters are applied too.
  const rare = page.getByRole("textbox", { name: "Alive on at least, per cent" });
  await rare.fill("0.001");
  await expect(page).toHaveURL(/rare=/);
  await expect(most).toHaveValue("0");
  await expect(most).toHaveAttribute("aria-invalid", "true");
  await rare.fill("");
  await most.fill("");

  await page.getByRole("combobox", { name: "Labelled" }).selectOption("labelled by a person");
  await expect(page.getByRole("heading", { name: "No component matches" })).toBeVisible();
  const culprit = page.getByRole("listitem").filter({ hasText: /labelled by a person.*without it \d/ });
  await expect(culprit).toBeVisible();
  await expectAccessible(page, "a table that filters leave empty");
  await culprit.getByRole("button").click();
  await expect(grid.getByRole("link", { name: first.key, exact: true })).toBeVisible();

  // A link with a slip in it says what to write.
  await page.goto(`${url}/runs/${RUN}/components?source=0.atn.q:3`);
  await expect(page.getByRole("alert")).toContainText("Write a key (0.attn.q:17)");
  // The browser logs the refusal that was asked for.
  expect(errors.filter((text) => !text.includes("422"))).toEqual([]);
  errors.length = 0;
  await chip("strongest source 0.atn.q:3").click();
  await expect(grid.getByRole("row").nth(3)).toBeVisible();
});

test("a small card shows evidence in one size from the first moment on", async ({ page, harvested }) => {
  await page.goto(`${harvested.url}/runs/${RUN}/components?q=${harvested.evidence.key}`);
  const link = page.getByRole("grid").getByRole("link", { name: harvested.evidence.key, exact: true });
  await link.hover();
  const tooltip = page.getByRole("tooltip");
  await expect(tooltip).toBeVisible();
  const early = await tooltip.boundingBox();
  await expect(tooltip.getByText("fires on", { exact: true })).toBeVisible();
  await expect(tooltip.locator(".token.firing").first()).toBeVisible();
  expect(await tooltip.boundingBox()).toEqual(early);
});

test("the run that is served by default says what it has, and tries any text", async ({
  page,
  server,
  found,
}) => {
  const { harvests } = await ask<{ harvests: string[] }>(`${server.url}/api/runs/${found.run}`);
  await page.goto(server.url + card(found));
  await settled(page, found.key);
  if (harvests.length > 0) await expect(examples(page).getByRole("listitem").first()).toBeVisible();
  else await expect(page.getByText(`tributary harvest ${found.run}`)).toBeVisible();
  await page.getByRole("textbox", { name: /Type or paste some text/ }).fill("the man who was in the house");
  const section = page.getByRole("region", { name: "Your own text" });
  await expect(section.locator("[data-ci]").first()).toBeVisible();
  await expect(section.getByRole("listitem").first()).toBeVisible();
});
