"""Statistics of components over a corpus: when they fire, on what, and with whom."""

from compute.statistics.components import ComponentStatistics

__all__ = ["ComponentStatistics"]
