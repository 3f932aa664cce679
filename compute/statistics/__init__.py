"""Statistics of components over a corpus: when they fire, on what, and with whom."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from compute.statistics.components import ComponentStatistics

__all__ = ["ComponentStatistics"]


def __getattr__(name: str) -> object:
    # It needs torch; association.py and sampling.py, which a server uses, do not.
    if name == "ComponentStatistics":
        from compute.statistics.components import ComponentStatistics

        return ComponentStatistics
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
