"""Writing a store while it is computed: durable shards, one for each finished group of documents.

Work in progress lies in ``attributions/.partial-<id>/``: ``work.json`` with the settings, a shard
``group-NN.bin`` for every finished group and at most one checkpoint ``group-NN.at-<position>.bin``
inside the group being computed. Each file appears by one rename after it was synced, so a process
that is killed at any moment leaves a state from which another can go on.
"""

from __future__ import annotations

import json
import re
import secrets
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import ValidationError

from storage.assemble import assemble
from storage.blocks import BlockReader, BlockWriter
from storage.errors import SettingsDifferError, StorageError, StoreDamagedError
from storage.files import canonical_json, sync_directory, write_durably
from storage.layout import Settings, plan_arrays
from storage.manifest import check_shapes, check_tensors, differences, stored_arrays
from storage.model_tensors import ModelTensors
from storage.work_lock import WorkLock

_PARTIAL = re.compile(r"\.partial-([0-9a-f]{32})", re.ASCII)
_CHECKPOINT = re.compile(r"group-(\d+)\.at-(\d+)\.bin", re.ASCII)


@dataclass(frozen=True)
class Unfinished:
    """Interrupted work found in a run."""

    path: Path
    store_id: str
    settings: Settings
    shapes: dict[str, tuple[int, ...]]


def unfinished(run_path: Path) -> list[Unfinished]:
    """Interrupted work in a run; raises :class:`StoreDamagedError` for an unreadable description."""
    folder = run_path / "attributions"
    found: list[Unfinished] = []
    for path in sorted(folder.glob(".partial-*")) if folder.is_dir() else []:
        match = _PARTIAL.fullmatch(path.name)
        file = path / "work.json"
        if match is None or not file.is_file():
            continue
        try:
            content = json.loads(file.read_bytes())
            settings = Settings.model_validate(content["settings"])
            shapes = {str(name): tuple(int(n) for n in shape) for name, shape in content["shapes"].items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError, ValidationError) as error:
            raise StoreDamagedError(file, "the description of interrupted work cannot be read") from error
        found.append(Unfinished(path, match.group(1), settings, shapes))
    return found


class StoreWriter:
    """Collects the sums of the groups of one computation and turns them into a store.

    ``resume=True`` goes on with interrupted work of equal settings and refuses work of others;
    without it interrupted work is discarded. Only one process may write to one piece of work.
    Arrays are those of ``compute.attribution.sums.AttributionSums``, as anything numpy understands.
    """

    def __init__(
        self,
        run_path: Path,
        settings: Settings,
        provenance: Mapping[str, str],
        *,
        method: str,
        method_reason: str,
        resume: bool = False,
    ) -> None:
        self.run_path = run_path
        self.settings = settings
        self._provenance = dict(provenance)
        self._method, self._method_reason = method, method_reason
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._folder = run_path / "attributions"
        self._folder.mkdir(exist_ok=True)
        self._lock: WorkLock | None = None
        existing = unfinished(run_path)
        same = next((work for work in existing if work.settings == settings), None)
        if resume and same is None and existing:
            names = ", ".join(differences(existing[0].settings, settings))
            raise SettingsDifferError(
                f"the interrupted work in {existing[0].path} was started with other settings ({names})",
                "repeat them, or start again without --resume",
            )
        if resume and same is not None:
            self.work, self.store_id, self._shapes = same.path, same.store_id, dict(same.shapes)
            self._acquire()
            return
        for work in existing:
            self.work = work.path
            self._acquire()
            shutil.rmtree(work.path)
            self.close()
        self.store_id = secrets.token_hex(16)
        self.work = self._folder / f".partial-{self.store_id}"
        self.work.mkdir()
        self._acquire()
        self._describe()

    def _acquire(self) -> None:
        self._lock = WorkLock(self.work, "computing attributions")

    def close(self) -> None:
        """Let go of the work without finishing it; it can be resumed."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _describe(self) -> None:
        content = {"settings": self.settings.model_dump(mode="json"), "shapes": self._shapes}
        write_durably(self.work / "work.json", canonical_json(content))
        sync_directory(self._folder)

    @property
    def finished_groups(self) -> set[int]:
        """Groups whose shard is complete on disk."""
        return {g for g in range(self.settings.n_groups) if (self.work / f"group-{g:02d}.bin").is_file()}

    def write_group(self, index: int, arrays: Mapping[str, object]) -> None:
        """Store the sums of a finished group durably; its checkpoints are removed."""
        self._write_shard(f"group-{index:02d}.bin", index, arrays)
        self._remove_checkpoints(index, keep=None)

    def write_partial(self, index: int, arrays: Mapping[str, object], position: int) -> None:
        """Store the sums of a group up to ``position``; earlier checkpoints of it are removed."""
        name = f"group-{index:02d}.at-{position}.bin"
        self._write_shard(name, index, arrays)
        self._remove_checkpoints(index, keep=name)

    def read_partial(self, index: int) -> tuple[dict[str, np.ndarray], int] | None:
        """The latest checkpoint inside a group, and its position; raises :class:`StoreDamagedError`."""
        positions = [position for group, position, _ in self._checkpoints() if group == index]
        if not positions:
            return None
        position = max(positions)
        reader = self._shard(f"group-{index:02d}.at-{position}.bin")
        return {name: reader.read(name).reshape(shape) for name, shape in self._shapes.items()}, position

    def _checkpoints(self) -> list[tuple[int, int, Path]]:
        matches = [(_CHECKPOINT.fullmatch(path.name), path) for path in self.work.iterdir()]
        return [(int(match.group(1)), int(match.group(2)), path) for match, path in matches if match]

    def _remove_checkpoints(self, index: int, keep: str | None) -> None:
        for group, _, path in self._checkpoints():
            if group == index and path.name != keep:
                path.unlink()

    def _write_shard(self, name: str, index: int, arrays: Mapping[str, object]) -> None:
        if not 0 <= index < self.settings.n_groups:
            raise ValueError(f"group {index} is not one of {self.settings.n_groups}")
        stored = stored_arrays(arrays)
        shapes = {key: value.shape for key, value in stored.items()}
        if not self._shapes:
            check_shapes(self.settings, shapes)
            self._shapes = shapes
            self._describe()
        elif shapes != self._shapes:
            raise ValueError("the arrays of this group differ in name or shape from those of another")
        plans, _ = plan_arrays(self._shapes, self.settings.n_groups)
        temporary = self.work / f".{name}.writing"
        writer = BlockWriter(temporary, plans, "total", 1, self.store_id, name)
        for key, value in stored.items():
            writer.write(
                key, 0, 0, value.reshape(1, *(value.shape if value.ndim == 2 else (1, *value.shape)))
            )
        writer.close()
        temporary.replace(self.work / name)
        sync_directory(self.work)

    def _shard(self, name: str) -> BlockReader:
        plans, sizes = plan_arrays(self._shapes, self.settings.n_groups)
        return BlockReader(self.work / name, plans, "total", 1, self.store_id, sizes["totals.bin"])

    def finish(self) -> str:
        """Add up the groups and publish the store; returns the name of the subrun."""
        missing = sorted(set(range(self.settings.n_groups)) - self.finished_groups)
        if missing:
            raise StorageError(f"groups {missing} are not computed yet", "resume the computation")
        shards = [self._shard(f"group-{g:02d}.bin") for g in range(self.settings.n_groups)]

        def values(name: str, rows: slice, columns: slice) -> np.ndarray:
            return np.concatenate([shard.read(name, rows, columns) for shard in shards]).astype(np.float64)

        target = self.work / "store"
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir()
        name = assemble(
            target,
            self._folder,
            self.settings,
            self._shapes,
            values,
            store_id=self.store_id,
            method=self._method,
            method_reason=self._method_reason,
            provenance=self._provenance,
            model_tensors=check_tensors(ModelTensors(self.run_path / "model.safetensors")),
        )
        shutil.rmtree(self.work)
        self.close()
        return name
