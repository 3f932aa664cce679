/**
 * One long computation on the server, followed from its start to its end over server-sent events. The
 * browser reconnects by itself and names the last event it saw; a server that forgot the job says so.
 */

import { type Failure, RequestFailed } from "./failure";
import { cancelJob, getJob } from "./prompts";
import type { CircuitSnapshot, Job, JobResult } from "./promptTypes";

export type JobProgress =
  | { readonly kind: "idle" }
  | { readonly kind: "starting"; readonly cancelling: boolean }
  | { readonly kind: "running"; readonly job: Job; readonly cancelling: boolean; readonly connected: boolean }
  | { readonly kind: "done"; readonly job: Job; readonly result: JobResult }
  /** `asked`: by this page; otherwise by another, or by a server that was stopped. */
  | { readonly kind: "cancelled"; readonly asked: boolean }
  | { readonly kind: "failed"; readonly failure: Failure };

export interface JobListener {
  readonly done?: (result: JobResult, job: Job) => void;
  readonly snapshot?: (snapshot: CircuitSnapshot) => void;
}

const LOST: Failure = {
  kind: "refused",
  status: 404,
  body: {
    code: "job_lost",
    message: "The server was restarted while it computed this.",
    hint: "What was finished is kept. Start again.",
  },
};
const RETRY_MS = 1000;

export class JobFollower {
  progress: JobProgress = $state.raw({ kind: "idle" });
  #source: EventSource | null = null;
  #retry: ReturnType<typeof setTimeout> | undefined;
  #listener: JobListener = {};
  /** It was this page that asked for it to be stopped. */
  #asked = false;
  /** Counts the jobs started: an answer to an older one changes nothing. */
  #turn = 0;

  get busy(): boolean {
    return this.progress.kind === "starting" || this.progress.kind === "running";
  }

  /** Start a job; `ask` posts it. */
  async start(ask: () => Promise<Job>, listener: JobListener = {}): Promise<void> {
    this.#close();
    const turn = (this.#turn += 1);
    this.#asked = false;
    this.#listener = listener;
    this.progress = { kind: "starting", cancelling: false };
    try {
      const job = await ask();
      if (turn !== this.#turn) return;
      const cancelling = this.progress.kind === "starting" && this.progress.cancelling;
      this.#take(job);
      // Cancelled before the server had answered: only now is there something to stop.
      if (cancelling) await this.cancel();
    } catch (error) {
      if (!(error instanceof RequestFailed)) throw error;
      if (turn === this.#turn) this.progress = { kind: "failed", failure: error.failure };
    }
  }

  /** Follow a job that was started elsewhere. */
  follow(job: Job, listener: JobListener = {}): void {
    this.#close();
    this.#turn += 1;
    this.#asked = false;
    this.#listener = listener;
    this.#take(job);
  }

  /** Stop the computation itself, not only the watching. */
  async cancel(): Promise<void> {
    const { progress } = this;
    if (progress.kind === "starting") {
      this.progress = { kind: "starting", cancelling: true };
      return;
    }
    if (progress.kind !== "running" || progress.cancelling) return;
    this.#asked = true;
    this.progress = { ...progress, cancelling: true };
    try {
      await cancelJob(progress.job.id);
      await this.#look(progress.job.id);
    } catch (error) {
      if (!(error instanceof RequestFailed)) throw error;
      if (this.progress.kind === "running") this.progress = { ...this.progress, cancelling: false };
      if (error.failure.kind === "refused") await this.#look(progress.job.id);
    }
  }

  /** Stop watching; the computation goes on. */
  dismiss(): void {
    this.#turn += 1;
    this.#close();
    this.progress = { kind: "idle" };
  }

  #take(job: Job): void {
    switch (job.state) {
      case "queued":
      case "running": {
        const cancelling = this.progress.kind === "running" && this.progress.cancelling;
        this.progress = { kind: "running", job, cancelling, connected: true };
        if (this.#source === null) this.#listen(job.id);
        return;
      }
      case "done": {
        this.#close();
        const result = job.result ?? {};
        this.progress = { kind: "done", job, result };
        this.#listener.done?.(result, job);
        return;
      }
      case "cancelled":
        this.#close();
        this.progress = {
          kind: "cancelled",
          asked: this.#asked,
        };
        return;
      case "failed":
        this.#close();
        this.progress = {
          kind: "failed",
          failure: {
            kind: "refused",
            status: 500,
            body: job.error ?? {
              code: "failed",
              message: "The computation failed.",
              hint: "Look at the log of tributary serve.",
            },
          },
        };
    }
  }

  #listen(id: string): void {
    const source = new EventSource(`/api/jobs/${encodeURIComponent(id)}/events`);
    this.#source = source;
    source.addEventListener("progress", (event: MessageEvent<string>) => {
      this.#take(JSON.parse(event.data) as Job);
    });
    source.addEventListener("snapshot", (event: MessageEvent<string>) => {
      this.#listener.snapshot?.(JSON.parse(event.data) as CircuitSnapshot);
    });
    source.addEventListener("end", (event: MessageEvent<string>) => {
      this.#take(JSON.parse(event.data) as Job);
    });
    source.addEventListener("error", () => {
      if (this.#source !== source) return;
      if (this.progress.kind === "running") this.progress = { ...this.progress, connected: false };
      // A refusal closes the stream for good, a broken connection only for now: ask which it was.
      if (source.readyState === EventSource.CLOSED) void this.#look(id);
    });
  }

  async #look(id: string): Promise<void> {
    const turn = this.#turn;
    try {
      const job = await getJob(id);
      if (turn !== this.#turn) return;
      if (this.#source?.readyState === EventSource.CLOSED) this.#source = null;
      this.#take(job);
    } catch (error) {
      if (!(error instanceof RequestFailed)) throw error;
      if (turn !== this.#turn || !this.busy) return;
      if (error.failure.kind === "offline") {
        clearTimeout(this.#retry);
        this.#retry = setTimeout(() => void this.#look(id), RETRY_MS);
        return;
      }
      this.#close();
      this.progress = { kind: "failed", failure: error.failure.status === 404 ? LOST : error.failure };
    }
  }

  #close(): void {
    clearTimeout(this.#retry);
    this.#source?.close();
    this.#source = null;
  }
}
