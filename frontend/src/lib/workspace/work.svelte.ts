/**
 * Long computations about a graph, whichever panel is open: they go on while another panel is looked at, and
 * are found again after the page was loaded anew.
 */

import { RequestFailed } from "../api/failure";
import { JobFollower, type JobListener } from "../api/job.svelte";
import { getJob } from "../api/prompts";
import type { CircuitSnapshot, Job } from "../api/promptTypes";
import type { GraphRef } from "./store";

/** What a search for circuits was asked for: a legend for its curves. */
export interface Sweep {
  readonly coefficients: readonly number[];
  readonly steps: number;
}

interface Remembered {
  readonly id: string;
  readonly sweep: Sweep | null;
}

export type WorkKind = "intervention" | "circuits" | "graph";

function remember(name: string, job: Remembered | null): void {
  try {
    if (job === null) sessionStorage.removeItem(name);
    else sessionStorage.setItem(name, JSON.stringify(job));
  } catch {
    // A browser that keeps nothing: the work goes on, only a reload loses sight of it.
  }
}

function remembered(name: string): Remembered | null {
  try {
    return JSON.parse(sessionStorage.getItem(name) ?? "null") as Remembered | null;
  } catch {
    return null;
  }
}

export class Work {
  readonly follower = new JobFollower();
  /** Live curves, oldest first. */
  snapshots: readonly CircuitSnapshot[] = $state.raw([]);
  sweep: Sweep | null = $state.raw(null);
  /** Counts what was finished: lists of results depend on it. */
  finished = $state(0);
  readonly #name: string;

  constructor(name: string) {
    this.#name = name;
  }

  /** `done` comes once, with what the job made. */
  async start(
    ask: () => Promise<Job>,
    done?: JobListener["done"],
    sweep: Sweep | null = null,
  ): Promise<void> {
    this.snapshots = [];
    this.sweep = sweep;
    const keepingId = async (): Promise<Job> => {
      const job = await ask();
      remember(this.#name, { id: job.id, sweep });
      return job;
    };
    await this.follower.start(keepingId, this.#listener(done));
  }

  async resume(): Promise<void> {
    const known = remembered(this.#name);
    if (known === null || this.follower.progress.kind !== "idle") return;
    try {
      const job = await getJob(known.id);
      const going = job.state === "queued" || job.state === "running";
      if (!going) remember(this.#name, null);
      else if (this.follower.progress.kind === "idle") {
        this.sweep = known.sweep;
        this.follower.follow(job, this.#listener());
      }
    } catch (error) {
      if (!(error instanceof RequestFailed)) throw error;
      // A server that was started anew knows nothing of it.
      if (error.failure.kind === "refused") remember(this.#name, null);
    }
  }

  #listener(done?: JobListener["done"]): JobListener {
    return {
      snapshot: (snapshot) => {
        // After a broken connection the server may repeat what was seen.
        if (snapshot.step > (this.snapshots.at(-1)?.step ?? -1))
          this.snapshots = [...this.snapshots, snapshot];
      },
      done: (result, job) => {
        remember(this.#name, null);
        this.finished += 1;
        done?.(result, job);
      },
    };
  }
}

const works: Record<string, Work> = {};

/** The same object for as long as the page is open. */
export function workOf(kind: WorkKind, graph: GraphRef): Work {
  const name = `tributary-job ${kind} ${graph.id} ${graph.created}`;
  return (works[name] ??= new Work(name));
}
