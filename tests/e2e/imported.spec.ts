import { Server, expect, expectAccessible, settled, test as base } from "./support";

const test = base.extend<object, { imported: string }>({
  imported: [
    // eslint-disable-next-line no-empty-pattern -- a fixture's dependencies are read from this pattern
    async ({}, use) => {
      const server = await Server.create("imported");
      await server.start();
      await use(server.url);
      await server.remove();
    },
    { scope: "worker", timeout: 120_000 },
  ],
});

test("the list of runs says what each lacks", async ({ page, imported }) => {
  await page.goto(imported);
  const line = (name: string) => page.getByRole("link").filter({ hasText: new RegExp(`${name}(?=\\s|$)`) });
  await expect(line("partial")).toContainText("3 of 8 matrices decomposed");
  await expect(line("alone")).toContainText("attributions without their model");
  await expect(line("bare")).toContainText("no tokenizer · no text · no attributions yet");
});

test("a run of some matrices: what it is, a fused site's card, and a graph through matrices left whole", async ({
  page,
  imported,
}) => {
  await page.goto(`${imported}/runs/partial`);
  const about = page.getByRole("region", { name: "About this run" });
  await expect(about).toContainText("3 of the model's 8 matrices have components");
  await expect(about).toContainText("may depend on later tokens");
  await expect(about).toContainText("trained with binomial sampling");
  await expect(about).toContainText("global_shared_transformer");
  await about.getByText("3 of 8 matrices; 5 are left whole").click();
  await expect(about.getByText("0.attn_fused.o 16 × 16")).toBeVisible();
  await expect(page.getByText("h_torch.1.attn.c_attn")).toBeVisible();
  await page.getByText("Of the configuration it was imported with").click();
  await expect(page.getByText("wandb_project", { exact: false }).first()).toBeVisible();
  await expectAccessible(page, "the overview of an imported run");

  await page.getByRole("link", { name: "1.attn_fused.qkv", exact: true }).click();
  await page.getByRole("grid").getByRole("link", { name: "1.attn_fused.qkv:0" }).click();
  await settled(page, "1.attn_fused.qkv:0");
  await expect(page.getByText("query, key and value matrix of block 1")).toBeVisible();
  // Block 0 has no decomposed o: its values come through it to this site.
  await expect(
    page.locator('a.row[data-side="sources"][data-key^="0.attn_fused.qkv:"]').first(),
  ).toBeVisible();
  await expect(page.getByRole("button", { name: "attr_frozen" })).toHaveAttribute("aria-disabled", "true");

  // Beside our own, the newest, lie those that were published with it.
  const chooser = page.getByRole("combobox", { name: "attributions" });
  await expect(chooser.getByRole("option")).toHaveText([
    /^\S+ · [\d,]+ tokens · delta: \w+$/,
    /imported, four-edge$/,
  ]);
  await expect(page.getByText("there are no standard errors")).toHaveCount(0);
  await chooser.selectOption({ index: 1 });
  await expect(page).toHaveURL(/subrun=/);
  await expect(page.getByText("there are no standard errors")).toBeVisible();
  await expectAccessible(page, "a card of published attributions");
  await chooser.selectOption({ index: 0 });
  await expect(page).not.toHaveURL(/subrun=/);

  await page.getByRole("link", { name: "Prompts" }).click();
  await page.getByRole("textbox").first().fill("the quick brown fox jumps");
  await expect(page.getByText("depend on later tokens too")).toBeVisible();
  await page.getByRole("button", { name: "Compute the graph" }).click();
  await expect(page).toHaveURL(/graphs\/\d+/);
  await page.getByRole("tab", { name: "About" }).click();
  await expect(page.getByRole("tabpanel")).toContainText(
    /By automatic differentiation: 5 of 8 matrices are left whole/,
  );
  await page.getByRole("button", { name: "table" }).click();
  await expect(page.getByText(/1\.attn_fused\.qkv:\d+:\d+/).first()).toBeVisible();
});

test("attributions without their model: cards are browsed, pages that need a model say what is missing", async ({
  page,
  imported,
}) => {
  await page.goto(`${imported}/runs/alone`);
  await page.getByRole("grid").getByRole("link", { name: "1.mlp.down:0" }).click();
  await settled(page, "1.mlp.down:0");
  await expect(page.locator('a.row[data-side="sources"]').first()).toBeVisible();
  await expect(page.getByText("there are no standard errors")).toBeVisible();
  await expect(page.getByRole("heading", { name: "Your own text" })).toHaveCount(0);
  const key = await page.locator('a.row[data-side="sources"]').first().getAttribute("data-key");
  await page.locator('a.row[data-side="sources"]').first().click();
  await settled(page, key ?? "");

  for (const name of ["Prompts", "Text"]) {
    await page.getByRole("link", { name, exact: true }).click();
    await expect(page.getByRole("heading", { name: "This run came without its model" })).toBeVisible();
  }
  await page.getByRole("link", { name: "Clusters", exact: true }).click();
  await expect(page.getByText("It cannot be made here")).toBeVisible();
});

test("without tokenizer and text: prompts are token ids, and the page says what brings the rest", async ({
  page,
  imported,
}) => {
  await page.goto(`${imported}/runs/bare/components/0.attn.q:0`);
  await settled(page, "0.attn.q:0");
  await expect(page.getByRole("heading", { name: "This run came without text" })).toBeVisible();
  await expect(page.getByText("tributary import PATH --tokenizer PATH --text PATH").first()).toBeVisible();

  await page.getByLabel(/Type token ids/).fill("17 4 words");
  await expect(page.getByRole("alert")).toContainText("Token ids are wanted");
  await page.getByLabel(/Type token ids/).fill("17 4 200");
  await expect(page.locator("[data-text='#200']")).toBeVisible();

  await page.getByRole("link", { name: "Prompts" }).click();
  await page.getByLabel(/type token ids/).fill("17 4 200");
  await page.getByRole("button", { name: "Compute the graph" }).click();
  await expect(page).toHaveURL(/graphs\/\d+/);
  await expect(page.getByRole("heading", { level: 1 })).toContainText("#17 #4 #200");
  await page.getByRole("link", { name: "Text", exact: true }).click();
  await expect(page.getByRole("heading", { name: "This run came without text" })).toBeVisible();
  await expectAccessible(page, "a page that is missing");
});
