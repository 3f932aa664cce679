"""The tokens of examples: read from the run's corpus, so that no text is stored twice."""

from __future__ import annotations

import zlib
from pathlib import Path
from tokenize import TokenError

import numpy as np

from storage.errors import StoreDamagedError


def open_tokens(corpus: Path) -> np.ndarray:
    """The tokens of a corpus directory, mapped; raises :class:`StoreDamagedError`."""
    file = corpus / "tokens.npy"
    try:
        return np.load(file, mmap_mode="r", allow_pickle=False)
    # The header is Python text: numpy lets through what its parsers say of a damaged one.
    except (OSError, ValueError, EOFError, SyntaxError, TokenError) as error:
        raise StoreDamagedError(
            file, f"cannot be read ({error})", "restore the corpus from a copy of the run"
        ) from error


def example_tokens(
    tokens: np.ndarray, position: np.ndarray, before: np.ndarray, after: np.ndarray, left: int, right: int
) -> np.ndarray:
    """[n, L] int32: ``before`` and ``after`` tokens on the two sides of each position, −1 elsewhere."""
    offset = np.arange(-left, right + 1)
    inside = (offset >= -before[:, None]) & (offset <= after[:, None])
    place = np.where(inside, position[:, None] + offset, 0)
    if inside.any() and not 0 <= int(place.min()) <= int(place.max()) < len(tokens):
        return np.full(inside.shape, -1, np.int32)  # of another text: its checksum will not match
    return np.where(inside, tokens[place].astype(np.int32), np.int32(-1))


def tokens_checksum(tokens: np.ndarray) -> int:
    return zlib.crc32(np.ascontiguousarray(tokens, dtype="<i4").tobytes())
