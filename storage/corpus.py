"""Texts as documents, and documents as tokens: tokenizer training, splits and groups."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tokenize import TokenError
from typing import TYPE_CHECKING

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from storage.errors import StorageError

if TYPE_CHECKING:
    import torch

END_OF_TEXT = "<|endoftext|>"
#: What tokenizers call the end of a text, the first that a tokenizer has.
_SEPARATORS = (END_OF_TEXT, "<|end_of_text|>", "</s>", "<eos>", "[EOS]", "[SEP]")
#: Characters of a document cut out of a plain text, at least.
_CUT = 4_000
#: Characters that are encoded at once.
_ENCODED = 1_000_000
#: Tokens whose checksum is taken at a time.
_HASHED = 1 << 20


class CorpusError(StorageError):
    """A text or token file that is missing, damaged or not what it should be."""


@dataclass(frozen=True)
class Document:
    """One text: a chapter, an article. Documents are never split between groups or splits."""

    title: str
    source: str
    text: str


def read_documents(path: Path) -> list[Document]:
    """All documents of a file, at least one; see :func:`documents_of`."""
    return list(documents_of([path]))


def documents_of(paths: Iterable[Path]) -> Iterator[Document]:
    """The documents of text files, one at a time, from each file at least one.

    ``.jsonl`` has one ``{"title", "source", "text"}`` a line, of which only the text must be there.
    ``.txt`` is cut at blank lines into documents of at least ``_CUT`` characters. Either may be
    compressed (``.gz``). Raises :class:`CorpusError`.
    """
    for path in paths:
        if not path.is_file():
            raise CorpusError(f"there is no text file at {path}")
        plain = path.with_suffix("") if path.suffix == ".gz" else path
        read = _paragraphs if plain.suffix == ".txt" else _records
        n = 0
        opener = gzip.open if path.suffix == ".gz" else open
        try:
            with opener(path, "rt", encoding="utf-8") as lines:
                for document in read(lines, path, plain.stem):
                    n += 1
                    yield document
        except (OSError, EOFError, UnicodeDecodeError) as error:
            raise CorpusError(f"{path}: document {n + 1} cannot be read ({error})") from error
        if not n:
            raise CorpusError(f"{path} holds no documents")


def _records(lines: Iterable[str], path: Path, _: str) -> Iterator[Document]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
            title = str(record.get("title", f"line {number}"))
            document = Document(title, str(record.get("source", "")), record["text"])
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise CorpusError(
                f'{path}: line {number} is not {{"title", "source", "text"}} ({error})'
            ) from error
        yield document


def _paragraphs(lines: Iterable[str], path: Path, name: str) -> Iterator[Document]:
    """Documents that end at the first blank line after ``_CUT`` characters, or at four times as many."""
    parts: list[str] = []
    length, number = 0, 0
    for line in lines:
        parts.append(line)
        length += len(line)
        if length >= (4 * _CUT if line.strip() else _CUT):
            number += 1
            yield Document(f"{name}, part {number}", path.name, "".join(parts))
            parts, length = [], 0
    if "".join(parts).strip():
        yield Document(f"{name}, part {number + 1}", path.name, "".join(parts))


def train_tokenizer(documents: Iterable[Document], vocab_size: int) -> Tokenizer:
    """A byte-level BPE tokenizer: every text round-trips, whatever it contains."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        special_tokens=[END_OF_TEXT],
        show_progress=False,
    )
    tokenizer.train_from_iterator((document.text for document in documents), trainer)
    return tokenizer


@dataclass(frozen=True)
class TokenCorpus:
    """Tokenised documents laid end to end, each preceded by the end-of-text token.

    ``tokens`` [n] int32; ``offsets`` [n_documents + 1] int64 are the documents' boundaries.
    Every ``validation_every``-th document (the last of each run of that many) is for validation.
    """

    tokens: np.ndarray
    offsets: np.ndarray
    titles: tuple[str, ...]
    validation_every: int

    @property
    def n_documents(self) -> int:
        return len(self.titles)

    @cached_property
    def sha256(self) -> str:
        digest = hashlib.sha256()
        for start in range(0, len(self.tokens), _HASHED):
            digest.update(self.tokens[start : start + _HASHED].astype("<i4").tobytes())
        digest.update(np.ascontiguousarray(self.offsets, dtype="<i8").tobytes())
        return digest.hexdigest()

    def document(self, index: int) -> np.ndarray:
        return self.tokens[self.offsets[index] : self.offsets[index + 1]]

    def is_validation(self, index: int) -> bool:
        return index % self.validation_every == self.validation_every - 1

    @property
    def n_validation_tokens(self) -> int:
        held_out = (i for i in range(self.n_documents) if self.is_validation(i))
        return int(sum(self.offsets[i + 1] - self.offsets[i] for i in held_out))

    def split(self, *, validation: bool) -> torch.Tensor:
        """All tokens of one split, end to end, as int32."""
        import torch  # a server that only shows text has no use for it

        chosen = [self.document(i) for i in range(self.n_documents) if self.is_validation(i) == validation]
        if not chosen:
            raise CorpusError(f"no documents for {'validation' if validation else 'training'}")
        return torch.from_numpy(np.concatenate(chosen).astype(np.int32))

    def group(self, group: int, n_groups: int) -> torch.Tensor:
        """The tokens of all documents i with i mod ``n_groups`` = ``group``, end to end, as int32."""
        import torch

        chosen = [self.document(i) for i in range(group, self.n_documents, n_groups)]
        return torch.from_numpy(np.concatenate(chosen).astype(np.int32) if chosen else np.empty(0, np.int32))

    def save(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        small = int(self.tokens.max(initial=0)) < 2**16
        np.save(directory / "tokens.npy", self.tokens.astype(np.uint16 if small else np.int32))
        description = {
            "titles": self.titles,
            "offsets": self.offsets.tolist(),
            "validation_every": self.validation_every,
            "sha256": self.sha256,
        }
        (directory / "documents.json").write_text(
            json.dumps(description, ensure_ascii=False), encoding="utf-8"
        )

    @classmethod
    def load(cls, directory: Path, *, mapped: bool = False) -> TokenCorpus:
        """Read what :meth:`save` wrote; raises :class:`CorpusError` for anything else.

        ``mapped``: tokens stay in the file, in its own type, and are read where they are touched.
        """
        try:
            description = json.loads((directory / "documents.json").read_text(encoding="utf-8"))
            tokens = np.load(directory / "tokens.npy", "r" if mapped else None, allow_pickle=False)
            corpus = cls(
                tokens if mapped else tokens.astype(np.int32),
                np.asarray(description["offsets"], dtype=np.int64),
                tuple(description["titles"]),
                int(description["validation_every"]),
            )
        # The header of tokens.npy is Python text: numpy lets through what its parsers say of a damaged one.
        except (OSError, ValueError, KeyError, TypeError, EOFError, SyntaxError, TokenError) as error:
            raise CorpusError(f"{directory}: the tokenised text cannot be read ({error})") from error
        if corpus.sha256 != description.get("sha256"):
            raise CorpusError(
                f"{directory}: the tokens do not match their checksum; restore or rebuild the corpus"
            )
        return corpus


def separator_of(tokenizer: Tokenizer, wanted: str | None = None) -> int:
    """The token that is put before every document: ``wanted``, or what the tokenizer calls the end of a text.

    Raises :class:`CorpusError` where the tokenizer has no such token.
    """
    for name in (wanted,) if wanted is not None else _SEPARATORS:
        if (token := tokenizer.token_to_id(name)) is not None:
            return token
    named = f"called {wanted}" if wanted is not None else "that ends a text"
    raise CorpusError(
        f"the tokenizer has no token {named}",
        "name one to stand before every document: --separator TOKEN, or separator in a configuration",
    )


def tokenize(
    documents: Iterable[Document],
    tokenizer: Tokenizer,
    validation_every: int = 20,
    separator: str | None = None,
) -> TokenCorpus:
    """Encode documents, each preceded by the separating token (:func:`separator_of`).

    Several documents are encoded at once, on all cores, but never more than ``_ENCODED`` characters
    of them (or one document): what the tokenizer keeps for each token is many times its size.
    """
    before = separator_of(tokenizer, separator)
    pieces: list[np.ndarray] = []
    titles: list[str] = []
    for chunk in _chunks(documents):
        titles += [document.title for document in chunk]
        texts = [document.text for document in chunk]
        encodings = tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        pieces += [np.asarray([before, *encoding.ids], dtype=np.int32) for encoding in encodings]
    offsets = np.cumsum([0, *(len(piece) for piece in pieces)], dtype=np.int64)
    return TokenCorpus(np.concatenate(pieces), offsets, tuple(titles), validation_every)


def _chunks(documents: Iterable[Document]) -> Iterator[list[Document]]:
    chunk: list[Document] = []
    length = 0
    for document in documents:
        if chunk and length + len(document.text) > _ENCODED:
            yield chunk
            chunk, length = [], 0
        chunk.append(document)
        length += len(document.text)
    if chunk:
        yield chunk


def windows(tokens: torch.Tensor, length: int, batch_size: int) -> Iterator[torch.Tensor]:
    """All tokens in order, as batches [≤ batch_size, length]; the last, shorter window comes alone."""
    full = len(tokens) // length
    for batch in tokens[: full * length].view(full, length).split(batch_size) if full else ():
        yield batch.long()
    if len(tokens) % length:
        yield tokens[full * length :].long()[None]
