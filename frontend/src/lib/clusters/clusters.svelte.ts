/** The clusters that the address asks for, for everything that shows components. */

import { connection } from "../api/connection.svelte";
import { ClusterBook } from "./book";
import { type ClusteringDetail, forgetClusters, getClustering, getClusterings } from "./api";

const books = new WeakMap<ClusteringDetail, ClusterBook>();

$effect.root(() => {
  $effect.pre(() => {
    if (connection.epoch > 0) forgetClusters();
  });
});

/** `null` where the run has no clusters. Every asker of the same clusters gets the same book. */
export async function getBook(
  run: string,
  subrun: string | null,
  merges: number | null,
): Promise<ClusterBook | null> {
  const newest = (await getClusterings(run)).clusterings[0];
  if (subrun === null && newest === undefined) return null;
  const detail = await getClustering(run, subrun ?? newest?.subrun ?? "newest", merges);
  let book = books.get(detail);
  if (book === undefined) {
    book = new ClusterBook(detail);
    books.set(detail, book);
  }
  return book;
}
