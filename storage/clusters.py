"""Clusterings of a run's components: a history of merges, or a mapping that was imported.

A subrun ``clusters/<stamp>/`` is a signed ``manifest.json`` and ``clusters.safetensors``, whose SHA-256
it holds. Components are numbered through all sites in the order that the manifest gives (``sites``).
Arrays (n components that were clustered, T merges):

======================  =========  ================================================================
name                    shape      content
======================  =========  ================================================================
``component``           [n] int64  their numbers, rising; all others are *unknown* to the clustering
``active``              [n] int64  sampled positions at which each is active (computed only)
``merges``              [T, 2]     int64, two places in ``component``: the group named by the second
                                   joined that named by the first, the smaller (computed only)
``joint``               [T] int64  positions at which both were active (computed only)
``active_after``        [T] int64  positions at which the new group is active (computed only)
``cost``                [T] f64    change of the description length, bits a position (computed only)
``description_length``  [T+1] f64  before the first merge and after each (computed only)
``cluster``             [n] int64  the cluster of each, −1 alone (imported only)
======================  =========  ================================================================

Every iteration can be read: after t merges the groups are those that the first t lead to. A cluster's
number is that of its first component, so that it keeps its name while it grows.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load, save

from storage.errors import InvalidValueError, SettingsDifferError, StoreDamagedError
from storage.files import canonical_json, publish, read_signed_json, write_durably, write_signed_json
from storage.work_lock import WorkLock

FORMAT = "tributary-clusters"
FOLDER = "clusters"
DATA = "clusters.safetensors"
ALONE = -1
UNKNOWN = -2


class Manifest(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal["tributary-clusters"] = FORMAT
    version: Literal[1] = 1
    kind: Literal["computed", "imported"]
    #: Addresses and their numbers of components, in the order in which components are numbered.
    sites: tuple[tuple[str, Annotated[int, Field(ge=1)]], ...]
    #: What was clustered, and how; empty where imported.
    settings: dict[str, str]
    #: Positions that were looked at; 0 where imported.
    n_positions: Annotated[int, Field(ge=0)]
    #: The iteration that is shown where no other is asked for.
    iteration: Annotated[int, Field(ge=0)]
    notes: str
    provenance: dict[str, str]
    data_sha256: str = ""


@dataclass(frozen=True)
class Grouping:
    """The clusters at one iteration. ``cluster`` [C]: a cluster's number, ``ALONE`` or ``UNKNOWN``."""

    iteration: int
    cluster: np.ndarray
    #: Numbers of the clusters with two members or more, the largest first.
    numbers: np.ndarray
    #: Members of each of them.
    sizes: np.ndarray
    #: Sampled positions at which each of them is active; ``None`` where imported.
    active: np.ndarray | None
    description_length: float | None

    @property
    def n_alone(self) -> int:
        return int((self.cluster == ALONE).sum())

    @property
    def n_unknown(self) -> int:
        return int((self.cluster == UNKNOWN).sum())

    def members(self, number: int) -> np.ndarray:
        """Numbers of the components of a cluster, rising; none where there is no such cluster."""
        return np.flatnonzero(self.cluster == number) if number >= 0 else np.zeros(0, np.int64)


@dataclass(frozen=True)
class Clustering:
    """A clustering in memory: its whole history is a few numbers a component."""

    subrun: str
    manifest: Manifest
    arrays: Mapping[str, np.ndarray]

    @property
    def n_components(self) -> int:
        return sum(count for _, count in self.manifest.sites)

    @property
    def iterations(self) -> int:
        """Merges that are stored."""
        return len(self.arrays["merges"]) if self.manifest.kind == "computed" else 0

    @property
    def description_length(self) -> np.ndarray | None:
        return self.arrays.get("description_length")

    @cached_property
    def keys(self) -> tuple[str, ...]:
        """The key of every component, by number."""
        return tuple(f"{address}:{i}" for address, count in self.manifest.sites for i in range(count))

    def at(self, iteration: int | None = None) -> Grouping:
        """The groups after so many merges; raises :class:`InvalidValueError` beyond what is stored."""
        t = self.manifest.iteration if iteration is None else iteration
        if not 0 <= t <= self.iterations:
            raise InvalidValueError(
                f"iteration {t} is not stored", f"iterations are 0 to {self.iterations} in {self.subrun}"
            )
        component = self.arrays["component"]
        if self.manifest.kind == "imported":
            named, active = self.arrays["cluster"], None
        else:
            group, active = self._replay(t)
            named = component[group]
        numbers, first, sizes = np.unique(named, return_index=True, return_counts=True)
        shared = (sizes > 1) & (numbers >= 0)
        cluster = np.full(self.n_components, UNKNOWN, np.int64)
        cluster[component] = np.where(np.isin(named, numbers[shared]), named, ALONE)
        order = np.argsort(-sizes[shared], kind="stable")
        return Grouping(
            iteration=t,
            cluster=cluster,
            numbers=numbers[shared][order],
            sizes=sizes[shared][order],
            active=None if active is None else active[first[shared][order]],
            description_length=None if self.description_length is None else float(self.description_length[t]),
        )

    def _replay(self, t: int) -> tuple[np.ndarray, np.ndarray]:
        """For each clustered component the place that names its group, and positions that group is active."""
        merges = self.arrays["merges"]
        active = self.arrays["active"].copy()
        group = np.arange(len(active))
        # From the last merge to the first: what a name stands for is known before who bears it.
        for first, second in merges[:t][::-1].tolist():
            group[second] = group[first]
        for first, count in zip(
            merges[:t, 0].tolist(), self.arrays["active_after"][:t].tolist(), strict=True
        ):
            active[first] = count
        return group, active[group]

    @classmethod
    def load(cls, path: Path) -> Clustering:
        """Read and check a subrun; raises :class:`StoreDamagedError`."""
        manifest_file, data_file = path / "manifest.json", path / DATA
        try:
            manifest = Manifest.model_validate(read_signed_json(manifest_file))
        except ValidationError as error:
            raise StoreDamagedError(
                manifest_file, f"is not a clusters manifest of version 1 ({error.errors()[0]['msg']})"
            ) from error
        try:
            content = data_file.read_bytes()
        except OSError as error:
            raise StoreDamagedError(data_file, f"cannot be read ({error.strerror})") from error
        if hashlib.sha256(content).hexdigest() != manifest.data_sha256:
            raise StoreDamagedError(data_file, "does not match the checksum in its manifest")
        try:
            arrays = load(content)
            _check(manifest, arrays)
        except (SafetensorError, KeyError, ValueError) as error:
            raise StoreDamagedError(data_file, f"does not hold a clustering ({error})") from error
        return cls(path.name, manifest, arrays)


def _check(manifest: Manifest, arrays: Mapping[str, np.ndarray]) -> None:
    """Raises ValueError or KeyError where arrays do not fit together or lead outside."""
    component = arrays["component"]
    n, total = len(component), sum(count for _, count in manifest.sites)
    if n and (component[0] < 0 or component[-1] >= total or (np.diff(component) <= 0).any()):
        raise ValueError("its components are not rising numbers of the run's")
    if manifest.kind == "imported":
        if arrays["cluster"].shape != (n,) or (arrays["cluster"] < ALONE).any() or manifest.iteration:
            raise ValueError("its clusters do not belong to its components")
        return
    merges = arrays["merges"]
    t = len(merges)
    if t >= max(n, 1) or manifest.iteration > t or merges.shape != (t, 2):
        raise ValueError("its history has more merges than it has groups")
    lengths = {"active": n, "joint": t, "active_after": t, "cost": t, "description_length": t + 1}
    for name, length in lengths.items():
        if arrays[name].shape != (length,):
            raise ValueError(f"{name} should have {length} entries")
    # A group is merged away once, into one of a smaller name that is still there.
    gone = np.full(n, t)
    if t and not ((merges >= 0).all() and (merges[:, 0] < merges[:, 1]).all() and (merges < n).all()):
        raise ValueError("its merges do not name groups")
    gone[merges[:, 1]] = np.arange(t)
    if len(np.unique(merges[:, 1])) != t or (gone[merges[:, 0]] <= np.arange(t)).any():
        raise ValueError("its merges name groups that were there no more")


def write_clustering(run_path: Path, manifest: Manifest, arrays: Mapping[str, np.ndarray]) -> str:
    """Write a subrun, visible by one rename when it is complete; returns its name."""
    kept = {name: np.ascontiguousarray(value) for name, value in arrays.items()}
    _check(manifest, kept)
    folder = run_path / FOLDER
    work = folder / f".writing-{secrets.token_hex(4)}"
    work.mkdir(parents=True)
    content = save(kept)
    write_durably(work / DATA, content)
    signed = manifest.model_copy(update={"data_sha256": hashlib.sha256(content).hexdigest()})
    write_signed_json(work / "manifest.json", signed.model_dump(mode="json"))
    return publish(work, folder)


# ---- work in progress ---------------------------------------------------------------------------


def unfinished(run_path: Path) -> list[Path]:
    """The folder of interrupted work, where there is any."""
    work = run_path / FOLDER / ".partial"
    return [work] if (work / "work.json").is_file() else []


class ClusterWork:
    """What a clustering being computed keeps on disk, so that it can go on after any kind of end.

    ``resume=True`` goes on with interrupted work of equal settings and refuses that of others; without
    it interrupted work is discarded. Only one process may hold the work.
    """

    def __init__(self, run_path: Path, settings: Mapping[str, str], *, resume: bool) -> None:
        self.run_path = run_path
        self.path = run_path / FOLDER / ".partial"
        self.path.mkdir(parents=True, exist_ok=True)
        self._lock = WorkLock(self.path, "clustering")
        try:
            self._open(dict(settings), resume)
        except BaseException:
            self.close()
            raise

    def _open(self, settings: dict[str, str], resume: bool) -> None:
        file = self.path / "work.json"
        if not resume or not file.is_file():
            for old in self.path.iterdir():
                if old.name != "lock":
                    old.unlink()
            write_durably(file, canonical_json(settings))
            return
        try:
            before = json.loads(file.read_bytes())
        except (OSError, ValueError) as error:
            raise StoreDamagedError(file, "the description of interrupted work cannot be read") from error
        if before != settings:
            keys = sorted(settings.keys() | (before.keys() if isinstance(before, dict) else set()))
            names = [
                key for key in keys if not isinstance(before, dict) or before.get(key) != settings.get(key)
            ]
            raise SettingsDifferError(
                f"the interrupted work in {self.path} was started with other settings ({', '.join(names)})",
                "repeat them, or start again without --resume",
            )

    def save(self, name: str, arrays: Mapping[str, np.ndarray], note: Mapping[str, Any]) -> None:
        """Keep a state under a name, in place of the one before."""
        content = save({key: np.ascontiguousarray(value) for key, value in arrays.items()})
        head = canonical_json({"note": dict(note), "sha256": hashlib.sha256(content).hexdigest()})
        write_durably(self.path / f"{name}.state", head + b"\n" + content)

    def read(self, name: str) -> tuple[dict[str, np.ndarray], dict[str, Any]] | None:
        """The state under a name, or ``None``; raises :class:`StoreDamagedError`."""
        file = self.path / f"{name}.state"
        if not file.is_file():
            return None
        try:
            head, _, content = file.read_bytes().partition(b"\n")
            described = json.loads(head)
            if hashlib.sha256(content).hexdigest() != described["sha256"]:
                raise ValueError("its checksum does not match")
            return load(content), dict(described["note"])
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            raise StoreDamagedError(file, f"is damaged ({error})", "start again without --resume") from error

    def finish(self) -> None:
        """Remove the work: its result is published."""
        shutil.rmtree(self.path)
        self.close()

    def close(self) -> None:
        """Let go of the work without finishing it; it can be resumed."""
        self._lock.close()
