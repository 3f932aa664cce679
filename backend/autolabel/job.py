"""One labelling from its settings to its end: what to ask about, what it may cost, and the work."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

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
from storage.label_records import Judge, LabelSet
from storage.label_sets import LabelSets

if TYPE_CHECKING:
    from backend.autolabel.silence import Look

#: Seconds between two looks whether the work is to stop.
_LOOK = 0.1
#: Components that fire at more of all positions are not chosen: hardly any text is without them, and without silent
#: texts a label cannot be scored.
MAX_DENSITY = 0.1
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
    #: Of a judge of its own; the labelling model as the judge costs what it costs.
    judge_prices: Prices | None = None

    @property
    def priced(self) -> bool:
        return self.prices is not None or self.judge_prices is not None

    def cost(self, plan: Plan, expected: Estimate) -> float | None:
        """What is expected to be spent; None without prices."""
        return expected.cost(self.prices, self.prices_of_judge(plan))

    def prices_of_judge(self, plan: Plan) -> Prices | None:
        return self.prices if plan.judge.same_model(plan.endpoint) else self.judge_prices

    def check(self, endpoint: Endpoint, options: str = "--", judge: Endpoint | None = None) -> None:
        """Raises :class:`LabellingError` for a labelling that nothing would stop.

        ``options`` is how the command's options for these limits begin; ``judge`` is the labelling model
        unless it is given.
        """
        judge = judge or endpoint
        if self.cap is not None and not self.priced:
            raise LabellingError(
                f"{options}cap needs the prices",
                f"give {options}price-in and {options}price-out for a million tokens",
            )
        if self.cap is None and self.cap_tokens is None:
            if self.priced:
                raise LabellingError(
                    "there are prices but no cap", f"say with {options}cap how much may be spent at most"
                )
            for one in (endpoint, judge):
                if not one.local:
                    raise LabellingError(
                        f"{one.url} is not on this machine, so that labels may cost money",
                        f"give {options}price-in, {options}price-out and {options}cap, "
                        f"or {options}cap-tokens",
                    )
        self.check_prices(endpoint, options, judge)

    def check_prices(self, endpoint: Endpoint, options: str = "--", judge: Endpoint | None = None) -> None:
        """With a price for one thing all that may cost something needs one: else neither an estimate nor
        a cap is right. Raises :class:`LabellingError`."""
        judge = judge or endpoint
        alone = not judge.same_model(endpoint)
        if self.judge_prices is not None and not alone:
            raise LabellingError(
                "the judge is the labelling model, which has its prices already",
                f"leave {options}judge-price-in and {options}judge-price-out out, or name another judge",
            )
        if not self.priced:
            return
        if self.prices is None and not endpoint.local:
            raise LabellingError(
                f"{endpoint.url} is not on this machine and has no prices",
                f"give {options}price-in and {options}price-out for a million tokens",
            )
        # What is on this machine is free, unless it passes on to where labelling is paid for.
        if self.judge_prices is None and alone and not (judge.local and judge.url != endpoint.url):
            raise LabellingError(
                f"the judge {judge.model!r} has no prices",
                f"give {options}judge-price-in and {options}judge-price-out for a million tokens",
            )


def prices_of(price_in: float | None, price_out: float | None, options: str = "--") -> Prices | None:
    """Both prices or none; raises :class:`LabellingError` for one alone."""
    if price_in is None and price_out is None:
        return None
    if price_in is None or price_out is None:
        raise LabellingError(
            "one of two prices is missing", f"give both {options}price-in and {options}price-out"
        )
    return Prices(price_in, price_out)


@dataclass(frozen=True)
class Plan:
    """What to ask about. ``silent`` of the components that were asked for never fire; ``dense`` ones were
    passed over because they fire too often."""

    run: Run
    endpoint: Endpoint
    judge: Endpoint
    strategy: Strategy
    material: RunMaterial
    harvest: Harvest
    keys: tuple[str, ...]
    silent: int
    dense: int
    trials: int
    seed: int
    #: What the labels depend on. A set has one of each.
    settings: dict[str, Any]

    @property
    def judge_record(self) -> Judge | None:
        """Who judges, as it is kept with the set; nobody where nothing is asked about the labels."""
        return Judge(self.judge.model, self.judge.url) if self.trials else None

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

    def silent_pool(self, look: Look) -> SilentPool:
        """The texts for scoring in which components are silent, looked at with ``look``."""
        from backend.autolabel.silence import silent_pool

        directory, texts = self.run.directory, self.run.vocabulary.texts
        return silent_pool(look, directory.corpus(), self.harvest.settings, self.keys, texts, self.seed)


def make_plan(
    run: Run,
    endpoint: Endpoint,
    *,
    judge: Endpoint | None = None,
    strategy: StrategyName = "evidence",
    keys: Sequence[str] | None = None,
    top: int = 100,
    max_density: float = MAX_DENSITY,
    harvest: str | None = None,
    attributions: str | None = None,
    examples: int = 12,
    trials: int = 1,
    seed: int = 0,
) -> Plan:
    """Choose components: ``keys``, or the ``top`` ones by their mean causal importance among those that
    fire at no more than ``max_density`` of all positions.

    The labelling model judges its own labels unless there is another ``judge``. Raises the errors of a
    run without a harvest, and for ``context`` without attributions; and
    :class:`LabellingError` where nothing is left to label.
    """
    found = run.directory.harvest(harvest)
    store = run.attributions(attributions) if strategy == "context" else None
    material = RunMaterial(run, found, store, examples)
    if keys is None:
        asked, dense = _by_importance(found, top, max_density)
    else:
        asked, dense = [_component(run, key) for key in keys], 0
    asked = list(dict.fromkeys(asked))
    firing = tuple(key for key in asked if material.firings(key))
    if not firing and dense:
        raise LabellingError(
            f"every component that fires does so at more than {max_density:.3g} of all positions",
            "allow more with --max-density, on the page in the form, or name components",
        )
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
        run=run,
        endpoint=endpoint,
        judge=judge or endpoint,
        strategy=made,
        material=material,
        harvest=found,
        keys=firing,
        silent=len(asked) - len(firing),
        dense=dense,
        trials=trials,
        seed=seed,
        settings=settings,
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
    halted: Callable[[], bool] = lambda: False,
) -> str:
    """Label and score, until it is finished or stopped; why it ended. Called again, it goes on.

    ``pool`` finds the silent texts for scoring; it is called if a question needs them. Soon after
    ``halted`` says so, the work is interrupted; what was answered until then is kept. Raises a
    :class:`StorageError` where another process works on the set.
    """
    with sets.working(label_set.id):
        return await _work(plan, label_set, sets, limits, pool, report, halted)


async def _work(
    plan: Plan,
    label_set: LabelSet,
    sets: LabelSets,
    limits: Limits,
    pool: Callable[[], SilentPool],
    report: Callable[[Tally], None],
    halted: Callable[[], bool],
) -> str:
    if plan.judge_record is not None:
        sets.judge_by(label_set.id, plan.judge_record)
    spent = sets.spending(label_set.id)
    # One for both models: the cap is for all that is spent.
    budget = Budget(
        cap=limits.cap,
        cap_tokens=limits.cap_tokens,
        spent=spent.cost,
        spent_tokens=spent.prompt_tokens + spent.completion_tokens,
    )
    rates = {
        url: RateLimit(limits.requests_per_minute, limits.tokens_per_minute)
        for url in (plan.endpoint.url, plan.judge.url)
    }
    providers: list[ChatProvider] = []

    def caller_of(endpoint: Endpoint, prices: Prices | None) -> Caller:
        providers.append(ChatProvider(endpoint, timeout=limits.timeout, connections=limits.concurrency))
        return Caller(
            providers[-1],
            sets,
            label_set.id,
            budget=budget,
            limit=rates[endpoint.url],
            prices=prices,
            max_output=limits.max_output,
            patience=limits.patience,
        )

    caller = caller_of(plan.endpoint, limits.prices)
    judge = caller if plan.judge == plan.endpoint else caller_of(plan.judge, limits.prices_of_judge(plan))
    runner = Runner(
        caller,
        judge,
        sets,
        label_set.id,
        concurrency=limits.concurrency,
        give_up=limits.give_up,
        report=report,
    )
    ended = "interrupted"
    sets.end(label_set.id, "")
    try:
        async with _watching(halted, caller, judge):
            await runner.label(plan.strategy, plan.keys)
            if plan.trials and not caller.stopped:
                windows = ScoringWindows(plan.material, pool, plan.seed)
                await runner.score(windows, plan.keys, plan.strategy.stages[-1], plan.trials, plan.seed)
        ended = caller.stopped or judge.stopped or "finished"
    finally:
        sets.end(label_set.id, ended)
        for provider in providers:
            await provider.close()
    return ended


@asynccontextmanager
async def _watching(halted: Callable[[], bool], *callers: Caller) -> AsyncGenerator[None]:
    """Interrupt ``callers`` as soon as ``halted`` says so."""

    async def watch() -> None:
        while not halted():
            await asyncio.sleep(_LOOK)
        for caller in callers:
            caller.interrupt()

    watching = asyncio.create_task(watch())
    try:
        yield
    finally:
        watching.cancel()


def _by_importance(harvest: Harvest, top: int, max_density: float) -> tuple[list[str], int]:
    """Keys of the most important components, and how many were passed over because they fire more often."""
    ci = harvest.values("ci_sum")
    often = harvest.values("firing_count") > max_density * harvest.tokens
    chosen: list[str] = []
    passed = 0
    for flat in sorted(range(len(ci)), key=lambda flat: -float(ci[flat])):
        if len(chosen) == top or ci[flat] <= 0:
            break
        if often[flat]:
            passed += 1
        else:
            chosen.append(str(Key(*harvest.component(flat))))
    return chosen, passed


def _component(run: Run, text: str) -> str:
    try:
        key = run.key(text)
    except AddressError as error:
        raise LabellingError(str(error), "name components, for example 1.glu.down:17") from None
    if not key.address.is_site or not isinstance(key.index, int):
        raise LabellingError(f"{key} is not a component", "only components are labelled")
    return str(key)
