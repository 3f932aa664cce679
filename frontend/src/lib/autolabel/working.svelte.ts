/** The labelling of a run that is under way or waits, whoever started it, and how it ended. */

import { RequestFailed } from "../api/failure";
import { JobFollower } from "../api/job.svelte";
import { getJobs } from "../api/prompts";
import type { Job } from "../api/promptTypes";
import type { LabellingProgress } from "./api";

/** Lists are asked for anew at most this often while labels arrive. */
const AGAIN_MS = 2000;

export class Working {
  readonly follower = new JobFollower();
  /** What it had come to when it was last heard of; stays when the job is over. */
  last: LabellingProgress | null = $state.raw(null);
  /** Grows while labels arrive, and when the work ends: what is shown is to be asked for anew. */
  arrived = $state(0);
  readonly #run: string;
  #renewed = 0;

  constructor(run: string) {
    this.#run = run;
  }

  /** Follow what is under way already. */
  async find(): Promise<void> {
    if (this.follower.busy) return;
    try {
      const mine = (await getJobs()).filter((job) => job.kind === "labels" && job.run === this.#run);
      const job = mine.find((one) => one.state === "running") ?? mine.find((one) => one.state === "queued");
      if (job !== undefined && !this.follower.busy) this.follower.follow(job);
    } catch (error) {
      if (!(error instanceof RequestFailed)) throw error;
    }
  }

  start(ask: () => Promise<Job>): Promise<void> {
    this.last = null;
    return this.follower.start(ask);
  }

  /** The set that is worked on now. */
  get set(): number | null {
    return this.follower.progress.kind === "running" ? (this.last?.label_set_id ?? null) : null;
  }

  /** Called whenever the follower heard something. */
  heard(): void {
    const { progress } = this.follower;
    if (progress.kind === "running" || progress.kind === "done") {
      const { labelling } = progress.job;
      if (labelling !== null && labelling !== undefined) this.last = labelling;
    }
    const now = Date.now();
    const over = progress.kind !== "running" && progress.kind !== "starting" && progress.kind !== "idle";
    if (over || (this.set !== null && now - this.#renewed > AGAIN_MS)) {
      this.#renewed = now;
      this.arrived += 1;
    }
  }
}
