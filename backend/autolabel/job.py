"""One labelling from its settings to its end: what to ask about, what it may cost, and the work."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from backend.autolabel import prompts
from backend.autolabel.budget import Budget, Prices
from backend.autolabel.caller import Caller, Patience
from backend.autolabel.chat import ChatProvider, Endpoint
from backend.autolabel.estimate import Estimate, estimate
from backend.autolabel.limits import RateLimit
from backend.autolabel.material import RunMaterial, ScoringWindows, SilentPool
from backend.autolabel.runner import Runner, Tally
from backend.autolabel.strategies import Context, Evidence, Strategy, StrategyName
from backend.service.run import Run
from compute.address import AddressError, Key
from storage.errors import StorageError
from storage.harvest import Harvest
from storage.label_records import LabelSet
from storage.label_sets import LabelSets

_NAME = re.compile(r"[^\x00-\x1f\x7f/]{1,80}")


class LabellingError(StorageError):
    """A labelling that cannot be done as asked."""


@dataclass(frozen=True)
class Limits:
    """What may change when the same set is gone on with: speed, patience and money.

    The caps are for the whole set, earlier parts of the work included.
    """

    concurrency: int = 8
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    timeout: float = 120.0
    max_output: int = 800
    prices: Prices | None = None
    cap: float | None = None
    cap_tokens: int | None = None
    give_up: int = 20
    patience: Patience = field(default_factory=Patience)

    def check(self, endpoint: Endpoint) -> None:
        """Raises :class:`LabellingError` for a labelling that nothing would stop."""
        if self.cap is not None and self.prices is None:
            raise LabellingError(
                "--cap needs the prices", "give --price-in and --price-out for a million tokens"
            )
        if self.cap is None and self.cap_tokens is None:
            if self.prices is not None:
                raise LabellingError(
                    "there are prices but no cap", "say with --cap how much may be spent at most"
                )
            if not endpoint.local:
                raise LabellingError(
                    f"{endpoint.url} is not on this machine, so that labels may cost money",
                    "give --price-in, --price-out and --cap, or --cap-tokens",
                )


@dataclass(frozen=True)
class Plan:
    """What to ask about. ``silent`` of the components that were asked for never fire."""

    run: Run
    endpoint: Endpoint
    strategy: Strategy
    material: RunMaterial
    harvest: Harvest
    keys: tuple[str, ...]
    silent: int
    trials: int
    seed: int
    #: What the labels depend on. A set has one of each.
    settings: dict[str, Any]

    def estimate(self, sets: LabelSets, label_set: LabelSet | None) -> Estimate:
        """Of what the set still lacks."""
        done: list[tuple[str, str]] = []
        asked = 0
        if label_set is not None:
            items = sets.items(label_set.id)
            done = [(item.stage, item.key) for item in items if item.status == "done"]
            wanted = set(self.keys)
            asked = sum(
                t.key in wanted and t.number < self.trials and t.status in ("done", "impossible")
                for t in sets.trials(label_set.id)
            )
        return estimate(self.strategy, self.material, self.keys, self.trials, done, asked)


def make_plan(
    run: Run,
    endpoint: Endpoint,
    *,
    strategy: StrategyName = "evidence",
    keys: Sequence[str] | None = None,
    top: int = 100,
    harvest: str | None = None,
    attributions: str | None = None,
    examples: int = 12,
    trials: int = 1,
    seed: int = 0,
) -> Plan:
    """Choose components: ``keys``, or the ``top`` ones by their mean causal importance.

    Raises the errors of a run without a harvest, and for ``context`` without attributions; and
    :class:`LabellingError` where nothing is left to label.
    """
    found = run.directory.harvest(harvest)
    store = run.attributions(attributions) if strategy == "context" else None
    material = RunMaterial(run, found, store, examples)
    asked = _by_importance(found, top) if keys is None else [_component(run, key) for key in keys]
    asked = list(dict.fromkeys(asked))
    firing = tuple(key for key in asked if material.firings(key))
    if not firing:
        raise LabellingError(
            "none of these components fires anywhere in the harvest", "name others with --keys"
        )
    settings: dict[str, Any] = {
        "endpoint": endpoint.url,
        "model": endpoint.model,
        "prompts": prompts.VERSION,
        "harvest": found.subrun,
        "examples": examples,
        "seed": seed,
    }
    if store is not None:
        settings["attributions"] = store.subrun
    made: Strategy = Evidence(material) if store is None else Context(material)
    return Plan(
        run, endpoint, made, material, found, firing, len(asked) - len(firing), trials, seed, settings
    )


def default_name(strategy: StrategyName, endpoint: Endpoint) -> str:
    return f"{strategy} {endpoint.model.rsplit('/', 1)[-1]}"[:80]


def check_name(name: str) -> str:
    if not _NAME.fullmatch(name) or name != name.strip():
        raise LabellingError(
            f"{name[:90]!r} is no name for a label set", "write up to 80 characters, without a slash"
        )
    return name


async def work(
    plan: Plan,
    label_set: LabelSet,
    sets: LabelSets,
    limits: Limits,
    pool: Callable[[], SilentPool],
    report: Callable[[Tally], None] = lambda tally: None,
) -> str:
    """Label and score, until it is finished or stopped; why it ended. Called again, it goes on.

    ``pool`` finds the silent texts for scoring; it is called if a question needs them. Raises a
    :class:`StorageError` where another process works on the set.
    """
    with sets.working(label_set.id):
        return await _work(plan, label_set, sets, limits, pool, report)


async def _work(
    plan: Plan,
    label_set: LabelSet,
    sets: LabelSets,
    limits: Limits,
    pool: Callable[[], SilentPool],
    report: Callable[[Tally], None],
) -> str:
    spent = sets.spending(label_set.id)
    budget = Budget(
        limits.prices,
        cap=limits.cap,
        cap_tokens=limits.cap_tokens,
        spent=spent.cost,
        spent_tokens=spent.prompt_tokens + spent.completion_tokens,
    )
    provider = ChatProvider(plan.endpoint, timeout=limits.timeout, connections=limits.concurrency)
    caller = Caller(
        provider,
        sets,
        label_set.id,
        budget=budget,
        limit=RateLimit(limits.requests_per_minute, limits.tokens_per_minute),
        max_output=limits.max_output,
        patience=limits.patience,
    )
    runner = Runner(
        caller, sets, label_set.id, concurrency=limits.concurrency, give_up=limits.give_up, report=report
    )
    ended = "interrupted"
    sets.end(label_set.id, "")
    try:
        await runner.label(plan.strategy, plan.keys)
        if plan.trials and not caller.stopped:
            windows = ScoringWindows(plan.material, pool, plan.seed)
            await runner.score(windows, plan.keys, plan.strategy.stages[-1], plan.trials, plan.seed)
        ended = caller.stopped or "finished"
    finally:
        sets.end(label_set.id, ended)
        await provider.close()
    return ended


def _by_importance(harvest: Harvest, top: int) -> list[str]:
    ci = harvest.values("ci_sum")
    order = sorted(range(len(ci)), key=lambda flat: -float(ci[flat]))[:top]
    return [str(Key(*harvest.component(flat))) for flat in order if ci[flat] > 0]


def _component(run: Run, text: str) -> str:
    try:
        key = run.key(text)
    except AddressError as error:
        raise LabellingError(str(error), "name components, for example 1.glu.down:17") from None
    if not key.address.is_site or not isinstance(key.index, int):
        raise LabellingError(f"{key} is not a component", "only components are labelled")
    return str(key)
