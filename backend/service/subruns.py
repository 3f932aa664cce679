"""Which subrun of a run a request means, and those that are open.

What there is is looked up on disk for every request (a directory listing), so that a new subrun appears
without a restart.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Final, Generic, Literal, TypeVar

from backend.errors import ServiceError

T = TypeVar("T")
Kind = Literal["attributions", "harvest", "clusters"]

_COMMANDS: Final[dict[Kind, str]] = {"attributions": "attribute", "harvest": "harvest", "clusters": "cluster"}


def chosen(run: str, kind: Kind, names: Sequence[str], subrun: str | None) -> str:
    """The name that is meant, by default the newest, which comes first; raises a 404, or a 409 where
    there is none."""
    if not names:
        message = (
            f"The components of {run} are not clustered yet"
            if kind == "clusters"
            else f"The run {run} has no {kind} yet"
        )
        raise ServiceError(409, "not_computed", message, f"Run: tributary {_COMMANDS[kind]} {run}")
    name = names[0] if subrun is None else subrun
    if name not in names:
        raise ServiceError(
            404,
            "unknown_subrun",
            f"The run {run} has no {kind} called {name[:40]!r}",
            f"There are {', '.join(names[:5])}.",
        )
    return name


class Opened(Generic[T]):
    """Subruns of one kind, opened when they are first asked for and kept while they are on disk."""

    def __init__(
        self, run: str, kind: Kind, names: Callable[[], list[str]], read: Callable[[str], T]
    ) -> None:
        self._run = run
        self._kind: Kind = kind
        self._names = names
        self._read = read
        self._lock = threading.Lock()
        self._open: dict[str, T] = {}

    def get(self, subrun: str | None = None) -> T:
        """As :func:`chosen`."""
        names = self._names()
        name = chosen(self._run, self._kind, names, subrun)
        with self._lock:
            if name not in self._open:
                self._open = {kept: found for kept, found in self._open.items() if kept in names}
                self._open[name] = self._read(name)
            return self._open[name]
