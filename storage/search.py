"""Searching a run's text: all matches of a query in the order of the corpus, and the tokens they lie in.

A search goes on until it has ``MAX_HITS`` matches, has read all of the text, or has taken as long as it
may; then it says how far it came, and goes on from there when asked again. What it found so far is
complete up to that place: a count is exact, or is stated as "more than".
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from storage.corpus import TokenCorpus
from storage.errors import StoreDamagedError, UnknownRecordError
from storage.search_index import BLOCK, OVERLAP, PART, Part, SearchIndex, slots
from storage.search_text import BREAK, Matcher, Query, decode, fold

#: Matches that one search finds; one that has more says so.
MAX_HITS = 10_000
#: Bytes that are read at a time, between two looks at the clock.
_PIECE = 8 * BLOCK

#: Why a search stopped: it read everything, it has as many as it may, or it took as long as it may.
Ended = Literal["complete", "many", "time"]


@dataclass(frozen=True)
class Span:
    """Where a term of the query stands: characters of a hit's whole text, and its first and last token there."""

    term: int
    start: int
    end: int
    first: int
    last: int


@dataclass(frozen=True)
class Hit:
    """A match and the tokens around it, all of one document.

    ``tokens`` begins at the corpus' token ``first``; the match lies in ``tokens[match_first:match_last + 1]``.
    ``left``, ``match`` and ``right`` are those tokens' text, cut at the match. ``spans`` are the match and
    what of the other terms near it lies in these tokens, in the order of the text.
    """

    document: int
    position: int
    first: int
    tokens: tuple[int, ...]
    match_first: int
    match_last: int
    left: str
    match: str
    right: str
    spans: tuple[Span, ...]


class Search:
    """What one query finds, as far as it was looked for. Threads may share one."""

    def __init__(self, index: SearchIndex, query: Query, document: int | None = None) -> None:
        if document is not None and not 0 <= document < index.n_documents:
            raise UnknownRecordError(
                f"there is no document {document}", f"documents are 0 to {index.n_documents - 1}"
            )
        self.index = index
        self.query = query
        self.document = document
        self.ended: Ended = "time"
        self._matcher = Matcher(query)
        # Bytes around a piece that matches in it may depend on: four to a character.
        self._around = 4 * (self._matcher.reach + 2)
        edges = index.documents[[document, document + 1]] if document is not None else (0, index.n_bytes)
        self._begin, self._end = int(edges[0]), int(edges[1])
        self._next = self._begin
        self._found: list[tuple[int, int]] = []
        self._lock = threading.Lock()
        self._pieces = _wanted(query.pieces())
        self._near = _wanted([(piece, 0) for piece in query.near_pieces()])

    def __len__(self) -> int:
        return len(self._found)

    @property
    def searched(self) -> float:
        """The share of the text that was searched."""
        length = self._end - self._begin
        return 1.0 if self.ended == "complete" or not length else (self._next - self._begin) / length

    def advance(self, seconds: float) -> Ended:
        """Search on for at most so long; where others are at it already, their work is waited for."""
        with self._lock:
            if self.ended == "time":
                self.ended = self._run(time.monotonic() + seconds)
            return self.ended

    def _run(self, deadline: float) -> Ended:
        blocks = self.index.blocks
        for part in self.index.parts():
            if blocks[part.end, 1] <= self._next:
                continue
            if blocks[part.first, 1] >= self._end:
                break
            for first, end in self._runs(part):
                low, high = max(int(first), self._next), min(int(end), self._end)
                while low < high:
                    piece = min(high, low + _PIECE)
                    piece = int(blocks[np.searchsorted(blocks[:, 1], piece), 1]) if piece < high else high
                    piece = min(piece, high)
                    self._scan(low, piece)
                    self._next = low = piece
                    if len(self._found) > MAX_HITS:
                        del self._found[MAX_HITS:]
                        return "many"
                    if time.monotonic() > deadline:
                        return "time" if self._next < self._end else "complete"
            self._next = min(self._end, int(blocks[part.end, 1]))
            if time.monotonic() > deadline and self._next < self._end:
                return "time"
        return "complete"

    def _runs(self, part: Part) -> list[tuple[int, int]]:
        """Byte ranges of a part in which matches may begin."""
        count = part.end - part.first
        may = np.ones(PART, bool)
        if len(self._pieces):
            may &= self.index.rows(part.number, self._pieces).all(axis=0)
        if len(self._near) and may.any():
            rows = self.index.rows(part.number, self._near)
            # A neighbour's will do; what the neighbours in other parts have is not looked up.
            spread = rows.copy()
            spread[:, 1:] |= rows[:, :-1]
            spread[:, :-1] |= rows[:, 1:]
            spread[:, [0, count - 1]] = True
            may &= spread.all(axis=0)
        edges = np.flatnonzero(np.diff(np.concatenate([[False], may[:count], [False]]).astype(np.int8)))
        starts = self.index.blocks[part.first + edges, 1].reshape(-1, 2)
        return [(int(a), int(b)) for a, b in starts]

    def _scan(self, low: int, high: int) -> None:
        """Add the matches that begin in bytes ``low`` to ``high``."""
        content = self.index.text(low - self._around, high + self._around)
        prepared = self._matcher.prepare(content)
        if prepared is None:
            return
        edges = (0, min(low, self._around), min(low, self._around) + high - low, len(content))
        cuts = [slice(a, b) for a, b in itertools.pairwise(edges)]
        head, body, tail = (self._matcher.read(prepared[cut]) for cut in cuts)
        text, start = head + body + tail, edges[1] - low
        # Characters of folded text are those of the text, their bytes may not be.
        plain = len(text) == len(content)
        original = content if plain else "".join(decode(content[cut]) for cut in cuts)
        place, byte = (0, -start) if plain else (len(head), low)
        edge = -1
        for first, end in self._matcher.find(text, len(head), len(head) + len(body)):
            byte += _length(original[place:first])
            place = first
            stop = byte + _length(original[first:end])
            if byte >= edge:
                number = np.searchsorted(self.index.documents, byte, side="right")
                edge = int(self.index.documents[number])
            if stop <= edge:  # not across the end of a document
                self._found.append((byte, stop))
            if len(self._found) > MAX_HITS:
                return

    def match(self, number: int) -> tuple[int, int]:
        """The bytes of a match."""
        return self._found[number]

    def others(self, number: int) -> list[tuple[int, int, int]]:
        """The other terms near a match: the number of each in the query, and its bytes."""
        if len(self.query.terms) < 2:
            return []
        byte = self._found[number][0]
        low = max(0, byte - self._around)
        content = self.index.text(low, byte + self._around)
        # Folding never changes how many characters there are, though their bytes may differ.
        original = decode(content[: byte - low]) + decode(content[byte - low :])
        text = original if self.query.match_case else fold(original)
        place = len(decode(content[: byte - low]))
        found: list[tuple[int, int, int]] = []
        for term, first, end in self._matcher.others(text, place):
            begins = low + _length(original[:first])
            found.append((term, begins, begins + _length(original[first:end])))
        return found


def _length(text: str | bytes) -> int:
    """How many bytes a piece of text has."""
    return len(text) if isinstance(text, bytes) else len(text.encode("utf-8", "surrogateescape"))


def _wanted(pieces: list[tuple[str, int]]) -> np.ndarray:
    """Hash values of the pieces that lie within the overlap for certain."""
    found = [slots(fold(piece[: OVERLAP - offset])) for piece, offset in pieces if offset < OVERLAP - 4]
    return np.unique(np.concatenate(found)) if found else np.empty(0, np.uint32)


class Reader:
    """Turns matches into tokens of the corpus: what is shown and opened is what the model was given."""

    def __init__(self, index: SearchIndex, corpus: TokenCorpus, table: Sequence[bytes]) -> None:
        self.index = index
        self.corpus = corpus
        self._table = table

    def hit(
        self, match: tuple[int, int], left: int, right: int, others: Sequence[tuple[int, int, int]] = ()
    ) -> Hit:
        """The tokens of a match, and up to so many to its left and right in its document.

        ``others`` are those of :meth:`Search.others`.
        """
        first, last, start, end = self._tokens(match)
        document = int(np.searchsorted(self.corpus.offsets, first, side="right")) - 1
        low = max(int(self.corpus.offsets[document]), first - left)
        high = min(int(self.corpus.offsets[document + 1]), last + 1 + right)
        ids = [int(token) for token in self.corpus.tokens[low:high]]
        before = b"".join(self._table[token] for token in ids[: first - low])
        inside = b"".join(self._table[token] for token in ids[first - low : last + 1 - low])
        after = b"".join(self._table[token] for token in ids[last + 1 - low :])
        matched = inside[start:end]
        if matched != self.index.text(*match):
            raise StoreDamagedError(
                self.index.path / "text.bin", "is not the text of this corpus", "make the index again"
            )
        sides = (before + inside[:start], matched, inside[end:] + after)
        begins = match[0] - len(sides[0])
        edges = np.cumsum([begins, *(len(self._table[token]) for token in ids)])
        wanted = [(0, *match), *others]
        spans = [
            _span(begins, sides, edges, *one) for one in wanted if edges[0] < one[2] and one[1] < edges[-1]
        ]
        return Hit(
            document=document,
            position=first,
            first=low,
            tokens=tuple(ids),
            match_first=first - low,
            match_last=last - low,
            left=_shown(sides[0]),
            match=_shown(matched),
            right=_shown(sides[2]),
            spans=tuple(sorted(spans, key=lambda span: (span.start, span.term))),
        )

    def _tokens(self, match: tuple[int, int]) -> tuple[int, int, int, int]:
        """First and last token of a match, and its bytes within those tokens' text."""
        blocks = self.index.blocks
        block = int(np.searchsorted(blocks[:, 1], match[0], side="right")) - 1
        token, byte = int(blocks[block, 0]), int(blocks[block, 1])
        first = begins = -1
        while True:
            length = len(self._table[int(self.corpus.tokens[token])])
            if first < 0 and byte + length > match[0]:
                first, begins = token, byte
            if byte + length >= match[1]:
                return first, token, match[0] - begins, match[1] - begins
            token, byte = token + 1, byte + length


def _shown(text: bytes) -> str:
    return text.replace(BREAK, b"").decode("utf-8", "replace")


def _span(
    begins: int, sides: tuple[bytes, bytes, bytes], edges: np.ndarray, term: int, first: int, end: int
) -> Span:
    """A term as what is shown of it; ``sides`` is the text from byte ``begins`` on, ``edges`` its tokens' bytes."""
    first, end = max(first, begins), min(end, int(edges[-1]))

    def characters(byte: int) -> int:
        count, rest = 0, byte - begins
        # Each side is decoded by itself, so that is how characters are counted.
        for side in sides:
            count += len(_shown(side[: max(0, rest)]))
            rest -= len(side)
        return count

    return Span(
        term=term,
        start=characters(first),
        end=characters(end),
        first=int(np.searchsorted(edges, first, side="right")) - 1,
        last=int(np.searchsorted(edges, end, side="left")) - 1,
    )
