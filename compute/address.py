"""Canonical addresses: the one place where the names of sites and components are parsed and printed.

Grammar (DESIGN, section 1)::

    address := "embed" | "position" | "output" | <block>.<kind>.<projection>
    kind    := attn (q k v o) | attn_fused (qkv o) | mlp (up down) | glu (gate up down)
    key     := <address>:<index> | <site address>:delta | <site address>:bias
    node    := <address>:<position>:<index> | <site address>:<position>:delta
             | <site address>:<position>:bias | "target":<position>:<index>

``embed:<n>`` and ``output:<n>`` are token ids, ``position:<n>`` is a learned position embedding. A
node is a key at one position of a prompt; ``target:<position>:<n>`` is the n-th custom target of a
prompt graph's settings, at the largest position of its terms, and exists in prompts only.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import total_ordering
from typing import Final, Literal

PROJECTIONS: Final[dict[str, tuple[str, ...]]] = {
    "attn": ("q", "k", "v", "o"),
    "attn_fused": ("qkv", "o"),
    "mlp": ("up", "down"),
    "glu": ("gate", "up", "down"),
}
PSEUDO_KINDS: Final = ("embed", "position", "output")
_PROMPT_KIND: Final = "target"
_KIND_ORDER: Final = {"attn": 0, "attn_fused": 0, "glu": 1, "mlp": 1}
_SITE_PATTERN: Final = re.compile(r"(\d{1,4})\.([a-z_]+)\.([a-z]+)", re.ASCII)
_INDEX_PATTERN: Final = re.compile(r"0|[1-9]\d{0,8}", re.ASCII)

Node = Literal["delta", "bias"]


class AddressError(ValueError):
    """A string that is not an address or a key of the canonical grammar."""


@total_ordering
@dataclass(frozen=True)
class Address:
    """Where in a model something is: a site, the token embedding, or the output tokens.

    ``block`` is ``None`` and ``projection`` empty for the pseudo addresses ``embed``, ``position``
    and ``output``. Addresses sort in display order: embed, then block by block q k v o, gate up
    down, output last; numbers sort as numbers.
    """

    block: int | None
    kind: str
    projection: str = ""

    def __post_init__(self) -> None:
        if self.kind in PSEUDO_KINDS or self.kind == _PROMPT_KIND:
            valid = self.block is None and not self.projection
        else:
            valid = self.block is not None and self.projection in PROJECTIONS.get(self.kind, ())
        if not valid:
            raise AddressError(f"not an address: {self.block}.{self.kind}.{self.projection}")

    @property
    def is_site(self) -> bool:
        """Whether this is a decomposed weight matrix rather than embed, position, output or target."""
        return self.block is not None

    @property
    def writes_residual(self) -> bool:
        """Whether the site's output is added to the residual stream."""
        return self.projection in ("o", "down")

    def _order(self) -> tuple[int, int, int, int]:
        if self.block is None:
            return ({"embed": -2, "position": -1, "output": 10**9, "target": 10**9 + 1}[self.kind], 0, 0, 0)
        order = PROJECTIONS[self.kind].index(self.projection)
        return (self.block, _KIND_ORDER[self.kind], order, list(PROJECTIONS).index(self.kind))

    def __lt__(self, other: object) -> bool:
        if not isinstance(other, Address):
            return NotImplemented
        return self._order() < other._order()

    def __str__(self) -> str:
        return self.kind if self.block is None else f"{self.block}.{self.kind}.{self.projection}"


EMBED: Final = Address(None, "embed")
POSITION: Final = Address(None, "position")
OUTPUT: Final = Address(None, "output")
#: Custom targets of a prompt graph; :func:`parse_address` does not know it.
TARGET: Final = Address(None, _PROMPT_KIND)


@total_ordering
@dataclass(frozen=True)
class Key:
    """One end of an edge: a component, a token, a delta or a bias."""

    address: Address
    index: int | Node

    def __post_init__(self) -> None:
        if isinstance(self.index, str):
            if self.index not in ("delta", "bias") or not self.address.is_site:
                raise AddressError(f"not a key: {self.address}:{self.index}")
        elif self.index < 0:
            raise AddressError(f"the index in {self.address}:{self.index} is negative")

    def _order(self) -> tuple[Address, int, int]:
        if isinstance(self.index, str):
            return (self.address, 1, ("delta", "bias").index(self.index))
        return (self.address, 0, self.index)

    def __lt__(self, other: object) -> bool:
        if not isinstance(other, Key):
            return NotImplemented
        return self._order() < other._order()

    def __str__(self) -> str:
        return f"{self.address}:{self.index}"


@total_ordering
@dataclass(frozen=True)
class NodeKey:
    """A component, a token, a delta, a bias or a custom target at one position of a prompt."""

    address: Address
    position: int
    index: int | Node

    def __post_init__(self) -> None:
        Key(self.address, self.index)  # the same rules
        if self.position < 0:
            raise AddressError(f"the position in {self} is negative")

    @property
    def key(self) -> Key:
        """The same without its position: what datasets know."""
        return Key(self.address, self.index)

    def __lt__(self, other: object) -> bool:
        if not isinstance(other, NodeKey):
            return NotImplemented
        return (self.address, self.position, self.key) < (other.address, other.position, other.key)

    def __str__(self) -> str:
        return f"{self.address}:{self.position}:{self.index}"


def parse_address(text: str) -> Address:
    """Parse ``"0.attn.q"``, ``"embed"``, ``"output"`` …; raises :class:`AddressError` otherwise."""
    if text in PSEUDO_KINDS:
        return Address(None, text)
    match = _SITE_PATTERN.fullmatch(text)
    if match is None:
        raise AddressError(
            f"{text[:80]!r} is not an address; write embed, output or <block>.<kind>.<projection>, "
            "for example 0.attn.q or 2.glu.down"
        )
    block, kind, projection = match.groups()
    if kind not in PROJECTIONS:
        raise AddressError(f"{kind!r} is not a kind of site; there are {', '.join(PROJECTIONS)}")
    if projection not in PROJECTIONS[kind]:
        raise AddressError(f"{kind} has no projection {projection!r}; it has {', '.join(PROJECTIONS[kind])}")
    return Address(int(block), kind, projection)


def parse_key(text: str) -> Key:
    """Parse ``"0.attn.q:17"``, ``"embed:42"``, ``"1.glu.down:delta"`` …"""
    address_text, separator, index_text = text.rpartition(":")
    if not separator:
        raise AddressError(f"{text[:80]!r} is not a key; write <address>:<index>, for example 0.attn.q:17")
    return Key(parse_address(address_text), _parse_index(index_text))


def parse_node_key(text: str) -> NodeKey:
    """Parse ``"0.attn.q:3:17"``, ``"embed:0:42"``, ``"1.glu.down:3:delta"``, ``"target:5:0"`` …"""
    parts = text.split(":")
    if len(parts) != 3:
        raise AddressError(
            f"{text[:80]!r} is not a node; write <address>:<position>:<index>, for example 0.attn.q:3:17"
        )
    address_text, position_text, index_text = parts
    address = TARGET if address_text == _PROMPT_KIND else parse_address(address_text)
    if _INDEX_PATTERN.fullmatch(position_text) is None:
        raise AddressError(f"{position_text[:40]!r} is not a position; write a whole number")
    return NodeKey(address, int(position_text), _parse_index(index_text))


def _parse_index(text: str) -> int | Node:
    if text == "delta" or text == "bias":
        return text
    if _INDEX_PATTERN.fullmatch(text) is None:
        raise AddressError(f"{text[:40]!r} is not an index; write a whole number, delta or bias")
    return int(text)
