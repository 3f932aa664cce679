"""The runs that are served: found anew on every request, opened when first asked for, then kept."""

from __future__ import annotations

import threading
from pathlib import Path

from backend.errors import ServiceError
from backend.service.run import Run
from storage.errors import RunError
from storage.run_directory import DEMO_NAME, DEMO_RUN, RunDirectory, known_runs, resolve_run


class Library:
    """Names of runs and where they are. Only names listed here ever lead to a path."""

    def __init__(self, folder: Path, only: tuple[str, ...] = ()) -> None:
        self._folder = folder
        #: Runs asked for by name or path when the server was started; none: all there are.
        self._chosen = {run_name(path): path for path in _resolve(only, folder)}
        self._lock = threading.Lock()
        self._opened: dict[str, tuple[tuple[Path, int], Run]] = {}

    def paths(self) -> dict[str, Path]:
        """Name → directory, the bundled run first, then by name."""
        if self._chosen:
            return self._chosen
        known = known_runs(self._folder)
        return {name: known[name] for name in sorted(known, key=lambda name: (name != DEMO_NAME, name))}

    def names(self) -> list[str]:
        return list(self.paths())

    def get(self, name: str) -> Run:
        """The run of that name; raises a 404 if there is none, a 409 if it cannot be opened."""
        path = self.paths().get(name)
        if path is None:
            known = ", ".join(self.names()[:5]) or "none"
            raise ServiceError(
                404, "unknown_run", f"There is no run {name[:80]!r}", f"Runs that are served: {known}."
            )
        try:
            stamp = (path, (path / "run.json").stat().st_mtime_ns)
            with self._lock:
                kept = self._opened.get(name)
                if kept is None or kept[0] != stamp:
                    kept = (stamp, open_run(name, path))
                    self._opened[name] = kept
                return kept[1]
        except OSError as error:
            raise RunError(
                f"the run {name} cannot be read ({error.strerror})", "does it still exist?"
            ) from error


def open_run(name: str, path: Path) -> Run:
    """Read a run's description; raises :class:`RunError`."""
    directory = RunDirectory.open(path)
    try:
        return Run(name, directory)
    except ValueError as error:
        raise RunError(
            f"{path / 'run.json'} does not describe a target model of a known kind",
            "restore the file from a copy of the run",
        ) from error


def run_name(path: Path) -> str:
    """The name under which a run directory is served."""
    return DEMO_NAME if path.resolve() == DEMO_RUN.resolve() else path.resolve().name


def _resolve(texts: tuple[str, ...], folder: Path) -> list[Path]:
    paths = [resolve_run(text, folder).path.resolve() for text in texts]
    for path in paths:
        if any(other != path and run_name(other) == run_name(path) for other in paths):
            raise RunError(f"two runs are called {run_name(path)}", "rename one of the directories")
    return paths
