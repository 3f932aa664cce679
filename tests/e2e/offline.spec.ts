import { beyondLostServer, card, expect, rowOf, settled, test } from "./support";

test("the server stops and comes back: a banner, nothing lost, what failed arrives", async ({
  page,
  server,
  found,
  errors,
}) => {
  await page.goto(`${server.url}${card(found)}`);
  await settled(page, found.key);
  await server.stop();
  // Something new is asked for: what was there stays on screen.
  await page.getByRole("group", { name: "Metric" }).getByRole("button", { name: "attr_abs" }).click();
  await expect(page.getByText("The server has not answered since")).toBeVisible();
  await expect(page.getByRole("heading", { level: 1 })).toContainText(found.key);
  await expect(page.locator("a.row").first()).toBeVisible();
  await expect(page).toHaveURL(/metric=attr_abs/);
  await server.start();
  await expect(page.getByText("The server has not answered since")).toBeHidden({ timeout: 60_000 });
  await settled(page, found.key);
  await expect(page.locator("main .units")).toContainText("attr_abs");
  await expect(rowOf(page)).toBeVisible();
  expect(beyondLostServer(errors)).toEqual([]);
  errors.length = 0;
});
