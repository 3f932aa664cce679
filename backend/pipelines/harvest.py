"""``tributary harvest RUN``: what every component does over the run's text, resumable after any kind of end.

Documents are split into 16 groups, as for attributions, and each group into batches. Results are
stored as shards, every two minutes or when they outgrow the memory allowed, and merged at the end;
where the work was cut makes no difference to the result.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from torch import Tensor

from backend.pipelines.common import UsageError, console, progress, provenance
from backend.pipelines.groups import parse_groups, spread
from backend.pipelines.memory import available_bytes, check_fits, gibibytes
from backend.pipelines.reading import start
from compute.decomposition.model import Decomposition
from compute.statistics.association import associations, strongest
from compute.statistics.harvest import HarvestOptions, HarvestPlan, HarvestSums, plan
from storage.corpus import TokenCorpus
from storage.harvest_manifest import HarvestManifest, HarvestSettings
from storage.harvest_merge import Compact
from storage.harvest_work import HarvestWork, interrupted_floor, unfinished_harvests
from storage.layout import GROUPS
from storage.run_directory import RunDirectory

#: Memory for tables where the user names none: this share of what is free, and no more than that.
_SHARE, _MOST = 0.4, 8 << 30
#: Next-token probabilities below this are left out where a table of all of them does not fit.
_FLOOR = 0.01


def command(
    run_name: Annotated[str, typer.Argument(metavar="RUN", help="A run's name, demo, or a path")],
    runs: Annotated[Path, typer.Option(envvar="TRIBUTARY_RUNS", help="Folder of runs")] = Path("runs"),
    batches: Annotated[
        int | None, typer.Option(min=1, help="Only this many batches, spread over the groups")
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Windows per batch")] = 8,
    length: Annotated[
        int | None, typer.Option(min=2, help="Tokens per window; default: the model's context")
    ] = None,
    threshold: Annotated[
        float, typer.Option(min=0, max=1, help="A component fires above this causal importance")
    ] = 0.0,
    examples: Annotated[int, typer.Option(min=1, help="Random examples per component")] = 100,
    strongest_examples: Annotated[
        int, typer.Option("--strongest", min=1, help="Strongest examples per component")
    ] = 50,
    left: Annotated[int, typer.Option(min=0, max=255, help="Tokens shown before a firing")] = 16,
    right: Annotated[int, typer.Option(min=0, max=255, help="Tokens shown after it")] = 8,
    seed: Annotated[int, typer.Option(min=0, help="Chooses the random examples")] = 0,
    keep: Annotated[
        int | None,
        typer.Option(min=1, help="Small copy: only so many associations of each list and sign"),
    ] = None,
    output_floor: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Leave out next-token probabilities below; default: by memory"),
    ] = None,
    memory: Annotated[
        float | None, typer.Option(min=0.01, help="GiB for tables of counts; default: by what is free")
    ] = None,
    groups: Annotated[
        str, typer.Option(help="Only these groups of documents, e.g. 0-7; merge the harvests later")
    ] = "all",
    resume: Annotated[bool, typer.Option("--resume", help="Go on with interrupted work")] = False,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda")] = "auto",
    checkpoint_seconds: Annotated[float, typer.Option(min=0, help="Seconds between checkpoints")] = 120.0,
) -> None:
    """Gather statistics, examples and co-firing of every component. Stop with Ctrl-C; go on with --resume."""
    chosen = parse_groups(groups)
    reading = start(run_name, runs, device, unfinished=unfinished_harvests, resume=resume, length=length)
    run, corpus, decomposition = reading.run, reading.corpus, reading.decomposition
    device, length = reading.device, reading.length
    budget = _budget(memory)
    floor = output_floor
    if floor is None and resume:  # there may be more memory, or less, than when it was started
        floor = interrupted_floor(run.path)
    if floor is None:
        floor = _floor(decomposition, budget)
    options = HarvestOptions(left, right, examples, strongest_examples, threshold, seed, output_floor=floor)
    how = plan(decomposition, options, batch_size * length, budget)
    console.print(
        f"{how.description}; about {gibibytes(how.total)} of memory, computing on {device}", soft_wrap=True
    )
    if floor > 0:
        console.print(f"next-token probabilities below {floor:g} are left out of output masses")
    what_helps = "lower --batch-size, --examples or --memory, or use a larger machine"
    check_fits(how.total, "cpu", what_helps)
    if device != "cpu":
        check_fits(how.passing, device, what_helps)
    settings = HarvestSettings(
        threshold=threshold,
        left=left,
        right=right,
        n_random=examples,
        n_strongest=strongest_examples,
        seed=seed,
        window=length,
        batch_size=batch_size,
        batches=batches,
        bins=options.bins,
        output_floor=floor,
    )
    work = HarvestWork(run.path, _manifest(run, decomposition, corpus, settings), resume=resume)
    try:
        plans = [GroupBatches.of(corpus, g, length, batch_size, batches) for g in chosen]
        _accumulate(decomposition, options, how, work, plans, corpus, checkpoint_seconds)
        made = provenance(command="tributary harvest", groups=groups, memory=how.description, device=device)
        subrun = finish(work, made, None if keep is None else compact(keep, examples, strongest_examples))
        console.print(f"written to {run.path / 'harvest' / subrun}", soft_wrap=True)
    except KeyboardInterrupt:
        console.print("stopped; the same command with --resume goes on from the last checkpoint")
        raise
    finally:
        work.close()


def finish(work: HarvestWork, made: dict[str, str], small: Compact | None) -> str:
    """Merge the shards and publish them; the name of the subrun."""
    shards = work.shards()
    if not shards:
        raise UsageError("there is no text to look at", "choose other --groups, or more --batches")
    with progress("merge", shards[0].n_components, "component") as update:
        return work.finish(made, small, update)


def compact(keep: int, n_random: int, n_strongest: int) -> Compact:
    """A small copy that keeps the ``keep`` strongest associations of each list and sign."""

    def select(joint: np.ndarray, n_a: float, n_b: np.ndarray, total: float) -> np.ndarray:
        found = associations(joint, n_a, n_b, total)
        return np.concatenate([strongest(found, keep, "positive"), strongest(found, keep, "negative")])

    note = (
        f"a small copy: of each list the {keep} strongest positive and the {keep} strongest negative "
        "associations, by the end of the interval of PMI nearer to 0; causal importances of examples to "
        "0.001, activations to 0.0005 of the largest in a component's examples, output masses to 0.00025 "
        "of their size"
    )
    return Compact(select, note, n_random, n_strongest)


@dataclass(frozen=True)
class GroupBatches:
    """The batches of one group: whole documents in order, cut into windows; ``chosen`` are looked at, in order."""

    group: int
    place: np.ndarray
    document: np.ndarray
    length: int
    batch_size: int
    chosen: Sequence[int]

    @property
    def n(self) -> int:
        return len(self.chosen)

    @classmethod
    def of(
        cls, corpus: TokenCorpus, group: int, length: int, batch_size: int, limit: int | None
    ) -> GroupBatches:
        """``limit`` batches are shared among all groups."""
        chosen = np.arange(group, corpus.n_documents, GROUPS)
        sizes = corpus.offsets[chosen + 1] - corpus.offsets[chosen]
        document = np.repeat(chosen, sizes)
        skip = corpus.offsets[chosen] - (np.cumsum(sizes) - sizes)
        place = np.arange(len(document)) + np.repeat(skip, sizes)
        full, rest = divmod(len(place), length)
        n = -(-full // batch_size) + (rest > 0)
        return cls(group, place, document, length, batch_size, spread(group, n, limit))

    def _rows(self, index: int) -> slice:
        full = len(self.place) // self.length
        first = self.chosen[index] * self.batch_size
        if first >= full:  # the last, shorter window comes alone
            return slice(full * self.length, len(self.place))
        return slice(first * self.length, min(first + self.batch_size, full) * self.length)

    def tokens_of(self, batches: Iterable[int]) -> int:
        """How many tokens some batches have."""
        return sum((rows := self._rows(i)).stop - rows.start for i in batches)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Corpus positions and documents [B, T]."""
        rows = self._rows(index)
        width = min(self.length, rows.stop - rows.start)
        return self.place[rows].reshape(-1, width), self.document[rows].reshape(-1, width)


def _accumulate(
    decomposition: Decomposition,
    options: HarvestOptions,
    how: HarvestPlan,
    work: HarvestWork,
    plans: list[GroupBatches],
    corpus: TokenCorpus,
    seconds: float,
) -> None:
    counted = work.counted()
    wanted = {group.group: missing(group.n, counted.get(group.group, [])) for group in plans}
    total = sum(group.tokens_of(range(group.n)) for group in plans)
    done = total - sum(group.tokens_of(wanted[group.group]) for group in plans)
    with progress("harvest", total, "token", done) as update:
        # A batch that is interrupted may be half added, so nothing is saved on the way out:
        # only what was stored between batches counts.
        shard = _Shard(HarvestSums(decomposition, options, how), corpus.n_documents)
        saved = time.monotonic()
        for group, index, positions, documents in _every(plans, wanted):
            shard.add(group, index, _tokens(corpus, positions), positions, documents)
            done += positions.size
            update(done, f"group {group + 1} of {GROUPS}")
            if shard.sums.is_full or time.monotonic() - saved > seconds:
                update(done, "storing")
                shard.write(work)
                shard = _Shard(HarvestSums(decomposition, options, how), corpus.n_documents)
                saved = time.monotonic()
        if shard.covered:
            update(done, "storing")
            shard.write(work)


def missing(n: int, counted: Sequence[tuple[int, int]]) -> list[int]:
    """Which of ``n`` batches lie in none of the ranges."""
    left = np.ones(n, bool)
    for first, last in counted:
        left[first:last] = False
    return np.flatnonzero(left).tolist()


def _every(
    plans: list[GroupBatches], wanted: Mapping[int, Sequence[int]]
) -> Iterator[tuple[int, int, np.ndarray, np.ndarray]]:
    for group in plans:
        for index in wanted[group.group]:
            yield (group.group, index, *group[index])


def _tokens(corpus: TokenCorpus, positions: np.ndarray) -> Tensor:
    return torch.from_numpy(corpus.tokens[positions].astype(np.int64))


class _Shard:
    """Sums, and which batches and documents they are of."""

    def __init__(self, sums: HarvestSums, n_documents: int) -> None:
        self.sums = sums
        self.covered: dict[int, list[tuple[int, int]]] = {}
        self._seen = np.zeros(n_documents, np.uint8)

    def add(
        self, group: int, index: int, tokens: Tensor, positions: np.ndarray, documents: np.ndarray
    ) -> None:
        self.sums.add(tokens, positions, documents)
        ranges = self.covered.setdefault(group, [])
        first = ranges.pop()[0] if ranges and ranges[-1][1] == index else index
        ranges.append((first, index + 1))
        self._seen[documents.reshape(-1)] = 1

    def write(self, work: HarvestWork) -> None:
        totals = self.sums.totals() | {"documents_seen": np.packbits(self._seen)}
        work.write_shard(self.covered, self.sums.tokens, totals, self.sums.blocks())


def _manifest(
    run: RunDirectory, decomposition: Decomposition, corpus: TokenCorpus, settings: HarvestSettings
) -> HarvestManifest:
    """What all shards have in common."""
    return HarvestManifest(
        store_id="",
        settings=settings,
        encoding="exact",
        model_sha256=run.info.files["model.safetensors"],
        corpus_sha256=corpus.sha256,
        n_groups=GROUPS,
        covered={},
        tokens=0,
        documents=0,
        vocab_size=decomposition.target.config.vocab_size,
        sites=[(str(a), decomposition.n_components[a]) for a in sorted(decomposition.addresses)],
        complete={"input": True, "output": settings.output_floor == 0, "cofiring": True},
        sizes={},
        arrays_sha256="",
        provenance={},
    )


def _budget(memory: float | None) -> int:
    if memory is not None:
        return int(memory * 2**30)
    available = available_bytes("cpu")
    return _MOST if available is None else min(_MOST, int(available * _SHARE))


def _floor(decomposition: Decomposition, budget: int) -> float:
    """0 where masses of all tokens fit a share of the budget."""
    size = 8 * decomposition.total_components * decomposition.target.config.vocab_size
    return 0.0 if size <= budget // 4 else _FLOOR
