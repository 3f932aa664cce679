"""What an import is asked for, and what it answers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from storage.run_directory import RunNote


@dataclass(frozen=True)
class ImportOptions:
    """The options of ``tributary import``, each as in its help."""

    #: Folder of runs that the new run is written into.
    runs: Path = Path("runs")
    #: Name of the new run; None: the name of what is imported.
    name: str | None = None
    #: Directory or file with the target model's configuration, where the run does not carry it.
    target: Path | None = None
    #: ``tokenizer.json``, or a directory that holds one.
    tokenizer: Path | None = None
    #: Texts to be tokenised into the run's corpus.
    text: tuple[Path, ...] = ()
    #: Step of the checkpoint to read; None: the last one.
    checkpoint: int | None = None
    title: str | None = None
    licence: str | None = None
    #: Patterns of decomposed modules whose components are dropped, so that they are taken as whole.
    leave_whole: tuple[str, ...] = ()
    #: Existing run that published attributions are added to.
    into: str | None = None
    #: Fetch nothing from anywhere.
    offline: bool = False


@dataclass(frozen=True)
class Finding:
    """One line of the import's report: a short name and what was found."""

    name: str
    value: str


@dataclass(frozen=True)
class ImportedRun:
    """A run that was written: where, and what everyone who uses it should know."""

    path: Path
    #: What was found (layout, target, sites, …), in the order in which it is told.
    found: tuple[Finding, ...] = ()
    #: Kept in ``run.json`` and shown on the run's page.
    notes: tuple[RunNote, ...] = ()
    #: Dotted paths of settings that were not used.
    ignored_settings: tuple[str, ...] = ()
    #: Said once, when importing: what is missing and how to add it.
    warnings: tuple[str, ...] = ()
    #: Commands that make sense next.
    next_commands: tuple[str, ...] = ()
