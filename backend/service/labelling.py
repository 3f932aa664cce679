"""Labelling that is started from the page: by one person, within what the server was started with.

The command line says which model is asked, at what prices, and how much may be spent. Who started the
server gets a secret from it, in a link that only the terminal shows; without the secret nothing can be
started. It comes on top of the token: who may read need not be who pays.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import secrets
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

from backend.errors import ServiceError
from backend.job_schemas import Job, JobResult, LabellingProgress
from backend.jobs import Priority, Progress
from backend.labelling_schemas import LabelEstimate, Labelling, LabelPrices, LabelRequest, LabelStart
from backend.service.run import Run
from backend.service.timing import Stopwatch
from backend.settings import Settings
from compute.progress import Cancelled
from storage.errors import StorageError

if TYPE_CHECKING:
    from backend.autolabel.chat import Endpoint
    from backend.autolabel.job import Limits, Plan
    from backend.autolabel.material import SilentPool
    from backend.autolabel.runner import Tally
    from backend.service.workshop import Workshop
    from storage.label_records import LabelSet, Spending

_Number = TypeVar("_Number", int, float)
#: How the options of ``tributary serve`` begin.
_OPTIONS = "--label-"
#: Estimates that are remembered.
_KEPT = 64
#: Seconds between two looks at what was spent.
_COUNT = 0.5
_HOW = (
    "Only the person who started the server can start labelling: with the link that tributary serve "
    "printed in its terminal, the one with #owner= in it."
)
_HOW_NOT = (
    "Start the server with --label-endpoint and --label-model to make labels from the page, or use "
    "tributary label."
)


@dataclass(frozen=True)
class Offer:
    """Which model the page may ask, and how much all that it starts may cost."""

    endpoint: Endpoint
    limits: Limits


class Treasury:
    """What the server offers, who may take it, and what is left of it."""

    def __init__(self, settings: Settings) -> None:
        """Raises a :class:`StorageError` for an endpoint, a key or prices that cannot be used as given."""
        self.offer = _offer(settings)
        #: Known to this process and to whoever reads its terminal; drawn anew at each start.
        self.secret = None if self.offer is None else secrets.token_urlsafe(32)
        self._lock = threading.Lock()
        self._estimates: OrderedDict[str, None] = OrderedDict()
        self._spent, self._spent_tokens = 0.0, 0

    def owned_by(self, secret: str | None) -> bool:
        if self.secret is None or secret is None:
            return False
        return hmac.compare_digest(secret.encode(), self.secret.encode())

    def check_owner(self, secret: str | None) -> Offer:
        """The offer; raises a 403 for everybody but the person who started the server."""
        if self.offer is None:
            raise ServiceError(403, "not_offered", "This server was not started to make labels", _HOW_NOT)
        if not self.owned_by(secret):
            raise ServiceError(403, "owner_only", "Labels cannot be made from this browser", _HOW)
        return self.offer

    @property
    def left(self) -> tuple[float | None, int | None]:
        """Of the money and of the tokens; None where there is no cap."""
        limits = None if self.offer is None else self.offer.limits
        with self._lock:
            cap = None if limits is None else limits.cap
            cap_tokens = None if limits is None else limits.cap_tokens
            return (
                None if cap is None else max(0.0, cap - self._spent),
                None if cap_tokens is None else max(0, cap_tokens - self._spent_tokens),
            )

    def spend(self, cost: float, tokens: int) -> None:
        with self._lock:
            self._spent += cost
            self._spent_tokens += tokens

    def remember(self, digest: str) -> None:
        with self._lock:
            self._estimates[digest] = None
            self._estimates.move_to_end(digest)
            while len(self._estimates) > _KEPT:
                self._estimates.popitem(last=False)

    def remembers(self, digest: str) -> bool:
        with self._lock:
            return digest in self._estimates


def check_deleting(treasury: Treasury, secret: str | None) -> None:
    """What was paid for is deleted by whoever pays; raises a 403 for all others."""
    if not treasury.owned_by(secret):
        hint = "Use the link that tributary serve printed, or tributary label-sets delete."
        raise ServiceError(403, "owner_only", "Label sets cannot be deleted from this browser", hint)


def _offer(settings: Settings) -> Offer | None:
    if settings.label_endpoint is None:
        # A cap for a model that is not there would be believed in.
        given = [
            name
            for name in ("key_env", "price_in", "price_out", "cap", "cap_tokens")
            if getattr(settings, f"label_{name}") is not None
        ]
        if settings.label_model or given:
            name = given[0] if given else "model"
            raise StorageError(
                f"{_OPTIONS}{name.replace('_', '-')} is given, but no endpoint", f"give {_OPTIONS}endpoint"
            )
        return None
    from backend.autolabel.chat import Endpoint
    from backend.autolabel.job import Limits, prices_of

    endpoint = Endpoint.of(
        settings.label_endpoint, settings.label_model, settings.label_key_env, options=_OPTIONS
    )
    limits = Limits(
        concurrency=settings.label_concurrency,
        requests_per_minute=settings.label_requests_per_minute,
        timeout=settings.label_timeout,
        max_output=settings.label_max_output,
        prices=prices_of(settings.label_price_in, settings.label_price_out, _OPTIONS),
        cap=settings.label_cap,
        cap_tokens=settings.label_cap_tokens,
    )
    limits.check(endpoint, _OPTIONS)
    return Offer(endpoint, limits)


def describe(treasury: Treasury, secret: str | None) -> Labelling:
    offer, owner = treasury.offer, treasury.owned_by(secret)
    left, tokens_left = treasury.left
    prices = None if offer is None else offer.limits.prices
    return Labelling(
        available=offer is not None,
        owner=owner,
        endpoint=None if offer is None else urlsplit(offer.endpoint.url).netloc,
        model=None if offer is None else offer.endpoint.model,
        prices=None if prices is None else LabelPrices(prompt=prices.prompt, completion=prices.completion),
        cap=None if offer is None else offer.limits.cap,
        cap_tokens=None if offer is None else offer.limits.cap_tokens,
        cap_left=left,
        cap_tokens_left=tokens_left,
        hint="" if owner else _HOW_NOT if offer is None else _HOW,
    )


# ---- estimates ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Wanted:
    """A request, looked at: what would be asked, and the set that is there already."""

    plan: Plan
    name: str
    there: LabelSet | None
    spent: Spending | None

    def digest(self, offer: Offer) -> str:
        """The same as long as the same would be asked at the same prices."""
        prices = offer.limits.prices
        parts = {
            "run": self.plan.run.digest,
            "name": self.name,
            "strategy": self.plan.strategy.name,
            "settings": self.plan.settings,
            "keys": self.plan.keys,
            "trials": self.plan.trials,
            "prices": None if prices is None else [prices.prompt, prices.completion],
            "set": None if self.there is None else self.there.id,
            "asked": 0 if self.spent is None else self.spent.requests,
        }
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _look(workshop: Workshop, run: Run, offer: Offer, request: LabelRequest) -> _Wanted:
    from backend.autolabel.job import check_name, default_name, make_plan

    sets = workshop.database.label_sets
    if request.go_on is not None:
        from backend.service.label_sets import of_run

        there = of_run(sets, run, request.go_on)
        plan = make_plan(
            run,
            offer.endpoint,
            strategy="context" if there.strategy == "context" else "evidence",
            keys=[key for key, _, _ in sets.outline(there.id)],
            harvest=there.settings.get("harvest"),
            attributions=there.settings.get("attributions"),
            examples=there.settings.get("examples", request.examples),
            trials=request.trials,
            seed=there.settings.get("seed", 0),
        )
        name = there.name
    else:
        plan = make_plan(
            run,
            offer.endpoint,
            strategy=request.strategy,
            keys=request.keys,
            top=request.top,
            max_density=request.max_density,
            examples=request.examples,
            trials=request.trials,
        )
        name = check_name(request.name or default_name(request.strategy, offer.endpoint))
        there = sets.find(run.name, run.digest, name)
    if there is None:
        return _Wanted(plan, name, None, None)
    sets.check(there, plan.strategy.name, plan.settings, plan.judge_record)
    return _Wanted(plan, name, there, sets.spending(there.id))


def estimate(workshop: Workshop, run: Run, request: LabelRequest, secret: str | None) -> LabelEstimate:
    """What it would cost. Sends nothing."""
    watch = Stopwatch()
    treasury = workshop.treasury
    offer = treasury.check_owner(secret)
    wanted = _look(workshop, run, offer, request)
    plan, spent = wanted.plan, wanted.spent
    found = plan.estimate(workshop.database.label_sets, wanted.there)
    digest = wanted.digest(offer)
    treasury.remember(digest)
    priced = offer.limits.prices is not None
    return LabelEstimate(
        run=run.name,
        name=wanted.name,
        label_set_id=None if wanted.there is None else wanted.there.id,
        strategy=plan.strategy.name,
        components=len(plan.keys),
        never_fire=plan.silent,
        too_dense=plan.dense,
        requests=found.requests,
        prompt_tokens=found.usage.prompt_tokens,
        completion_tokens=found.usage.completion_tokens,
        cost=offer.limits.cost(plan, found),
        spent=(0.0 if spent is None else spent.cost) if priced else None,
        spent_tokens=0 if spent is None else spent.prompt_tokens + spent.completion_tokens,
        digest=digest,
        seconds=watch.seconds,
    )


# ---- the work -----------------------------------------------------------------------------------


def start(workshop: Workshop, run: Run, request: LabelStart, secret: str | None) -> Job:
    """A job that labels and scores; it has a lane of its own."""
    treasury = workshop.treasury
    offer = treasury.check_owner(secret)
    wanted = _look(workshop, run, offer, request)
    if request.estimate != wanted.digest(offer) or not treasury.remembers(request.estimate):
        raise ServiceError(
            409,
            "estimate_first",
            "This was not estimated, or the label set has changed since",
            "Look at what it would cost, then start it.",
        )
    cap, cap_tokens = _caps(treasury, offer, request)
    if wanted.there is not None:
        # Who works on the set elsewhere is said at once, and not when the job's turn has come.
        in_flight = workshop.jobs.in_flight(_key(run, wanted.name))
        if in_flight is not None:
            return in_flight
        with workshop.database.label_sets.working(wanted.there.id):
            pass

    def work(progress: Progress) -> JobResult:
        return _Job(workshop, offer, wanted, cap, cap_tokens, progress).do()

    return workshop.jobs.submit(
        "labels", run.name, _key(run, wanted.name), Priority.LABELS, work, "labelling"
    )


def _key(run: Run, name: str) -> tuple[str, str, str]:
    return ("labels", run.digest, name)


def _caps(treasury: Treasury, offer: Offer, request: LabelStart) -> tuple[float | None, int | None]:
    """What this job may spend: never more than is left of what the server was started with."""
    left, tokens_left = treasury.left
    if offer.limits.prices is None and request.cap is not None:
        raise ServiceError(
            422,
            "bad_input",
            "cap: the server was started without prices",
            "Give cap_tokens, or leave it out.",
        )
    if offer.limits.prices is not None and request.cap is None:
        raise ServiceError(422, "bad_input", "cap: say how much may be spent at most", "Give a cap on money.")
    for name, asked, most in (("cap", request.cap, left), ("cap_tokens", request.cap_tokens, tokens_left)):
        if asked is not None and most is not None and asked > most:
            raise ServiceError(
                422,
                "bad_input",
                f"{name}: {most:g} is left of what the server was started with",
                f"Give less, or start the server with a larger {_OPTIONS}{name.replace('_', '-')}.",
            )
    return (left if request.cap is None else request.cap), (
        tokens_left if request.cap_tokens is None else request.cap_tokens
    )


class _Job:
    """One labelling, on the thread of its lane."""

    def __init__(
        self,
        workshop: Workshop,
        offer: Offer,
        wanted: _Wanted,
        cap: float | None,
        cap_tokens: int | None,
        progress: Progress,
    ) -> None:
        self._workshop = workshop
        self._sets = workshop.database.label_sets
        self._offer = offer
        self._plan = wanted.plan
        self._progress = progress
        plan = wanted.plan
        self._set, _ = self._sets.open_set(
            plan.run.name,
            plan.run.digest,
            wanted.name,
            plan.strategy.name,
            plan.settings,
            plan.judge_record,
        )
        self._before = self._sets.spending(self._set.id)
        # Jobs before this one may have spent what was left when it was asked for.
        left, tokens_left = workshop.treasury.left
        self._cap = _least(cap, left)
        self._cap_tokens = _least(cap_tokens, tokens_left)
        self._counted = 0.0
        self._failed: dict[str, int] = {}
        self._tally: Tally | None = None
        #: The last tally may not have been told, for events have a least distance.
        self._untold = False
        self._spent = self._spending(0)

    def do(self) -> JobResult:
        from backend.autolabel.job import work

        before = self._before
        limits = replace(
            self._offer.limits,
            # The budget's caps are for the whole set.
            cap=None if self._cap is None else before.cost + self._cap,
            cap_tokens=None
            if self._cap_tokens is None
            else before.prompt_tokens + before.completion_tokens + self._cap_tokens,
        )
        try:
            ended = asyncio.run(
                work(
                    self._plan,
                    self._set,
                    self._sets,
                    limits,
                    self._pool,
                    self._report,
                    self._halted,
                )
            )
        except ExceptionGroup as group:
            raise _first(group) from None
        finally:
            self._settle()
        if self._progress.cancelling():
            raise Cancelled
        if ended not in ("finished", "cap"):
            raise ServiceError(
                502,
                "labelling_stopped",
                f"Labelling stopped: {ended}",
                "What was answered is kept; go on with the set when that is put right.",
            )
        return JobResult(label_set_id=self._set.id, ended=ended)

    def _settle(self) -> None:
        """Count what it came to, also where it failed."""
        after = self._sets.spending(self._set.id)
        tokens = after.prompt_tokens + after.completion_tokens
        tokens -= self._before.prompt_tokens + self._before.completion_tokens
        self._workshop.treasury.spend(after.cost - self._before.cost, tokens)
        self._progress.labelling(self._spending(sum(self._failed.values())))

    def _report(self, tally: Tally) -> None:
        now = time.monotonic()
        self._tally, self._untold = tally, True
        self._failed[tally.phase] = tally.failed
        if now - self._counted >= _COUNT or tally.done == tally.total:
            self._counted = now
            self._spent = self._spending(sum(self._failed.values()))
        self._progress.labelling(self._spent)
        try:
            self._progress.report(tally.phase, tally.done, tally.total)
        except Cancelled:
            # The work is told so by another way, which lets it keep what was answered.
            return

    def _halted(self) -> bool:
        """Asked several times a second: whether to stop. Tells what was not told when the answers paused."""
        if self._tally is not None and self._untold and time.monotonic() - self._counted >= _COUNT:
            self._report(self._tally)
            self._untold = False
        return self._progress.cancelling()

    def _spending(self, failed: int) -> LabellingProgress:
        now, before = self._sets.spending(self._set.id), self._before
        tokens = now.prompt_tokens + now.completion_tokens
        return LabellingProgress(
            label_set_id=self._set.id,
            name=self._set.name,
            failed=failed,
            requests=now.requests - before.requests,
            tokens=tokens - before.prompt_tokens - before.completion_tokens,
            cost=None if self._offer.limits.prices is None else now.cost - before.cost,
            cap=self._cap,
            cap_tokens=self._cap_tokens,
        )

    def _pool(self) -> SilentPool:
        """Silent texts, for which the model is needed: each piece of text waits for its turn at the device."""
        from backend.autolabel.caller import WorkStoppedError
        from backend.autolabel.silence import fires

        workshop, plan = self._workshop, self._plan
        self._tally = None
        try:
            self._progress.report("silent texts", 0, 0)
            return plan.silent_pool(
                lambda ids: workshop.turn(
                    lambda: fires(workshop.models.get(plan.run), plan.keys, ids), self._progress.cancelling
                )
            )
        except Cancelled:
            raise WorkStoppedError("interrupted") from None


def _least(one: _Number | None, other: _Number | None) -> _Number | None:
    return other if one is None else one if other is None else min(one, other)


def _first(group: ExceptionGroup) -> Exception:
    """The error that ended the work; the others are of what was under way beside it."""
    error: Exception = group
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return error
