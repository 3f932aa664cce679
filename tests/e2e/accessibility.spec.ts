import { card, expect, rowOf, expectAccessible, settled, test } from "./support";

for (const colorScheme of ["light", "dark"] as const) {
  for (const width of [1440, 800]) {
    test(`axe finds nothing: ${colorScheme}, ${width} pixels wide`, async ({ page, server, found }) => {
      await page.emulateMedia({ colorScheme, reducedMotion: "reduce" });
      await page.setViewportSize({ width, height: 900 });
      await page.goto(`${server.url}/runs/${found.run}`);
      await expect(page.getByRole("heading", { name: "Sites" })).toBeVisible();
      await expectAccessible(page, "the overview");
      await page.goto(`${server.url}/runs/${found.run}/components?site=${found.site}`);
      await expect(rowOf(page)).toBeVisible();
      await expectAccessible(page, "the components");
      await page.goto(`${server.url}${card(found)}?trail=embed:1,embed:2`);
      await settled(page, found.key);
      await expectAccessible(page, "a card");
      if (width < 1000) return; // what follows looks the same at any width
      const row = page.locator("a.row").first();
      await row.hover();
      await expect(page.getByRole("tooltip")).toContainText("over the corpus");
      await expectAccessible(page, "a small card");
      await page.goto(`${server.url}${card(found, "embed:1")}?site=embed`);
      await settled(page, "embed:1");
      await expectAccessible(page, "the card of an embedding");
      await page.keyboard.press("?");
      await expect(page.getByRole("dialog")).toBeVisible();
      await expectAccessible(page, "the help");
      await page.goto(`${server.url}/nowhere`);
      await expect(page.getByRole("heading", { level: 1 })).toBeVisible();
      await expectAccessible(page, "the choice of runs");
    });
  }
}
