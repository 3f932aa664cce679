/** The real server, started and stopped by the tests, and what several of them do. */

import { type ChildProcess, execFile, spawn } from "node:child_process";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { promisify } from "node:util";

import { type Locator, type Page, test as base, expect } from "@playwright/test";
import axe from "axe-core";

const ROOT = resolve(__dirname, "..", "..");
const VENV = join(ROOT, ".venv", "bin", "python");
const PYTHON = process.env["PYTHON"] ?? (existsSync(VENV) ? VENV : "python3");
const PATIENCE_MS = 60_000;

async function freePort(): Promise<number> {
  return new Promise((done, fail) => {
    const probe = createServer();
    probe.on("error", fail);
    probe.listen(0, "127.0.0.1", () => {
      const address = probe.address();
      const port = typeof address === "object" && address !== null ? address.port : 0;
      probe.close(() => done(port));
    });
  });
}

export class Server {
  readonly url: string;
  readonly #port: number;
  readonly #folder: string;
  readonly #kind: string;
  readonly #environment: Readonly<Record<string, string>>;
  #process: ChildProcess | null = null;
  #said = "";

  private constructor(
    port: number,
    folder: string,
    kind: string,
    environment: Readonly<Record<string, string>>,
  ) {
    this.#environment = environment;
    this.#kind = kind;
    this.#port = port;
    this.#folder = folder;
    this.url = `http://127.0.0.1:${port}`;
  }

  /** `kind`: which run, as serve.py knows it; by default the bundled one. */
  static async create(kind = "", environment: Readonly<Record<string, string>> = {}): Promise<Server> {
    return new Server(await freePort(), mkdtempSync(join(tmpdir(), "tributary-e2e-")), kind, environment);
  }

  /** What it printed since it was started first. */
  get said(): string {
    return this.#said;
  }

  /** Run a script beside this file with the server's folder as its first argument. */
  async script(name: string, ...more: string[]): Promise<void> {
    await promisify(execFile)(PYTHON, [join(__dirname, name), this.#folder, ...more], { cwd: ROOT });
  }

  async start(): Promise<void> {
    const script = join(__dirname, "serve.py");
    const child = spawn(PYTHON, [script, String(this.#port), this.#folder, this.#kind], {
      cwd: ROOT,
      stdio: "pipe",
      env: { ...process.env, ...this.#environment },
    });
    this.#process = child;
    child.stdout.on("data", (data: Buffer) => (this.#said += data.toString()));
    child.stderr.on("data", (data: Buffer) => (this.#said += data.toString()));
    const deadline = Date.now() + PATIENCE_MS;
    while (Date.now() < deadline) {
      if (child.exitCode !== null) break;
      const answers = await fetch(`${this.url}/api/health`).then(
        (response) => response.ok,
        () => false,
      );
      if (answers) return;
      await new Promise((done) => setTimeout(done, 100));
    }
    throw new Error(`The server did not start:\n${this.#said}`);
  }

  /** Without a warning, as a crash would. */
  async kill(): Promise<void> {
    const child = this.#process;
    if (child === null || child.exitCode !== null) return;
    const gone = new Promise((done) => child.once("exit", done));
    child.kill("SIGKILL");
    await gone;
    this.#process = null;
  }

  async stop(): Promise<void> {
    const child = this.#process;
    if (child === null || child.exitCode !== null) return;
    const gone = new Promise((done) => child.once("exit", done));
    child.kill("SIGTERM");
    const forced = setTimeout(() => child.kill("SIGKILL"), 5000);
    await gone;
    clearTimeout(forced);
    this.#process = null;
  }

  async remove(): Promise<void> {
    await this.stop();
    rmSync(this.#folder, { recursive: true, force: true });
  }
}

export interface Model {
  readonly url: string;
  /** Answer so many requests at once, and the others only after a minute. */
  readonly quick: (requests: number) => Promise<void>;
  readonly stop: () => void;
}

/** A language model's server in a process of its own. */
export async function startModel(): Promise<Model> {
  const child = spawn(PYTHON, [join(__dirname, "model.py")], { cwd: ROOT, stdio: "pipe" });
  let errors = "";
  child.stderr.on("data", (data: Buffer) => (errors += data.toString()));
  const url = await new Promise<string>((done, fail) => {
    child.stdout.once("data", (data: Buffer) => done(data.toString().trim()));
    child.once("exit", () => fail(new Error(`The model's server did not start:\n${errors}`)));
  });
  const quick = async (requests: number): Promise<void> => {
    await fetch(`${url}/quick/${requests}`);
  };
  return { url, quick, stop: () => child.kill() };
}

export interface Found {
  /** Name of the run that is served. */
  readonly run: string;
  /** A component with sources and targets. */
  readonly key: string;
  readonly site: string;
  readonly components: number;
}

async function look(url: string): Promise<Found> {
  const get = async (path: string): Promise<never> => (await (await fetch(url + path)).json()) as never;
  const { runs } = await (get("/api/runs") as Promise<{ runs: { name: string; n_components: number }[] }>);
  const first = runs[0];
  if (first === undefined) throw new Error("The server has no run");
  // Components of the last block's down projection read from many sites and write to the output.
  const { sites } = await (get(`/api/runs/${first.name}`) as Promise<{ sites: { address: string }[] }>);
  const site = sites.filter(({ address }) => address.endsWith(".down")).at(-1)?.address ?? "";
  const page = await (get(
    `/api/runs/${first.name}/components?site=${site}&sort=-mean_ci&limit=1`,
  ) as Promise<{
    components: { key: string }[];
  }>);
  const key = page.components[0]?.key;
  if (key === undefined) throw new Error(`${site} has no component`);
  return { run: first.name, key, site, components: first.n_components };
}

export const test = base.extend<{ errors: string[] }, { server: Server; found: Found }>({
  server: [
    // eslint-disable-next-line no-empty-pattern -- a fixture's dependencies are read from this pattern
    async ({}, use) => {
      const server = await Server.create();
      await server.start();
      await use(server);
      await server.remove();
    },
    { scope: "worker", timeout: 2 * PATIENCE_MS },
  ],
  found: [async ({ server }, use) => use(await look(server.url)), { scope: "worker" }],
  /** Every test fails on an error that the page throws or logs, unless it expects and clears it. */
  errors: [
    async ({ page }, use) => {
      const errors: string[] = [];
      page.on("pageerror", (error) => errors.push(error.message));
      page.on("console", (message) => {
        if (message.type() === "error") errors.push(message.text());
      });
      await use(errors);
      expect(errors, "errors of the page").toEqual([]);
    },
    { auto: true },
  ],
});

/**
 * Errors without what the browser itself logs when a server goes away: refused connections, and answers that broke
 * off wherever the server stood in sending them (net::ERR_CONTENT_LENGTH_MISMATCH, ERR_EMPTY_RESPONSE and others).
 */
export function beyondLostServer(errors: readonly string[]): string[] {
  return errors.filter((text) => !/^Failed to load resource: net::ERR_/.test(text));
}

/** For tests that leave something behind which others would stumble over: with a server of their own. */
export const testAlone = test.extend<object, { server: Server }>({
  server: [
    // eslint-disable-next-line no-empty-pattern -- a fixture's dependencies are read from this pattern
    async ({}, use) => {
      const server = await Server.create();
      await server.start();
      await use(server);
      await server.remove();
    },
    { scope: "worker", timeout: 2 * PATIENCE_MS },
  ],
});

export { expect };

export const card = (found: Found, key = found.key): string => `/runs/${found.run}/components/${key}`;

/** Wait until the card of a key is on screen and settled. */
export async function settled(page: Page, key: string): Promise<void> {
  await expect(page.getByRole("heading", { level: 1 })).toContainText(key);
  await expect(page.locator("main section[aria-busy=true]")).toHaveCount(0);
}

/** A row of the table beside the map of sites, counted from 0. */
export function rowOf(page: Page, index = 0): Locator {
  return page
    .getByRole("grid")
    .getByRole("row")
    .nth(index + 1);
}

/** No violation of any rule that axe knows, best practices included. */
export async function expectAccessible(page: Page, what: string): Promise<void> {
  await page.evaluate(axe.source);
  const found = await page.evaluate(async () => {
    const { axe: engine } = window as unknown as { axe: typeof axe };
    const { violations } = await engine.run(document, { resultTypes: ["violations"] });
    return violations.map(
      ({ id, help, nodes }) =>
        `${id}: ${help}: ${nodes
          .slice(0, 4)
          .map(({ html }) => html.slice(0, 160))
          .join(" | ")}`,
    );
  });
  expect(found, `axe on ${what}`).toEqual([]);
}
