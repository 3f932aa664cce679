"""A harvest that is being computed: shards on disk, from which another process can go on.

Work in progress lies in ``harvest/.partial-<id>/``: ``work.json`` with the settings, and shards, each
a complete harvest of some batches, which appear by one rename. Shards may be cut anywhere between
batches and merge exactly, so a process that is killed loses the batches since its last shard and
nothing else; and a shard that was damaged may be removed, for its batches are then counted again.
"""

from __future__ import annotations

import json
import re
import secrets
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from pydantic import ValidationError

from storage.errors import SettingsDifferError, StoreDamagedError
from storage.example_tokens import open_tokens
from storage.files import canonical_json, publish, subruns, sync_directory, sync_file, write_durably
from storage.harvest import Harvest
from storage.harvest_manifest import HarvestManifest, HarvestSettings
from storage.harvest_merge import Compact, merge_harvests
from storage.harvest_writer import Block, write_harvest
from storage.work_lock import WorkLock

_PARTIAL = re.compile(r"\.partial-([0-9a-f]{32})", re.ASCII)
_SHARD = re.compile(r"shard-\d{5}", re.ASCII)


def unfinished_harvests(run_path: Path) -> list[Path]:
    """Folders of interrupted work in a run."""
    folder = run_path / "harvest"
    found = sorted(folder.glob(".partial-*")) if folder.is_dir() else []
    return [path for path in found if _PARTIAL.fullmatch(path.name) and (path / "work.json").is_file()]


def interrupted_floor(run_path: Path) -> float | None:
    """The ``output_floor`` that interrupted work was started with; None without such work."""
    for path in unfinished_harvests(run_path):
        return _settings(path).output_floor
    return None


def _described(path: Path) -> dict[str, object]:
    """What a piece of work says of itself; raises :class:`StoreDamagedError`."""
    _settings(path)
    content: dict[str, object] = json.loads((path / "work.json").read_bytes())
    return content


def _settings(path: Path) -> HarvestSettings:
    file = path / "work.json"
    try:
        return HarvestSettings.model_validate(json.loads(file.read_bytes())["settings"])
    except (OSError, ValueError, KeyError, TypeError, ValidationError) as error:
        raise StoreDamagedError(
            file, "the description of interrupted work cannot be read", f"remove {path}"
        ) from error


class HarvestWork:
    """Collects the shards of one computation. Only one process may add to one piece of work.

    ``example`` is a manifest with everything that all shards have in common. ``resume=True`` goes on
    with interrupted work of equal settings and refuses work of others; without it interrupted work is
    discarded.
    """

    def __init__(self, run_path: Path, example: HarvestManifest, *, resume: bool = False) -> None:
        self._run_path = run_path
        self._example = example
        self._folder = run_path / "harvest"
        self._folder.mkdir(exist_ok=True)
        self._corpus = run_path / "corpus"
        self._lock: WorkLock | None = None
        existing = unfinished_harvests(run_path)
        if resume and existing:
            same = next((path for path in existing if _described(path) == self._description()), None)
            if same is None:
                names = ", ".join(self._differences(existing[0]))
                raise SettingsDifferError(
                    f"the interrupted work in {existing[0]} was started with other settings ({names})",
                    "repeat them, or start again without --resume",
                )
            self.path = same
            self._acquire()
            for leftover in (*same.glob(".writing*"), *same.glob(".store*")):
                shutil.rmtree(leftover)
            return
        for path in existing:
            self.path = path
            self._acquire()
            shutil.rmtree(path)
            self.close()
        self.path = self._folder / f".partial-{secrets.token_hex(16)}"
        self.path.mkdir()
        self._acquire()
        write_durably(self.path / "work.json", canonical_json(self._description()))
        sync_directory(self._folder)

    def _description(self) -> dict[str, object]:
        shared = {"settings", "model_sha256", "corpus_sha256", "n_groups", "vocab_size", "sites"}
        content: dict[str, object] = json.loads(self._example.model_dump_json(include=shared))
        return content

    def _differences(self, path: Path) -> list[str]:
        mine, other = self._description(), _described(path)
        settings, others = mine.pop("settings"), other.pop("settings")
        assert isinstance(settings, dict)
        assert isinstance(others, dict)
        names = [str(name) for name in settings if settings[name] != others.get(name)]
        return names + [name for name in mine if mine[name] != other.get(name)]

    def _acquire(self) -> None:
        self._lock = WorkLock(self.path, "computing a harvest")

    def close(self) -> None:
        """Let go of the work without finishing it; it can be resumed."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    @property
    def store_id(self) -> str:
        return self.path.name.removeprefix(".partial-")

    def shards(self) -> list[Harvest]:
        """The shards that are complete; raises :class:`StoreDamagedError`."""
        try:
            return [Harvest.open(path, self._corpus) for path in self._shard_folders()]
        except StoreDamagedError as error:
            raise self._with_way_out(error) from error

    def _shard_folders(self) -> list[Path]:
        return sorted(path for path in self.path.iterdir() if _SHARD.fullmatch(path.name))

    def _with_way_out(self, error: StoreDamagedError) -> StoreDamagedError:
        """The same error, with what helps where a shard is damaged."""
        shard = error.file.parent
        if shard.parent != self.path:
            return error
        hint = f"remove {shard}; with --resume its part of the text, and no other, is looked at again"
        return StoreDamagedError(error.file, error.what, hint)

    def counted(self) -> dict[int, list[tuple[int, int]]]:
        """For each group the ranges of batches that some shard counts, in order."""
        ranges: dict[int, list[tuple[int, int]]] = {}
        for shard in self.shards():
            for group, extents in shard.manifest.covered.items():
                ranges.setdefault(int(group), []).extend(extents)
        return {group: sorted(extents) for group, extents in ranges.items()}

    def write_shard(
        self,
        covered: Mapping[int, Sequence[tuple[int, int]]],
        tokens: int,
        totals: Mapping[str, np.ndarray],
        blocks: Iterable[Block],
    ) -> None:
        """Store what was counted over some batches of some groups."""
        number = max((int(path.name[-5:]) + 1 for path in self._shard_folders()), default=0)
        work = self.path / f".writing-{number:05d}"
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir()
        manifest = self._example.model_copy(
            update={
                "store_id": secrets.token_hex(16),
                "covered": {str(group): list(extents) for group, extents in covered.items()},
                "tokens": tokens,
                "documents": int(np.unpackbits(totals["documents_seen"]).sum()),
            }
        )
        write_harvest(work, manifest, totals, blocks, open_tokens(self._corpus))
        for file in work.iterdir():
            sync_file(file)
        sync_directory(work)
        work.rename(self.path / f"shard-{number:05d}")
        sync_directory(self.path)

    def finish(
        self,
        provenance: Mapping[str, str],
        compact: Compact | None = None,
        progress: Callable[[int], None] = lambda _: None,
    ) -> str:
        """Merge the shards and publish the store; returns the name of the subrun."""
        name = self._published()
        if name is None:
            work = self.path / ".store"
            shutil.rmtree(work, ignore_errors=True)
            work.mkdir()
            try:
                merge_harvests(
                    work,
                    self.shards(),
                    store_id=self.store_id,
                    provenance=provenance,
                    compact=compact,
                    progress=progress,
                )
            except StoreDamagedError as error:
                raise self._with_way_out(error) from error
            name = publish(work, self._folder)
        shutil.rmtree(self.path)
        self.close()
        return name

    def _published(self) -> str | None:
        """The subrun that this work has become already, if it was stopped after that."""
        for name in subruns(self._folder):
            if Harvest.open(self._folder / name).manifest.store_id == self.store_id:
                return name
        return None
