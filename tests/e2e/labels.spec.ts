import { readFileSync } from "node:fs";

import type { Browser, Page } from "@playwright/test";

import { type Server, expect, expectAccessible, rowOf, settled, test } from "./support";

/** A component that no other test has labelled. */
async function fresh(server: Server, run: string, place: number): Promise<string> {
  const path = `/api/runs/${run}/components?sort=-mean_ci&limit=${place + 1}`;
  const page = (await (await fetch(server.url + path)).json()) as { components: { key: string }[] };
  return page.components[place]?.key ?? "";
}

const editor = (page: Page) => page.locator("section.editor");
const name = (page: Page) => editor(page).getByRole("textbox", { name: "Name" });
const note = (page: Page) => editor(page).getByRole("textbox", { name: "Note" });
const saved = (page: Page, words = "Saved"): Promise<void> =>
  expect(editor(page).locator(".state")).toHaveText(words);

async function open(page: Page, server: Server, run: string, key: string): Promise<void> {
  await page.goto(`${server.url}/runs/${run}/components/${key}`);
  await settled(page, key);
  await expect(name(page)).toBeEditable();
}

async function otherBrowser(browser: Browser, server: Server, run: string, key: string): Promise<Page> {
  const page = await (await browser.newContext()).newPage();
  await open(page, server, run, key);
  return page;
}

test("what is written on a card is saved as one types, and shown wherever the component appears", async ({
  page,
  server,
  found,
}) => {
  const asked: string[] = [];
  page.on("request", (request) => {
    if (/\/labels(\?.*)?$/.test(request.url()) && request.method() === "GET") asked.push(request.url());
  });
  const key = await fresh(server, found.run, 3);
  await open(page, server, found.run, key);
  await editor(page).getByPlaceholder("your name").fill("Ann");
  await name(page).fill("zebra names");
  await editor(page).getByRole("button", { name: "4 of 5" }).click();
  await note(page).fill("seen in every chapter [1]");
  await saved(page);
  await expect(page.getByRole("heading", { level: 1 })).toContainText("zebra names");
  await expect(page).toHaveURL(new RegExp(`${key}$`)); // the bracket was no step back
  await expect(editor(page).locator(".who")).toContainText("by Ann, ");

  const search = page.locator("#search");
  for (const words of ["ZEBRA", "every chapter"]) {
    await search.fill(words);
    await expect(page.locator("p.foot")).toContainText("1 component");
    await expect(rowOf(page)).toContainText("zebra names");
  }
  await search.fill("");

  // In the lists of another card, and on the small card of that entry.
  const target = page.locator("a.row.targets").first();
  const other = (await target.getAttribute("data-key")) ?? "";
  await page.goto(`${server.url}/runs/${found.run}/components/${other}?k=50`);
  await settled(page, other);
  const entry = page.locator(`a.row[data-key="${key}"]`).first();
  await expect(entry).toContainText("zebra names");
  await entry.hover();
  await expect(page.getByRole("tooltip")).toContainText("zebra names");
  // Asked for once when the page was opened, and once when it was opened again.
  expect(asked.length).toBe(2);

  await open(page, server, found.run, key);
  await expect(name(page)).toHaveValue("zebra names");
  await expect(editor(page).getByPlaceholder("your name")).toHaveValue("Ann");
  await expect(editor(page).getByRole("button", { name: "4 of 5" })).toHaveAttribute("aria-pressed", "true");
});

test("undo and redo go on after a reload, and nothing of the past is lost", async ({
  page,
  server,
  found,
}) => {
  const key = await fresh(server, found.run, 4);
  await open(page, server, found.run, key);
  await name(page).fill("first name");
  await saved(page);
  await editor(page).getByRole("button", { name: "2 of 5" }).click();
  await saved(page);
  await page.reload();
  await expect(name(page)).toHaveValue("first name");
  const undo = editor(page).getByRole("button", { name: /^Undo/ });
  await expect(undo).toHaveAccessibleName(/Undo: rating 2/);
  await undo.click();
  await expect(editor(page).getByRole("button", { name: "2 of 5" })).toHaveAttribute("aria-pressed", "false");
  await undo.click();
  await expect(name(page)).toHaveValue("");
  await expect(page.getByRole("heading", { level: 1 })).not.toContainText("first name");
  await page.reload();
  await expect(name(page)).toBeEditable();
  await editor(page)
    .getByRole("button", { name: /^Redo: name “first name”/ })
    .click();
  await expect(name(page)).toHaveValue("first name");
  await name(page).fill("second name");
  await saved(page);
  await editor(page).getByRole("button", { name: "History" }).click();
  const past = editor(page).getByRole("list", { name: /History/ });
  await expect(past.getByRole("listitem")).toHaveCount(3);
  // The rating was undone, and then something else came: it is there all the same.
  await past.getByRole("listitem").filter({ hasText: "rating 2" }).getByRole("button").click();
  await saved(page);
  await expect(name(page)).toHaveValue("first name");
  await expect(editor(page).getByRole("button", { name: "2 of 5" })).toHaveAttribute("aria-pressed", "true");
  await expectAccessible(page, "the label and its history");
});

test("two browsers write one label: different fields join, the same field is chosen", async ({
  page,
  server,
  found,
  browser,
  errors,
}) => {
  const key = await fresh(server, found.run, 5);
  await open(page, server, found.run, key);
  const theirs = await otherBrowser(browser, server, found.run, key);
  await editor(theirs).getByPlaceholder("your name").fill("Ben");
  await name(theirs).fill("what Ben calls it");
  await saved(theirs);
  // This page knows nothing of that yet.
  await note(page).fill("a note of mine");
  await saved(page);
  await expect(name(page)).toHaveValue("what Ben calls it");

  await name(theirs).fill("what Ben calls it now");
  await expect(editor(theirs).locator(".conflict")).toHaveCount(0);
  await saved(theirs);
  await expect(note(theirs)).toHaveValue("a note of mine");
  await name(page).fill("what I call it");
  const conflict = editor(page).locator(".conflict");
  await expect(conflict).toContainText("Changed by Ben while you were writing");
  await expect(conflict).toContainText("what Ben calls it now");
  await expectAccessible(page, "the choice between two labels");
  await conflict.getByRole("button", { name: "Take theirs" }).click();
  await saved(page);
  await expect(name(page)).toHaveValue("what Ben calls it now");
  await editor(page)
    .getByRole("button", { name: /^Redo: .*“what I call it”/ })
    .click();
  await expect(name(page)).toHaveValue("what I call it");
  await theirs.context().close();
  // The browser writes the server's refusals into its log.
  expect(errors.splice(0).every((error) => error.includes("409"))).toBe(true);
});

test("another tab of this browser shows a new label at once", async ({ page, server, found, context }) => {
  const key = await fresh(server, found.run, 6);
  await open(page, server, found.run, key);
  const tab = await context.newPage();
  await open(tab, server, found.run, key);
  await name(tab).fill("from the other tab");
  await saved(tab);
  await expect(page.getByRole("heading", { level: 1 })).toContainText("from the other tab");
  await expect(name(page)).toHaveValue("from the other tab");
});

test("what is written while the server cannot be reached is kept, and saved when it is back", async ({
  page,
  server,
  found,
  errors,
  context,
}) => {
  const key = await fresh(server, found.run, 7);
  await open(page, server, found.run, key);
  await name(page).fill("before");
  await saved(page);
  await context.setOffline(true);
  await name(page).fill("written without a server");
  await saved(page, "Kept in this browser");
  await context.setOffline(false);
  await saved(page);
  await page.reload();
  await expect(name(page)).toHaveValue("written without a server");
  errors.splice(0); // requests that had no answer
});

test("labels go out as files and come in again, with a report of every line", async ({
  page,
  server,
  found,
}) => {
  const [key, empty] = [await fresh(server, found.run, 8), await fresh(server, found.run, 9)];
  await open(page, server, found.run, key);
  await name(page).fill("=ours");
  await saved(page);
  await page.getByRole("button", { name: /labels? …$/i }).click();
  const dialog = page.getByRole("dialog");
  const download = page.waitForEvent("download");
  await dialog.getByRole("link", { name: "CSV for a spreadsheet" }).click();
  const file = readFileSync(await (await download).path(), "utf8");
  expect(file).toContain(`"${key}","'=ours"`);

  const lines = [
    "key,name,rating",
    `${key},theirs,`,
    `${empty},new,3`,
    "9.attn.q:1,nobody,",
    `${empty},twice,`,
  ];
  await dialog.getByLabel("File of labels to import").setInputFiles({
    name: "theirs.csv",
    mimeType: "text/csv",
    buffer: Buffer.from(lines.join("\n")),
  });
  await expect(dialog).toContainText(
    "4 lines; 1 new, 0 replaced, 0 here already, 1 left as ours, 2 not taken",
  );
  await expect(dialog.getByRole("row").filter({ hasText: "9.attn.q:1" })).toContainText("4");
  await expect(dialog.getByRole("row").filter({ hasText: "on line 3" })).toContainText(empty);
  await expectAccessible(page, "the report of an import");
  await dialog.getByRole("button", { name: "Take the file's instead" }).click();
  await expect(dialog).toContainText("0 new, 1 replaced, 1 here already");
  await dialog.getByRole("button", { name: "Undo this import" }).click();
  await expect(dialog).toContainText("1 label taken back");
  await dialog.getByRole("button", { name: "Close" }).click();
  await expect(name(page)).toHaveValue("=ours");
  await page.locator("#search").fill(empty);
  await expect(rowOf(page)).toContainText("new");
});

test("a graph's search finds what people call components, and its panel says it", async ({
  page,
  server,
  found,
}) => {
  const ask = async (path: string, method = "GET", body?: unknown): Promise<never> => {
    const headers = { "Content-Type": "application/json" };
    const options = body === undefined ? { method } : { method, headers, body: JSON.stringify(body) };
    return (await (await fetch(`${server.url}/api${path}`, options)).json()) as never;
  };
  type Job = { id: string; state: string; result: { graph_id: number } | null };
  const request = { text: "And the king said", settings: { max_edges: 2000 } };
  let job: Job = await ask(`/runs/${found.run}/graphs`, "POST", request);
  while (job.state === "queued" || job.state === "running") job = await ask(`/jobs/${job.id}`);
  const id = job.result?.graph_id ?? 0;
  const graph: {
    prompt_id: number;
    addresses: string[];
    nodes: { site: number[]; index: number[] };
  } = await ask(`/graphs/${id}`);
  // A component from which something flows.
  const edges = await (await fetch(`${server.url}/api/graphs/${id}/edges?top=200`)).arrayBuffer();
  const sources = new Uint32Array(edges, 24, 200);
  const site = (node: number): string => graph.addresses[graph.nodes.site[node] ?? 0] ?? "";
  const node = sources.find((one) => site(one).includes(".") && (graph.nodes.index[one] ?? -1) >= 0) ?? 0;
  const key = `${site(node)}:${graph.nodes.index[node]}`;
  const { version } = (await ask(`/runs/${found.run}/labels/${key}`)) as { version: number };
  await ask(`/runs/${found.run}/labels/${key}`, "PUT", { version, name: "quagga words", author: "Ann" });

  await page.goto(
    `${server.url}/runs/${found.run}/prompts/${graph.prompt_id}/graphs/${id}?as=table&find=quagga&only=matches`,
  );
  await expect(page.getByRole("grid")).toContainText("quagga words");
  await page.getByRole("button", { name: /^Select \d+$/ }).click();
  await expect(page.getByRole("tabpanel")).toContainText("quagga words");
});
