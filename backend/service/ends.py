"""Which components have a given strongest source or target: a filter of the table.

The end is what the table sorts by: the largest of all sources (targets) of either sign, by normalised
``attr``, in the newest attributions. The filter asks what that one end is, and is written as a key, a
site, a layer, or the text of a token.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from backend.errors import ServiceError
from backend.schemas import EndReading, Token
from backend.service.run import Run
from compute.address import (
    EMBED,
    OUTPUT,
    POSITION,
    PSEUDO_KINDS,
    Address,
    AddressError,
    Key,
    parse_address,
    parse_key,
)
from storage.strongest import Ends, StrongestEnds

EndColumn = Literal["strongest_source", "strongest_target"]
#: A block, or the attention or MLP of one: ``3``, ``3.attn``.
_LAYER = re.compile(r"(0|[1-9]\d{0,3})(?:\.([a-z_]+))?", re.ASCII)
#: What has one of these in it is no word, but an address or a slip of one.
_NO_WORD = re.compile(r"[0-9.:]")
_FORMS = (
    "Write a key (0.attn.q:17), a site (0.attn.q), a layer (0 or 0.attn), {pseudo}, or a token: its text, "
    'in double quotes where it has a digit, a dot or a colon in it ("2.5").'
)


@dataclass(frozen=True)
class EndFilter:
    """What the strongest source (target) is to be: anything in ``addresses``, or only these indices there."""

    column: EndColumn
    reading: EndReading
    addresses: frozenset[Address]
    #: Indices within the address; ``None``: all of them, with the delta and the bias.
    indices: frozenset[int | str] | None = None

    def keep(self, run: Run, ends: StrongestEnds) -> np.ndarray:
        """Which components have such an end, [n] bool."""
        sites = by_site(ends, self.column)
        return np.concatenate([self._matching(sites[address]) for address in run.starts])

    def _matching(self, ends: Ends) -> np.ndarray:
        wanted = np.zeros(sum(count for _, _, count in ends.parts), bool)
        begin = 0
        for address, kind, count in ends.parts:
            if address in self.addresses:
                if self.indices is None:
                    wanted[begin : begin + count] = True
                elif kind in ("delta", "bias"):
                    wanted[begin] = kind in self.indices
                else:
                    inside = [index for index in self.indices if isinstance(index, int)]
                    wanted[begin + np.array(inside, np.int64)] = True
            begin += count
        # One more place, for those that have no end: it is at -1.
        return np.append(wanted, False)[ends.place]


def by_site(ends: StrongestEnds, column: EndColumn) -> dict[Address, Ends]:
    return ends.sources if column == "strongest_source" else ends.targets


def parse_end(run: Run, column: EndColumn, text: str) -> EndFilter:
    """Read the filter; raises a 404 for a key, site or layer that the run does not have, and a 422 for
    what cannot be such an end, with the forms there are."""
    bare = text.strip()
    there = {*run.starts, *_tokens(run, column)}
    if len(bare) > 2 and bare[0] == bare[-1] == '"':
        return _token(run, column, bare[1:-1])
    if bare in PSEUDO_KINDS:
        address = parse_address(bare)
        if address not in there:
            raise _refused(run, column, f"{bare} is never a strongest {_end(column)}")
        return EndFilter(column, EndReading(kind="site", text=bare, tokens=[]), frozenset({address}))
    if bare and not _NO_WORD.search(bare):
        return _token(run, column, bare)
    layer = _LAYER.fullmatch(bare)
    if layer is not None:
        return _layer(run, column, bare, int(layer[1]), layer[2])
    try:
        if ":" in bare:
            return _key(run, column, parse_key(bare), there)
        address = parse_address(bare)
    except AddressError as error:
        raise _refused(run, column, str(error)) from None
    if address not in there:
        raise _unknown(run, str(address), "site", run.starts)
    return EndFilter(column, EndReading(kind="site", text=bare, tokens=[]), frozenset({address}))


def _key(run: Run, column: EndColumn, key: Key, there: set[Address]) -> EndFilter:
    run.key(str(key))  # raises for what the run does not have
    if key.address not in there or (column == "strongest_target" and isinstance(key.index, str)):
        raise _refused(run, column, f"{key} is never a {_end(column)}")
    reading = EndReading(kind="key", text=str(key), tokens=[])
    return EndFilter(column, reading, frozenset({key.address}), frozenset({key.index}))


def _layer(run: Run, column: EndColumn, text: str, block: int, kind: str | None) -> EndFilter:
    sites = [a for a in run.starts if a.block == block and kind in (None, a.kind)]
    if not sites:
        layers = dict.fromkeys(f"{a.block}.{a.kind}" for a in run.starts)
        raise _unknown(run, text, "layer", layers)
    return EndFilter(column, EndReading(kind="layer", text=text, tokens=[]), frozenset(sites))


def _token(run: Run, column: EndColumn, text: str) -> EndFilter:
    """Text that no token reads is no slip of the form: nothing is found then, and the reading says why."""
    ids = run.vocabulary.reading(text)
    tokens = [Token(id=i, text=run.vocabulary.texts[i]) for i in ids]
    address = EMBED if column == "strongest_source" else OUTPUT
    reading = EndReading(kind="token", text=text, tokens=tokens)
    return EndFilter(column, reading, frozenset({address}), frozenset(ids))


def _tokens(run: Run, column: EndColumn) -> tuple[Address, ...]:
    """The ends that are no sites."""
    if column == "strongest_target":
        return (OUTPUT,)
    return tuple(address for address in (EMBED, POSITION) if address in run.pseudo_sizes)


def _end(column: EndColumn) -> str:
    return column.removeprefix("strongest_")


def _refused(run: Run, column: EndColumn, message: str) -> ServiceError:
    pseudo = " or ".join(str(address) for address in _tokens(run, column))
    return ServiceError(
        422, "bad_input", f"{column.replace('_', ' ')}: {message}", _FORMS.format(pseudo=pseudo)
    )


def _unknown(run: Run, text: str, what: str, there: Iterable[object]) -> ServiceError:
    known = ", ".join(str(one) for one in there)
    return ServiceError(404, "unknown_site", f"{run.name} has no {what} {text}", f"There are {known}.")
