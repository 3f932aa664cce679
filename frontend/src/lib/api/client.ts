/** Requests to the server, typed by its OpenAPI document. All go through one cache. */

import createClient from "openapi-fetch";

import type { ExampleKind, Labelled, Metric, Sort } from "../location/view";
import type { Unit } from "../words";
import { AnswerCache } from "./cache";
import { connection } from "./connection.svelte";
import { type Failure, RequestFailed, refusal, unread } from "./failure";
import type { paths } from "./schema";
import type {
  ComponentCard,
  ComponentPage,
  DocumentPage,
  Evidence,
  ExamplePage,
  RunDetail,
  RunList,
  TokenPage,
} from "./types";

const client = createClient<paths>({ baseUrl: "/" });
const cache = new AnswerCache(400);

interface Answer<T> {
  data?: T;
  error?: unknown;
  response: Response;
}

async function settle<T>(request: Promise<Answer<T>>): Promise<T> {
  let failure: Failure;
  try {
    const answer = await request;
    if (answer.data !== undefined && answer.response.ok) return answer.data;
    failure = refusal(answer.response.status, answer.error);
  } catch (error) {
    failure = unread(error);
  }
  if (failure.kind === "offline") connection.lost();
  throw new RequestFailed(failure);
}

/** What the lists of a card depend on beside its key. */
export interface ListSettings {
  readonly metric: Metric;
  readonly raw: boolean;
  readonly subrun: string | null;
}

function optional<K extends string>(name: K, value: string | null): Partial<Record<K, string>> {
  return value === null || value === "" ? {} : ({ [name]: value } as Partial<Record<K, string>>);
}

/** After the server came back it may serve other data. */
export function forgetAnswers(): void {
  cache.clear();
}

/** Labels decide what a search finds among the components. */
export function forgetComponents(run: string): void {
  cache.forget(`components ${run} `);
}

export function getRuns(): Promise<RunList> {
  return settle(client.GET("/api/runs"));
}

export function getRun(run: string): Promise<RunDetail> {
  return cache.get(`run ${run}`, () => settle(client.GET("/api/runs/{run}", { params: { path: { run } } })));
}

/** Whether a run that was opened has evidence of its components; asking for what is not there is an error. */
export function isHarvested(run: string): boolean {
  return (cache.peek<RunDetail>(`run ${run}`)?.harvests.length ?? 0) > 0;
}

/** What the values of the newest attributions are where they are not raw, of a run that was opened. */
export function unitOf(run: string): Unit {
  return cache.peek<RunDetail>(`run ${run}`)?.attributions?.unit ?? "normalised";
}

export interface ComponentFilter {
  readonly site: string | null;
  readonly q: string;
  readonly sort: Sort;
  /** The text of a token on which it fires more than by chance; empty: any. */
  readonly fires: string;
  /** The least and the largest share of positions on which it is alive. */
  readonly rare: number | null;
  readonly often: number | null;
  /** The least and the largest mean CI. */
  readonly weak: number | null;
  readonly strong: number | null;
  /** Words of the label, and whose it is. */
  readonly label: string;
  readonly labelled: Labelled | null;
  /** What the strongest source and target are; empty: anything. */
  readonly source: string;
  readonly target: string;
  /** Only members of a cluster, or what is alone or unknown, in a clustering after some merges. */
  readonly within: {
    readonly cluster: string;
    readonly clustering: string | null;
    readonly merges: number | null;
  } | null;
}

export function getComponents(
  run: string,
  filter: ComponentFilter,
  cursor: string | null,
  limit: number,
): Promise<ComponentPage> {
  const query = {
    ...optional("site", filter.site),
    ...optional("q", filter.q),
    ...optional("fires_on", filter.fires),
    ...(filter.rare === null ? {} : { min_density: filter.rare }),
    ...(filter.often === null ? {} : { max_density: filter.often }),
    ...(filter.weak === null ? {} : { min_mean_ci: filter.weak }),
    ...(filter.strong === null ? {} : { max_mean_ci: filter.strong }),
    ...optional("label", filter.label.trim()),
    ...(filter.labelled === null ? {} : { labelled: filter.labelled }),
    ...optional("strongest_source", filter.source.trim()),
    ...optional("strongest_target", filter.target.trim()),
    ...optional("cluster", filter.within?.cluster ?? null),
    ...optional("clustering", filter.within?.clustering ?? null),
    ...(typeof filter.within?.merges === "number" ? { iteration: filter.within.merges } : {}),
    ...optional("cursor", cursor),
    sort: filter.sort,
    limit,
  };
  return cache.get(`components ${run} ${JSON.stringify(query)}`, () =>
    settle(client.GET("/api/runs/{run}/components", { params: { path: { run }, query } })),
  );
}

/** All tokens that match; the server returns at most a thousand. */
export function getTokens(run: string, q: string): Promise<TokenPage> {
  return cache.get(`tokens ${run} ${q}`, () =>
    settle(client.GET("/api/runs/{run}/tokens", { params: { path: { run }, query: { q, limit: 10_000 } } })),
  );
}

export function getCard(run: string, key: string, k: number, settings: ListSettings): Promise<ComponentCard> {
  const query = { metric: settings.metric, raw: settings.raw, k, ...optional("subrun", settings.subrun) };
  return cache.get(`card ${run} ${key} ${JSON.stringify(query)}`, () =>
    settle(client.GET("/api/runs/{run}/components/{key}", { params: { path: { run, key }, query } })),
  );
}

/** What the harvest of the corpus says of a component, with at most `k` associations a list. */
export function getEvidence(run: string, key: string, k: number): Promise<Evidence> {
  const options = { params: { path: { run, key }, query: { k } } };
  return cache.get(`evidence ${run} ${key} ${k}`, () =>
    settle(client.GET("/api/runs/{run}/components/{key}/evidence", options)),
  );
}

export interface ExampleChoice {
  readonly kind: ExampleKind;
  /** Only examples that fire on the token with this id. */
  readonly token: number | null;
}

export function getExamples(
  run: string,
  key: string,
  { kind, token }: ExampleChoice,
  cursor: string | null,
  limit: number,
): Promise<ExamplePage> {
  const query = { kind, limit, ...optional("cursor", cursor), ...(token === null ? {} : { token }) };
  return cache.get(`examples ${run} ${key} ${JSON.stringify(query)}`, () =>
    settle(
      client.GET("/api/runs/{run}/components/{key}/examples", { params: { path: { run, key }, query } }),
    ),
  );
}

/** A part of a document of the corpus; with the values of `key` at each token where one is given. */
export function getDocument(
  run: string,
  number: number,
  part: { readonly start: number; readonly length: number; readonly key: string | null },
): Promise<DocumentPage> {
  const query = { start: part.start, length: part.length, ...optional("key", part.key) };
  return cache.get(`document ${run} ${number} ${JSON.stringify(query)}`, () =>
    settle(client.GET("/api/runs/{run}/documents/{number}", { params: { path: { run, number }, query } })),
  );
}

/** Small cards of many components in one request. Keys that have none are absent from the result. */
export async function getCards(
  run: string,
  keys: readonly string[],
  k: number,
  settings: ListSettings,
): Promise<Map<string, ComponentCard>> {
  const { metric, raw, subrun } = settings;
  const body = { keys: [...keys], metric, raw, k, subrun, evidence: true };
  const answer = await settle(
    client.POST("/api/runs/{run}/components:batch", { params: { path: { run } }, body }),
  );
  return new Map(answer.cards.map((card) => [card.key, card]));
}
