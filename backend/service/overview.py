"""What a run is and what it has."""

from __future__ import annotations

import numpy as np
from pydantic import ValidationError

from backend.errors import error_body
from backend.schemas import (
    AttributionInfo,
    DamagedRun,
    ErrorBody,
    Evaluation,
    RunDetail,
    RunList,
    RunSummary,
    SiteInfo,
)
from backend.service.library import Library
from backend.service.run import Run
from backend.service.timing import Stopwatch
from storage.errors import RunError, StorageError

#: A component counts as alive where its CI exceeds this somewhere: below it, it barely acts.
ALIVE_THRESHOLD = 0.1


def list_runs(library: Library) -> RunList:
    """All runs; those that cannot be opened are listed with what is wrong."""
    watch = Stopwatch()
    runs: list[RunSummary] = []
    damaged: list[DamagedRun] = []
    for name in library.names():
        try:
            runs.append(_summary(library.get(name)))
        except RunError as error:
            damaged.append(DamagedRun(name=name, error=error_body(error)))
    return RunList(runs=runs, damaged=damaged, seconds=watch.seconds)


def _summary(run: Run) -> RunSummary:
    return RunSummary(
        name=run.name,
        title=run.info.title,
        family=run.config.family,
        n_blocks=run.config.n_blocks,
        n_components=run.info.n_components,
        vocab_size=run.config.vocab_size,
        has_attributions=bool(run.directory.attribution_subruns()),
        has_evaluation=(run.directory.path / "evaluation.json").is_file(),
    )


def describe(run: Run) -> RunDetail:
    """Everything the run page shows. Damaged parts are left out and named among the problems."""
    watch = Stopwatch()
    problems: list[ErrorBody] = []
    evaluation = attributions = None
    sites: list[SiteInfo] = []
    try:
        evaluation = _evaluation(run)
    except StorageError as error:
        problems.append(error_body(error))
    try:
        sites = _sites(run, evaluation, with_statistics=True)
    except StorageError as error:
        problems.append(error_body(error))
        sites = _sites(run, evaluation, with_statistics=False)
    subruns = run.directory.attribution_subruns()
    try:
        attributions = _attributions(run) if subruns else None
    except StorageError as error:
        problems.append(error_body(error))
    return RunDetail(
        **_summary(run).model_dump(),
        description=run.info.description,
        d_model=run.config.d_model,
        context=run.config.context,
        licence=run.info.licence,
        created=run.info.created,
        provenance=run.info.provenance,
        sites=sites,
        attributions=attributions,
        subruns=subruns,
        harvests=run.directory.harvest_subruns(),
        clusterings=run.directory.clustering_subruns(),
        evaluation=evaluation,
        problems=problems,
        seconds=watch.seconds,
    )


def _evaluation(run: Run) -> Evaluation | None:
    content = run.directory.evaluation()
    try:
        return None if content is None else Evaluation.model_validate(content)
    except ValidationError as error:
        raise RunError(
            f"{run.directory.path / 'evaluation.json'} is not an evaluation",
            f"run: tributary evaluate {run.name}",
        ) from error


def _sites(run: Run, evaluation: Evaluation | None, *, with_statistics: bool) -> list[SiteInfo]:
    """Sites in display order, with what the statistics (else the evaluation) say about each."""
    statistics = run.statistics() if with_statistics else None
    evaluated = {site.address: site for site in evaluation.sites} if evaluation else {}
    sites: list[SiteInfo] = []
    for site in sorted(run.info.sites, key=lambda site: site.parsed):
        n_alive = mean_l0 = None
        if statistics is not None:
            n_alive = int(np.sum(statistics.site("ci_max", site.parsed) > ALIVE_THRESHOLD))
            mean_l0 = float(np.sum(statistics.site("alive_count", site.parsed)) / max(1, statistics.tokens))
        elif site.address in evaluated:
            known = evaluated[site.address]
            n_alive = known.max_ci_above.get(str(ALIVE_THRESHOLD))
            mean_l0 = known.share * known.n_components
        sites.append(SiteInfo(**site.model_dump(), n_alive=n_alive, mean_l0=mean_l0))
    return sites


def _attributions(run: Run) -> AttributionInfo:
    store = run.attributions()
    manifest = store.manifest
    method = f"{manifest.method}: {manifest.method_reason}" if manifest.method_reason else manifest.method
    return AttributionInfo(
        subrun=store.subrun,
        delta=store.delta,
        ci_weighted=store.ci_weighted,
        tokens=store.tokens,
        abs_tokens=store.abs_tokens,
        groups=store.n_groups,
        metrics=list(store.metrics),
        output_abs=manifest.settings.output_abs,
        encoding=store.encoding,
        encoding_note=manifest.encoding_note,
        method=method,
        created=manifest.created,
        provenance=manifest.provenance,
    )
