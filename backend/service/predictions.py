"""Next-token predictions as wire models."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from fastapi.concurrency import run_in_threadpool

from backend.intervention_schemas import ChangedPredictions, ChangedToken
from backend.prompt_schemas import (
    PositionPredictions,
    PredictedToken,
    Predictions,
    PredictionsOfText,
    PredictionsOfTokens,
)
from backend.service.run import Run
from backend.service.text import token_ids, token_texts
from backend.service.timing import Stopwatch
from backend.service.workshop import Workshop
from compute.progress import Report

if TYPE_CHECKING:
    from torch import Tensor

    from compute.decomposition.model import Decomposition


def token_tensor(model: Decomposition, ids: Sequence[int]) -> Tensor:
    """Token ids [T] on the model's device."""
    import torch

    return torch.tensor(list(ids), dtype=torch.long, device=next(model.parameters()).device)


def target_logits(model: Decomposition, tokens: Tensor) -> np.ndarray:
    """Next-token logits of the target model, [T, vocab]."""
    import torch

    with torch.no_grad():
        return model.target(tokens[None])[0].cpu().numpy()


def probabilities(logits: np.ndarray) -> np.ndarray:
    """Softmax over the last axis, in float64: of the very numbers that are shown beside it."""
    shifted = logits.astype(np.float64) - logits.max(-1, keepdims=True)
    exponentials = np.exp(shifted)
    return exponentials / exponentials.sum(-1, keepdims=True)


def _strongest(row: np.ndarray, k: int) -> np.ndarray:
    """Places of the k largest entries of ``row``, largest first; equal ones in order."""
    return np.argsort(-row, kind="stable")[:k]


def top_predictions(
    run: Run, logits: np.ndarray, k: int, positions: Sequence[int], among: Sequence[int] | None = None
) -> list[PositionPredictions]:
    """The k most probable tokens (``among`` these ids, or all) at each of ``positions``; logits [T, vocab]."""
    texts = run.vocabulary.texts
    allowed = np.arange(logits.shape[-1]) if among is None else np.asarray(among, dtype=np.int64)
    found: list[PositionPredictions] = []
    for position in positions:
        row, shares = logits[position], probabilities(logits[position])
        chosen = allowed[_strongest(row[allowed], k)]
        top = [
            PredictedToken(token_id=i, text=texts[i], probability=float(shares[i]), logit=float(row[i]))
            for i in chosen.tolist()
        ]
        found.append(PositionPredictions(position=position, top=top))
    return found


def changed_predictions(run: Run, before: np.ndarray, after: np.ndarray, k: int) -> list[ChangedPredictions]:
    """The k most probable tokens at each position of ``after``, with what they were; both [T, vocab]."""
    texts = run.vocabulary.texts
    found: list[ChangedPredictions] = []
    for position in range(len(after)):
        row, old = after[position], before[position]
        shares, old_shares = probabilities(row), probabilities(old)
        top = [
            ChangedToken(
                token_id=i,
                text=texts[i],
                probability=float(shares[i]),
                logit=float(row[i]),
                probability_before=float(old_shares[i]),
                logit_before=float(old[i]),
            )
            for i in _strongest(row, k).tolist()
        ]
        found.append(ChangedPredictions(position=position, top=top))
    return found


async def predict(
    workshop: Workshop,
    run: Run,
    request: PredictionsOfText | PredictionsOfTokens,
    gone: Callable[[], Awaitable[bool]],
) -> Predictions:
    """Most probable next tokens; with ``q`` only among tokens whose text contains it."""
    watch = Stopwatch()

    def prepare() -> tuple[list[int], list[str], list[int] | None]:
        ids, _ = token_ids(run, request)
        among = None if request.q is None else run.vocabulary.matching(request.q)
        return ids, token_texts(run, ids), among

    ids, texts, among = await run_in_threadpool(prepare)

    def work(_: Report) -> np.ndarray:
        model = workshop.models.get(run)
        return target_logits(model, token_tensor(model, ids))

    logits, peak = await workshop.quick(work, gone)
    positions = range(len(ids)) if request.positions == "all" else [len(ids) - 1]
    found = await run_in_threadpool(top_predictions, run, logits, request.k, list(positions), among)
    return Predictions(
        run=run.name,
        token_ids=ids,
        tokens=texts,
        context=run.config.context,
        positions=found,
        total=run.config.vocab_size if among is None else len(among),
        seconds=watch.seconds,
        peak_bytes=peak,
    )
