import { expect, expectAccessible, testAlone as test } from "./support";

test("labels of models: none at first, then sets with scores, their origins, and two side by side", async ({
  page,
  server,
  found,
}) => {
  const address = `${server.url}/runs/${found.run}/labels`;
  await page.goto(address);
  await expect(page.getByRole("heading", { name: "No label sets yet" })).toBeVisible();
  await expect(page.getByText(`tributary label ${found.run} --endpoint`)).toBeVisible();
  await expectAccessible(page, "no label sets");

  const keys = [`${found.site}:0`, `${found.site}:1`, `${found.site}:2`];
  await server.script("label_sets.py", found.run, ...keys);
  await page.reload();
  await expect(page.getByRole("heading", { level: 1, name: "second set" })).toBeVisible();
  await page.getByRole("link", { name: "first set" }).click();
  await expect(page).toHaveURL(/labels\?set=1$/);
  await expect(page.getByRole("heading", { level: 1, name: "first set" })).toBeVisible();
  await expect(page.getByText("2 of 3 labelled, 1 failed, finished.")).toBeVisible();
  const row = page.getByRole("row").filter({ has: page.locator(`a[data-key="${keys[0] ?? ""}"]`) });
  await expect(row).toContainText("first set: words like number 0");
  await expect(row).toContainText("9 of 10");
  await expect(row).toContainText("too few texts");
  await expect(page.getByText("failed: no answer within 120 s")).toBeVisible();
  await expectAccessible(page, "a label set");

  await page.getByRole("link", { name: `How the label of ${keys[0] ?? ""} came to be` }).click();
  await expect(page.getByText("The texts say so.")).toBeVisible();
  await page.getByText("label from texts and tokens, request 1").click();
  await expect(page.getByText(`What is ${keys[0] ?? ""} about?`)).toBeVisible();
  await expect(page).toHaveURL(/key=/);
  await expectAccessible(page, "where a label comes from");
  await page.goBack();
  await expect(page.getByText("The texts say so.")).toBeHidden();

  await page.getByRole("searchbox", { name: "Search the labels" }).fill("number 1");
  await expect(page.getByText("1–1 of 1")).toBeVisible();
  await expect(page).toHaveURL(/find=number%201/);
  await page.getByRole("searchbox", { name: "Search the labels" }).fill("nothing of the kind");
  await expect(page.getByText("No label has these words.")).toBeVisible();

  await page.getByRole("combobox", { name: "Beside" }).selectOption("second set");
  await expect(page.getByText("judged by the model that wrote them").first()).toBeVisible();
  await expect(page.getByRole("note").filter({ hasText: "second set is judged by better at" })).toBeVisible();
  await expect(page.getByText("+20 points (")).toBeVisible();
  await expect(page.getByText("no component scored in both")).toBeVisible();
  await expect(page.getByText("second set: words like number 1")).toBeVisible();
  await expectAccessible(page, "two label sets");

  const download = page.waitForEvent("download");
  await page.getByRole("link", { name: "CSV" }).click();
  expect((await download).suggestedFilename()).toMatch(/first_set\.csv$/);
  // What was paid for is deleted by whoever pays.
  await expect(page.getByRole("button", { name: "Delete first set" })).toHaveCount(0);
});

test("a model's label is shown as such, until somebody adopts it", async ({ page, server, found }) => {
  const key = `${found.site}:1`;
  const labels = `${server.url}/api/runs/${found.run}/labels`;
  const named = async (): Promise<string[]> => {
    const answer = (await (await fetch(labels)).json()) as {
      labels: { key: string; name: string; source: string }[];
    };
    return answer.labels.filter((label) => label.key === key).map(({ name, source }) => `${source} ${name}`);
  };
  await server.script("label_sets.py", found.run, `${found.site}:0`, key, `${found.site}:2`);
  expect(await named()).toEqual(["auto:second set second set: words like number 1"]);
  await page.goto(`${server.url}/runs/${found.run}/labels?set=1`);
  await page.getByRole("button", { name: `Adopt the label of ${key}` }).click();
  await expect(page.getByText("adopted", { exact: true })).toBeVisible();
  expect(await named()).toEqual(["person first set: words like number 1"]);
  await page.locator(`a[data-key="${key}"]`).click();
  await expect(page.getByText("first set: words like number 1").first()).toBeVisible();
});

test("a set that is not there is said", async ({ page, server, found }) => {
  await server.script("label_sets.py", found.run, `${found.site}:0`, `${found.site}:1`, `${found.site}:2`);
  await page.goto(`${server.url}/runs/${found.run}/labels?set=99`);
  await expect(page.getByRole("heading", { name: "There is no such label set" })).toBeVisible();
  await page.setViewportSize({ width: 800, height: 900 });
  await page.emulateMedia({ colorScheme: "dark" });
  await page.getByRole("link", { name: "second set" }).click();
  await expect(page.getByText("2 of 3 labelled").first()).toBeVisible();
  await expectAccessible(page, "a label set on a narrow screen at night");
});
