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
    """Read a ``.jsonl`` or ``.jsonl.gz`` file with one ``{"title", "source", "text"}`` a line."""
    if not path.is_file():
        raise CorpusError(f"there is no text file at {path}")
    opener = gzip.open if path.suffix == ".gz" else open
    documents: list[Document] = []
    try:
        with opener(path, "rt", encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    record = json.loads(line)
                    documents.append(
                        Document(
                            str(record.get("title", f"line {number}")),
                            str(record.get("source", "")),
                            record["text"],
                        )
                    )
    except (OSError, EOFError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CorpusError(
            f'{path}: line {len(documents) + 1} is not {{"title", "source", "text"}} ({error})'
        ) from error
    if not documents:
        raise CorpusError(f"{path} holds no documents")
    return documents


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


def tokenize(documents: list[Document], tokenizer: Tokenizer, validation_every: int = 20) -> TokenCorpus:
    """Encode documents, each preceded by the end-of-text token."""
    end_of_text = tokenizer.token_to_id(END_OF_TEXT)
    encodings = tokenizer.encode_batch([document.text for document in documents])
    pieces = [np.asarray([end_of_text, *encoding.ids], dtype=np.int32) for encoding in encodings]
    offsets = np.cumsum([0, *(len(piece) for piece in pieces)], dtype=np.int64)
    titles = tuple(document.title for document in documents)
    return TokenCorpus(np.concatenate(pieces), offsets, titles, validation_every)


def windows(tokens: torch.Tensor, length: int, batch_size: int) -> Iterator[torch.Tensor]:
    """All tokens in order, as batches [≤ batch_size, length]; the last, shorter window comes alone."""
    full = len(tokens) // length
    for batch in tokens[: full * length].view(full, length).split(batch_size) if full else ():
        yield batch.long()
    if len(tokens) % length:
        yield tokens[full * length :].long()[None]
