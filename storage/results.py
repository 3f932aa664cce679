"""What queries return: values with their standard errors, as plain immutable records."""

from __future__ import annotations

from dataclasses import dataclass

from compute.address import Key


@dataclass(frozen=True)
class Entry:
    """One source or target of a key.

    ``support`` counts the groups of documents in which the source occurs; with fewer than five of
    them ``standard_error`` is None. Both are None where there are no groups. ``scale_free`` marks edges that a norm makes cancel up to eps.
    """

    key: Key
    value: float
    standard_error: float | None
    support: int | None
    scale_free: bool


@dataclass(frozen=True)
class TopEntries:
    """The strongest entries of one sign, strongest first.

    ``total`` counts all entries of that sign (zeros belong to neither), ``total_value`` is their
    sum; ``tokens`` is how many tokens the numbers rest on.
    """

    entries: tuple[Entry, ...]
    total: int
    total_value: float
    tokens: int

    @property
    def shown_value(self) -> float:
        return sum(entry.value for entry in self.entries)


@dataclass(frozen=True)
class Attribution:
    """One edge. Where the source does not flow directly into the target, ``connected`` is False and
    the value an exact zero."""

    value: float
    raw: float
    standard_error: float | None
    support: int | None
    tokens: int
    connected: bool
    scale_free: bool
