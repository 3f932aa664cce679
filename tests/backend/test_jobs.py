"""The queue: order, joining, stopping, bounds, and what whoever watches is told."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from backend.circuit_schemas import CircuitSnapshot
from backend.errors import ServiceError
from backend.job_schemas import Job, JobResult
from backend.jobs import Event, JobQueue, Priority, Progress
from compute.progress import Cancelled


@pytest.fixture
def queue() -> Iterator[JobQueue]:
    queue = JobQueue(capacity=4, quick_capacity=3, remembered=5)
    yield queue
    queue.close()


class Gate:
    """Work that reports until it is let through."""

    def __init__(self) -> None:
        self.entered, self.open = threading.Event(), threading.Event()
        self.stopped = threading.Event()

    def __call__(self, progress: Progress) -> JobResult:
        self.entered.set()
        try:
            while not self.open.is_set():
                progress.report("waiting at the gate", 1, 10)
                time.sleep(0.005)
        except Cancelled:
            self.stopped.set()
            raise
        return JobResult(graph_id=1)


def submit(
    queue: JobQueue,
    work: Callable[[Progress], JobResult],
    key: object = None,
    priority: Priority = Priority.GRAPH,
) -> Job:
    return queue.submit("graph", "run", object() if key is None else key, priority, work)


def wait_for(queue: JobQueue, job: Job) -> Job:
    return asyncio.run(queue.ended(job.id, 10))


def events_of(queue: JobQueue, job: Job, after: int = 0) -> list[Event]:
    async def gather() -> list[Event]:
        return [event async for event in queue.follow(job.id, after) if event is not None]

    return asyncio.run(gather())


def test_a_result_is_there_when_the_job_is_done(queue: JobQueue) -> None:
    job = wait_for(queue, submit(queue, lambda _: JobResult(graph_id=7)))
    assert (job.state, job.result, job.error) == ("done", JobResult(graph_id=7), None)
    assert queue.get(job.id) == job


def test_what_is_urgent_comes_first_whenever_it_was_asked_for(queue: JobQueue) -> None:
    gate, order = Gate(), []

    def named(name: str) -> Callable[[Progress], JobResult]:
        def work(_: Progress) -> JobResult:
            order.append(name)
            return JobResult()

        return work

    submit(queue, gate)
    assert gate.entered.wait(5)
    circuits = submit(queue, named("circuits"), priority=Priority.CIRCUITS)
    first, second = submit(queue, named("graph 1")), submit(queue, named("graph 2"))
    assert [queue.get(job.id).ahead for job in (first, second, circuits)] == [1, 2, 3]
    gate.open.set()
    wait_for(queue, circuits)
    assert order == ["graph 1", "graph 2", "circuits"]


def test_quick_tasks_are_done_in_the_middle_of_a_job(queue: JobQueue) -> None:
    gate = Gate()
    job = submit(queue, gate)
    assert gate.entered.wait(5)
    threads = [
        queue.quick(lambda _: threading.current_thread().name).future.result(5),
        queue.quick(lambda _: threading.current_thread().name).future.result(5),
    ]
    assert set(threads) == {"tributary-compute"}
    assert queue.get(job.id).state == "running"
    gate.open.set()
    assert wait_for(queue, job).state == "done"


def test_a_quick_task_that_fails_fails_its_asker_only(queue: JobQueue) -> None:
    gate = Gate()
    job = submit(queue, gate)
    assert gate.entered.wait(5)

    def wrong(_: object) -> None:
        raise ValueError("wrong")

    with pytest.raises(ValueError, match="wrong"):
        queue.quick(wrong).future.result(5)
    gate.open.set()
    assert wait_for(queue, job).state == "done"


def test_an_abandoned_quick_task_is_stopped(queue: JobQueue) -> None:
    entered, stopped = threading.Event(), threading.Event()

    def endless(report: Callable[[str, int, int], None]) -> None:
        entered.set()
        try:
            while True:
                report("for ever", 0, 0)
                time.sleep(0.005)
        except Cancelled:
            stopped.set()
            raise

    task = queue.quick(endless)
    assert entered.wait(5)
    task.abandon()
    assert stopped.wait(5)


def test_identical_requests_in_flight_are_joined(queue: JobQueue) -> None:
    running, waiting = Gate(), Gate()
    first = submit(queue, running, "a")
    assert running.entered.wait(5)
    assert submit(queue, running, "a").id == first.id
    second = submit(queue, waiting, "b")
    assert submit(queue, waiting, "b").id == second.id
    assert queue.in_flight("b") is not None
    running.open.set()
    waiting.open.set()
    wait_for(queue, second)
    assert queue.in_flight("a") is None
    assert submit(queue, running, "a").id != first.id


def test_a_running_job_is_stopped_within_a_second(queue: JobQueue) -> None:
    gate = Gate()
    job = submit(queue, gate, "a")
    assert gate.entered.wait(5)
    start = time.monotonic()
    queue.cancel(job.id)
    joined = submit(queue, lambda _: JobResult(), "a")
    assert joined.id != job.id, "nobody joins what is being stopped"
    assert wait_for(queue, job).state == "cancelled"
    assert time.monotonic() - start < 1
    assert gate.stopped.is_set()
    assert wait_for(queue, joined).state == "done"


def test_a_waiting_job_is_never_begun_once_cancelled(queue: JobQueue) -> None:
    gate, never = Gate(), Gate()
    first = submit(queue, gate)
    assert gate.entered.wait(5)
    job = submit(queue, never)
    assert queue.cancel(job.id).state == "cancelled"
    assert queue.cancel(job.id).state == "cancelled"
    gate.open.set()
    wait_for(queue, first)
    assert not never.entered.is_set()


def test_a_full_queue_refuses(queue: JobQueue) -> None:
    gate = Gate()
    submit(queue, gate)
    assert gate.entered.wait(5)
    for _ in range(4):
        submit(queue, Gate())
    with pytest.raises(ServiceError) as refused:
        submit(queue, Gate())
    assert (refused.value.status, refused.value.body.code) == (503, "busy")


def test_quick_tasks_are_bounded_and_abandoned_ones_do_not_count() -> None:
    queue = JobQueue(quick_capacity=2)
    block = threading.Event()

    def silent(_: Progress) -> JobResult:
        block.wait(10)
        return JobResult()

    submit(queue, silent)
    while queue.list()[0].state != "running":
        time.sleep(0.005)
    tasks = [queue.quick(lambda _: 1), queue.quick(lambda _: 2)]
    with pytest.raises(ServiceError) as refused:
        queue.quick(lambda _: 3)
    assert refused.value.status == 503
    tasks[0].abandon()
    assert queue.quick(lambda _: 4) is not None
    block.set()
    assert tasks[1].future.result(5) == 2
    queue.close()


def test_faults_end_the_job_and_not_the_thread(queue: JobQueue) -> None:
    def refuse(_: Progress) -> JobResult:
        raise ServiceError(413, "too_large", "Too large", "Less")

    def fail(_: Progress) -> JobResult:
        raise ZeroDivisionError

    refused = wait_for(queue, submit(queue, refuse))
    assert (refused.state, refused.error and refused.error.code) == ("failed", "too_large")
    failed = wait_for(queue, submit(queue, fail))
    assert (failed.state, failed.error and failed.error.code) == ("failed", "internal_error")
    assert wait_for(queue, submit(queue, lambda _: JobResult())).state == "done"


def test_finished_jobs_are_remembered_for_a_while(queue: JobQueue) -> None:
    jobs = [wait_for(queue, submit(queue, lambda _: JobResult())) for _ in range(8)]
    submit(queue, lambda _: JobResult())
    known = {job.id for job in queue.list()}
    assert jobs[-1].id in known
    assert jobs[0].id not in known
    assert len(known) <= 7
    with pytest.raises(ServiceError) as unknown:
        queue.get(jobs[0].id)
    assert unknown.value.status == 404


def test_old_jobs_are_forgotten() -> None:
    queue = JobQueue(remembered_seconds=0.0)
    job = wait_for(queue, submit(queue, lambda _: JobResult()))
    time.sleep(0.01)
    assert job.id not in {known.id for known in queue.list()}
    queue.close()


def test_event_ids_only_grow_and_a_stream_continues_where_it_was_cut(queue: JobQueue) -> None:
    def work(progress: Progress) -> JobResult:
        for step in range(5):
            progress.report("steps", step, 5)
            progress.snapshot(CircuitSnapshot(step=step, loss=[1.0], alive=[2], probability=[0.5]))
            time.sleep(0.03)
        return JobResult(circuit_ids=[1])

    job = submit(queue, work)
    events = events_of(queue, job)
    ids = [event.id for event in events]
    assert ids == sorted(set(ids))
    steps = [event.data.step for event in events if isinstance(event.data, CircuitSnapshot)]
    assert steps == [0, 1, 2, 3, 4]
    assert [event.name for event in events if event.name == "end"] == ["end"]
    assert events[-1].name == "end"
    cut = next(event.id for event in events if event.name == "snapshot")
    rest = events_of(queue, job, cut)
    assert [event.id for event in rest] == [i for i in ids if i > cut and i in {e.id for e in rest}]
    assert [e.data.step for e in rest if isinstance(e.data, CircuitSnapshot)] == [1, 2, 3, 4]
    assert not queue.has_more(job.id, events[-1].id)
    assert events_of(queue, job, 10**9)[-1].name == "end", "an id of another server starts from the beginning"


def test_events_of_a_long_job_are_bounded(queue: JobQueue) -> None:
    def work(progress: Progress) -> JobResult:
        for step in range(5000):
            progress.report("steps", step, 5000)
            progress.snapshot(CircuitSnapshot(step=step, loss=[1.0], alive=[2], probability=[0.5]))
        return JobResult()

    job = submit(queue, work)
    wait_for(queue, job)
    steps = [e.data.step for e in events_of(queue, job) if isinstance(e.data, CircuitSnapshot)]
    assert len(steps) <= 1001
    assert steps == sorted(steps)
    assert steps[0] == 0
    assert steps[-1] == 4999


def test_a_reader_that_leaves_leaves_nothing(queue: JobQueue) -> None:
    gate = Gate()
    job = submit(queue, gate)

    async def look_and_leave() -> None:
        stream = queue.follow(job.id)
        await anext(stream)
        await stream.aclose()

    for _ in range(20):
        asyncio.run(look_and_leave())
    assert queue.listeners(job.id) == 0
    gate.open.set()
    wait_for(queue, job)


def test_time_left_follows_the_measured_rate(queue: JobQueue) -> None:
    seen = threading.Event()
    go_on = threading.Event()

    def work(progress: Progress) -> JobResult:
        progress.report("steps", 0, 100)
        time.sleep(0.2)
        progress.report("steps", 20, 100)
        seen.set()
        go_on.wait(5)
        return JobResult()

    job = submit(queue, work)
    assert seen.wait(5)
    left = queue.get(job.id).seconds_left
    assert left == pytest.approx(0.8, rel=0.5)
    go_on.set()


def test_closing_stops_everything() -> None:
    queue = JobQueue()
    gate = Gate()
    running = submit(queue, gate)
    assert gate.entered.wait(5)
    waiting = submit(queue, Gate())
    start = time.monotonic()
    queue.close()
    assert time.monotonic() - start < 1
    assert [queue.get(job.id).state for job in (running, waiting)] == ["cancelled", "cancelled"]
    assert events_of(queue, waiting)[-1].name == "end"
    with pytest.raises(ServiceError):
        submit(queue, gate)


def test_labelling_has_a_lane_of_its_own_and_leaves_the_device_alone(queue: JobQueue) -> None:
    """Hours of waiting for a language model hold up nothing, and what needs the device gets its turn."""
    waiting, computing = Gate(), Gate()
    labels = queue.submit("labels", "toy", "labels", Priority.LABELS, waiting, "labelling")
    assert waiting.entered.wait(5)
    next_labels = queue.submit("labels", "toy", "more", Priority.LABELS, named_thread, "labelling")
    graph = submit(queue, computing)
    assert computing.entered.wait(5)
    assert [queue.get(job.id).state for job in (labels, graph)] == ["running", "running"]
    # The two lanes do not count each other's jobs.
    assert (queue.get(next_labels.id).ahead, queue.get(graph.id).ahead) == (1, 0)
    joined = queue.submit("labels", "toy", "labels", Priority.LABELS, waiting, "labelling")
    assert joined.id == labels.id
    # Quick tasks are done by the thread that owns the device, also while a labelling reports.
    name = queue.quick(lambda _: threading.current_thread().name).future.result(5)
    assert name == "tributary-compute"
    computing.open.set()
    assert wait_for(queue, graph).state == "done"
    queue.cancel(labels.id)
    assert wait_for(queue, labels).state == "cancelled"
    assert wait_for(queue, next_labels).phase == "done"


def named_thread(_: Progress) -> JobResult:
    assert threading.current_thread().name == "tributary-labelling"
    return JobResult(label_set_id=1, ended="finished")
