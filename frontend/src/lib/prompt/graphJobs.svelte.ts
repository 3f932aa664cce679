/**
 * The graph that is being computed, whichever page is on screen. One at a time is started here; the server
 * has a queue of its own, and a job that another tab started goes on there.
 */

import { RequestFailed } from "../api/failure";
import { JobFollower } from "../api/job.svelte";
import { type GraphRequest, getGraph, getJobs, startGraph } from "../api/prompts";
import { location } from "../location/location.svelte";
import { runOf, showPrompts } from "../location/view";
import { changes } from "./changes.svelte";

class GraphJobs {
  readonly follower = new JobFollower();
  run: string | null = $state(null);

  /** Compute a graph and, if its asker is still on the prompts' pages of this run, open it. */
  async compute(run: string, request: GraphRequest): Promise<void> {
    this.run = run;
    await this.follower.start(() => startGraph(run, request), {
      done: ({ graph_id: id }) => void this.#open(run, id),
    });
  }

  /** After the page was loaded anew: follow what this run's queue is still computing. */
  async resume(run: string): Promise<void> {
    if (this.follower.busy) return;
    try {
      const jobs = await getJobs();
      const job = jobs.find(
        (one) =>
          one.kind === "graph" && one.run === run && (one.state === "running" || one.state === "queued"),
      );
      if (job === undefined || this.follower.busy) return;
      this.run = run;
      this.follower.follow(job, { done: () => changes.note() });
    } catch (error) {
      if (!(error instanceof RequestFailed)) throw error;
    }
  }

  async #open(run: string, id: number | null | undefined): Promise<void> {
    changes.note();
    const { view } = location;
    const { page } = view;
    if (typeof id !== "number" || runOf(page) !== run) return;
    if (page.kind !== "prompts" && page.kind !== "prompt") return;
    const prompt = page.kind === "prompt" ? page.prompt : (await getGraph(id)).prompt_id;
    this.follower.dismiss();
    location.go(showPrompts(view, prompt, id));
  }
}

export const graphJobs = new GraphJobs();
