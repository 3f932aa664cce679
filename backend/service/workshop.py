"""What computing and keeping needs: the queue, the graph database, loaded models, and limits.

Nothing here is opened when the server starts: the database is with the first request that needs it,
torch with the first computation.
"""

from __future__ import annotations

import threading
from functools import cached_property
from typing import TYPE_CHECKING

from backend.jobs import JobQueue
from backend.memory import total_bytes
from backend.service.library import Library
from backend.service.models import Models
from backend.settings import Settings

if TYPE_CHECKING:
    from storage.graphs import GraphDatabase


class Workshop:
    """One for each application. Its ``models`` belong to the thread that computes."""

    def __init__(self, settings: Settings, library: Library) -> None:
        self.library = library
        self.jobs = JobQueue()
        self.models = Models(settings.device)
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

    def close(self) -> None:
        """Stop computing, end all streams, close the database."""
        self.jobs.close()
        with self._lock:
            if self._database is not None:
                self._database.close()
                self._database = None
