"""Checking a run from end to end: every file, then what must agree between them, then the mathematics."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from backend.run_schemas import Evaluation
from backend.schemas import Check
from backend.service.run import Run
from backend.service.timing import Stopwatch
from storage.errors import RunError, StorageError

#: Text that the identities are checked on: sequences × tokens.
_SEQUENCES, _LENGTH = 2, 64


def verify(run: Run, *, identities: bool = True) -> Iterator[Check]:
    """Every check as it is done. A failed one does not keep the others from being done."""
    directory = run.directory
    watch = Stopwatch()
    for part in directory.verify():
        name = part.path.relative_to(directory.path).as_posix()
        detail = part.found if part.error is None else str(part.error)
        status = "ok" if part.error is None else "failed"
        yield Check(name=name, status=status, detail=detail, seconds=watch.seconds)
        watch = Stopwatch()
    if directory.has_model_file:
        yield _check("model", lambda: f"{len(directory.model_tensors())} tensors of the right shapes")
    else:
        yield _absent("model", f"the run {run.name} came without it")
    subruns = directory.attribution_subruns()
    for name in subruns:
        yield _check(f"attributions/{name} against the corpus", lambda name=name: _same_text(run, name))
    if not subruns:
        yield _absent("attributions", f"not computed yet; run tributary attribute {run.name}")
    if (directory.path / "evaluation.json").is_file():
        yield _check("evaluation", lambda: _evaluation(run))
    elif run.info.kind == "model":
        yield _absent("evaluation", f"not evaluated yet; run tributary evaluate {run.name}")
    if identities and run.info.kind != "model":
        yield _absent("identities", "there is no language model to check them on")
    elif identities and not (directory.path / "corpus").is_dir():
        yield _absent("identities", f"there is no text to check them on; run tributary text {run.name} FILE")
    elif identities:
        yield from _identities(run)


def _check(name: str, action: Callable[[], str]) -> Check:
    watch = Stopwatch()
    try:
        return Check(name=name, status="ok", detail=action(), seconds=watch.seconds)
    except (StorageError, ValueError) as error:
        return Check(name=name, status="failed", detail=str(error), seconds=watch.seconds)


def _absent(name: str, detail: str) -> Check:
    return Check(name=name, status="absent", detail=detail, seconds=0.0)


def _same_text(run: Run, name: str) -> str:
    store = run.directory.attributions(name)
    if store.manifest.settings.imported_from is not None:
        return f"imported from a published file, {store.tokens:,} tokens of a text that nobody here knows"
    if store.manifest.settings.corpus_sha256 != run.directory.corpus().sha256:
        raise RunError("they were computed on another text", "compute them again, or restore the corpus")
    return f"computed on it, {store.tokens:,} tokens"


def _evaluation(run: Run) -> str:
    evaluation = Evaluation.model_validate(run.directory.evaluation())
    return f"{len(evaluation.metrics)} figures over {evaluation.tokens:,} held-out tokens"


def _identities(run: Run) -> Iterator[Check]:
    """The identities of the mathematics, on the run's own model and text."""
    from backend.pipelines.load import load_decomposition
    from compute.attribution.identities import check_identities

    watch = Stopwatch()
    try:
        decomposition = load_decomposition(run.directory)
        corpus = run.directory.corpus()
        # The identities hold on any text; a corpus of few documents holds none of them out.
        tokens = corpus.split(validation=any(map(corpus.is_validation, range(corpus.n_documents))))
        length = min(_LENGTH, run.config.context, len(tokens) // _SEQUENCES)
        if length < 2:
            raise RunError("the text is too short to check the identities on", "use a longer text")
        found = check_identities(decomposition, tokens[: _SEQUENCES * length].view(_SEQUENCES, length).long())
    except (StorageError, ValueError) as error:
        yield Check(name="identities", status="failed", detail=str(error), seconds=watch.seconds)
        return
    for identity in found:
        yield Check(
            name=f"identity: {identity.name}",
            status="ok" if identity.holds else "failed",
            detail=f"{identity.statement} (error {identity.error:.1e}, admissible {identity.tolerance:.0e})",
            seconds=watch.seconds / len(found),
        )
