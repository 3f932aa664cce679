"""What every pass over a run's text begins with: the run, its model and its text, and nobody else at work."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from backend.pipelines.common import UsageError, choose_device
from backend.pipelines.load import load_decomposition
from compute.decomposition.model import Decomposition
from storage.corpus import TokenCorpus
from storage.run_directory import RunDirectory, resolve_run
from storage.work_lock import is_held


@dataclass(frozen=True)
class Reading:
    """A run that is about to be read; the model is on ``device`` and sees ``length`` tokens at once."""

    run: RunDirectory
    device: str
    corpus: TokenCorpus
    decomposition: Decomposition
    length: int


def start(
    run_name: str,
    runs: Path,
    device: str,
    *,
    unfinished: Callable[[Path], Sequence[Path]],
    resume: bool,
    length: int | None = None,
) -> Reading:
    """Open a run; ``unfinished`` finds interrupted work in it, which only ``resume`` may go on with.

    Raises :class:`UsageError` where there is such work, or another process is at it.
    """
    run = resolve_run(run_name, runs)
    device = choose_device(device)
    corpus = run.corpus()
    for work in unfinished(run.path):
        if is_held(work):
            raise UsageError(f"another process is at work in {work}", "wait for it, or stop it first")
        if not resume:
            raise UsageError(
                f"{run.path} holds interrupted work", f"add --resume to go on with it, or remove {work}"
            )
    decomposition = load_decomposition(run, device)
    context = decomposition.target.config.context
    return Reading(run, device, corpus, decomposition, min(length or context, context))
