"""Adding stores of different texts: shards of a large corpus, computed on different machines.

Sums are raw, so a merge is an addition, group by group, in float64. Both stores keep the same
numbers of groups; what they were computed from may lie in different groups or in the same ones. That
no document was counted twice is for the user to know: the corpora's checksums are kept.
"""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from storage.assemble import assemble
from storage.blocks import BlockReader
from storage.errors import SettingsDifferError, StorageError
from storage.layout import Manifest
from storage.manifest import differences, read_manifest

#: Settings that may differ between stores that are added: which text they were computed from.
_TEXT = ("corpus_sha256",)


def merge(stores: Sequence[Path], run_path: Path) -> str:
    """Add complete stores and publish the sum as a new subrun of a run; returns its name.

    Memory stays bounded whatever the stores' size. Raises :class:`SettingsDifferError` if they are of
    different models or settings, :class:`StorageError` for stores that cannot be added at all, and
    :class:`StoreDamagedError`.
    """
    if len(stores) < 2:
        raise StorageError("a merge takes two stores or more")
    manifests = [read_manifest(path) for path in stores]
    _check(stores, manifests)
    first = manifests[0]
    n_groups = first.settings.n_groups
    file, plane = ("groups.bin", "groups") if n_groups else ("totals.bin", "total")
    readers = [
        BlockReader(path / file, m.arrays, plane, max(n_groups, 1), m.store_id, m.sizes[file])
        for path, m in zip(stores, manifests, strict=True)
    ]

    def values(name: str, rows: slice, columns: slice) -> np.ndarray:
        total = readers[0].read(name, rows, columns).astype(np.float64)
        for reader in readers[1:]:
            total += reader.read(name, rows, columns)
        return total

    corpora = sorted({m.settings.corpus_sha256 for m in manifests})
    options = {
        key: "; ".join(sorted({m.settings.options.get(key, "") for m in manifests}))
        for key in sorted({key for m in manifests for key in m.settings.options})
    }
    settings = first.settings.model_copy(update={"corpus_sha256": "+".join(corpora), "options": options})
    provenance = {"merged_from": ", ".join(m.store_id for m in manifests)}
    for number, manifest in enumerate(manifests):
        provenance |= {f"part_{number}.{key}": value for key, value in manifest.provenance.items()}
    folder = run_path / "attributions"
    folder.mkdir(exist_ok=True)
    store_id = secrets.token_hex(16)
    work = folder / f".merging-{store_id}"
    work.mkdir()
    try:
        return assemble(
            work,
            folder,
            settings,
            {a.name: a.shape[1:] if a.dtype == "<f8" else a.shape for a in first.arrays},
            values,
            store_id=store_id,
            method=first.method,
            method_reason=first.method_reason,
            provenance=provenance,
            model_tensors=first.model_tensors,
            tensors=None if first.tensors is None else (stores[0] / first.tensors).read_bytes(),
        )
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _check(stores: Sequence[Path], manifests: Sequence[Manifest]) -> None:
    first = manifests[0]
    if len({m.store_id for m in manifests}) < len(manifests):
        raise StorageError("the same store is named twice", "every text may be counted once only")
    files = [m.provenance["source_sha256"] for m in manifests if "source_sha256" in m.provenance]
    if len(set(files)) < len(files):
        raise StorageError("two of them are of the same file", "every text may be counted once only")
    for path, manifest in zip(stores, manifests, strict=True):
        if manifest.encoding == "compact":
            raise StorageError(
                f"{path} is compact: its group values are rounded and cannot be added",
                "merge the full stores, then make the result compact",
            )
        ignored = {*_TEXT, *first.settings.options, *manifest.settings.options}
        different = [name for name in differences(first.settings, manifest.settings) if name not in ignored]
        if manifest.arrays != first.arrays and not different:
            different = ["arrays"]
        if manifest.model_tensors != first.model_tensors and not different:
            different = ["tensors"]
        if different:
            raise SettingsDifferError(
                f"{stores[0]} and {path} cannot be added: they differ in {', '.join(different)}",
                "merge stores of one model and of equal settings",
            )
