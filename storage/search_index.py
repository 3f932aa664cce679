"""The index that searches read: the corpus' text on disk, and which pieces of text occur in which part of it.

A subrun folder ``search/<stamp>/`` holds

=================  ================================================================================
``text.bin``       the bytes of all tokens, end to end; a special token is one byte 0xFF
``blocks.npy``     [blocks + 1, 2] int64: the token and the byte at which each block of about 4 KB begins
``documents.npy``  [documents + 1] int64: the byte at which each document begins
``grams.bin``      [parts, 16384, 128] uint8: for 1,024 blocks at a time, one row of bits for each hash
                   value: the blocks in which three or four characters with that value occur
``manifest.json``  what it was made of, shapes, and a checksum for each part of each file; signed
=================  ================================================================================

Grams are taken of folded text in which whatever is no part of a word is a space
(:func:`storage.search_text.shape`). A query's grams must all have their bit set in a block in which a
match begins, so most blocks are never read; those that are left are read and searched as text. The
table can therefore only save time: what is found is what a scan of the whole text would find.

Building streams over the corpus twice, in memory that does not grow with it, and is quick enough
(docs/performance.md) that what was interrupted simply begins again.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import secrets
import shutil
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from tokenizers import Tokenizer

from storage.corpus import TokenCorpus
from storage.errors import NotComputedError, StorageError, StoreDamagedError
from storage.files import publish, read_signed_json, subruns, write_durably, write_signed_json
from storage.search_text import BREAK, NEAR, decode, shape
from storage.token_text import byte_of_character, is_byte_level, running_text

if TYPE_CHECKING:
    from storage.run_directory import RunDirectory

FORMAT = "tributary-search"
VERSION = 1
FOLDER = "search"
#: Bytes of a block, blocks of a part, and hash values.
BLOCK = 4096
PART = 1024
SLOTS = 1 << 14
#: Characters beyond its end (and one before its beginning) whose grams also count as a block's.
OVERLAP = 256
_ROW = PART // 8
_TOKENS = 1 << 18
#: Blocks whose grams are hashed at a time.
_SLICE = 256
#: Seconds after which a folder that nobody finished is taken for abandoned.
_ABANDONED = 24 * 3600
_FACTORS = (np.uint32(0x9E3779B1), np.uint32(0x85EBCA77), np.uint32(0xC2B2AE3D), np.uint32(0x27D4EB2F))
_SALT = np.uint32(0x165667B1)
_SHIFT = np.uint32(32 - 14)

#: Called with a phase, how much of it is done, and how much there is; may raise to stop.
Report = Callable[[str, int, int], None]


class _Manifest(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    format: str
    version: int
    #: Checksums of what was indexed: an index of another corpus or tokenizer is never used.
    corpus_sha256: str
    tokenizer_sha256: str
    tokens: int = Field(ge=0)
    documents: int = Field(ge=0)
    bytes: int = Field(ge=0)
    blocks: int = Field(ge=0)
    blocks_sha256: str
    documents_sha256: str
    #: CRC-32 of each part's text and grams.
    text_crc32: tuple[int, ...]
    grams_crc32: tuple[int, ...]
    provenance: dict[str, str]


# ---- grams --------------------------------------------------------------------------------------


def _hashed(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The hash values of every three and every four characters in a row."""
    a, b, c, d = _FACTORS
    three = points[:-2] * a + points[1:-1] * b + points[2:] * c
    four = three[:-1] + points[3:] * d + _SALT
    # Two rounds: low bits alone would leave alike grams in neighbouring slots.
    three ^= three >> np.uint32(15)
    four ^= four >> np.uint32(13)
    return (three * b) >> _SHIFT, (four * c) >> _SHIFT


def slots(text: str) -> np.ndarray:
    """The hash values that a block with this piece of folded text has its bits at."""
    return np.unique(np.concatenate(_hashed(shape(text))))


# ---- writing ------------------------------------------------------------------------------------


def token_bytes(tokenizer: Tokenizer, size: int) -> list[bytes]:
    """What each token is as text; a special or unknown one is :data:`BREAK`."""
    special = {i for i, token in tokenizer.get_added_tokens_decoder().items() if token.special}
    byte_level, byte_of, text_of = is_byte_level(tokenizer), byte_of_character(), running_text(tokenizer)
    found: list[bytes] = []
    for token_id in range(size):
        token = tokenizer.id_to_token(token_id)
        if token is None or token_id in special:
            text = b""
        elif byte_level and all(character in byte_of for character in token):
            text = bytes(byte_of[character] for character in token)
        else:
            text = text_of(token_id).encode()
        found.append(text or BREAK)
    return found


def _unheard(_phase: str, _done: int, _total: int) -> None:
    """For who does not watch."""


def build_index(
    corpus: TokenCorpus,
    table: Sequence[bytes],
    tokenizer_sha256: str,
    folder: Path,
    provenance: Mapping[str, str],
    report: Report = _unheard,
) -> SearchIndex:
    """Index a corpus into a new subrun of ``folder``; it appears by one rename when it is complete.

    ``table`` is :func:`token_bytes` of its tokenizer. What ``report`` raises stops it; nothing is left then.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _sweep(folder)
    work = folder / f".writing-{secrets.token_hex(4)}"
    work.mkdir()
    try:
        blocks, starts = _write_text(work / "text.bin", corpus, table, report)
        crcs = _write_grams(work, blocks, report)
        content: dict[str, Any] = {
            "format": FORMAT,
            "version": VERSION,
            "corpus_sha256": corpus.sha256,
            "tokenizer_sha256": tokenizer_sha256,
            "tokens": len(corpus.tokens),
            "documents": corpus.n_documents,
            "bytes": int(blocks[-1, 1]),
            "blocks": len(blocks) - 1,
            "blocks_sha256": _write_array(work / "blocks.npy", blocks),
            "documents_sha256": _write_array(work / "documents.npy", starts),
            "text_crc32": [text for text, _ in crcs],
            "grams_crc32": [grams for _, grams in crcs],
            "provenance": dict(provenance),
        }
        write_signed_json(work / "manifest.json", content)
        name = publish(work, folder)
    except BaseException:
        shutil.rmtree(work, ignore_errors=True)
        raise
    return SearchIndex.open(folder / name)


def _sweep(folder: Path) -> None:
    """Remove what a process that was killed left behind."""
    for path in folder.glob(".writing-*"):
        try:
            if time.time() - path.stat().st_mtime > _ABANDONED:
                shutil.rmtree(path, ignore_errors=True)
        except OSError:
            continue  # another process removed it


def _write_text(
    path: Path, corpus: TokenCorpus, table: Sequence[bytes], report: Report
) -> tuple[np.ndarray, np.ndarray]:
    """Write the text; the blocks [n + 1, 2] and the documents' first bytes [n + 1]."""
    lengths = np.array([len(text) for text in table], np.int64)
    # A block begins where a character does.
    begins = np.array([not 0x80 <= text[0] < 0xC0 for text in table], bool)
    total = len(corpus.tokens)
    starts = np.empty(corpus.n_documents + 1, np.int64)
    blocks: list[np.ndarray] = [np.zeros((1, 2), np.int64)]
    written = 0
    with path.open("wb") as file:
        for first in range(0, total, _TOKENS):
            report("writing text", first, total)
            ids = np.asarray(corpus.tokens[first : first + _TOKENS])
            file.write(b"".join([table[token_id] for token_id in ids.tolist()]))
            places = np.concatenate([[0], np.cumsum(lengths[ids])]) + written
            inside = slice(*np.searchsorted(corpus.offsets, [first, first + len(ids)]))
            starts[inside] = places[corpus.offsets[inside] - first]
            possible = np.flatnonzero(begins[ids])
            wanted = np.arange((int(blocks[-1][-1, 1]) // BLOCK + 1) * BLOCK, int(places[-1]), BLOCK)
            chosen = np.searchsorted(places[possible], wanted)
            tokens = np.unique(possible[chosen[chosen < len(possible)]])
            if len(tokens):
                blocks.append(np.stack([tokens + first, places[tokens]], axis=1))
            written = int(places[-1])
        report("writing text", total, total)
        file.flush()
        os.fsync(file.fileno())
    starts[np.searchsorted(corpus.offsets, total) :] = written
    blocks.append(np.array([[total, written]]))
    return np.concatenate(blocks), starts


def _write_grams(work: Path, blocks: np.ndarray, report: Report) -> list[tuple[int, int]]:
    """Write the table of grams; checksums of each part's text and grams."""
    count, total = len(blocks) - 1, int(blocks[-1, 1])
    crcs: list[tuple[int, int]] = []
    with (work / "text.bin").open("rb") as text, (work / "grams.bin").open("wb") as file:
        for first in range(0, count, PART):
            bits = np.zeros((SLOTS, PART), bool)
            crc = 0
            end = min(first + PART, count)
            for low in range(first, end, _SLICE):
                report("indexing text", int(blocks[low, 1]), total)
                high = min(low + _SLICE, end)
                crc = zlib.crc32(_mark(bits, text, blocks, first, low, high), crc)
            packed = np.packbits(bits, axis=1).tobytes()
            file.write(packed)
            crcs.append((crc, zlib.crc32(packed)))
            report("indexing text", int(blocks[end, 1]), total)
        file.flush()
        os.fsync(file.fileno())
    return crcs


def _mark(bits: np.ndarray, file: BinaryIO, blocks: np.ndarray, part: int, low: int, high: int) -> bytes:
    """Set the bits of blocks ``low`` to ``high``; ``part`` is the first block of ``bits``. Returns their text."""
    edges = blocks[low : high + 1, 1].tolist()
    # Read and not mapped: pages of a large file would count as memory of ours.
    begin = max(0, edges[0] - 4)
    file.seek(begin)
    content = file.read(edges[-1] - begin + 4 * (OVERLAP + 4))
    start, stop = edges[0] - begin, edges[-1] - begin
    # The text's own ends are the ends of words.
    before = decode(content[:start])[-1:] or " "
    after = decode(content[stop:])[: OVERLAP + 4] + " "
    bodies = [decode(content[a - begin : b - begin]) for a, b in itertools.pairwise(edges)]
    points = np.concatenate([shape(before), shape("".join(bodies)), shape(after)])
    ends = np.cumsum([len(body) for body in bodies]) + len(before)
    first = np.concatenate([[len(before)], ends[:-1]])
    numbers = np.arange(low, high) - part
    # The grams that begin in a block, one before it, and those in the overlap after it.
    own = np.repeat(numbers, ends - first)
    places = np.concatenate(
        [
            np.arange(first[0], ends[-1]),
            first - 1,
            (ends[:, None] + np.arange(OVERLAP)).ravel(),
        ]
    )
    owners = np.concatenate([own, numbers, np.repeat(numbers, OVERLAP)])
    flat = bits.reshape(-1)
    for values in _hashed(points):
        there = places < len(values)
        flat[values[places[there]].astype(np.int64) * PART + owners[there]] = True
    return content[start:stop]


def _write_array(path: Path, array: np.ndarray) -> str:
    content = np.ascontiguousarray(array, "<i8").tobytes()
    write_durably(path, content)
    return hashlib.sha256(content).hexdigest()


# ---- finding and opening ------------------------------------------------------------------------


def index_folders(run: RunDirectory, beside: Path) -> tuple[Path, Path]:
    """Where a run's index may be: in the run, or beside the database where the run cannot be written to.

    The second is named by what is indexed, so that a run that was made again never meets the old one.
    """
    named = f"{run.info.name}\n{_stated_corpus(run)}\n{run.tokenizer_sha256}"
    return run.path / FOLDER, beside / ".search" / hashlib.sha256(named.encode()).hexdigest()[:16]


def _stated_corpus(run: RunDirectory) -> str:
    """A cheap identity of the corpus: the checksum of its description, which holds that of the tokens."""
    try:
        return hashlib.sha256((run.path / "corpus" / "documents.json").read_bytes()).hexdigest()
    except OSError as error:
        raise NotComputedError(
            f"the run {run.info.name} came without its text", "copy its corpus folder to search it"
        ) from error


def find_index(run: RunDirectory, corpus: TokenCorpus, beside: Path) -> SearchIndex | None:
    """The newest index of this very corpus that can be opened, or ``None``.

    Raises :class:`StoreDamagedError` where there are only others.
    """
    tokenizer = run.tokenizer_sha256
    folders = [folder / name for folder in index_folders(run, beside) for name in subruns(folder)]
    damage: StoreDamagedError | None = None
    # By age wherever they are: one that was made again may lie beside a run that is read-only.
    for path in sorted(folders, key=lambda path: path.name, reverse=True):
        try:
            index = SearchIndex.open(path)
        except StoreDamagedError as error:
            damage = damage or error
            continue
        if index.belongs_to(corpus.sha256, tokenizer):
            return index
    if damage is not None:
        raise damage
    return None


def writable_folder(run: RunDirectory, beside: Path) -> Path:
    """The first of :func:`index_folders` that can be written to; it is made."""
    failure: OSError | None = None
    for folder in index_folders(run, beside):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            probe = folder / f".writing-{secrets.token_hex(4)}"
            probe.mkdir()
            probe.rmdir()
        except OSError as error:
            failure = error
        else:
            return folder
    assert failure is not None
    raise StorageError(
        f"an index of {run.info.name} can be written neither into the run nor into {beside} ({failure.strerror})",
        "make one of them writable",
    )


@dataclass(frozen=True)
class Part:
    """1,024 blocks: their numbers from ``first`` to ``end``."""

    number: int
    first: int
    end: int


class SearchIndex:
    """An index that is complete. Opening reads the manifest and where blocks and documents begin.

    Each part is compared with its checksum when it is first read.
    """

    def __init__(self, path: Path, manifest: _Manifest) -> None:
        self.path = path
        self._manifest = manifest
        #: What was found to be wrong with it while it was read.
        self.damage: StoreDamagedError | None = None
        self._checked_text = np.zeros(len(manifest.text_crc32), bool)
        self._checked_grams = np.zeros(len(manifest.grams_crc32), bool)
        self.blocks = self._array("blocks.npy", manifest.blocks_sha256, (manifest.blocks + 1, 2))
        self.documents = self._array("documents.npy", manifest.documents_sha256, (manifest.documents + 1,))

    @classmethod
    def open(cls, path: Path) -> SearchIndex:
        """Raises :class:`StoreDamagedError`."""
        file = path / "manifest.json"
        try:
            content = read_signed_json(file)
        except StoreDamagedError as error:
            raise StoreDamagedError(file, error.what, _AGAIN) from error
        if content.get("format") != FORMAT or content.get("version") != VERSION:
            raise StoreDamagedError(file, f"is not a search manifest of version {VERSION}", _AGAIN)
        try:
            manifest = _Manifest.model_validate(content)
        except ValidationError as error:
            raise StoreDamagedError(file, f"is malformed: {error.errors()[0]['msg']}", _AGAIN) from error
        parts = -(-manifest.blocks // PART)
        if not len(manifest.text_crc32) == len(manifest.grams_crc32) == parts:
            raise StoreDamagedError(file, "does not have a checksum for each part", _AGAIN)
        for name, size in (("text.bin", manifest.bytes), ("grams.bin", parts * SLOTS * _ROW)):
            try:
                actual = (path / name).stat().st_size
            except OSError as error:
                raise StoreDamagedError(path / name, f"cannot be read ({error.strerror})", _AGAIN) from error
            if actual != size:
                raise StoreDamagedError(path / name, f"has {actual:,} bytes in place of {size:,}", _AGAIN)
        return cls(path, manifest)

    @property
    def subrun(self) -> str:
        return self.path.name

    @property
    def tokens(self) -> int:
        return self._manifest.tokens

    @property
    def n_bytes(self) -> int:
        return self._manifest.bytes

    @property
    def n_documents(self) -> int:
        return self._manifest.documents

    @property
    def provenance(self) -> Mapping[str, str]:
        return self._manifest.provenance

    def belongs_to(self, corpus_sha256: str, tokenizer_sha256: str) -> bool:
        made_of = (self._manifest.corpus_sha256, self._manifest.tokenizer_sha256)
        return made_of == (corpus_sha256, tokenizer_sha256)

    @cached_property
    def size(self) -> int:
        """Bytes on disk."""
        return sum(file.stat().st_size for file in self.path.iterdir())

    @cached_property
    def _text(self) -> np.ndarray:
        return self._mapped("text.bin", (self.n_bytes,))

    @cached_property
    def _grams(self) -> np.ndarray:
        return self._mapped("grams.bin", (len(self._manifest.grams_crc32), SLOTS, _ROW))

    def parts(self) -> Iterator[Part]:
        for first in range(0, self._manifest.blocks, PART):
            yield Part(first // PART, first, min(first + PART, self._manifest.blocks))

    def text(self, first: int, end: int) -> bytes:
        """Bytes of the text; raises :class:`StoreDamagedError` where they are not what was written."""
        first, end = max(0, first), min(end, self.n_bytes)
        if first >= end:
            return b""
        inner = self.blocks[PART:-1:PART, 1]
        low, high = (int(n) for n in np.searchsorted(inner, [first, end - 1], side="right"))
        for part in range(low, high + 1):
            self._check_text(part)
        return self._text[first:end].tobytes()

    def rows(self, part: int, values: np.ndarray) -> np.ndarray:
        """For each hash value, the blocks of a part that have it; [values, 1024] bool."""
        if not self._checked_grams[part]:
            if zlib.crc32(self._grams[part].data) != self._manifest.grams_crc32[part]:
                raise self._damaged("grams.bin", part)
            self._checked_grams[part] = True
        return np.unpackbits(self._grams[part][values.astype(np.int64)], axis=1).view(bool)

    def _check_text(self, part: int) -> None:
        if self._checked_text[part]:
            return
        edges = self.blocks[[part * PART, min((part + 1) * PART, len(self.blocks) - 1)], 1]
        if zlib.crc32(self._text[edges[0] : edges[1]].data) != self._manifest.text_crc32[part]:
            raise self._damaged("text.bin", part)
        self._checked_text[part] = True

    def _damaged(self, name: str, part: int) -> StoreDamagedError:
        what = f"part {part} does not match its checksum"
        self.damage = StoreDamagedError(self.path / name, what, _AGAIN)
        return self.damage

    def verify(self) -> str:
        """Read everything and compare it with its checksums; says what there is."""
        none = np.empty(0, np.uint32)
        for part in self.parts():
            self.rows(part.number, none)
            self._check_text(part.number)
        return f"{self.tokens:,} tokens, {self.n_bytes:,} bytes of text"

    def _array(self, name: str, sha256: str, shape_: tuple[int, ...]) -> np.ndarray:
        try:
            content = (self.path / name).read_bytes()
        except OSError as error:
            raise StoreDamagedError(self.path / name, f"cannot be read ({error.strerror})", _AGAIN) from error
        if hashlib.sha256(content).hexdigest() != sha256 or len(content) != 8 * int(np.prod(shape_)):
            raise StoreDamagedError(self.path / name, "does not match its checksum", _AGAIN)
        return np.frombuffer(content, "<i8").reshape(shape_)

    def _mapped(self, name: str, shape_: tuple[int, ...]) -> np.ndarray:
        if 0 in shape_:
            return np.empty(shape_, np.uint8)
        try:
            return np.memmap(self.path / name, np.uint8, "r", shape=shape_)
        except (OSError, ValueError) as error:
            raise StoreDamagedError(self.path / name, f"cannot be read ({error})", _AGAIN) from error


_AGAIN = "make it again: tributary search-index RUN --again"
assert NEAR < BLOCK
