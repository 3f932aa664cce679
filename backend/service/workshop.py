"""What computing and keeping needs: the queue, the graph database, loaded models, and limits.

Nothing here is opened when the server starts: the database is with the first request that needs it,
torch with the first computation.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import wait
from functools import cached_property
from typing import TYPE_CHECKING, TypeVar

from backend.errors import ServiceError
from backend.jobs import JobQueue
from backend.memory import PeakMemory, total_bytes
from backend.service.columns import ColumnCache
from backend.service.labelling import Treasury
from backend.service.library import Library
from backend.service.models import Models
from backend.service.run import Run
from backend.service.search import Searches
from backend.service.toy_models import Toys
from backend.settings import Settings
from compute.progress import Cancelled, Report
from storage.errors import UnknownRecordError

if TYPE_CHECKING:
    from storage.graph_records import GraphRecord, PromptRecord
    from storage.graphs import GraphDatabase

T = TypeVar("T")
#: Seconds between two looks whether the asker of a quick task is still there.
_LOOK = 0.5


#: Seconds between two looks whether a turn is still wanted.
_TURN = 0.1


def _apart(work: Callable[[], T]) -> T:
    """Do what may have to be done in the middle of a job, whose modes are none of its business."""
    import torch

    with torch.inference_mode(False), torch.enable_grad():
        return work()


class Workshop:
    """One for each application. Its ``models`` belong to the thread that computes."""

    def __init__(self, settings: Settings, library: Library) -> None:
        self.library = library
        self.jobs = JobQueue()
        self.models = Models(settings.device)
        self.toys = Toys()
        self.columns = ColumnCache()
        self.treasury = Treasury(settings)
        self.searches = Searches(settings.database_path.parent)
        self._settings = settings
        self._lock = threading.Lock()
        self._database: GraphDatabase | None = None

    @property
    def database(self) -> GraphDatabase:
        """The database, opened when first asked for; raises the storage room's errors."""
        with self._lock:
            if self._database is None:
                from storage.graphs import GraphDatabase

                self._database = GraphDatabase(self._settings.database_path, self._settings.journal)
            return self._database

    @cached_property
    def memory_limit(self) -> int:
        """Bytes that one computation may take."""
        return self._settings.memory_limit or total_bytes() // 2

    def prompt(self, run: Run, prompt_id: int) -> PromptRecord:
        """A prompt of the run as it is now; raises a 404."""
        record = self.database.prompt(prompt_id)
        if (record.run, record.run_digest) != (run.name, run.digest):
            raise UnknownRecordError(
                f"there is no prompt {prompt_id} of the run {run.name} as it is now",
                "the list of prompts has those that there are",
            )
        return record

    def graph(self, graph_id: int) -> tuple[Run, GraphRecord]:
        """A graph and its run. A graph of a run that was made again since is refused with a 409."""
        record = self.database.graph(graph_id)
        run = self.library.get(record.run)
        if record.run_digest != run.digest:
            raise ServiceError(
                409,
                "run_changed",
                f"The run {run.name} was made again after graph {graph_id} was computed",
                "Compute the graph again; the old one can only be deleted.",
            )
        return run, record

    def turn(self, work: Callable[[], T], stopped: Callable[[], bool]) -> T:
        """Do something small on the thread that computes, in turn with predictions; the caller's thread waits.

        Raises :class:`compute.progress.Cancelled` once ``stopped`` says so.
        """
        while not stopped():
            try:
                task = self.jobs.quick(lambda _: _apart(work))
            except ServiceError as refused:
                if refused.body.code != "busy":
                    raise Cancelled from None
                time.sleep(_LOOK)
                continue
            while not stopped():
                done, _ = wait([task.future], timeout=_TURN)
                if done:
                    return task.future.result()
            task.abandon()
        raise Cancelled

    async def quick(self, work: Callable[[Report], T], gone: Callable[[], Awaitable[bool]]) -> tuple[T, int]:
        """Wait for a small computation, and the bytes it took; it is stopped when the asker is ``gone``."""
        found = await self.quick_within(None, work, gone)
        assert found is not None
        return found

    async def quick_within(
        self, seconds: float | None, work: Callable[[Report], T], gone: Callable[[], Awaitable[bool]]
    ) -> tuple[T, int] | None:
        """As :meth:`quick`; ``None`` where the answer is not there after so many ``seconds``."""

        def measured(report: Report) -> tuple[T, int]:
            with PeakMemory() as peak:
                result = _apart(lambda: work(report))
            return result, peak.bytes

        task = self.jobs.quick(measured)
        waiting = asyncio.wrap_future(task.future)
        started = time.monotonic()
        try:
            while True:
                done, _ = await asyncio.wait([waiting], timeout=_LOOK)
                if done:
                    return waiting.result()
                if seconds is not None and time.monotonic() - started >= seconds:
                    return None
                if await gone():
                    raise ServiceError(503, "given_up", "Nobody waits for the answer any more", "Ask again.")
        finally:
            if not waiting.done():
                # Whatever it still ends with is nobody's.
                waiting.add_done_callback(lambda over: over.cancelled() or over.exception())
                task.abandon()

    def close(self) -> None:
        """Stop computing, end all streams, close the database."""
        self.jobs.close()
        with self._lock:
            if self._database is not None:
                self._database.close()
                self._database = None
