"""Which process may add to a piece of unfinished work: the one that holds its lock.

The system lets go of a lock when its process ends in whatever way, so that work is never locked by
nobody.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from pathlib import Path

from storage.errors import StorageError

_FILE = "lock"


class WorkLock:
    """Held from when it is made until :meth:`close`; ``doing`` says what the work is."""

    def __init__(self, work: Path, doing: str) -> None:
        self._file = work / _FILE
        self._descriptor = os.open(self._file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.close()
            raise StorageError(
                f"another process is {doing} in {work}", "wait for it, or stop it first"
            ) from None

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def remove(self) -> None:
        """Let go, and leave no trace in what is about to be published."""
        self._file.unlink(missing_ok=True)
        self.close()


def is_held(work: Path) -> bool:
    """Whether a process is at this piece of work now."""
    if not (work / _FILE).exists():
        return False
    try:
        WorkLock(work, "").close()
    except StorageError:
        return True
    return False


def remove_abandoned(folder: Path, pattern: str) -> None:
    """Remove what processes that were killed left behind: works with a lock that nobody holds."""
    for work in folder.glob(pattern):
        if (work / _FILE).exists() and not is_held(work):
            shutil.rmtree(work, ignore_errors=True)
