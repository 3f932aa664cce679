import { expect, expectAccessible, test } from "./support";

interface Hit {
  readonly document: number;
  readonly document_position: number;
  readonly title: string;
  readonly tokens: readonly { id: number; text: string }[];
  readonly match_first: number;
  readonly match_last: number;
}

interface Answer {
  readonly total: number;
  readonly hits: readonly Hit[];
}

/** Make the index and ask for hits as the page does. */
async function ask(url: string, run: string, q: string, mode = "words"): Promise<Answer> {
  const api = `${url}/api/runs/${run}`;
  await fetch(`${api}/search-index`, { method: "POST", body: "{}" });
  for (;;) {
    const answer = await fetch(
      `${api}/search?${new URLSearchParams({ q, mode, limit: "50", left: "32" }).toString()}`,
    );
    if (answer.ok) return (await answer.json()) as Answer;
    await new Promise((done) => setTimeout(done, 200));
  }
}

test("from a word to its hits, to a component that fires on it, and to a prompt of the same tokens", async ({
  page,
  server,
  found,
}) => {
  await page.goto(`${server.url}/runs/${found.run}`);
  // The first visit makes the index.
  await page.getByRole("navigation", { name: "Run" }).getByRole("link", { name: "Text" }).click();
  await expect(page).toHaveURL(`${server.url}/runs/${found.run}/text`);
  await expect(page.getByRole("heading", { name: "Exact text" })).toBeVisible();
  const answer = await ask(server.url, found.run, "the");

  await page.keyboard.press("/");
  await expect(page.getByRole("searchbox")).toBeFocused();
  await page.keyboard.type("the");
  await expect(page).toHaveURL(/find=the$/);
  const lines = page.getByRole("list", { name: "Hits" }).getByRole("button");
  await expect(lines).toHaveCount(Math.min(50, answer.total));
  await expect(page.getByRole("status").filter({ hasText: "hit" })).toContainText(
    answer.total === 10_000 ? "More than 10,000 hits" : `${answer.total.toLocaleString("en-US")} hit`,
  );

  // Matches stand under each other, in the middle of the line.
  const starts = await page
    .locator("mark")
    .evaluateAll((marks) => marks.map((mark) => Math.round(mark.getBoundingClientRect().left)));
  expect(new Set(starts).size).toBe(1);
  expect(await page.locator("mark").first().innerText()).toMatch(/^the$/i);

  // By keyboard: down to the third line, open it.
  await page.keyboard.press("ArrowDown");
  await page.keyboard.press("ArrowDown");
  await page.keyboard.press("ArrowDown");
  await page.keyboard.press("Enter");
  await expect(page).toHaveURL(/hit=2$/);
  await expect(lines.nth(2)).toHaveAttribute("aria-expanded", "true");
  const component = page.locator("main table a[data-key]").first();
  await expect(component).toBeVisible();
  await expect(page.getByText("computed now on the")).toBeVisible();

  // A prompt of the very tokens of the corpus.
  const hit = answer.hits[2];
  if (hit === undefined) throw new Error("there is no third hit");
  await page.getByRole("link", { name: "Prompt that ends with it" }).click();
  const ids = hit.tokens.slice(0, hit.match_last + 1).map(({ id }) => id);
  await expect(page).toHaveURL(new RegExp(`ids=${ids.join(",")}(&|$)`));

  // Back: the same search, the same hit open. The address alone says it all.
  await page.goBack();
  await expect(lines.nth(2)).toHaveAttribute("aria-expanded", "true");
  await page.reload();
  await expect(lines.nth(2)).toHaveAttribute("aria-expanded", "true");
  const key = (await component.getAttribute("data-key")) ?? "";
  await component.click();
  await expect(page.getByRole("heading", { level: 1 })).toContainText(key);
});

test("modes, case, one document, pages", async ({ page, server, found }) => {
  const piece = await ask(server.url, found.run, "he", "exact");
  expect(piece.total).toBeGreaterThan(100);
  await page.goto(`${server.url}/runs/${found.run}/text?find=he&mode=exact`);
  const lines = page.getByRole("list", { name: "Hits" }).getByRole("button");
  await expect(lines).toHaveCount(50);
  await page.getByRole("link", { name: "Next" }).click();
  await expect(page).toHaveURL(/page=2$/);
  await expect(lines.first()).toHaveAttribute("data-hit", "50");
  await page.goBack();
  await expect(lines.first()).toHaveAttribute("data-hit", "0");

  await lines.first().click();
  await page.getByRole("link", { name: "Search only this document" }).click();
  const hit = piece.hits[0];
  if (hit === undefined) throw new Error("there is no hit");
  await expect(page).toHaveURL(new RegExp(`in=${hit.document}(&|$)`));
  await expect(page.getByText("in this document")).toBeVisible();
  await page.getByRole("link", { name: `Only in ${hit.title}` }).click();
  await expect(page).not.toHaveURL(/[?&]in=/);

  await page.getByRole("button", { name: "Match case" }).click();
  await page.getByRole("searchbox").fill("zq HE qz");
  await expect(page.getByText("This text is nowhere")).toBeVisible();
  await page.getByRole("button", { name: "Words" }).click();
  await expect(page.getByText("No whole words like that")).toBeVisible();
  await expect(page).toHaveURL(/case=1/);
  await expect(page).not.toHaveURL(/mode=/);
});

test("every term of a search is marked, also beyond the line", async ({ page, server, found }) => {
  const answer = await ask(server.url, found.run, "the and");
  expect(answer.total).toBeGreaterThan(0);
  await page.goto(`${server.url}/runs/${found.run}/text?find=the+and`);
  const lines = page.getByRole("list", { name: "Hits" }).getByRole("button");
  await expect(lines.first()).toBeVisible();
  await lines.first().click();
  // The passage under the line has both terms, however far apart they are.
  const passage = page.locator(".detail > p mark");
  await expect(passage.filter({ hasText: /^the$/i })).toHaveCount(1);
  await expect(passage.filter({ hasText: /^and$/i }).first()).toBeVisible();
  // What is too long to be searched for is said, and not cut.
  await page.getByRole("searchbox").fill("x".repeat(10_000));
  await expect(page.getByRole("alert")).toContainText("10,000 characters; at most 500");
  await page.getByRole("searchbox").fill("the");
  await expect(page).toHaveURL(/find=the$/);
});

test("a search that cannot be answered says why, and comes back", async ({ page, server, found, errors }) => {
  await ask(server.url, found.run, "the");
  await page.goto(`${server.url}/runs/${found.run}/text?find=the&in=999999`);
  await expect(page.getByRole("alert")).toContainText(/there is no document 999999/i);
  await page.getByRole("searchbox").fill("a b c d e f g h i j k l m n");
  await expect(page.getByRole("alert")).toContainText("14 terms");
  errors.length = 0; // the browser logs every refusal
  await page.goto(`${server.url}/runs/${found.run}/text?find=the`);
  await expect(page.getByRole("list", { name: "Hits" }).getByRole("button").first()).toBeVisible();
});

for (const colorScheme of ["light", "dark"] as const) {
  test(`axe finds nothing on the text page: ${colorScheme}`, async ({ page, server, found }) => {
    await ask(server.url, found.run, "the");
    await page.emulateMedia({ colorScheme, reducedMotion: "reduce" });
    await page.goto(`${server.url}/runs/${found.run}/text`);
    await expect(page.getByRole("heading", { name: "Exact text" })).toBeVisible();
    await expectAccessible(page, "the empty search");
    await page.goto(`${server.url}/runs/${found.run}/text?find=the&hit=1&in=0`);
    await expect(page.locator("main table a[data-key]").first()).toBeVisible();
    await expectAccessible(page, "hits");
    await page.setViewportSize({ width: 800, height: 900 });
    await expectAccessible(page, "hits, 800 pixels wide");
  });
}
