"""What a harvest says of itself, and how its numbers are written (docs/file-format.md)."""

from __future__ import annotations

import zlib
from typing import Final, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from storage.harvest_records import Encoding, Section

FORMAT: Final = "tributary-harvest"
ARRAYS, RECORDS = "arrays.safetensors", "records.bin"
#: Sums are kept as whole numbers, so that they add up to the same in any order: a sum is
#: high · 2^-HIGH + low · 2^-LOW, an output mass is n · 2^-MASS.
HIGH_BITS, LOW_BITS, MASS_BITS = 20, 60, 32
#: Arrays for each component: name → whether it is a sum of two whole numbers.
PER_COMPONENT: Final[dict[str, bool]] = {
    "firing_count": False,
    "ci_sum": True,
    "ci_max": False,
    "activation_sum": True,
    "activation_square_sum": True,
    "firing_activation_sum": True,
    "activation_min": False,
    "activation_max": False,
}


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class HarvestSettings(_Model):
    """What was asked for. A component fires where its causal importance is above ``threshold``.

    Examples show ``left`` and ``right`` tokens around a firing. ``window`` is how many tokens the
    model saw at once. ``output_floor``: next-token probabilities below it are left out of output
    masses. ``compact`` says what a small copy left out; None where nothing is missing.
    """

    threshold: float = 0.0
    left: int = Field(ge=0)
    right: int = Field(ge=0)
    n_random: int = Field(ge=0)
    n_strongest: int = Field(ge=0)
    seed: int = 0
    window: int = Field(ge=1)
    batch_size: int = Field(ge=1)
    batches: int | None = None
    bins: int = Field(default=128, ge=2, multiple_of=2)  # a power of two, so that two can become one
    output_floor: float = Field(default=0.0, ge=0)
    compact: str | None = None

    @property
    def length(self) -> int:
        return self.left + 1 + self.right


class HarvestManifest(_Model):
    """``covered``: for every group of documents the ranges of its batches that are counted here."""

    format: Literal["tributary-harvest"] = FORMAT
    version: Literal[1] = 1
    store_id: str
    settings: HarvestSettings
    encoding: Encoding
    model_sha256: str
    corpus_sha256: str
    n_groups: int
    covered: dict[str, list[tuple[int, int]]]
    tokens: int
    documents: int
    vocab_size: int
    sites: list[tuple[str, int]]
    complete: dict[Literal["input", "output", "cofiring"], bool]
    sizes: dict[str, int]
    arrays_sha256: str
    provenance: dict[str, str]


def record_seed(store_id: str, section: Section, component: int) -> int:
    """What the CRC-32 of a record starts from: a record of another store or place is a wrong one."""
    return zlib.crc32(f"{store_id}/{section}/{component}".encode())


def two_part_sums(parts: np.ndarray) -> np.ndarray:
    """[n, 2] whole numbers → [n] float64."""
    return parts[:, 0] * 2.0**-HIGH_BITS + parts[:, 1] * 2.0**-LOW_BITS
