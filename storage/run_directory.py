"""Run directories: finding, opening, describing and writing them (docs/file-format.md).

A run is one decomposed model and everything computed from it. Names that come from a user are only
ever compared with the names of the runs that exist; they never become part of a path.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from pydantic import ValidationError
from safetensors.numpy import save_file
from tokenizers import Tokenizer

from compute.address import AddressError
from storage.attributions import AttributionStore
from storage.clusters import Clustering
from storage.errors import NoModelError, NoTokenizerError, RunError, StorageError, StoreDamagedError
from storage.files import sha256_file, subruns, sync_directory, sync_file, write_durably
from storage.harvest import Harvest
from storage.model_tensors import ModelTensors
from storage.run_info import (
    FORMAT,
    VERSION,
    AttributedModel,
    RunInfo,
    RunKind,
    RunNote,
    RunSite,
)
from storage.statistics import Statistics

if TYPE_CHECKING:
    from storage.corpus import TokenCorpus

__all__ = [
    "DEMO_NAME",
    "DEMO_RUN",
    "AttributedModel",
    "Check",
    "RunDirectory",
    "RunInfo",
    "RunKind",
    "RunNote",
    "RunSite",
    "find_runs",
    "known_runs",
    "resolve_run",
    "write_run",
]

DEMO_NAME = "demo"
_TOKENIZER = "tokenizer.json"
#: The bundled run, beside the packages in a checkout.
DEMO_RUN = Path(__file__).resolve().parent.parent / "demo" / "run"


class RunDirectory:
    """A run that exists. Opening reads ``run.json`` and the header of the model file, nothing else."""

    def __init__(self, path: Path, info: RunInfo) -> None:
        self.path = path
        self.info = info

    @classmethod
    def open(cls, path: Path) -> RunDirectory:
        """Raises :class:`RunError` where ``path`` is not a run of a version we read."""
        file = path / "run.json"
        try:
            content = file.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            raise RunError(
                f"{path} is not a run: it has no run.json", "tributary runs lists what there is"
            ) from None
        except OSError as error:
            raise RunError(f"{file} cannot be read ({error.strerror})") from error
        try:
            described = json.loads(content)
            if (
                isinstance(described, dict)
                and described.get("format") == FORMAT
                and described.get("version") != VERSION
            ):
                raise RunError(
                    f"{file} is of format version {described.get('version')}; this program reads version {VERSION}",
                    "update Tributary",
                )
            info = RunInfo.model_validate_json(content)
            for site in info.sites:
                if not site.parsed.is_site:
                    raise AddressError(f"{site.address} is not a site")
        except (ValidationError, AddressError, ValueError, RecursionError) as error:
            what = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
            raise RunError(f"{file} is damaged: {what}", "restore the file from a copy of the run") from error
        return cls(path, info)

    @property
    def name(self) -> str:
        return self.info.name

    @property
    def has_model_file(self) -> bool:
        return self.info.kind == "model" or "model.safetensors" in self.info.files

    @cached_property
    def _model(self) -> ModelTensors:
        if not self.has_model_file:
            raise NoModelError(
                f"the run {self.name} holds attributions without their model",
                "import the run that they were computed on, and add them to it with --into",
            )
        tensors = ModelTensors(self.path / "model.safetensors")
        for site in self.info.sites:
            for letter, shape in (
                ("V", (site.d_in, site.n_components)),
                ("U", (site.n_components, site.d_out)),
            ):
                name = f"components.{site.address}.{letter}"
                if tensors.shape(name) != shape:
                    raise RunError(
                        f"{tensors.path}: {name} is {list(tensors.shape(name))}, run.json says {list(shape)}",
                        "restore the file from a copy of the run",
                    )
        return tensors

    def model_tensors(self) -> ModelTensors:
        """Tensors by name as memory-mapped arrays; nothing is read before it is touched.

        Raises :class:`NoModelError` for a run that came without its model.
        """
        return self._model

    @cached_property
    def _tokenizer(self) -> Tokenizer:
        name = self.info.tokenizer
        if name is None:
            raise NoTokenizerError(
                f"the run {self.name} came without a tokenizer, so it cannot read or write text",
                "import it again with --tokenizer",
            )
        file = self.path / name
        try:
            content = file.read_bytes()
        except OSError as error:
            raise RunError(
                f"{file} cannot be read ({error.strerror})", "restore it from a copy of the run"
            ) from error
        if hashlib.sha256(content).hexdigest() != self.info.files.get(name):
            raise RunError(
                f"{file} does not match its checksum in run.json", "restore it from a copy of the run"
            )
        try:
            return Tokenizer.from_buffer(content)
        except Exception as error:  # the library raises bare Exception
            raise RunError(f"{file} is not a tokenizer ({error})") from error

    def tokenizer(self) -> Tokenizer:
        """Raises :class:`NoTokenizerError` for a run that came without one, and :class:`RunError`."""
        return self._tokenizer

    @property
    def tokenizer_sha256(self) -> str:
        """As run.json states it; empty where the run came without one."""
        return "" if self.info.tokenizer is None else self.info.files.get(self.info.tokenizer, "")

    def corpus(self, *, mapped: bool = False) -> TokenCorpus:
        """The tokenised text, or (``mapped``) its file; raises :class:`storage.corpus.CorpusError`, and
        where the run came without :class:`RunError`, or :class:`NoModelError` if none could be used."""
        from storage.corpus import TokenCorpus

        folder = self.path / "corpus"
        if not folder.is_dir():
            if self.info.kind != "model":
                raise NoModelError(
                    f"the run {self.name} came without a language model and its text",
                    "name a run that has both",
                )
            raise RunError(
                f"the run {self.name} came without its text", f"run: tributary text {self.name} FILE"
            )
        return TokenCorpus.load(folder, mapped=mapped)

    def attribution_subruns(self) -> list[str]:
        """Complete subruns, newest first."""
        return subruns(self.path / "attributions")

    def attributions(self, subrun: str | None = None) -> AttributionStore:
        """The store of a subrun (default: the newest). Opening reads its manifest only."""
        name = self._subrun("attributions", subrun, "tributary attribute")
        return self.open_attributions(self.path / "attributions" / name)

    def open_attributions(self, path: Path) -> AttributionStore:
        """A store of this run's model, wherever it lies."""
        tensors = self.model_tensors() if self.has_model_file else None
        return AttributionStore.open(path, tensors, self.info.files.get("model.safetensors", ""))

    def statistics_subruns(self) -> list[str]:
        return subruns(self.path / "statistics")

    def statistics(self, subrun: str | None = None) -> Statistics:
        name = self._subrun("statistics", subrun, "tributary evaluate")
        return Statistics.load(self.path / "statistics" / name)

    def harvest_subruns(self) -> list[str]:
        return subruns(self.path / "harvest")

    def harvest(self, subrun: str | None = None) -> Harvest:
        """A harvest (default: the newest). Opening reads its manifest only."""
        name = self._subrun("harvest", subrun, "tributary harvest")
        harvest = Harvest.open(self.path / "harvest" / name)
        if harvest.manifest.model_sha256 != self.info.files.get("model.safetensors", ""):
            raise StoreDamagedError(harvest.path, "was made from another model than this run's")
        return harvest

    def clustering_subruns(self) -> list[str]:
        return subruns(self.path / "clusters")

    def clustering(self, subrun: str | None = None) -> Clustering:
        """A clustering of the components (default: the newest)."""
        name = self._subrun("clusters", subrun, "tributary cluster")
        clustering = Clustering.load(self.path / "clusters" / name)
        if dict(clustering.manifest.sites) != {site.address: site.n_components for site in self.info.sites}:
            raise StoreDamagedError(
                self.path / "clusters" / name, "was made from another model than this run's"
            )
        return clustering

    def _subrun(self, folder: str, subrun: str | None, command: str) -> str:
        names = subruns(self.path / folder)
        if not names:
            raise RunError(f"the run {self.name} has no {folder} yet", f"run: {command} {self.name}")
        if subrun is None:
            return names[0]
        if subrun not in names:
            raise RunError(
                f"the run {self.name} has no {folder} called {subrun[:40]!r}", f"there are {', '.join(names)}"
            )
        return names[names.index(subrun)]

    def evaluation(self) -> dict[str, Any] | None:
        """The content of ``evaluation.json``, or None where the run was not evaluated."""
        file = self.path / "evaluation.json"
        if not file.is_file():
            return None
        try:
            content = json.loads(file.read_bytes())
        except (OSError, ValueError, RecursionError) as error:
            raise RunError(f"{file} is damaged ({error})", f"run: tributary evaluate {self.name}") from error
        if not isinstance(content, dict):
            raise RunError(f"{file} is not an evaluation", f"run: tributary evaluate {self.name}")
        return cast("dict[str, Any]", content)

    def verify(self) -> Iterator[Check]:
        """Read everything in the run and compare it with its checksums, one part after another.

        Yields one :class:`Check` for each part, with its error instead of raising it.
        """
        for name, expected in sorted(self.info.files.items()):
            yield _checked(
                self.path / name, lambda name=name, expected=expected: self._verify_file(name, expected)
            )
        if (self.path / "corpus").is_dir():
            yield _checked(self.path / "corpus", lambda: f"{len(self.corpus().tokens):,} tokens")
        if (self.path / "evaluation.json").is_file():
            yield _checked(self.path / "evaluation.json", lambda: f"{len(self.evaluation() or {})} fields")
        for name in self.statistics_subruns():
            yield _checked(
                self.path / "statistics" / name,
                lambda name=name: f"{len(self.statistics(name).arrays)} arrays",
            )
        for name in self.harvest_subruns():
            yield _checked(
                self.path / "harvest" / name,
                lambda name=name: f"{self.harvest(name).verify():,} records",
            )
        for name in self.clustering_subruns():
            yield _checked(
                self.path / "clusters" / name,
                lambda name=name: f"{self.clustering(name).iterations:,} merges",
            )
        for name in subruns(self.path / "search"):
            yield _checked(self.path / "search" / name, lambda name=name: self._verify_search(name))
        for name in self.attribution_subruns():
            yield _checked(
                self.path / "attributions" / name,
                lambda name=name: f"{self.attributions(name).verify():,} blocks",
            )

    def _verify_search(self, name: str) -> str:
        from storage.search_index import SearchIndex

        return SearchIndex.open(self.path / "search" / name).verify()

    def _verify_file(self, name: str, expected: str) -> str:
        if name not in ("model.safetensors", _TOKENIZER):
            raise RunError(f"{self.path / 'run.json'} names an unexpected file {name[:80]!r}")
        file = self.path / name
        try:
            actual = sha256_file(file)
        except OSError as error:
            raise StoreDamagedError(file, f"cannot be read ({error.strerror})") from error
        if actual != expected:
            raise StoreDamagedError(file, "does not match its checksum in run.json")
        return f"{file.stat().st_size:,} bytes"


@dataclass(frozen=True)
class Check:
    """One part of a run that was verified: what was found in it, or what is wrong with it."""

    path: Path
    found: str
    error: StorageError | None


def _checked(path: Path, check: Callable[[], str]) -> Check:
    try:
        return Check(path, check(), None)
    except StorageError as error:
        return Check(path, "", error)
    except ValueError as error:  # a CorpusError: its room knows no hints
        return Check(path, "", RunError(str(error), "restore the corpus from a copy of the run"))


def find_runs(folder: Path) -> list[Path]:
    """Directories inside ``folder`` that hold a run.json, by name."""
    if not folder.is_dir():
        return []
    return sorted(
        entry
        for entry in folder.iterdir()
        if not entry.name.startswith(".") and (entry / "run.json").is_file()
    )


def known_runs(runs_folder: Path) -> dict[str, Path]:
    """Names that a user may give → run directories: those in the folder, and the bundled ``demo``."""
    runs = {path.name: path for path in find_runs(runs_folder)}
    if (DEMO_RUN / "run.json").is_file():
        runs[DEMO_NAME] = DEMO_RUN
    return runs


def resolve_run(name_or_path: str | Path, runs_folder: Path, *, allow_path: bool = True) -> RunDirectory:
    """A command's RUN argument: a name in the runs folder, ``demo``, or a path to a run directory.

    The service passes ``allow_path=False``. Raises :class:`RunError`.
    """
    runs = known_runs(runs_folder)
    if str(name_or_path) in runs:
        return RunDirectory.open(runs[str(name_or_path)])
    if allow_path and (Path(name_or_path) / "run.json").is_file():
        return RunDirectory.open(Path(name_or_path))
    there = f"there are {', '.join(runs)}" if runs else f"there are none in {runs_folder}"
    raise RunError(f"there is no run called {str(name_or_path)[:80]!r}", there)


def write_run(
    path: Path,
    info: RunInfo,
    tensors: Mapping[str, np.ndarray] | None,
    tokenizer: Tokenizer | None,
    corpus: TokenCorpus | None,
    fill: Callable[[Path], object] | None = None,
) -> RunDirectory:
    """Write a run directory as a whole: it appears under ``path`` by one rename.

    ``tensors`` are named as by ``Decomposition.export_tensors``; None: a run without a model file.
    ``fill`` may write more into the folder before it appears. An existing run at ``path`` is not
    replaced. Raises :class:`RunError` if there is something at ``path`` already, and what ``fill`` does.
    """
    if path.exists():
        raise RunError(f"{path} exists already", "choose another name, or remove it first")
    path.parent.mkdir(parents=True, exist_ok=True)
    work = path.with_name(f".{path.name}.writing")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    try:
        if tensors is not None:
            arrays = {name: np.ascontiguousarray(value) for name, value in tensors.items()}
            # Straight to the file: as bytes it would be in memory twice. Everything is synced below.
            save_file(arrays, work / "model.safetensors", {"format": "tributary"})
        if tokenizer is not None:
            write_durably(work / _TOKENIZER, tokenizer.to_str().encode())
        if corpus is not None:
            corpus.save(work / "corpus")
        names = [name for name in ("model.safetensors", _TOKENIZER) if (work / name).is_file()]
        changes = {
            "files": {name: sha256_file(work / name) for name in names},
            "tokenizer": None if tokenizer is None else _TOKENIZER,
        }
        complete = info.model_copy(update=changes)
        write_durably(work / "run.json", (complete.model_dump_json(indent=2) + "\n").encode())
        for name in names:  # safetensors lets only the owner read what it writes
            (work / name).chmod((work / "run.json").stat().st_mode)
        if fill is not None:
            fill(work)
        for file in work.rglob("*"):
            sync_file(file)
        work.rename(path)
        sync_directory(path.parent)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return RunDirectory.open(path)
