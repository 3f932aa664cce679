"""Whole labellings of a toy run by a server that can be told to fail."""

from __future__ import annotations

import asyncio
import json
import re
from dataclasses import replace

import numpy as np
import pytest
import torch

from backend.autolabel.budget import Prices
from backend.autolabel.caller import Patience
from backend.autolabel.chat import Endpoint
from backend.autolabel.job import LabellingError, Limits, Plan, make_plan, work
from backend.autolabel.material import SilentPool
from backend.autolabel.scoring import set_score
from backend.autolabel.silence import fires, silent_pool
from backend.autolabel.strategies import StrategyName
from backend.pipelines.load import load_decomposition
from backend.service.run import Run
from compute.address import Address, parse_key
from compute.decomposition.model import Decomposition
from storage.corpus import TokenCorpus
from storage.errors import SettingsDifferError
from storage.label_records import Judge, LabelSet
from storage.label_sets import LabelSets
from tests.autolabel.conftest import RARE
from tests.support.model_server import (
    ModelServer,
    Reply,
    Request,
    complains,
    label,
    model_server,
    says,
    willing,
)

LIMITS = Limits(concurrency=4, timeout=60.0, patience=Patience(retries=1, first=0.01), give_up=5)
KEYS = [*RARE, "0.attn.q:0", "1.glu.down:1", "1.attn.o:3"]


def plan_for(
    toy: Run,
    server: ModelServer,
    strategy: StrategyName = "evidence",
    trials: int = 0,
    keys: list[str] = KEYS,
) -> Plan:
    return make_plan(
        toy, Endpoint(server.url, "toy"), strategy=strategy, keys=keys, trials=trials, examples=6
    )


def open_set(plan: Plan, sets: LabelSets) -> LabelSet:
    return sets.open_set("toy", plan.run.digest, "a", plan.strategy.name, plan.settings, plan.judge_record)[0]


def pool_of(plan: Plan) -> SilentPool:
    model = load_decomposition(plan.run.directory)
    return silent_pool(
        lambda ids: fires(model, plan.keys, ids), plan.run.directory.corpus(), plan.harvest.settings,
        plan.keys, plan.run.vocabulary.texts, plan.seed, size=60,
    )  # fmt: skip


def do(plan: Plan, sets: LabelSets, limits: Limits = LIMITS) -> tuple[str, LabelSet]:
    label_set = open_set(plan, sets)
    return asyncio.run(work(plan, label_set, sets, limits, lambda: pool_of(plan))), label_set


def test_one_failure_is_one_failure_and_is_asked_again_later(
    toy: Run, server: ModelServer, sets: LabelSets
) -> None:
    def one_fails(request: Request) -> Reply:
        where = re.search(r"belongs to ([^.]+)\.", request.text)
        assert where is not None
        return complains(500, "oops") if "query" in where[1] else label(f"about {where[1]}"[:60])

    server.answer = one_fails
    plan = plan_for(toy, server)
    ended, label_set = do(plan, sets)
    assert ended == "finished"
    items = {item.key: item for item in sets.items(label_set.id)}
    assert {key for key, item in items.items() if item.status == "failed"} == {"0.attn.q:0"}
    assert "2 attempts failed, the last with: status 500: oops" in items["0.attn.q:0"].error
    assert items[RARE[0]].label == "about the down projection of the gated MLP in block 1 of 2"
    assert items[RARE[0]].answer["confidence"] == "low"
    sent = len(server.requests)
    server.answer = lambda _: label("queries")
    assert do(plan, sets)[0] == "finished"
    assert len(server.requests) == sent + 1
    assert sets.labels("toy", toy.digest)["0.attn.q:0"].label == "queries"


def test_questions_are_asked_together_but_not_more_than_allowed(
    toy: Run, server: ModelServer, sets: LabelSets
) -> None:
    server.answer = lambda _: label(delay=0.1)
    do(plan_for(toy, server, keys=[f"0.attn.{p}:{i}" for p in "qkv" for i in range(5)]), sets)
    assert len(server.requests) == 15
    assert 2 <= server.most_at_once <= 4


def test_a_server_that_only_fails_ends_the_work(toy: Run, server: ModelServer, sets: LabelSets) -> None:
    server.answer = lambda _: says("no JSON, ever")
    plan = plan_for(toy, server, keys=[f"0.attn.{p}:{i}" for p in "qkv" for i in range(5)])
    ended, label_set = do(plan, sets)
    assert ended.startswith("5 questions in a row failed, the last with: the answer could not be read, twice")
    assert len(server.requests) < 2 * 15
    assert sets.get(label_set.id).ended == ended
    assert sets.progress(label_set.id).done == 0
    server.answer = lambda _: complains(401, "bad key")
    assert do(plan, sets)[0].startswith("endpoint: ")


def test_a_judge_of_its_own_scores_at_its_own_price_under_the_same_cap(
    toy: Run, server: ModelServer, sets: LabelSets
) -> None:
    with model_server() as other:
        server.answer = lambda _: label("commas", usage=(100, 10))
        other.answer = lambda _: says('{"chosen": [1, 2]}', usage=(40, 2))
        writer, judge = Endpoint(server.url, "writer"), Endpoint(other.url, "judge")
        plan = make_plan(toy, writer, judge=judge, keys=list(RARE), trials=1, examples=6)
        limits = replace(LIMITS, prices=Prices(1, 2), judge_prices=Prices(10, 100), cap=1.0)
        ended, label_set = do(plan, sets, limits)
        assert ended == "finished"
        assert {r.body["model"] for r in server.requests} == {"writer"}
        assert {r.body["model"] for r in other.requests} == {"judge"}
        asked = len(other.requests)
        assert (len(server.requests), asked) == (3, 2 * 3)
        cost = (3 * (100 * 1 + 10 * 2) + asked * (40 * 10 + 2 * 100)) / 1e6
        assert sets.spending(label_set.id).cost == pytest.approx(cost)
        assert sets.get(label_set.id).judge == Judge("judge", other.url)
        # More questions, and a cap that is reached by what both have cost.
        more = make_plan(toy, writer, judge=judge, keys=list(RARE), trials=2, examples=6)
        assert do(more, sets, replace(limits, cap=cost))[0] == "cap"
        assert len(other.requests) == asked
        with pytest.raises(SettingsDifferError, match="judged by 'judge'"):
            do(make_plan(toy, writer, keys=list(RARE), trials=1, examples=6), sets)


def test_a_judge_that_does_not_answer_leaves_the_labels_and_can_be_replaced(
    toy: Run, server: ModelServer, sets: LabelSets
) -> None:
    def one_model(request: Request) -> Reply:
        return complains(404, "no such model") if request.body["model"] == "typo" else willing(request)

    server.answer = one_model
    writer = Endpoint(server.url, "toy")
    plan = make_plan(toy, writer, judge=writer.judge(None, "typo", None), keys=KEYS, trials=1, examples=6)
    ended, label_set = do(plan, sets)
    assert ended == f"endpoint: {server.url} answers with status 404: no such model"
    assert sets.progress(label_set.id).done == len(KEYS)
    sent = [r.body["model"] for r in server.requests].count("toy")
    plan = make_plan(toy, writer, judge=writer.judge(None, "right", None), keys=KEYS, trials=1, examples=6)
    assert do(plan, sets)[0] == "finished"
    assert [r.body["model"] for r in server.requests].count("toy") == sent
    assert sets.get(label_set.id).judge == Judge("right", server.url)


def test_a_cap_needs_the_price_of_everything_that_may_cost_something() -> None:
    here, far = Endpoint("http://127.0.0.1:1/v1", "a"), Endpoint("https://models.example/v1", "b")
    price = Prices(1, 1)

    def refused(limits: Limits, endpoint: Endpoint, judge: Endpoint | None) -> str:
        try:
            limits.check(endpoint, judge=judge)
        except LabellingError as error:
            return str(error)
        return ""

    assert refused(Limits(), here, None) == refused(Limits(), here, replace(here, model="c")) == ""
    assert refused(Limits(prices=price, cap=1), far, None) == ""
    # A judge on this machine is free unless it has a price; one at a server that costs something is not.
    assert refused(Limits(prices=price, cap=1), far, here) == ""
    assert "judge 'c' has no prices" in refused(Limits(prices=price, cap=1), far, replace(far, model="c"))
    assert "judge 'b' has no prices" in refused(Limits(prices=price, cap=1), here, far)
    assert refused(Limits(judge_prices=price, cap=1), here, far) == ""
    assert "has no prices" in refused(Limits(judge_prices=price, cap=1), far, here)
    assert "no cap" in refused(Limits(judge_prices=price), here, far)
    assert "not on this machine" in refused(Limits(), here, far)
    assert refused(Limits(cap_tokens=10), here, far) == ""
    assert "needs the prices" in refused(Limits(cap=1), here, None)
    assert "prices already" in refused(Limits(prices=price, judge_prices=price, cap=1), here, None)


def test_context_walks_back_forth_and_unifies_and_goes_on_where_it_stopped(
    toy: Run, server: ModelServer, sets: LabelSets
) -> None:
    stages: list[str] = []

    def answer(request: Request) -> Reply:
        task = request.body["messages"][0]["content"]
        tasks = {"judged by what it drives": "output", "what in the text": "input", "Two colleagues": "unify"}
        (stage,) = [name for words, name in tasks.items() if words in task]
        stages.append(stage)
        if len(stages) > 8:
            return complains(401, "the key has expired")
        return label(f"{stage} label {request.number}")

    server.answer = answer
    plan = plan_for(toy, server, "context")
    assert do(plan, sets)[0].startswith("endpoint: ")
    assert stages[:6] == ["output"] * 6
    before = {(i.stage, i.key): i.label for i in sets.items(1) if i.status == "done"}
    assert len(before) == 8
    stages.clear()
    server.answer = lambda request: label(f"later label {request.number}")
    sent = len(server.requests)
    assert do(plan, sets)[0] == "finished"
    assert len(server.requests) - sent == 18 - 8
    after = {(i.stage, i.key): i for i in sets.items(1)}
    assert {place: after[place].label for place in before} == before
    assert len(after) == 18
    # The last prompts quote both labels of their component, and what was shown is kept.
    for request in server.requests[-6:]:
        assert re.search(
            r"By what it drives: (output|later) label \d+\nBy what drives it: (input|later) label",
            request.text,
        )
    material = after["output", "0.attn.q:0"].material["neighbours"]
    assert all(entry.keys() == {"key", "value", "text", "labelled"} for entry in material)
    assert set(sets.labels("toy", toy.digest)) == set(KEYS)


def test_scoring_asks_about_verified_texts_and_never_about_shown_ones(
    toy: Run, server: ModelServer, sets: LabelSets
) -> None:
    plan = plan_for(toy, server, trials=1, keys=[*RARE])
    ended, label_set = do(plan, sets)
    assert ended == "finished"
    model = load_decomposition(toy.directory)
    corpus = toy.directory.corpus()
    done = [t for t in sets.trials(label_set.id) if t.status == "done"]
    assert {t.kind for t in done} == {"detection", "fuzzing"}
    for trial in done:
        assert trial.details is not None
        spans, truth = trial.details["spans"], trial.details["truth"]
        shown = next(i for i in sets.items(label_set.id) if i.key == trial.key).material["examples"]
        assert trial.positives == trial.negatives >= 3
        for place, (start, end) in enumerate(spans):
            others = [*shown, *spans[:place], *spans[place + 1 :]]
            assert not any(start < last and first < end for first, last in others)
        # The server chose the first half.
        half = len(truth) // 2
        assert (trial.hits, trial.rejections) == (sum(truth[:half]), half - sum(truth[half:]))
    # Silent texts, computed again position by position.
    pool = pool_of(plan)
    for key in RARE:
        found = parse_key(key)
        silent = pool.silent(key)
        assert silent
        assert len(silent) < len(pool.windows) or key == RARE[0]
        for window in silent[:10]:
            assert _fires_nowhere(
                model, corpus, plan, window.start, window.end, found.address, int(found.index)
            )
    sent = len(server.requests)
    assert do(plan, sets)[0] == "finished"
    assert len(server.requests) == sent  # nothing is asked twice


def _fires_nowhere(
    model: Decomposition, corpus: TokenCorpus, plan: Plan, start: int, end: int, address: Address, index: int
) -> bool:
    """In the window of the model, of its document, that the text was cut from."""
    document = int(np.searchsorted(corpus.offsets, start, "right")) - 1
    first = int(corpus.offsets[document])
    size = plan.harvest.settings.window
    first += (start - first) // size * size
    tokens = corpus.tokens[first : min(first + size, int(corpus.offsets[document + 1]))].astype(np.int64)
    with torch.no_grad():
        _, inputs = model.clean_pass(torch.from_numpy(tokens)[None])
        ci = model.causal_importance(inputs)[address][0, start - first : end - first, index]
    return len(ci) == end - start and bool((ci == 0).all())


def test_failed_questions_of_scoring_are_failures_and_asked_again(
    toy: Run, server: ModelServer, sets: LabelSets
) -> None:
    def fails(request: Request) -> Reply:
        if request.is_label:
            return label("commas")
        return says(json.dumps({"chosen": [99]})) if "marked" in request.text else complains(500, "oops")

    server.answer = fails
    plan = plan_for(toy, server, trials=1, keys=[RARE[1], RARE[2]])
    _, label_set = do(plan, sets)
    trials = sets.trials(label_set.id)
    assert {t.status for t in trials} == {"failed"}
    assert {t.error[:28] for t in trials if t.kind == "fuzzing"} == {"the answer names a text that"}
    for kind in ("detection", "fuzzing"):
        found = set_score(trials, kind)
        assert (found.mean, found.failed) == (None, 2)
    server.answer = willing
    do(plan, sets)
    trials = sets.trials(label_set.id)
    assert {t.status for t in trials} == {"done"}
    assert set_score(trials, "detection").failed == 0


def test_the_cap_holds_for_all_parts_of_a_set_together(
    toy: Run, server: ModelServer, sets: LabelSets
) -> None:
    server.answer = lambda _: label(usage=(1000, 100))
    plan = plan_for(toy, server)
    paid = replace(LIMITS, prices=Prices(10.0, 10.0), cap=0.09)
    assert do(plan, sets, paid)[0] == "cap"
    first = sets.spending(1)
    assert 0 < first.cost <= 0.09
    sent = len(server.requests)
    assert do(plan, sets, paid)[0] == "cap"
    assert len(server.requests) == sent
    assert do(plan, sets, replace(paid, cap=5.0))[0] == "finished"
    assert sets.spending(1).cost == pytest.approx(len(KEYS) * 0.011)


def test_the_estimate_is_of_the_prompts_that_are_sent(toy: Run, server: ModelServer, sets: LabelSets) -> None:
    plan = plan_for(toy, server, "context")
    estimate = plan.estimate(sets, None)
    assert estimate.requests == 18
    do(plan, sets)
    sent = sum(len(m["content"].encode()) for r in server.requests for m in r.body["messages"])
    # Labels that are not there yet are guessed; all else is what is sent.
    assert estimate.usage.prompt_tokens == pytest.approx(sent / 3.5, rel=0.1)
    nothing = plan.estimate(sets, sets.get(1))
    assert (nothing.requests, nothing.usage.prompt_tokens) == (0, 0)


def test_what_cannot_be_labelled_is_said(toy: Run, server: ModelServer) -> None:
    where = Endpoint(server.url, "toy")
    for key, said in (
        ("embed:3", "not a component"),
        ("0.attn.q:delta", "not a component"),
        ("nonsense", "not a key"),
        ("0.attn.q:99", "does not exist"),
    ):
        with pytest.raises(Exception, match=said):
            make_plan(toy, where, keys=[key])
    harvest = toy.directory.harvest()
    ranked = [int(flat) for flat in np.argsort(-harvest.values("ci_sum"), kind="stable")]
    names = ["{}:{}".format(*harvest.component(flat)) for flat in ranked]
    by_importance = make_plan(toy, where, top=4, max_density=1)
    assert list(by_importance.keys) == names[:4]
    assert by_importance.dense == 0
    density = harvest.values("firing_count")[ranked] / harvest.tokens
    limit = float(np.median(density[:4]))
    rarer = make_plan(toy, where, top=4, max_density=limit)
    fitting = np.flatnonzero(density <= limit)[:4]
    assert list(rarer.keys) == [names[place] for place in fitting]
    assert rarer.dense == fitting[-1] - 3 > 0
    with pytest.raises(LabellingError, match="more than 0 of all positions"):
        make_plan(toy, where, max_density=0)
    remote = Endpoint("https://models.example/v1", "m")
    with pytest.raises(LabellingError, match="not on this machine"):
        LIMITS.check(remote)
    with pytest.raises(LabellingError, match="no cap"):
        replace(LIMITS, prices=Prices(1, 1)).check(where)
    with pytest.raises(LabellingError, match="needs the prices"):
        replace(LIMITS, cap=1.0).check(where)
    replace(LIMITS, cap_tokens=1000).check(remote)
    LIMITS.check(where)
