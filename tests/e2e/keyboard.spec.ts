import { card, expect, rowOf, settled, test } from "./support";

test("without a pointer: search, open, walk along edges, step back, help", async ({
  page,
  server,
  found,
}) => {
  await page.goto(`${server.url}/runs/${found.run}`);
  await expect(rowOf(page)).toBeVisible();
  await page.keyboard.press("/");
  await expect(page.locator("#search")).toBeFocused();
  await page.keyboard.type(found.site);
  await expect(page).toHaveURL(/q=/);
  await expect(rowOf(page)).toContainText(found.site);
  await page.keyboard.press("ArrowDown");
  const focused = page.locator(":focus");
  await expect(focused).toHaveAttribute("data-key", new RegExp(`^${found.site}`));
  const first = await focused.getAttribute("data-key");
  await page.keyboard.press("ArrowDown");
  await expect(focused).not.toHaveAttribute("data-key", first ?? "");
  const second = (await focused.getAttribute("data-key")) ?? "";
  await page.keyboard.press("End");
  await page.keyboard.press("Home");
  await expect(focused).toHaveAttribute("data-key", first ?? "");
  await page.keyboard.press("ArrowDown");
  await page.keyboard.press("Enter");
  await settled(page, second);

  // Tab from the table through the card's controls to its first entry.
  for (let presses = 0; presses < 60; presses += 1) {
    if (await focused.evaluate((element) => element.matches("a.row[data-side=sources]"))) break;
    await page.keyboard.press("Tab");
  }
  await expect(focused).toHaveAttribute("data-side", "sources");
  await page.keyboard.press("ArrowDown");
  await page.keyboard.press("ArrowRight");
  await expect(focused).toHaveAttribute("data-side", "targets");
  await page.keyboard.press("ArrowLeft");
  await expect(focused).toHaveAttribute("data-side", "sources");
  const next = (await focused.getAttribute("data-key")) ?? "";
  await page.keyboard.press("Enter");
  await settled(page, next);
  await expect(page.getByRole("heading", { level: 1 })).toBeFocused();
  await page.keyboard.press("[");
  await settled(page, second);

  await page.keyboard.press("?");
  await expect(page.getByRole("dialog")).toBeVisible();
  await page.keyboard.press("Escape");
  await expect(page.getByRole("dialog")).toBeHidden();
});

test("Enter in the search opens a key that is written out", async ({ page, server, found }) => {
  await page.goto(`${server.url}/runs/${found.run}`);
  await expect(rowOf(page)).toBeVisible();
  await page.keyboard.press("/");
  await page.keyboard.type("embed:3");
  await page.keyboard.press("Enter");
  await settled(page, "embed:3");
});

test("the small card: by pointer and by focus, dismissed by Escape, few requests", async ({
  page,
  server,
  found,
}) => {
  const batches: number[] = [];
  page.on("request", (request) => {
    if (!request.url().endsWith("components:batch")) return;
    batches.push((request.postDataJSON() as { keys: string[] }).keys.length);
  });
  await page.goto(`${server.url}${card(found)}`);
  await settled(page, found.key);
  const rows = page.locator("a.row[data-side=sources]");
  const tooltip = page.getByRole("tooltip");

  // Sweeping over many entries asks for none of them.
  await rows.evaluateAll((all) => {
    for (const one of all) {
      one.dispatchEvent(new PointerEvent("pointerover", { bubbles: true }));
      one.dispatchEvent(new PointerEvent("pointerout", { bubbles: true }));
    }
  });
  await page.waitForTimeout(400);
  expect(batches).toEqual([]);

  await rows.nth(1).hover();
  await expect(tooltip).toContainText((await rows.nth(1).getAttribute("data-key")) ?? "");
  await expect(tooltip).toContainText("over the corpus");
  const loaded = await tooltip.boundingBox();
  await page.keyboard.press("Escape");
  await expect(tooltip).toBeHidden();

  // The same again comes from memory, in the same place and size.
  await page.mouse.move(700, 20);
  await rows.nth(1).hover();
  await expect(tooltip).toBeVisible();
  expect(await tooltip.boundingBox()).toEqual(loaded);
  expect(batches).toEqual([1]);
  await page.mouse.move(700, 20);
  await expect(tooltip).toBeHidden();

  await rows.first().focus();
  await page.keyboard.press("ArrowDown");
  await expect(tooltip).toBeVisible();
  await expect(page.locator(":focus")).toHaveAttribute("aria-describedby", "hover-card");
  await page.keyboard.press("Escape");
  await expect(tooltip).toBeHidden();
});
