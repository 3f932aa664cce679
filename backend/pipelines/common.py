"""What all pipelines share: configuration files, provenance, progress and stopping."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
import time
import tomllib
from collections.abc import Generator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

import torch
from pydantic import BaseModel, ValidationError
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Column
from rich.text import Text

from backend.version import version as tributary_version
from storage.errors import StorageError

Config = TypeVar("Config", bound=BaseModel)

#: Faults of a configuration that are named at once.
MOST_FAULTS = 8

#: Progress and words go to standard error, so that standard output stays machine-readable.
console = Console(stderr=True)


class UsageError(StorageError):
    """A mistake of the user's: a configuration or an argument that cannot work."""


def read_config(path: Path, model: type[Config]) -> Config:
    """Read a TOML file into a pydantic model; raises :class:`UsageError` naming the fields that are wrong."""
    try:
        with path.open("rb") as file:
            return model.model_validate(tomllib.load(file))
    except FileNotFoundError:
        raise UsageError(f"there is no configuration at {path}", "give the path of a TOML file") from None
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error.strerror})") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not a TOML file: {error}") from error
    except ValidationError as error:
        faults = [
            f"{'.'.join(map(str, fault['loc'])) or 'the file'}: {fault['msg'].removeprefix('Value error, ')}"
            for fault in error.errors()
        ]
        more = [f"and {len(faults) - MOST_FAULTS} more"] if len(faults) > MOST_FAULTS else []
        words = "; ".join(faults[:MOST_FAULTS] + more)
        raise UsageError(f"{path}: {words}", "docs/guide.md describes every field") from error


def provenance(**more: str) -> dict[str, str]:
    """What made a result: versions, commit, machine and time, and whatever else is given."""
    made = {
        "tributary": tributary_version(),
        "torch": torch.__version__,
        "numpy": version("numpy"),
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    commit = _git_commit()
    if commit:
        made["git_commit"] = commit
    return made | more


def _git_commit() -> str | None:
    here = Path(__file__).resolve().parent
    try:
        answer = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],  # noqa: S607
            cwd=here,
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip() or None


def file_hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def choose_device(requested: str) -> str:
    """``auto`` is the GPU where there is one. Raises :class:`UsageError` for a device that is absent."""
    if requested == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if requested.startswith("cuda") and not torch.cuda.is_available():
        raise UsageError("no CUDA device is available", "use --device cpu")
    try:
        return str(torch.device(requested))
    except RuntimeError:
        raise UsageError(f"{requested!r} is not a device", "use auto, cpu or cuda") from None


class _Rate(ProgressColumn):
    """Units per second, from the whole of the task's measured time."""

    def __init__(self, unit: str) -> None:
        super().__init__(table_column=Column(no_wrap=True))
        self.unit = unit

    def render(self, task: Task) -> Text:
        if not task.elapsed or task.completed <= task.fields.get("start", 0):
            return Text("")
        return Text(_rate((task.completed - task.fields.get("start", 0)) / task.elapsed, self.unit))


def _rate(rate: float, unit: str) -> str:
    return f"{rate:,.0f} {unit}/s" if rate >= 10 else f"{rate:.2f} {unit}/s"


class LogLines:
    """Progress where nobody sees a bar, as in the log of a batch job: a line now and then, and one at the end."""

    FIRST = 10.0
    EVERY = 60.0

    def __init__(self, title: str, total: int, unit: str, start: int) -> None:
        self._title, self._total, self._unit, self._start = title, total, unit, start
        self._begin = time.monotonic()
        self._next = self._begin + self.FIRST
        self._last = start
        self._note = ""

    def update(self, completed: int, note: str = "") -> None:
        self._last, self._note = completed, note
        if time.monotonic() >= self._next:
            self.write()
            self._next = time.monotonic() + self.EVERY

    def write(self) -> None:
        elapsed = time.monotonic() - self._begin
        text = f"{self._title} {self._last:,}/{self._total:,} {timedelta(seconds=round(elapsed))}"
        if self._last > self._start:
            rate = (self._last - self._start) / elapsed
            left = timedelta(seconds=round((self._total - self._last) / rate))
            text = f"{text}, {_rate(rate, self._unit)}, {left} left"
        console.print(f"{text}  {self._note}".rstrip(), soft_wrap=True, highlight=False)


@contextmanager
def progress(title: str, total: int, unit: str, start: int = 0) -> Generator[Any]:
    """Done/total, rate and time left, as a bar or as lines of a log; yields ``update(completed, note)``."""
    if not console.is_terminal:
        lines = LogLines(title, total, unit, start)
        try:
            yield lines.update
        finally:
            lines.write()
        return
    # On a narrow terminal the numbers matter more than the bar.
    bars = (BarColumn(),) if console.width >= 120 else ()
    columns = (
        TextColumn("{task.description}"),
        *bars,
        MofNCompleteColumn(table_column=Column(no_wrap=True)),
        _Rate(unit),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=console, refresh_per_second=2) as bar:
        task = bar.add_task(title, total=total, completed=start, start=True, note="")
        bar.tasks[0].fields["start"] = start

        def update(completed: int, note: str = "") -> None:
            bar.update(task, completed=completed, note=note)

        yield update


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write a training checkpoint; the old one stays until the new one is complete."""
    temporary = path.with_suffix(".writing")
    torch.save(state, temporary)
    with temporary.open("rb") as file:
        os.fsync(file.fileno())
    temporary.replace(path)


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a training checkpoint, tensors and plain values only; raises :class:`UsageError`."""
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise UsageError(f"{path} is damaged ({str(error)[:120]})", "remove it to start again") from error
    return state
