"""Documents of the run's corpus, part by part, with what a component does at each token."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import numpy as np
from fastapi.concurrency import run_in_threadpool

from backend.errors import ServiceError
from backend.evidence_schemas import UNIT, DocumentPage
from backend.service.predictions import token_tensor
from backend.service.run import Run
from backend.service.text import tokens
from backend.service.timing import Stopwatch
from backend.service.workshop import Workshop
from compute.address import Key
from compute.progress import Report
from storage.corpus import TokenCorpus
from storage.layout import GROUPS


async def page(
    workshop: Workshop,
    run: Run,
    number: int,
    *,
    start: int,
    length: int,
    key: str | None,
    gone: Callable[[], Awaitable[bool]],
) -> DocumentPage:
    """``length`` tokens from ``start``; raises a 404 for a document or a start that there is not."""
    watch = Stopwatch()

    def prepare() -> tuple[TokenCorpus, np.ndarray, Key | None]:
        component = None if key is None else run.component(key)
        corpus = run.corpus()
        return corpus, _document(run, corpus, number, start), component

    corpus, whole, component = await run_in_threadpool(prepare)
    end = min(start + length, len(whole))
    ci = activation = windows = None
    peak = 0
    if component is not None:
        windows = await run_in_threadpool(_windows, run, corpus, number, start, end)
        sequences = windows.sequences

        def work(report: Report) -> tuple[np.ndarray, np.ndarray]:
            return _values(workshop, run, sequences, component, report)

        (ci, activation), peak = await workshop.quick(work, gone)
        here = slice(windows.skipped, windows.skipped + end - start)
        ci, activation = ci[here], activation[here]
    return DocumentPage(
        run=run.name,
        document=number,
        title=corpus.titles[number],
        documents=corpus.n_documents,
        validation=corpus.is_validation(number),
        total=len(whole),
        corpus_start=int(corpus.offsets[number]),
        start=start,
        tokens=tokens(run, whole[start:end].tolist()),
        next_start=end if end < len(whole) else None,
        key=key,
        ci=None if ci is None else ci.tolist(),
        activation=None if activation is None else activation.tolist(),
        windows=None if windows is None else windows.words,
        unit=UNIT,
        seconds=watch.seconds,
        peak_bytes=peak,
    )


def _document(run: Run, corpus: TokenCorpus, number: int, start: int) -> np.ndarray:
    if number >= corpus.n_documents:
        raise ServiceError(
            404,
            "unknown_document",
            f"{run.name} has no document {number}",
            f"Documents are numbered 0 to {corpus.n_documents - 1}.",
        )
    whole = corpus.document(number)
    if start >= len(whole):
        raise ServiceError(
            404,
            "unknown_document",
            f"Document {number} of {run.name} has no token {start}",
            f"Its tokens are numbered 0 to {len(whole) - 1}.",
        )
    return whole


@dataclass(frozen=True)
class _Windows:
    """What the model is to read: ``sequences`` of ids, of which the first ``skipped`` places come before
    those wanted."""

    sequences: list[list[int]]
    skipped: int
    words: str


def _windows(run: Run, corpus: TokenCorpus, number: int, start: int, end: int) -> _Windows:
    """The windows in which a pass over the corpus reads a part of a document.

    So the values are those of the examples: a pass lays the documents of a group end to end and cuts
    them into windows, so that a window may begin in the document before.
    """
    length, n_groups = run.config.context, GROUPS
    if run.has_harvest():
        manifest = run.harvest().manifest
        length, n_groups = manifest.settings.window, manifest.n_groups
    of_group = np.arange(number % n_groups, corpus.n_documents, n_groups)
    starts = np.cumsum([0, *(corpus.offsets[of_group + 1] - corpus.offsets[of_group])])
    place = number // n_groups
    first = (int(starts[place]) + start) // length * length
    last = int(starts[place]) + end
    sees_later = run.info.importance is not None and run.info.importance.sees_later_tokens
    if sees_later:  # to the end of the window, in whatever document that is
        last = min(-(-last // length) * length, int(starts[-1]))
    read: list[np.ndarray] = []
    at, which = first, int(np.searchsorted(starts, first, "right")) - 1
    while at < last:
        document = corpus.document(int(of_group[which]))
        read.append(document[at - int(starts[which]) : last - int(starts[which])])
        which += 1
        at = int(starts[which])
    ids = np.concatenate(read).tolist()
    return _Windows(
        [ids[i : i + length] for i in range(0, len(ids), length)],
        int(starts[place]) + start - first,
        f"Read as in a pass over the corpus: in windows of {length:,} tokens that run on over the ends of documents. "
        "The model sees nothing of what is before a token's window."
        + (" Importances depend on all tokens of the window, later ones too." if sees_later else ""),
    )


def _values(
    workshop: Workshop, run: Run, sequences: list[list[int]], key: Key, report: Report
) -> tuple[np.ndarray, np.ndarray]:
    """Causal importance and scaled activation of a component along ``sequences``, one after another."""
    from compute.activity import activity

    model, index = workshop.models.get(run), key.index
    assert isinstance(index, int)
    ci: list[np.ndarray] = []
    activations: list[np.ndarray] = []
    for number, ids in enumerate(sequences):
        report("windows", number, len(sequences))
        for _, importance, scaled in activity(model, token_tensor(model, ids)[None], [key.address]):
            ci.append(importance[0, :, index].float().cpu().numpy())
            activations.append(scaled[0, :, index].float().cpu().numpy())
    return np.concatenate(ci), np.concatenate(activations)
