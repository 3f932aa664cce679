import { readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";

import openapiTS, { astToString } from "openapi-typescript";
import { expect, it } from "vitest";

it("the client is what the server's document generates: else run `npm run generate`", async () => {
  const committed = await readFile(
    fileURLToPath(new URL("src/lib/api/schema.d.ts", import.meta.url)),
    "utf8",
  );
  const generated = astToString(await openapiTS(new URL("openapi.json", import.meta.url)));
  expect(committed.endsWith(generated), "src/lib/api/schema.d.ts is stale").toBe(true);
}, 60_000);
