/**
 * Drives the graph view in a real browser and prints how long script holds up its frames.
 *
 * Hovering, panning and zooming are real mouse events. Times come from the browser's own trace: the script of
 * a frame is everything JavaScript that the page's main thread ran (event handlers, animation frames, timers,
 * microtasks) since the frame before, in processor time and, as `clock`, in time on the clock, which on a busy
 * machine is longer; `thread` is all work of that thread in processor time, painting canvases included.
 *
 *     node bench/measure.mjs [--json]       CHROMIUM names the browser
 */

import { chromium } from "@playwright/test";
import { createServer } from "vite";

const SIZE = { tokens: 32, blocks: 6, nodes: 10_000, edges: 100_000 };
const TARGET_MS = 16;
const STEPS = 240;
const json = process.argv.includes("--json");

const SCRIPT = new Set([
  "FireAnimationFrame",
  "EventDispatch",
  "TimerFire",
  "RunMicrotasks",
  "FunctionCall",
  "v8.callFunction",
]);

/** Script and whole work of the main thread for each of its frames, in milliseconds. */
function frames(events) {
  const main = events.find((event) => event.name === "FireAnimationFrame");
  if (main === undefined) return [];
  const mine = events
    .filter((event) => event.pid === main.pid && event.tid === main.tid && event.ph === "X")
    .sort((a, b) => a.ts - b.ts);
  const begins = events
    .filter((event) => event.name === "AnimationFrame" && event.ph === "b" && event.pid === main.pid)
    .map((event) => event.ts)
    .sort((a, b) => a - b);
  const result = begins.map(() => ({ script: 0, clock: 0, thread: 0 }));
  const frameOf = (time) => {
    let low = 0;
    let high = begins.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (begins[middle] <= time) low = middle + 1;
      else high = middle;
    }
    return Math.max(0, low - 1);
  };
  // Events nest: only the outermost of each kind counts.
  const ends = { script: 0, thread: 0 };
  for (const event of mine) {
    const kind = SCRIPT.has(event.name) ? "script" : event.name.endsWith("RunTask") ? "thread" : null;
    if (kind === null || event.ts < ends[kind]) continue;
    ends[kind] = event.ts + event.dur;
    const frame = result[frameOf(event.ts)];
    frame[kind] += (event.tdur ?? event.dur) / 1000;
    if (kind === "script") frame.clock += event.dur / 1000;
  }
  return result.filter(({ script }) => script > 0);
}

async function traced(page, act) {
  const session = await page.context().newCDPSession(page);
  const events = [];
  session.on("Tracing.dataCollected", ({ value }) => events.push(...value));
  await session.send("Tracing.start", {
    traceConfig: {
      includedCategories: ["devtools.timeline", "toplevel", "disabled-by-default-devtools.timeline"],
    },
    transferMode: "ReportEvents",
  });
  await act();
  const complete = new Promise((done) => session.once("Tracing.tracingComplete", done));
  await session.send("Tracing.end");
  await complete;
  await session.detach();
  return frames(events);
}

function summary(values) {
  const sorted = [...values].sort((a, b) => a - b);
  const at = (share) => sorted[Math.min(sorted.length - 1, Math.ceil(share * sorted.length) - 1)] ?? 0;
  return { p50: at(0.5), p99: at(0.99), max: sorted.at(-1) ?? 0 };
}

const server = await createServer({
  root: new URL("..", import.meta.url).pathname,
  logLevel: "error",
  server: { port: 0, host: "127.0.0.1", hmr: false },
});
await server.listen();
const address = server.httpServer.address();
const browser = await chromium.launch({
  executablePath: process.env["CHROMIUM"] ?? "/usr/bin/chromium",
  args: ["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
});
try {
  const page = await browser.newPage({ viewport: { width: 1440, height: 900 } });
  const query = new URLSearchParams(Object.entries(SIZE).map(([name, value]) => [name, String(value)]));
  await page.goto(`http://127.0.0.1:${address.port}/bench/?${query}`);
  const complete = async () => {
    await page.waitForFunction(() => performance.getEntriesByName("complete").length > 0, null, {
      timeout: 120_000,
    });
    await page.waitForTimeout(300);
  };
  await complete();
  const made = await page.evaluate(() =>
    document.querySelector("[role=application]")?.getAttribute("aria-label"),
  );
  const drawn = await page.evaluate(() => {
    const [begun] = performance.getEntriesByName("data");
    const [complete] = performance.getEntriesByName("complete");
    const [first] = performance.getEntriesByName("first");
    return { first: first.startTime - begun.startTime, complete: complete.startTime - begun.startTime };
  });
  const middle = { x: 760, y: 440 };
  const actions = {
    hover: async () => {
      for (let n = 0; n < STEPS; n++) {
        const angle = n * 0.37;
        await page.mouse.move(middle.x + 8 * n * 0.3 * Math.cos(angle), middle.y + n * Math.sin(angle));
      }
    },
    pan: async () => {
      await page.mouse.move(middle.x, middle.y);
      await page.mouse.down();
      for (let n = 1; n <= STEPS; n++)
        await page.mouse.move(middle.x + 90 * Math.sin(n / 12), middle.y + 60 * Math.sin(n / 17));
      await page.mouse.up();
    },
    zoom: async () => {
      await page.mouse.move(middle.x, middle.y);
      await page.keyboard.down("Control");
      for (let n = 0; n < STEPS / 2; n++) await page.mouse.wheel(0, n % 40 < 20 ? -30 : 30);
      await page.keyboard.up("Control");
    },
    // What comes after a movement: the edges are painted anew, a slice a frame.
    repaint: async () => {
      for (let n = 0; n < 4; n++) {
        await page.mouse.wheel(0, n % 2 === 0 ? 40 : -40);
        await page.waitForTimeout(1500);
      }
    },
  };
  const results = {};
  for (const [name, act] of Object.entries(actions)) {
    const measured = await traced(page, act);
    results[name] = {
      frames: measured.length,
      script: summary(measured.map(({ script }) => script)),
      clock: summary(measured.map(({ clock }) => clock)),
      thread: summary(measured.map(({ thread }) => thread)),
    };
    await page.waitForTimeout(2500);
  }
  const report = { graph: made?.split(".")[0] ?? "", target_ms: TARGET_MS, drawn_ms: drawn, ...results };
  if (json) console.log(JSON.stringify(report));
  else {
    const text = ({ p50, p99, max }) => [p50, p99, max].map((value) => value.toFixed(1).padStart(7)).join("");
    console.log(report.graph);
    console.log(
      `from data to the strongest edges on screen ${drawn.first.toFixed(0)} ms, to all of them ${drawn.complete.toFixed(0)} ms`,
    );
    const columns = ["p50", "p99", "max"].map((word) => word.padStart(7)).join("");
    console.log(`milliseconds a frame, target ${TARGET_MS}`);
    console.log(
      `${"".padEnd(21)}${["script", "script, clock", "whole thread"].map((word) => word.padStart(21)).join("")}`,
    );
    console.log(`${"".padEnd(21)}${columns.repeat(3)}`);
    for (const [name, { frames: count, script, clock, thread }] of Object.entries(results))
      console.log(
        `  ${name.padEnd(8)}${String(count).padStart(4)} frames${text(script)}${text(clock)}${text(thread)}`,
      );
  }
} finally {
  await browser.close();
  await server.close();
}
