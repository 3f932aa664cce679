/**
 * What the page shows, and the address that says so. Pure: no browser here.
 *
 * | part            | meaning                                         | default   |
 * |-----------------|-------------------------------------------------|-----------|
 * | /runs/R         | overview of run R                               |           |
 * | …/components    | its components                                  |           |
 * | …/components/K  | the card of K                                   |           |
 * | …/prompts       | its prompts, and a new one                      |           |
 * | …/prompts/P     | prompt P and its graphs                         |           |
 * | …/P/graphs/G    | graph G of prompt P                             |           |
 * | site            | table: only this site, or embed or output       | all sites |
 * | q               | table: search                                   | empty     |
 * | sort            | table: order                                    | -mean_ci  |
 * | metric          | attr, attr_abs or attr_frozen                   | attr      |
 * | raw             | 1: raw sums in place of normalised values       | normalised|
 * | k               | entries a list                                  | 10        |
 * | subrun          | an older computation of the attributions        | newest    |
 * | …/clusters      | components that are needed together             |           |
 * | clustering      | an older or imported clustering                 | newest    |
 * | merges          | its clusters after so many merges               | its own   |
 * | cluster         | table, clusters: a number, alone or unknown     | all, none |
 * | trail           | the components walked through to reach this one | empty     |
 * | examples        | card: random or strongest                       | random    |
 * | token           | card: only examples that fire on this token id  | all       |
 * | text            | card: one's own text to try it on               | empty     |
 * | fires           | table: only what fires on this token            | all       |
 * | rare, often     | table: alive on at least, at most this share    | all       |
 * | weak, strong    | table: mean CI at least, at most this           | all       |
 * | label           | table: words in the label                       | empty     |
 * | labelled        | table: any, none, person or model               | all       |
 * | source, target  | table: what the strongest one is                | all       |
 * | …/documents/D   | document D of the corpus                        |           |
 * | at              | document: the token to bring into sight         | its start |
 * | key             | document: whose values are shown                | none      |
 * | …/text          | searching the corpus                            |           |
 * | find            | text: what is searched for                      | empty     |
 * | mode            | text: words or exact                            | words     |
 * | case            | text: 1: capitals differ from small letters     | alike     |
 * | in              | text: only this document                        | all       |
 * | page            | text: which page of the hits, from 1            | 1         |
 * | hit             | text: the hit that is open                      | none      |
 * | …/labels        | labels that language models gave                |           |
 * | set             | labels: the set                                 | newest    |
 * | with            | labels: the set beside it                       | none      |
 * | find, page      | labels: words in key or label; which page       | empty, 1  |
 * | only            | labels: failed: only what failed                | all       |
 * | key             | labels: the component whose label is explained  | none      |
 * | make            | labels: 1: new ones, of `key` or the rest of    | none      |
 * |                 | `set` where those are given                     |           |
 *
 * On a toy model's page, …/toy:
 *
 * | matrix          | whose answers to single features are shown      | the first |
 * | key             | the component whose card is open                | none      |
 * | value           | what the single feature is set to               | standard  |
 * | order           | of its components: expected, identity, dense,   | expected  |
 * |                 | index                                           |           |
 * | show            | importance or activation                        | importance|
 * | all             | 1: columns in which nothing acts, too           | left out  |
 * | input           | the input that is tried: feature:value,…        | none      |
 *
 * On the prompts' page:
 *
 * | text            | what was typed so far                           | empty     |
 * | ids             | its exact tokens, until it is typed over        | none      |
 *
 * On a graph's page:
 *
 * | as              | canvas or table                                 | canvas    |
 * | top / least     | edges shown: the strongest n, or |value| ≥ x    | strongest |
 * | find            | search for nodes                                | empty     |
 * | only            | what leads to the outputs, all, what matches,   | outputs   |
 * |                 | is near the selection, pinned, grouped, by      |           |
 * |                 | cluster, differs                                |           |
 * | layers, tokens  | nodes of these layers, at these positions       | all       |
 * | sel             | selected nodes: keys, or ranges of numbers      | none      |
 * | edge            | the selected edge: source~target                | none      |
 * | at              | x, y and zoom of the viewport                   | fits      |
 * | panel           | the side panel's tab; none: closed              | node      |
 * | with            | the graph this one is compared with             | none      |
 * | colour          | nodes: plain, or by cluster                     | plain     |
 */

export * from "./types";
export { parseView } from "./parse";
export { printView, TEXT_LIMIT } from "./print";
export * from "./moves";
