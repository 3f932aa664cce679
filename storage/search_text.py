"""What a search looks for: folding of letters, words, and the patterns that queries become.

Two ways to search, each defined so that a plain scan of a document's text would find the same:

* *exact*: every place where the text typed begins, pieces of words and punctuation included.
* *words*: every place where the first term begins whose other terms lie within ``NEAR`` characters. A
  term is a word, or several in a row: what stands in quotation marks, or is joined by punctuation
  (``well-known``). Between words in a row there may be spaces and punctuation, at most ``GAP``
  characters. A star at a word's end stands for the rest of a word.

Letters are compared as they are, or *folded*: each character by its own lower case (and both small
sigmas alike), so that folding never changes how many characters there are.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np

from storage.errors import InvalidValueError

Mode = Literal["words", "exact"]

#: Characters of a query, and terms in it.
MAX_QUERY = 500
MAX_TERMS = 12
#: Characters between two words in a row.
GAP = 32
#: Characters between the beginnings of the first term and of another one.
NEAR = 300
#: Letters that may follow a star's word: longer ones are no words.
_REST = 64
#: What special tokens are in a text: one byte that no text has, and the character it is decoded to.
BREAK = b"\xff"
BREAK_CHARACTER = "\udcff"
#: The only character beyond ASCII whose lower case is not: it stays, so that ASCII is found in ASCII only.
_KELVIN = "\u212a"
_WORD = r"[\w\u0300-\u036f]"
_GAP = rf"[^\w\u0300-\u036f{BREAK_CHARACTER}]{{1,{GAP}}}"
_COMBINING = range(0x0300, 0x0370)
_CODE_POINTS = 0x110000
_SPACE = 0x20


def decode(text: bytes) -> str:
    """Bytes of a text as characters; each byte that is no text becomes a character of its own."""
    return text.decode("utf-8", "surrogateescape")


def fold(text: str) -> str:
    lowered = text.lower()
    if len(lowered) != len(text) or _KELVIN in text:
        lowered = "".join(_folded(character) for character in text)
    return lowered.replace("ς", "σ")  # lower() writes a sigma as its neighbours demand


def _folded(character: str) -> str:
    lowered = character.lower()
    return lowered if len(lowered) == 1 and character != _KELVIN else character


def is_word(character: str) -> bool:
    return character.isalnum() or character == "_" or ord(character) in _COMBINING


@cache
def shapes() -> np.ndarray:
    """Code point → folded code point, or a space where it is no part of a word; [0x110000] uint32."""
    table = np.full(_CODE_POINTS, _SPACE, np.uint32)
    for point in range(_CODE_POINTS):
        character = chr(point)
        if is_word(character):
            table[point] = ord(fold(character))
    return table


def shape(text: str) -> np.ndarray:
    """The characters of a text as :func:`shapes` has them; [characters] uint32."""
    return shapes()[np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")]


@dataclass(frozen=True)
class Term:
    """Words in a row; ``open_end`` where the last one may go on."""

    words: tuple[str, ...]
    open_end: bool

    def pattern(self) -> re.Pattern[str]:
        """Its words in a row up to a word's end. What stands before is not looked at: patterns that begin
        with their letters are found many times faster."""
        row = _GAP.join(re.escape(word) for word in self.words)
        rest = f"{_WORD}{{0,{_REST}}}" if self.open_end else ""
        return re.compile(f"{row}{rest}(?!{_WORD})")

    def pieces(self) -> Iterator[tuple[str, int]]:
        """Texts that a match holds in the form of :func:`shape`, and how far on each begins at most."""
        offset = 0
        for i, word in enumerate(self.words):
            closed = not self.open_end or i < len(self.words) - 1
            yield f" {word} " if closed else f" {word}", offset
            offset += len(word) + GAP


@dataclass(frozen=True)
class Query:
    """A query that was understood. ``terms`` is empty in exact mode; texts are folded where case is ignored."""

    mode: Mode
    match_case: bool
    literal: str
    terms: tuple[Term, ...]

    def pieces(self) -> list[tuple[str, int]]:
        """What a block in which a match begins must hold (of the first term)."""
        if self.mode == "exact":
            return [(self.literal, 0)]
        return list(self.terms[0].pieces())

    def near_pieces(self) -> list[str]:
        """What the block of a match or a neighbour of it must hold, of the other terms."""
        return [piece for term in self.terms[1:] for piece, offset in term.pieces() if offset <= NEAR]


def parse(text: str, mode: Mode, *, match_case: bool) -> Query:
    """Understand a query: any text is one, but none at all, one too long, or half a character."""
    if len(text) > MAX_QUERY:
        raise InvalidValueError(f"the query has {len(text):,} characters", f"search for {MAX_QUERY} at most")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InvalidValueError("the query holds half a character", "type it again") from None
    if mode == "words":
        terms = _terms(text if match_case else fold(text))
        if len(terms) > MAX_TERMS:
            raise InvalidValueError(
                f"the query has {len(terms)} terms",
                f"give {MAX_TERMS} at most, or put words in a row in quotes",
            )
        if terms:
            return Query("words", match_case, "", terms)
        text = text.strip()  # signs only: they can be searched for as they stand
    if not text:
        raise InvalidValueError("there is nothing to search for", "type a word")
    return Query("exact", match_case, text if match_case else fold(text), ())


def _terms(text: str) -> tuple[Term, ...]:
    found: list[Term] = []
    for quoted, bare in re.findall(r'"([^"]*)"?|([^"\s]+)', text):
        written: str = quoted or bare
        words = tuple(re.findall(f"{_WORD}+", written))
        if words:
            found.append(Term(words, written.rstrip().endswith(words[-1] + "*")))
    return tuple(dict.fromkeys(found))


class Matcher:
    """Finds the matches of a query in pieces of text."""

    def __init__(self, query: Query) -> None:
        self.query = query
        self._patterns = [term.pattern() for term in query.terms]
        self._words = [word for term in query.terms for word in term.words]
        literals = [query.literal] if query.mode == "exact" else self._words
        # What must be in the bytes; a letter beyond ASCII may be there as a capital, of other bytes.
        plain = [word.encode() for word in literals if query.match_case or word.isascii()]
        self._needed = sorted(set(plain), key=len, reverse=True)
        self._beyond_ascii = len(plain) < len(literals)

    @property
    def reach(self) -> int:
        """Characters before or after a match's beginning that decide whether it is one, at most."""
        if self.query.mode == "exact":
            return len(self.query.literal)
        spans = [sum(len(word) + GAP for word in term.words) + _REST for term in self.query.terms]
        return max(spans) + (NEAR if len(spans) > 1 else 0)

    def prepare(self, content: bytes) -> bytes | None:
        """Bytes of a text with small letters where case is ignored; ``None`` where no match can be."""
        if not self.query.match_case:
            content = content.lower()  # ASCII only; the others are seen to in :meth:`read`
        if any(word not in content for word in self._needed):
            return None
        if self._beyond_ascii and content.replace(BREAK, b"").isascii():
            return None
        return content

    def read(self, prepared: bytes) -> str:
        """Characters of prepared bytes, folded where case is ignored."""
        text = decode(prepared)
        return text if self.query.match_case or len(text) == len(prepared) else fold(text)

    def find(self, text: str, first: int, end: int) -> Iterator[tuple[int, int]]:
        """Matches beginning in characters ``first`` to ``end`` of a text that was read; around them is more."""
        if any(word not in text for word in self._words):
            return
        if self._patterns:
            for found in _rows(self._patterns[0], text, first, end):
                if self._others_near(text, found.start()):
                    yield found.span()
            return
        literal = self.query.literal
        place = text.find(literal, first, end + len(literal) - 1)
        while place >= 0:
            yield place, place + len(literal)
            place = text.find(literal, place + 1, end + len(literal) - 1)

    def others(self, text: str, place: int) -> Iterator[tuple[int, int, int]]:
        """The other terms near a match that begins at ``place``: the number of each, and its characters."""
        low, high = _near(text, place)
        for number, pattern in enumerate(self._patterns[1:], 1):
            for found in _rows(pattern, text, low, high + 1):
                yield number, *found.span()

    def _others_near(self, text: str, place: int) -> bool:
        if len(self._patterns) == 1:
            return True
        low, high = _near(text, place)
        return all(any(_rows(pattern, text, low, high + 1)) for pattern in self._patterns[1:])


def _near(text: str, place: int) -> tuple[int, int]:
    """The first and the last character at which a term near ``place`` may begin."""
    # Another document's text is not near, however few characters away.
    low = max(text.rfind(BREAK_CHARACTER, 0, place) + 1, place - NEAR)
    stop = text.find(BREAK_CHARACTER, place)
    return low, min(len(text) if stop < 0 else stop, place + NEAR)


def _rows(pattern: re.Pattern[str], text: str, first: int, end: int) -> Iterator[re.Match[str]]:
    """Where a term stands as whole words, beginning in ``first`` to ``end``."""
    found = pattern.search(text, first)
    while found is not None and found.start() < end:
        place = found.start()
        if place == 0 or not is_word(text[place - 1]):
            yield found
        found = pattern.search(text, place + 1)
