"""Documents of the run's corpus, part by part, with what a component does at each token."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

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
        context = run.config.context

        def work(report: Report) -> tuple[np.ndarray, np.ndarray]:
            return _values(workshop, run, whole, component, start, end, report)

        (ci, activation), peak = await workshop.quick(work, gone)
        windows = (
            f"The document is read in windows of {context:,} tokens from its beginning; "
            "what is before its window, the model does not see."
        )
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
        windows=windows,
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


def _values(
    workshop: Workshop, run: Run, whole: np.ndarray, key: Key, start: int, end: int, report: Report
) -> tuple[np.ndarray, np.ndarray]:
    """Causal importance and scaled activation of a component at the tokens from ``start`` to ``end``."""
    from compute.activity import activity

    model, context, index = workshop.models.get(run), run.config.context, key.index
    assert isinstance(index, int)
    first = start // context * context
    ci: list[np.ndarray] = []
    activations: list[np.ndarray] = []
    for window in range(first, end, context):
        report("windows", window - first, end - first)
        ids = whole[window : min(window + context, end)].tolist()
        for _, importance, scaled in activity(model, token_tensor(model, ids)[None], [key.address]):
            ci.append(importance[0, :, index].float().cpu().numpy())
            activations.append(scaled[0, :, index].float().cpu().numpy())
    return np.concatenate(ci)[start - first :], np.concatenate(activations)[start - first :]
