import { Server, expect, expectAccessible, test as base } from "./support";

const test = base.extend<object, { toys: string }>({
  toys: [
    // eslint-disable-next-line no-empty-pattern -- a fixture's dependencies are read from this pattern
    async ({}, use) => {
      const server = await Server.create("toys");
      await server.start();
      await use(server.url);
      await server.remove();
    },
    { scope: "worker", timeout: 120_000 },
  ],
});

test("a toy model: its picture, walked through with the keyboard, and a component's card", async ({
  page,
  toys,
}) => {
  await page.goto(toys);
  const line = page.getByRole("link").filter({ hasText: /\btms\b/ });
  await expect(line).toContainText("toy model");
  await line.click();
  await expect(page).toHaveURL(/\/runs\/tms\/toy$/);
  await expect(page.getByText("The known solution is found")).toBeVisible();

  const map = page.getByRole("application", { name: /Answers of linear1/ });
  await expect(map).toHaveAccessibleName(/5 features, 5 components/);
  await page.getByLabel("also what never acts (15)").check();
  await expect(map).toHaveAccessibleName(/5 features, 20 components/);
  await map.focus();
  await page.keyboard.press("ArrowDown");
  await page.keyboard.press("ArrowRight");
  const said = page.locator("figure output");
  await expect(said).toHaveText(/feature 1, linear1:\d+: CI 1, activation 0\.75/);
  const name = /linear1:\d+/.exec(await said.innerText())?.[0] ?? "";
  await page.keyboard.press("Enter");
  const card = page.getByRole("complementary", { name: "Component" });
  await expect(card.getByRole("heading", { name })).toBeVisible();
  await expect(
    card.getByRole("img", { name: "What it reads of each feature: feature 1: 1.000" }),
  ).toBeVisible();
  await expectAccessible(page, "a toy model with a card");

  // The reader that it goes with by weights alone is feature 1's own, too.
  await card
    .getByRole("link", { name: /linear2:/ })
    .first()
    .click();
  await expect(card.getByRole("row", { name: "1 1 0.750" })).toBeVisible();
  await page.getByRole("button", { name: "linear2", exact: true }).click();
  await expect(page).toHaveURL(/matrix=0\.mlp\.down/);
  await page.reload();
  await expect(card.getByRole("heading", { name: /linear2:/ })).toBeVisible();
  await page.getByText("The same as a table").click();
  await expect(page.getByRole("row", { name: /^3 linear2:\d+ 1$/ })).toBeVisible();
});

test("any input is answered while it is changed, and stays in the address", async ({ page, toys }) => {
  await page.emulateMedia({ colorScheme: "dark", reducedMotion: "reduce" });
  await page.setViewportSize({ width: 800, height: 900 });
  await page.goto(`${toys}/runs/mlp/toy?input=3:0.5`);
  const outputs = page.locator(".outputs");
  // act(x) + x, and nothing is lost under causal importances.
  await expect(outputs.getByRole("row", { name: "3 1.000 1.000 1.000" })).toBeVisible();
  await page.getByRole("spinbutton", { name: "value of feature 3" }).fill("-1");
  await page.keyboard.press("Tab");
  await expect(outputs.getByRole("row", { name: "3 −1.000 −1.000 −1.000" })).toBeVisible();
  await expect(page).toHaveURL(/input=3:-1$/);
  await page.getByRole("spinbutton", { name: "feature", exact: true }).fill("8");
  await page.getByRole("button", { name: "Switch on" }).click();
  await expect(outputs.getByRole("row", { name: "8 1.500 1.500 1.500" })).toBeVisible();
  await expect(page.getByRole("link", { name: /^layers\.0\.mlp_in:/ }).first()).toBeVisible();
  await expectAccessible(page, "a toy model, narrow and dark");
  await page.getByRole("button", { name: "Remove feature 8" }).click();
  await page.goBack();
  await expect(outputs.getByRole("row", { name: /^8 / })).toBeVisible();
});
