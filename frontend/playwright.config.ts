import { defineConfig } from "@playwright/test";

/** The browser that the system provides; Playwright's own is not downloaded. */
const executablePath = process.env["CHROMIUM"] ?? "/usr/bin/chromium";

export default defineConfig({
  testDir: "../tests/e2e",
  tsconfig: "./tsconfig.node.json",
  outputDir: "../test-results",
  fullyParallel: false,
  workers: 1,
  // Generous: a machine that trains at the same time takes ten times as long.
  timeout: 120_000,
  expect: { timeout: 20_000 },
  // What passes only the second time is printed as flaky, with what went wrong the first time.
  retries: 1,
  forbidOnly: process.env["CI"] !== undefined,
  reporter: [["list"]],
  use: {
    browserName: "chromium",
    viewport: { width: 1440, height: 900 },
    launchOptions: {
      executablePath,
      args: ["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
    },
  },
});
