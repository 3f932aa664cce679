"""What a run is and what it has."""

from __future__ import annotations

import numpy as np
from pydantic import ValidationError

from backend.errors import error_body
from backend.run_schemas import (
    AttributionInfo,
    Capabilities,
    DamagedRun,
    Evaluation,
    ImportanceInfo,
    Note,
    RunDetail,
    RunList,
    RunSummary,
    SiteInfo,
    WholeModule,
)
from backend.schemas import ErrorBody
from backend.service.library import Library
from backend.service.run import Run
from backend.service.timing import Stopwatch
from compute.toys.config import read_config
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
    info = run.info
    has_model = info.kind == "model"
    if info.kind == "toy":
        n_modules = len(read_config(info.target).modules)
    else:
        n_modules = max(len(run.topology.modules) if has_model else 0, len(info.sites))
    return RunSummary(
        name=run.name,
        title=info.title,
        kind=info.kind,
        family=run.config.family if has_model else None,
        n_blocks=run.n_blocks,
        n_components=info.n_components,
        n_decomposed=len(info.sites),
        n_modules=n_modules,
        vocab_size=run.vocab_size or None,
        capabilities=_capabilities(run),
        has_attributions=bool(run.directory.attribution_subruns()),
        has_evaluation=(run.directory.path / "evaluation.json").is_file(),
    )


def _capabilities(run: Run) -> Capabilities:
    directory = run.directory
    return Capabilities(
        model=run.info.kind == "model",
        tokenizer=run.info.tokenizer is not None,
        text=(directory.path / "corpus").is_dir(),
        attributions=bool(directory.attribution_subruns()),
        harvest=run.has_harvest(),
    )


def _importance(run: Run) -> ImportanceInfo | None:
    importance = run.info.importance
    if importance is None:
        return None
    return ImportanceInfo(
        kind=importance.kind,
        hidden=list(importance.hidden),
        sigmoid=importance.sigmoid,
        sees_later_tokens=importance.sees_later_tokens,
    )


def _whole(run: Run) -> list[WholeModule]:
    """The matrices of the model that have no components, in forward order."""
    if run.info.kind != "model":
        return []
    decomposed = {site.parsed for site in run.info.sites}
    return [
        WholeModule(
            address=str(address), module_path=module.module_path, d_in=module.d_in, d_out=module.d_out
        )
        for address, module in run.topology.modules.items()
        if address not in decomposed
    ]


def describe(run: Run) -> RunDetail:
    """Everything the run page shows. Damaged parts are left out and named among the problems."""
    watch = Stopwatch()
    problems: list[ErrorBody] = []
    evaluation = None
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
    config = run.config if run.info.kind == "model" else None
    infos: list[AttributionInfo] = []
    for name in subruns:
        try:
            infos.append(_attributions(run, name))
        except StorageError as error:
            problems.append(error_body(error))
    return RunDetail(
        **_summary(run).model_dump(),
        description=run.info.description,
        d_model=run.d_model,
        context=config and config.context,
        licence=run.info.licence,
        created=run.info.created,
        provenance=run.info.provenance,
        notes=[Note(topic=note.topic, text=note.text) for note in run.info.notes],
        importance=_importance(run),
        sites=sites,
        whole=_whole(run),
        attributions=next((info for info in infos if info.subrun == subruns[0]), None),
        subruns=subruns,
        subrun_infos=infos,
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


def _attributions(run: Run, subrun: str) -> AttributionInfo:
    store = run.attributions(subrun)
    manifest = store.manifest
    return AttributionInfo(
        subrun=store.subrun,
        delta=store.delta,
        ci_weighted=store.ci_weighted,
        tokens=store.tokens,
        abs_tokens=store.abs_tokens,
        groups=store.n_groups,
        unit="mean" if store.normalisation == "tokens" else "normalised",
        imported_from=manifest.settings.imported_from,
        metrics=list(store.metrics),
        output_abs=manifest.settings.output_abs,
        encoding=store.encoding,
        encoding_note=manifest.encoding_note,
        method=manifest.method,
        method_reason=manifest.method_reason,
        created=manifest.created,
        provenance=manifest.provenance,
    )
