"""``tributary text RUN FILE…``: give a run that has none its text, tokenised as the run's model reads it."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from tokenizers import Tokenizer

from backend.pipelines.common import UsageError, console
from storage.corpus import CorpusError, TokenCorpus, documents_of, tokenize
from storage.files import sync_directory, sync_file
from storage.run_directory import RunDirectory, resolve_run


def command(
    run_name: Annotated[str, typer.Argument(metavar="RUN", help="A run's name or a path")],
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE...", help="Texts: .txt or .jsonl, also with .gz")
    ],
    runs: Annotated[Path, typer.Option(envvar="TRIBUTARY_RUNS", help="Folder of runs")] = Path("runs"),
    validation_every: Annotated[int, typer.Option(min=2, help="Every n-th document is held out")] = 20,
    separator: Annotated[
        str | None, typer.Option(help="The token before every document; default: the tokenizer's end of text")
    ] = None,
) -> None:
    """Give a run its text, on which it is then evaluated, attributed and harvested."""
    run = resolve_run(run_name, runs)
    add_text(run, files, validation_every, separator)
    console.print(f"written to {run.path / 'corpus'}; next: tributary attribute {run_name}", soft_wrap=True)


def add_text(
    run: RunDirectory, files: Sequence[Path], validation_every: int = 20, separator: str | None = None
) -> TokenCorpus:
    """Tokenise ``files`` into the corpus of a run without one.

    Raises :class:`UsageError` where the run has a text already or knows no tokens, and what
    :func:`tokenize_files` raises; the run is then as it was.
    """
    if run.info.kind != "model":
        raise UsageError(f"the run {run.name} has no language model, so it reads no text")
    if (run.path / "corpus").exists():
        raise UsageError(
            f"the run {run.name} has a text already, and what was computed from it stays",
            "copy the run directory without its corpus, attributions and harvest, and give the copy the text",
        )
    corpus = tokenize_files(
        files, run.tokenizer(), int(run.info.target["vocab_size"]), validation_every, separator
    )
    write_corpus(corpus, run.path / "corpus")
    return corpus


def tokenize_files(
    files: Sequence[Path],
    tokenizer: Tokenizer,
    vocab_size: int,
    validation_every: int = 20,
    separator: str | None = None,
) -> TokenCorpus:
    """All documents of text files as tokens of a model; says on the terminal what came of them.

    Raises :class:`CorpusError` for files that are no texts, and where the tokenizer is not the model's.
    """
    corpus = tokenize(documents_of(files), tokenizer, validation_every, separator)
    largest = int(corpus.tokens.max())
    if largest >= vocab_size:
        raise CorpusError(
            f"the text has token {largest:,}, but the model's vocabulary has {vocab_size:,}",
            "the tokenizer is not the model's",
        )
    held_out = sum(corpus.is_validation(index) for index in range(corpus.n_documents))
    console.print(
        f"{len(corpus.tokens):,} tokens in {corpus.n_documents:,} documents, {held_out:,} of them held out",
        soft_wrap=True,
    )
    if not held_out:
        console.print(
            f"no document is held out, so that there is nothing to evaluate on: there are fewer than {validation_every}",
            soft_wrap=True,
        )
    return corpus


def write_corpus(corpus: TokenCorpus, directory: Path) -> None:
    """Write a corpus so that ``directory`` appears complete or not at all."""
    work = directory.with_name(f".{directory.name}.writing")
    shutil.rmtree(work, ignore_errors=True)
    try:
        corpus.save(work)
        for file in work.iterdir():
            sync_file(file)
        work.rename(directory)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    sync_directory(directory.parent)
