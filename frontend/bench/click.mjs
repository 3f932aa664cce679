/**
 * Computes prompt graphs in a real browser, as a user does, and prints how long that takes from the click.
 *
 *     node bench/click.mjs URL RUN [--json]       CHROMIUM names the browser
 *
 * Three prompts of each length are computed, none of them before: beginnings of documents of the run's own
 * corpus, cut where they have that many tokens. Each ends when all edges that the page draws are on screen.
 * What is printed first is the very first click after the server was started.
 */

import { chromium } from "@playwright/test";

const [url, run] = process.argv.slice(2);
const json = process.argv.includes("--json");
const LENGTHS = [16, 32, 64];
const EACH = 3;
const WAIT_MS = 120_000;

async function tokenise(text) {
  return (await ask(`/runs/${run}/predictions`, { text, k: 1, positions: "last" })).tokens;
}

async function ask(path, body) {
  const response = await fetch(`${url}/api${path}`, {
    method: body === undefined ? "GET" : "POST",
    headers: { "Content-Type": "application/json" },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  if (!response.ok) throw new Error(`${path}: ${response.status} ${await response.text()}`);
  return response.json();
}

/** Texts whose tokens are the first `length` of an opening's. */
async function prompts() {
  const { openings } = await ask(`/runs/${run}/openings?n=20`);
  const texts = openings.map((opening) => opening.text);
  const result = [];
  for (const length of LENGTHS) {
    const fit = [];
    for (let n = 0; fit.length < EACH && n < texts.length; n++) {
      // Openings may be short: the next ones follow, as documents do in the corpus.
      const whole = Array.from({ length: 8 }, (_, more) => texts[(n + more) % texts.length]).join(" ");
      const tokens = await tokenise(whole);
      const text = tokens.slice(0, length).join("");
      if ((await tokenise(text)).length === length) fit.push(text);
    }
    if (fit.length < EACH) throw new Error(`The corpus begins with too few texts of ${length} tokens`);
    result.push({ length, texts: fit });
  }
  return result;
}

async function click(page, text) {
  await page.goto(`${url}/runs/${run}/prompts?text=${encodeURIComponent(text)}`);
  await page.getByText(/About [\d,]+ nodes/).waitFor({ timeout: WAIT_MS });
  await page.evaluate(() => {
    performance.clearMarks();
    const begun = (event) => {
      if (!(event.target instanceof Element) || event.target.closest("button") === null) return;
      performance.mark("click");
      window.removeEventListener("click", begun, true);
    };
    window.addEventListener("click", begun, true);
  });
  await page.getByRole("button", { name: "Compute the graph" }).click();
  await page.waitForFunction(() => performance.getEntriesByName("graph complete").length > 0, null, {
    timeout: WAIT_MS,
    polling: 50,
  });
  const time = await page.evaluate(() => {
    const at = (name) => performance.getEntriesByName(name)[0].startTime;
    return { first: at("graph first") - at("click"), complete: at("graph complete") - at("click") };
  });
  const id = Number(/graphs\/(\d+)/.exec(page.url())?.[1]);
  const graph = await ask(`/graphs/${id}`);
  return {
    ...time,
    tokens: graph.tokens.length,
    nodes: graph.nodes.site.length,
    edges: graph.n_edges,
    computed: 1000 * graph.seconds,
  };
}

const browser = await chromium.launch({
  executablePath: process.env["CHROMIUM"] ?? "/usr/bin/chromium",
  args: ["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
});
try {
  const page = await browser.newPage({ viewport: { width: 1440, height: 900 } });
  const all = await prompts();
  const clicks = [];
  for (const { texts } of all) for (const text of texts) clicks.push(await click(page, text));
  if (json) console.log(JSON.stringify({ run, clicks }));
  else {
    console.log(`from the click to the drawn graph, run ${run}, milliseconds`);
    console.log("  tokens    nodes      edges  computed  strongest drawn  all drawn");
    for (const one of clicks)
      console.log(
        [
          String(one.tokens).padStart(8),
          one.nodes.toLocaleString("en").padStart(9),
          one.edges.toLocaleString("en").padStart(11),
          one.computed.toFixed(0).padStart(10),
          one.first.toFixed(0).padStart(17),
          one.complete.toFixed(0).padStart(11),
        ].join(""),
      );
  }
} finally {
  await browser.close();
}
