/** Plain requests: the answer, or a `RequestFailed` that says why there is none. */

import { connection } from "./connection.svelte";
import { type Failure, RequestFailed, refusal, unread } from "./failure";

/** Ask, and have `read` read the answer: a server may go away before it, and in the middle of it. */
async function ask<T>(
  path: string,
  options: RequestInit,
  read: (answer: Response) => T | Promise<T>,
): Promise<T> {
  let failure: Failure;
  try {
    const answer = await fetch(path, options);
    if (answer.ok) return await read(answer);
    failure = refusal(answer.status, await answer.json().catch(withoutBody));
  } catch (error) {
    if (options.signal?.aborted === true) throw error;
    failure = unread(error);
  }
  if (failure.kind === "offline") connection.lost();
  throw new RequestFailed(failure);
}

/** A refusal that is no JSON is one all the same; one that breaks off is none. */
function withoutBody(error: unknown): null {
  if (error instanceof SyntaxError) return null;
  throw error;
}

async function json<T>(answer: Response): Promise<T> {
  return (await answer.json()) as T;
}

function within(signal: AbortSignal | undefined): RequestInit {
  return signal === undefined ? {} : { signal };
}

export function get<T>(
  path: string,
  signal?: AbortSignal,
  headers: Readonly<Record<string, string>> = {},
): Promise<T> {
  return ask(path, { headers, ...within(signal) }, json<T>);
}

/** An answer that is no JSON: a file to keep. */
export function getBlob(path: string, signal?: AbortSignal): Promise<Blob> {
  return ask(path, within(signal), (answer) => answer.blob());
}

/** An answer that is no JSON: numbers to read. */
export function getBytes(path: string, signal?: AbortSignal): Promise<ArrayBuffer> {
  return ask(path, within(signal), (answer) => answer.arrayBuffer());
}

/** A file as it is; what it holds is for the server to find out. */
export function sendFile<T>(path: string, file: Blob): Promise<T> {
  return ask(path, { method: "POST", body: file }, json<T>);
}

export function send<T>(
  method: "POST" | "PUT" | "PATCH",
  path: string,
  body: unknown,
  signal?: AbortSignal,
  more: Readonly<Record<string, string>> = {},
): Promise<T> {
  const headers = { "Content-Type": "application/json", ...more };
  return ask(path, { method, headers, body: JSON.stringify(body), ...within(signal) }, json<T>);
}

export function remove(path: string, headers: Readonly<Record<string, string>> = {}): Promise<void> {
  return ask(path, { method: "DELETE", headers }, () => undefined);
}
