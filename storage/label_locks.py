"""Who works on a label set: one piece of work at a time, in this process or any other."""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from storage.errors import StorageError

#: Of each file of locks its descriptor, and the sets that this process works on.
_LOCKS: dict[Path, tuple[int, set[int]]] = {}
_GUARD = threading.Lock()


@contextmanager
def held(path: Path, set_id: int) -> Generator[None]:
    """One byte of the file is locked for each set.

    Such locks belong to a process: it would be granted one twice, and closing any descriptor of the file
    gives up all of them. So there is one descriptor, and a list of what this process holds.
    """
    with _GUARD:
        if path not in _LOCKS:
            _LOCKS[path] = (os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644), set())
        descriptor, held = _LOCKS[path]
        try:
            if set_id in held:
                raise StorageError(f"label set {set_id} is being worked on already", "wait, or stop it first")
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, set_id)
        except (BlockingIOError, PermissionError):
            raise StorageError(
                f"another process is working on label set {set_id}", "wait for it, or stop it first"
            ) from None
        else:
            held.add(set_id)
        finally:
            _close_if_idle(path)
    try:
        yield
    finally:
        with _GUARD:
            fcntl.lockf(descriptor, fcntl.LOCK_UN, 1, set_id)
            held.discard(set_id)
            _close_if_idle(path)


def _close_if_idle(path: Path) -> None:
    descriptor, held = _LOCKS[path]
    if not held:
        del _LOCKS[path]
        os.close(descriptor)
