"""How a long computation says where it is, and how it is stopped.

A computation calls its ``report`` a few times a second with the name of a phase and how much of it
is done. Whoever passed the report may raise :class:`Cancelled` inside it; computations let that
exception through and leave nothing half written.
"""

from __future__ import annotations

from collections.abc import Callable

#: (phase, done, total); raises :class:`Cancelled` to stop the computation.
Report = Callable[[str, int, int], None]


class Cancelled(Exception):  # noqa: N818 (a wish, not an error)
    """The computation was asked to stop, and did."""


def silent(phase: str, done: int, total: int) -> None:
    """A report to nobody."""
