/** Plain requests: the answer, or a `RequestFailed` that says why there is none. */

import { connection } from "./connection.svelte";
import { type Failure, RequestFailed, refusal } from "./failure";

async function ask(path: string, options: RequestInit): Promise<Response> {
  let answer: Response;
  try {
    answer = await fetch(path, options);
  } catch (error) {
    if (options.signal?.aborted === true) throw error;
    connection.lost();
    throw new RequestFailed({ kind: "offline" });
  }
  if (answer.ok) return answer;
  const failure: Failure = refusal(answer.status, await answer.json().catch(() => null));
  if (failure.kind === "offline") connection.lost();
  throw new RequestFailed(failure);
}

function within(signal: AbortSignal | undefined): RequestInit {
  return signal === undefined ? {} : { signal };
}

export async function get<T>(
  path: string,
  signal?: AbortSignal,
  headers: Readonly<Record<string, string>> = {},
): Promise<T> {
  return (await (await ask(path, { headers, ...within(signal) })).json()) as T;
}

/** An answer that is no JSON. */
export function sendRaw(path: string, signal?: AbortSignal): Promise<Response> {
  return ask(path, within(signal));
}

/** A file as it is; what it holds is for the server to find out. */
export async function sendFile<T>(path: string, file: Blob): Promise<T> {
  return (await (await ask(path, { method: "POST", body: file })).json()) as T;
}

export async function send<T>(
  method: "POST" | "PUT" | "PATCH",
  path: string,
  body: unknown,
  signal?: AbortSignal,
  more: Readonly<Record<string, string>> = {},
): Promise<T> {
  const headers = { "Content-Type": "application/json", ...more };
  const answer = await ask(path, { method, headers, body: JSON.stringify(body), ...within(signal) });
  return (await answer.json()) as T;
}

export async function remove(path: string, headers: Readonly<Record<string, string>> = {}): Promise<void> {
  await ask(path, { method: "DELETE", headers });
}
