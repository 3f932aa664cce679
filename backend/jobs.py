"""Computations: one thread owns the device and takes them from a queue, the most urgent first.

What waits for other machines for hours and needs the device only now and then (labelling) has a lane of
its own: a thread beside, which takes its jobs one after another, and asks for the device by quick tasks.

A *job* is a computation that its asker follows by id: it can be watched, joined by an identical
request, and cancelled. A *quick task* is one whose asker waits for the answer; quick tasks come
before jobs, and are also done in between whenever the job that is running reports its progress, so
that a prediction does not wait for a circuit. A computation is stopped through its report, which
raises :class:`compute.progress.Cancelled`; it must therefore report several times a second.

Everything is bounded: jobs that wait (more are refused with 503), finished jobs that are remembered,
and the events that are kept of each. Of events that say how far a job is only the newest is kept.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable, Hashable
from concurrent.futures import Future
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import IntEnum
from typing import Generic, Literal, TypeVar

from backend.circuit_schemas import CircuitSnapshot
from backend.errors import ServiceError, error_body
from backend.job_schemas import Job, JobKind, JobResult, JobState, LabellingProgress
from backend.schemas import ErrorBody
from compute.progress import Cancelled, Report
from storage.errors import StorageError

log = logging.getLogger("tributary")

T = TypeVar("T")
#: Seconds between two events that say how far a job is.
_EVENT_INTERVAL = 0.1
_MAX_SNAPSHOTS = 1000
_STORED = "stored already"


class Priority(IntEnum):
    """Lower numbers are computed first."""

    GRAPH = 1
    CIRCUITS = 2
    LABELS = 3


#: ``compute``: the thread that owns it. ``labelling``: waits for a language model.
LaneName = Literal["compute", "labelling"]


@dataclass(frozen=True)
class Event:
    """``id`` grows by one or more from event to event; a stream that was cut continues after it."""

    id: int
    name: Literal["progress", "snapshot", "end"]
    data: Job | CircuitSnapshot


class Progress:
    """What a job's work is given: a report, and where it puts snapshots."""

    def __init__(self, queue: JobQueue, record: JobRecord) -> None:
        self._queue = queue
        self._record = record

    def report(self, phase: str, done: int, total: int) -> None:
        """A ``compute.progress.Report``: notes the progress, does quick tasks, or raises ``Cancelled``."""
        self._queue.note_progress(self._record, phase, done, total)

    def snapshot(self, snapshot: CircuitSnapshot) -> None:
        self._queue.note_snapshot(self._record, snapshot)

    def labelling(self, progress: LabellingProgress) -> None:
        """What a labelling has come to; sent with the next report."""
        self._record.labelling = progress

    def cancelling(self) -> bool:
        """Whether the work is to end: for what waits and has nothing to report."""
        return self._record.cancelling


Work = Callable[[Progress], JobResult]


@dataclass(eq=False)
class JobRecord:
    """A job as the queue keeps it; every field is read and written under the queue's lock."""

    kind: JobKind
    run: str
    key: Hashable
    priority: Priority
    number: int
    work: Work | None
    lane: LaneName = "compute"
    id: str = field(default_factory=lambda: secrets.token_hex(8))
    created: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="milliseconds"))
    state: JobState = "queued"
    phase: str = "waiting"
    done: int = 0
    total: int = 0
    error: ErrorBody | None = None
    result: JobResult | None = None
    labelling: LabellingProgress | None = None
    started: float | None = None
    ended: float | None = None
    phase_started: float = 0.0
    phase_first: int = 0
    cancelling: bool = False
    emitted: float = 0.0
    events: list[Event] = field(default_factory=list[Event])
    last_event: int = 0
    listeners: set[Callable[[], None]] = field(default_factory=set[Callable[[], None]])

    @property
    def is_over(self) -> bool:
        return self.state in ("done", "failed", "cancelled")


class QuickTask(Generic[T]):
    """A small computation whose asker waits; ``abandon`` it when nobody waits any more."""

    def __init__(self, work: Callable[[Report], T]) -> None:
        self.future: Future[T] = Future()
        self._work = work
        self._abandoned = False

    def abandon(self) -> None:
        self._abandoned = True
        self.future.cancel()

    def _report(self, phase: str, done: int, total: int) -> None:
        if self._abandoned:
            raise Cancelled

    def run(self) -> None:
        if not self.future.set_running_or_notify_cancel():
            return
        try:
            self.future.set_result(self._work(self._report))
        except BaseException as error:  # noqa: BLE001 (whoever waits gets it)
            self.future.set_exception(error)


class _Lane:
    """Jobs that one thread takes one after another; everything is read and written under the queue's lock."""

    def __init__(self, lock: threading.Lock) -> None:
        self.wake = threading.Condition(lock)
        self.waiting: list[JobRecord] = []
        self.running: JobRecord | None = None
        self.thread: threading.Thread | None = None

    @property
    def unfinished(self) -> list[JobRecord]:
        return [*([self.running] if self.running else []), *self.waiting]


class JobQueue:
    """The queue and its threads, each of which starts with its first computation."""

    def __init__(
        self,
        *,
        capacity: int = 32,
        quick_capacity: int = 64,
        remembered: int = 256,
        remembered_seconds: float = 3600.0,
    ) -> None:
        self._capacity = capacity
        self._quick_capacity = quick_capacity
        self._remembered = remembered
        self._remembered_seconds = remembered_seconds
        self._lock = threading.Lock()
        self._lanes: dict[LaneName, _Lane] = {"compute": _Lane(self._lock), "labelling": _Lane(self._lock)}
        self._jobs: OrderedDict[str, JobRecord] = OrderedDict()
        self._quick: list[QuickTask[object]] = []
        self._closed = False
        self._count = 0

    # ---- asking ----

    def submit(
        self,
        kind: JobKind,
        run: str,
        key: Hashable,
        priority: Priority,
        work: Work,
        lane: LaneName = "compute",
    ) -> Job:
        """Queue a job, or join the one of the same ``key`` that waits or runs. Raises a 503 when full."""
        with self._lock:
            self._check_open()
            self._forget()
            joined = self._same(key)
            if joined is not None:
                return self._describe(joined)
            waiting = self._lanes[lane].waiting
            if len(waiting) >= self._capacity:
                raise ServiceError(
                    503,
                    "busy",
                    f"{len(waiting)} computations are waiting, and no more are taken",
                    "Wait for some of them, or cancel some.",
                )
            self._count += 1
            record = JobRecord(kind, run, key, priority, self._count, work, lane)
            self._jobs[record.id] = record
            waiting.append(record)
            self._emit_progress(record)
            self._start(lane)
            return self._describe(record)

    def in_flight(self, key: Hashable) -> Job | None:
        """The job of that key that waits or runs."""
        with self._lock:
            record = self._same(key)
            return None if record is None else self._describe(record)

    def _same(self, key: Hashable) -> JobRecord | None:
        unfinished = [record for lane in self._lanes.values() for record in lane.unfinished]
        return next((record for record in unfinished if record.key == key and not record.cancelling), None)

    def finished(self, kind: JobKind, run: str, result: JobResult) -> Job:
        """A job that is done already, because its result was there."""
        with self._lock:
            self._forget()
            self._count += 1
            record = JobRecord(kind, run, None, Priority.GRAPH, self._count, None)
            record.started = record.ended = time.monotonic()
            record.phase, record.result = _STORED, result
            self._jobs[record.id] = record
            self._end(record, "done")
            return self._describe(record)

    def quick(self, work: Callable[[Report], T]) -> QuickTask[T]:
        """Queue a quick task. Raises a 503 when too many wait."""
        task = QuickTask(work)
        with self._lock:
            self._check_open()
            self._quick = [waiting for waiting in self._quick if not waiting.future.cancelled()]
            if len(self._quick) >= self._quick_capacity:
                raise ServiceError(503, "busy", "The server has too many requests to compute", "Ask again.")
            self._quick.append(task)  # pyright: ignore[reportArgumentType] (its result is nobody's here)
            self._start("compute")
        return task

    def _check_open(self) -> None:
        if self._closed:
            raise ServiceError(503, "stopping", "The server is being stopped", "Ask again when it is back.")

    # ---- watching ----

    def get(self, job_id: str) -> Job:
        with self._lock:
            return self._describe(self._find(job_id))

    def list(self) -> list[Job]:
        """Newest first."""
        with self._lock:
            self._forget()
            return [self._describe(record) for record in reversed(self._jobs.values())]

    def listeners(self, job_id: str) -> int:
        """How many streams follow a job."""
        with self._lock:
            return len(self._find(job_id).listeners)

    def has_more(self, job_id: str, after: int) -> bool:
        """Whether a stream that has seen the event ``after`` has anything to wait for."""
        with self._lock:
            record = self._find(job_id)
            return not record.is_over or after < record.last_event

    async def follow(
        self, job_id: str, after: int = 0, heartbeat: float | None = None
    ) -> AsyncGenerator[Event | None]:
        """Events after the one numbered ``after``, until the job's end; nothing is left when it is closed.

        ``None`` where there was nothing to tell for ``heartbeat`` seconds.
        """
        loop = asyncio.get_running_loop()
        changed = asyncio.Event()

        def notify() -> None:
            with suppress(RuntimeError):  # the loop was closed: nobody listens any more
                loop.call_soon_threadsafe(changed.set)

        with self._lock:
            record = self._find(job_id)
            if after > record.last_event:  # of another server's job
                after = 0
            record.listeners.add(notify)
        try:
            while True:
                changed.clear()
                with self._lock:
                    events = [event for event in record.events if event.id > after]
                    over = record.is_over
                for event in events:
                    yield event
                    after = event.id
                if over:
                    return
                try:
                    async with asyncio.timeout(heartbeat):
                        await changed.wait()
                except TimeoutError:
                    yield None
        finally:
            with self._lock:
                record.listeners.discard(notify)

    # ---- stopping ----

    def cancel(self, job_id: str) -> Job:
        """A job that waits ends at once, one that runs at its next report; one that is over stays as it is."""
        with self._lock:
            record = self._find(job_id)
            self._cancel(record)
            return self._describe(record)

    def _cancel(self, record: JobRecord) -> None:
        waiting = self._lanes[record.lane].waiting
        if record in waiting:
            waiting.remove(record)
            self._end(record, "cancelled")
        elif not record.is_over:
            record.cancelling = True

    async def ended(self, job_id: str, seconds: float) -> Job:
        """The job when it is over, or as it is after ``seconds``."""
        try:
            async with asyncio.timeout(seconds), aclosing(self.follow(job_id)) as events:
                async for _ in events:
                    pass
        except TimeoutError:
            pass
        return self.get(job_id)

    def close(self, seconds: float = 1.5) -> None:
        """Stop what runs, drop what waits, and end all streams; waits for the threads at most ``seconds``."""
        until = time.monotonic() + seconds
        with self._lock:
            self._closed = True
            for lane in self._lanes.values():
                for record in lane.unfinished:
                    self._cancel(record)
                lane.wake.notify_all()
            for task in self._quick:
                task.abandon()
            self._quick.clear()
            threads = [lane.thread for lane in self._lanes.values()]
        for thread in threads:
            if thread is not None and thread is not threading.current_thread():
                thread.join(max(0.0, until - time.monotonic()))

    # ---- the threads ----

    def _start(self, name: LaneName) -> None:
        """There is something to do."""
        lane = self._lanes[name]
        if lane.thread is None:
            lane.thread = threading.Thread(
                target=self._loop, args=(name, lane), name=f"tributary-{name}", daemon=True
            )
            lane.thread.start()
        lane.wake.notify()

    def _loop(self, name: LaneName, lane: _Lane) -> None:
        while True:
            with self._lock:
                while not (self._closed or lane.waiting or (name == "compute" and self._quick)):
                    lane.wake.wait()
                if self._closed:
                    return
                record = None
                if name != "compute" or not self._quick:
                    record = min(lane.waiting, key=lambda job: (job.priority, job.number))
                    lane.waiting.remove(record)
                    lane.running = record
                    record.state, record.started = "running", time.monotonic()
                    record.phase_started = record.started
                    record.phase = "starting"
                    self._emit_progress(record)
            if record is None:
                self._run_quick()
            else:
                self._run(record)

    def _run_quick(self) -> None:
        while True:
            with self._lock:
                if not self._quick:
                    return
                task = self._quick.pop(0)
            task.run()

    def _run(self, record: JobRecord) -> None:
        assert record.work is not None
        state: JobState = "failed"
        error: ErrorBody | None = None
        result: JobResult | None = None
        try:
            result = record.work(Progress(self, record))
            state = "done"
        except Cancelled:
            state = "cancelled"
        except ServiceError as refused:
            error = refused.body
        except StorageError as refused:
            error = error_body(refused)
        except Exception as fault:
            log.error("a job of kind %s failed", record.kind, exc_info=fault)
            error = ErrorBody(
                code="internal_error",
                message="The server failed on this computation; this is a fault in Tributary.",
                hint="The server's log has the details; please report them.",
            )
        with self._lock:
            record.error, record.result = error, result
            self._lanes[record.lane].running = None
            self._end(record, state)

    # ---- events ----

    def note_progress(self, record: JobRecord, phase: str, done: int, total: int) -> None:
        """Called by the thread that does the work."""
        if record.cancelling:
            raise Cancelled
        with self._lock:
            now = time.monotonic()
            if phase != record.phase:
                record.phase, record.phase_started, record.phase_first = phase, now, done
            record.done, record.total = done, total
            newest = record.events[-1] if record.events else None
            if newest is None or now - record.emitted >= _EVENT_INTERVAL:
                self._emit_progress(record)
            quick = bool(self._quick)
        if quick and record.lane == "compute":
            self._run_quick()

    def note_snapshot(self, record: JobRecord, snapshot: CircuitSnapshot) -> None:
        with self._lock:
            kept = [event.id for event in record.events if event.name == "snapshot"]
            if len(kept) >= _MAX_SNAPSHOTS:
                thinned = set(kept[1::2])
                record.events = [event for event in record.events if event.id not in thinned]
            self._emit(record, "snapshot", snapshot)

    def _emit_progress(self, record: JobRecord) -> None:
        record.emitted = time.monotonic()
        record.events = [event for event in record.events if event.name != "progress"]
        self._emit(record, "progress", self._describe(record))

    def _emit(
        self,
        record: JobRecord,
        name: Literal["progress", "snapshot", "end"],
        data: Job | CircuitSnapshot,
    ) -> None:
        record.last_event += 1
        record.events.append(Event(record.last_event, name, data))
        for notify in record.listeners:
            notify()

    def _end(self, record: JobRecord, state: JobState) -> None:
        record.state, record.ended = state, time.monotonic()
        record.work = None  # and all that it holds
        if state == "done" and record.phase != _STORED:
            record.phase, record.done, record.total = "done", 1, 1
        record.events = [event for event in record.events if event.name != "progress"]
        self._emit(record, "end", self._describe(record))

    # ---- describing, under the lock ----

    def _find(self, job_id: str) -> JobRecord:
        record = self._jobs.get(job_id)
        if record is None:
            raise ServiceError(
                404,
                "unknown_job",
                f"There is no job {job_id[:40]!r}, or it was finished long ago",
                "Finished results are kept: look among the prompt's graphs.",
            )
        return record

    def _forget(self) -> None:
        over = [record for record in self._jobs.values() if record.is_over]
        oldest = time.monotonic() - self._remembered_seconds
        surplus = len(over) - self._remembered
        for i, record in enumerate(over):
            if i < surplus or (record.ended is not None and record.ended < oldest):
                del self._jobs[record.id]

    def _describe(self, record: JobRecord) -> Job:
        now = time.monotonic()
        seconds = 0.0 if record.started is None else (record.ended or now) - record.started
        left = None
        advanced, elapsed = record.done - record.phase_first, now - record.phase_started
        if record.state == "running" and advanced > 0 and record.total and elapsed > 0.05:
            left = elapsed / advanced * max(0, record.total - record.done)
        ahead = 0
        if record.state == "queued":
            lane, order = self._lanes[record.lane], (record.priority, record.number)
            ahead = sum((other.priority, other.number) < order for other in lane.waiting)
            ahead += lane.running is not None
        return Job(
            id=record.id,
            kind=record.kind,
            run=record.run,
            state=record.state,
            phase=record.phase,
            done=record.done,
            total=record.total,
            seconds_left=left,
            seconds=seconds,
            ahead=ahead,
            created=record.created,
            error=record.error,
            result=record.result,
            labelling=record.labelling,
        )
