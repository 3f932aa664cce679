"""What a run knows of every component over its text: counts, histograms, examples, lists.

A harvest subrun ``<run>/harvest/<stamp>/`` is ``manifest.json``, ``arrays.safetensors`` (a few numbers
for each component) and ``records.bin`` (storage/harvest_records.py). Opening reads the manifest only;
every other read touches one component's record and checks it. The tokens of examples are those of the
run's corpus, so that no text is stored twice.

    harvest = run.harvest()
    harvest.site("firing_count", address)          # [C]
    harvest.examples(address, 17, "random").tokens # [n, left + 1 + right]
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load

from compute.address import Address, AddressError, parse_address
from storage.errors import StoreDamagedError, UnknownKeyError
from storage.example_tokens import example_tokens, open_tokens, tokens_checksum
from storage.files import read_signed_json
from storage.harvest_manifest import (
    ARRAYS,
    FORMAT,
    MASS_BITS,
    PER_COMPONENT,
    RECORDS,
    HarvestManifest,
    HarvestSettings,
    record_seed,
    two_part_sums,
)
from storage.harvest_records import (
    SECTIONS,
    RecordError,
    Section,
    unpack_examples,
    unpack_histogram,
    unpack_list,
)

Kind = Literal["random", "strongest"]


@dataclass(frozen=True)
class Examples:
    """Windows of L = left + 1 + right tokens around n firings of one component.

    ``corpus_position`` and ``document`` [n] int64; ``tokens`` [n, L] int32, −1 outside what the model
    saw of the document; ``ci`` [n, L] float32, 0 outside; ``activation`` [n, L] float32, scaled by
    ‖U‖, nan outside. The firing stands at index ``left``.
    """

    corpus_position: np.ndarray
    document: np.ndarray
    tokens: np.ndarray
    ci: np.ndarray
    activation: np.ndarray
    left: int


class Harvest:
    """A subrun that is open. All arrays returned are the caller's to keep, none to write to."""

    def __init__(self, path: Path, manifest: HarvestManifest, corpus: Path) -> None:
        self.path = path
        self.manifest = manifest
        self._corpus = corpus
        self._counts = {parse_address(address): count for address, count in manifest.sites}
        starts = np.cumsum([0, *self._counts.values()]).tolist()
        self._starts = dict(zip(self._counts, starts, strict=False))

    @classmethod
    def open(cls, path: Path, corpus: Path | None = None) -> Harvest:
        """Read the manifest; raises :class:`StoreDamagedError`. ``corpus``: the run's, by default."""
        file = path / "manifest.json"
        content = read_signed_json(file)
        if content.get("format") != FORMAT or content.get("version") != 1:
            raise StoreDamagedError(file, "is not a harvest manifest of version 1")
        try:
            manifest = HarvestManifest.model_validate(content)
            addresses = [parse_address(address) for address, _ in manifest.sites]
            if not all(a.is_site for a in addresses) or addresses != sorted(set(addresses)):
                raise ValueError("its sites are not in their order")
        except ValidationError as error:
            raise StoreDamagedError(file, f"is malformed: {error.errors()[0]['msg']}") from error
        except (AddressError, ValueError) as error:
            raise StoreDamagedError(file, f"is malformed: {error}") from error
        for name in (ARRAYS, RECORDS):
            try:
                size = (path / name).stat().st_size
            except OSError as error:
                raise StoreDamagedError(path / name, f"cannot be read ({error.strerror})") from error
            if size != manifest.sizes.get(name):
                raise StoreDamagedError(
                    path / name, f"has {size:,} bytes instead of {manifest.sizes.get(name, 0):,}"
                )
        return cls(path, manifest, path.parent.parent / "corpus" if corpus is None else corpus)

    # ---- what it is ----

    @property
    def subrun(self) -> str:
        return self.path.name

    @property
    def provenance(self) -> Mapping[str, str]:
        return self.manifest.provenance

    @property
    def settings(self) -> HarvestSettings:
        return self.manifest.settings

    @property
    def tokens(self) -> int:
        """Positions that were looked at."""
        return self.manifest.tokens

    @property
    def documents(self) -> int:
        """Documents of which at least one position was looked at."""
        return self.manifest.documents

    @property
    def addresses(self) -> tuple[Address, ...]:
        """The sites in their order, the one that flat indices follow."""
        return tuple(self._counts)

    @property
    def n_components(self) -> int:
        return sum(self._counts.values())

    @property
    def complete(self) -> Mapping[str, bool]:
        """Whether ``input``, ``output`` and ``cofiring`` lists are whole: all others are zero.

        In a list that is not whole, what is missing is neither among the strongest nor the weakest;
        zeros that are stored are zeros that were counted.
        """
        return {str(name): whole for name, whole in self.manifest.complete.items()}

    @property
    def sampling(self) -> str:
        """How the examples were chosen, in a sentence or two."""
        s = self.settings
        return (
            f"Random: at most {s.n_random} firings of a component, drawn without replacement and with equal "
            f"chances from all its firings (seed {s.seed}). Strongest: the {s.n_strongest} firings with the "
            "largest causal importance, equal ones by the size of the scaled activation."
        )

    def flat(self, address: Address, index: int) -> int:
        """The flat index of a component; raises :class:`UnknownKeyError`."""
        count = self._counts.get(address)
        if count is None:
            raise UnknownKeyError(f"there is no harvest of {address}")
        if not 0 <= index < count:
            raise UnknownKeyError(f"{address} has components 0 to {count - 1}, not {index}")
        return self._starts[address] + index

    def component(self, flat: int) -> tuple[Address, int]:
        """The component of a flat index."""
        for address in reversed(self._counts):
            if flat >= self._starts[address]:
                return address, flat - self._starts[address]
        raise UnknownKeyError(f"{flat} is no flat index")

    # ---- arrays ----

    @cached_property
    def arrays(self) -> Mapping[str, np.ndarray]:
        """``arrays.safetensors`` as it is stored."""
        file = self.path / ARRAYS
        try:
            content = file.read_bytes()
        except OSError as error:
            raise StoreDamagedError(file, f"cannot be read ({error.strerror})") from error
        if hashlib.sha256(content).hexdigest() != self.manifest.arrays_sha256:
            raise StoreDamagedError(file, "does not match the checksum in its manifest")
        try:
            arrays = load(content)
        except (SafetensorError, KeyError, ValueError) as error:
            raise StoreDamagedError(file, f"is not a safetensors file ({error})") from error
        n, vocab = self.n_components, self.manifest.vocab_size
        shapes = {name: (n, 2) if double else (n,) for name, double in PER_COMPONENT.items()}
        shapes |= {"token_count": (vocab,), "output_mass": (vocab,)}
        shapes |= {"record_length": (len(SECTIONS), n), "record_crc": (len(SECTIONS), n)}
        for name, shape in shapes.items():
            if name not in arrays or arrays[name].shape != shape:
                raise StoreDamagedError(file, f"{name} is missing or not of shape {list(shape)}")
        return arrays

    def values(self, name: str) -> np.ndarray:
        """One of the arrays of :data:`PER_COMPONENT` for all components, by flat index."""
        if name not in PER_COMPONENT:
            raise UnknownKeyError(f"a harvest has no {name}; it has {', '.join(PER_COMPONENT)}")
        array = self.arrays[name]
        return two_part_sums(array) if PER_COMPONENT[name] else array

    def site(self, name: str, address: Address) -> np.ndarray:
        """One of the arrays of :data:`PER_COMPONENT` for one site, [C]; raises :class:`UnknownKeyError`."""
        start = self.flat(address, 0)
        values = self.values(name)
        return values[start : start + self._counts[address]]

    @property
    def token_count(self) -> np.ndarray:
        """Occurrences of each token as input, [vocab] int64."""
        return self.arrays["token_count"]

    @property
    def output_mass(self) -> np.ndarray:
        """Σ over positions of the target model's probability of each next token, [vocab]."""
        return self.arrays["output_mass"] * 2.0**-MASS_BITS

    # ---- records ----

    @cached_property
    def _record_starts(self) -> np.ndarray:
        lengths = self.arrays["record_length"].T.reshape(-1).astype(np.int64)
        starts = np.concatenate([[0], np.cumsum(lengths)])
        if starts[-1] != self.manifest.sizes[RECORDS]:
            raise StoreDamagedError(self.path / ARRAYS, "does not describe the records beside it")
        return starts

    def record(self, section: Section, flat: int) -> bytes:
        """The packed bytes of one record, checked; raises :class:`StoreDamagedError`."""
        s = SECTIONS.index(section)
        starts = self._record_starts
        place = flat * len(SECTIONS) + s
        file = self.path / RECORDS
        try:
            with file.open("rb", buffering=0) as stream:
                stream.seek(int(starts[place]))
                data = stream.read(int(starts[place + 1] - starts[place]))
        except OSError as error:
            raise StoreDamagedError(file, f"cannot be read ({error.strerror})") from error
        crc = zlib.crc32(data, record_seed(self.manifest.store_id, section, flat))
        if crc != int(self.arrays["record_crc"][s, flat]):
            address, index = self.component(flat)
            raise StoreDamagedError(file, f"the {section} record of {address}:{index} is damaged")
        return data

    def _unreadable(self, error: RecordError) -> StoreDamagedError:
        return StoreDamagedError(self.path / RECORDS, str(error))

    def histogram(self, address: Address, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Edges [b + 1] and counts [b] of the scaled activation where the component fires.

        All bins are equally wide; a value on an edge counts in the bin above it. Nothing lies outside,
        and there are no empty bins at the ends; b is 0 for a component that never fires.
        """
        exponent, counts = self.raw_histogram(self.flat(address, index))
        filled = np.flatnonzero(counts)
        if len(filled) == 0:
            return np.zeros(1), np.zeros(0, np.int64)
        first, last = int(filled[0]), int(filled[-1]) + 1
        edges = (np.arange(first, last + 1) - self.settings.bins // 2) * 2.0**exponent
        return edges, counts[first:last]

    def raw_histogram(self, flat: int) -> tuple[int, np.ndarray]:
        """The exponent e and the counts [bins] of values v by ⌊v / 2^e⌋ + bins / 2."""
        try:
            return unpack_histogram(self.record("histogram", flat), self.settings.bins)
        except RecordError as error:
            raise self._unreadable(error) from error

    def _list(self, section: Section, address: Address, index: int) -> tuple[np.ndarray, np.ndarray]:
        return self.raw_list(section, self.flat(address, index))

    def raw_list(self, section: Section, flat: int) -> tuple[np.ndarray, np.ndarray]:
        """Ids in rising order and whole numbers, both int64, of one list record."""
        try:
            return unpack_list(
                self.record(section, flat), self.manifest.encoding, rounded=section == "output"
            )
        except RecordError as error:
            raise self._unreadable(error) from error

    def input_counts(self, address: Address, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Token ids, and how often the component fires on each as input token (int64)."""
        return self._list("input", address, index)

    def output_mass_of(self, address: Address, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Token ids, and Σ of the target model's probability of that next token where it fires."""
        ids, mass = self._list("output", address, index)
        return ids, mass * 2.0**-MASS_BITS

    def cofiring(self, address: Address, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Flat indices of other components, and how often both fire at one position (int64)."""
        return self._list("cofiring", address, index)

    # ---- examples ----

    def raw_examples(self, flat: int, kind: Kind) -> tuple[dict[str, np.ndarray], int]:
        """The columns of an examples record, and the checksum of its tokens."""
        try:
            return unpack_examples(self.record(kind, flat), self.settings.length, self.manifest.encoding)
        except RecordError as error:
            raise self._unreadable(error) from error

    def examples(self, address: Address, index: int, kind: Kind) -> Examples:
        """A uniform sample of all firings in random order, or the strongest ones, strongest first."""
        columns, crc = self.raw_examples(self.flat(address, index), kind)
        left = self.settings.left
        tokens = example_tokens(
            self.corpus_tokens,
            columns["position"],
            columns["before"],
            columns["after"],
            left,
            self.settings.right,
        )
        if tokens_checksum(tokens) != crc:
            raise StoreDamagedError(
                self._corpus,
                "is not the text that these examples are of",
                "restore the corpus from a copy of the run",
            )
        activation = np.where(tokens < 0, np.float32(np.nan), columns["activation"]).astype(np.float32)
        ci = np.where(tokens < 0, np.float32(0), columns["ci"]).astype(np.float32)
        return Examples(columns["position"], columns["document"], tokens, ci, activation, left)

    @cached_property
    def corpus_tokens(self) -> np.ndarray:
        """The corpus, mapped: only the windows that are asked for are read."""
        return open_tokens(self._corpus)

    def verify(self) -> int:
        """Read every record and compare it with its checksum; how many there are."""
        for flat in range(self.n_components):
            address, index = self.component(flat)
            self.raw_histogram(flat)
            for section in ("input", "output", "cofiring"):
                self.raw_list(section, flat)
            self.examples(address, index, "random")
            self.examples(address, index, "strongest")
        return self.n_components * len(SECTIONS)
