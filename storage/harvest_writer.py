"""Writing a harvest, component by component, in bounded memory.

What is written comes as *blocks*, arrays by name about the components of a range of flat indices:

==============================================  ==================================================
``firing_count`` [m] …                          the arrays of ``storage.harvest_manifest.PER_COMPONENT``
``histogram_exponent`` [m], ``histogram``       [m, bins] counts by ⌊v / 2^exponent⌋ + bins / 2
``random/offsets`` [m + 1], ``random/…``        columns of ``EXAMPLE_COLUMNS``, in their order
``strongest/…``                                 the same
``input/offsets`` [m + 1], ``/ids``, ``/values``  token ids in rising order and whole numbers
``output/…``, ``cofiring/…``                    the same; cofiring both ways, without itself
==============================================  ==================================================
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from safetensors.numpy import save

from storage.example_tokens import example_tokens, tokens_checksum
from storage.files import write_durably, write_signed_json
from storage.harvest_manifest import ARRAYS, PER_COMPONENT, RECORDS, HarvestManifest, record_seed
from storage.harvest_records import (
    EXAMPLE_COLUMNS,
    SECTIONS,
    pack_examples,
    pack_histogram,
    pack_list,
)

Block = Mapping[str, np.ndarray]


def write_harvest(
    folder: Path,
    manifest: HarvestManifest,
    totals: Mapping[str, np.ndarray],
    blocks: Iterable[Block],
    corpus_tokens: np.ndarray,
) -> None:
    """Fill the empty ``folder``, which the caller publishes. ``blocks`` follow one another in flat order.

    ``totals`` are ``token_count``, ``output_mass`` (whole numbers) and ``documents_seen``. Of ``manifest`` the sizes and the
    checksum of the arrays are filled in here. Raises ``ValueError`` for blocks that are not whole.
    """
    n = sum(count for _, count in manifest.sites)
    lengths = np.zeros((len(SECTIONS), n), np.uint32)
    crcs = np.zeros((len(SECTIONS), n), np.uint32)
    arrays: dict[str, list[np.ndarray]] = {name: [] for name in PER_COMPONENT}
    flat = 0
    with (folder / RECORDS).open("wb") as file:
        for block in blocks:
            m = len(block["firing_count"])
            for name, parts in arrays.items():
                parts.append(block[name])
            for row in range(m):
                for s, record in enumerate(_records(block, row, manifest, corpus_tokens)):
                    file.write(record)
                    lengths[s, flat] = len(record)
                    crcs[s, flat] = zlib.crc32(record, record_seed(manifest.store_id, SECTIONS[s], flat))
                flat += 1
        size = file.tell()
    if flat != n:
        raise ValueError(f"blocks of {flat} components for {n}")
    stored = {name: np.ascontiguousarray(np.concatenate(parts)) for name, parts in arrays.items()}
    stored |= {name: np.ascontiguousarray(value) for name, value in totals.items()}
    content = save(stored | {"record_length": lengths, "record_crc": crcs})
    write_durably(folder / ARRAYS, content)
    complete = manifest.model_copy(
        update={
            "sizes": {ARRAYS: len(content), RECORDS: size},
            "arrays_sha256": hashlib.sha256(content).hexdigest(),
        }
    )
    write_signed_json(folder / "manifest.json", complete.model_dump(mode="json"))


def _records(block: Block, row: int, manifest: HarvestManifest, corpus_tokens: np.ndarray) -> Iterable[bytes]:
    """The records of one component, in the order of ``SECTIONS``."""
    settings, encoding = manifest.settings, manifest.encoding
    yield pack_histogram(int(block["histogram_exponent"][row]), block["histogram"][row], encoding)
    for kind in ("random", "strongest"):
        here = slice(int(block[f"{kind}/offsets"][row]), int(block[f"{kind}/offsets"][row + 1]))
        columns = {
            name: block[f"{kind}/{name}"][here] for name in EXAMPLE_COLUMNS if f"{kind}/{name}" in block
        }
        tokens = example_tokens(
            corpus_tokens,
            columns["position"],
            columns["before"],
            columns["after"],
            settings.left,
            settings.right,
        )
        yield pack_examples(columns, tokens_checksum(tokens), encoding)
    for section in ("input", "output", "cofiring"):
        here = slice(int(block[f"{section}/offsets"][row]), int(block[f"{section}/offsets"][row + 1]))
        ids, values = block[f"{section}/ids"][here], block[f"{section}/values"][here]
        yield pack_list(ids, values, encoding, rounded=section == "output")
