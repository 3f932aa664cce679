"""What components do on a text of one's own, computed now."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import numpy as np
from fastapi.concurrency import run_in_threadpool

from backend.evidence_schemas import (
    UNIT,
    ComponentFirings,
    FiringOrder,
    Firings,
    FiringsOfText,
    FiringsOfTokens,
    PositionFirings,
    TokenFiring,
)
from backend.service.predictions import token_tensor
from backend.service.run import Run
from backend.service.text import token_ids, tokens
from backend.service.timing import Stopwatch
from backend.service.workshop import Workshop
from compute.progress import Report

if TYPE_CHECKING:
    from compute.activity import Columns, TextFirings


async def fire(
    workshop: Workshop,
    run: Run,
    request: FiringsOfText | FiringsOfTokens,
    gone: Callable[[], Awaitable[bool]],
) -> Firings:
    """Causal importance and activation at each token, of the keys asked for and of those that fire most."""
    watch = Stopwatch()

    def prepare() -> tuple[list[int], list[int], float, np.ndarray]:
        asked = [run.flat_index(run.component(key)) for key in dict.fromkeys(request.keys)]
        # What fires means the same here as in the evidence.
        threshold = run.harvest().settings.threshold if run.has_harvest() else 0.0
        return token_ids(run, request)[0], asked, threshold, run.table().columns["mean_ci"]

    ids, asked, threshold, usual = await run_in_threadpool(prepare)

    order = request.order if not np.isnan(usual).any() else "sum"

    def work(report: Report) -> TextFirings:
        from compute.activity import firings

        model = workshop.models.get(run)
        return firings(
            model,
            token_tensor(model, ids),
            report,
            asked=asked,
            k=request.k,
            per_token=request.per_token,
            threshold=threshold,
            usual=usual if order == "excess" else None,
        )

    found, peak = await workshop.quick(work, gone)
    return await run_in_threadpool(_wire, run, ids, threshold, order, usual, found, watch, peak)


def _wire(
    run: Run,
    ids: list[int],
    threshold: float,
    order: FiringOrder,
    usual: np.ndarray,
    found: TextFirings,
    watch: Stopwatch,
    peak: int,
) -> Firings:
    keys = run.component_keys
    return Firings(
        run=run.name,
        tokens=tokens(run, ids),
        context=run.config.context,
        threshold=threshold,
        components=_along(keys, usual, found.asked, threshold),
        order=order,
        strongest=_along(keys, usual, found.strongest, threshold),
        firing=found.firing,
        positions=[
            PositionFirings(
                position=position,
                firing_count=int(found.per_token[position]),
                strongest=[
                    TokenFiring(key=keys[flat], ci=float(ci), activation=float(activation))
                    for flat, ci, activation in zip(
                        found.top[position],
                        found.top_ci[position],
                        found.top_activation[position],
                        strict=True,
                    )
                    if flat >= 0
                ],
            )
            for position in range(len(ids))
        ],
        unit=UNIT,
        seconds=watch.seconds,
        peak_bytes=peak,
    )


def _along(
    keys: tuple[str, ...], usual: np.ndarray, columns: Columns, threshold: float
) -> list[ComponentFirings]:
    return [
        ComponentFirings(
            key=keys[flat],
            firing_count=int((ci > threshold).sum()),
            ci_sum=float(ci.sum(dtype=np.float64)),
            ci_max=float(ci.max()),
            mean_ci=None if np.isnan(usual[flat]) else float(usual[flat]),
            position=int(ci.argmax()),
            ci=ci.tolist(),
            activation=activation.tolist(),
        )
        for flat, ci, activation in zip(columns.flat, columns.ci.T, columns.activation.T, strict=True)
    ]
