"""Labelling that is started over HTTP: who may, what it may cost, and that it stops and goes on."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from backend.cli import run as command
from backend.service.workshop import Workshop
from backend.settings import Settings
from storage.errors import StorageError
from tests.autolabel.conftest import RARE
from tests.backend.conftest import serving
from tests.support.model_server import ModelServer, complains, label, willing

SETS = "/api/runs/toy/label-sets"
OWNER = "X-Tributary-Owner"


class Page:
    """A browser with the owner's link, or one with any other secret, or with none."""

    def __init__(self, client: httpx.Client, workshop: Workshop, secret: str | None) -> None:
        self.client, self.workshop = client, workshop
        self.headers = {} if secret is None else {OWNER: secret}

    def post(self, path: str, status: int, **body: Any) -> Any:
        answer = self.client.post(f"{SETS}{path}", json=body, headers=self.headers)
        assert answer.status_code == status, answer.text
        return answer.json()

    def estimate(self, **body: Any) -> Any:
        return self.post(":estimate", 200, **body)

    def begin(self, cap: float | None = None, cap_tokens: int | None = None, **body: Any) -> Any:
        """Estimate, and start what was estimated."""
        digest = self.estimate(**body)["digest"]
        return self.post("", 202, estimate=digest, cap=cap, cap_tokens=cap_tokens, **body)

    def wait(self, job: Any, enough: Callable[[Any], bool] | None = None) -> Any:
        deadline = time.monotonic() + 60
        while True:
            found = self.client.get(f"/api/jobs/{job['id']}").json()
            over = found["state"] in ("done", "failed", "cancelled")
            if over or (enough is not None and enough(found)):
                return found
            assert time.monotonic() < deadline, found
            time.sleep(0.02)

    def sets(self) -> Any:
        return self.client.get(SETS).json()["sets"]


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "page.sqlite3"


@pytest.fixture
def settings(runs: Path, server: ModelServer, database: Path) -> Settings:
    return Settings(
        runs=runs,
        database=database,
        label_endpoint=server.url,
        label_model="org/toy-1",
        label_price_in=1.0,
        label_price_out=4.0,
        label_cap=1.0,
        device="cpu",
    )


@pytest.fixture
def owner(settings: Settings) -> Iterator[Page]:
    with serving(settings) as (client, workshop):
        yield Page(client, workshop, workshop.treasury.secret)


WANTED: dict[str, Any] = {"keys": list(RARE), "trials": 1}


# ---- what is offered ----------------------------------------------------------------------------


def test_a_server_that_was_started_without_a_model_starts_nothing(runs: Path, database: Path) -> None:
    with serving(Settings(runs=runs, database=database)) as (client, workshop):
        assert workshop.treasury.secret is None
        found = client.get("/api/labelling").json()
        assert (found["available"], found["owner"], found["endpoint"]) == (False, False, None)
        assert "--label-endpoint" in found["hint"]
        for path, body in ((":estimate", WANTED), ("", WANTED | {"estimate": "x"})):
            answer = client.post(SETS + path, json=body, headers={OWNER: ""})
            assert (answer.status_code, answer.json()["code"]) == (403, "not_offered")
            assert "--label-endpoint" in answer.json()["hint"]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"label_endpoint": "https://models.example/v1"}, "may cost money.*--label-price-in"),
        ({"label_endpoint": "http://models.example/v1", "label_key_env": "PATH"}, "unencrypted"),
        ({"label_endpoint": "ftp://x"}, "not the address"),
        ({"label_endpoint": "http://name:word@127.0.0.1/v1"}, "--label-key-env"),
        ({"label_model": " "}, "--label-model"),
        ({"label_key_env": "NO_SUCH_KEY"}, "NO_SUCH_KEY is not set"),
        ({"label_price_in": 1.0}, "--label-price-out"),
        ({"label_price_in": 1.0, "label_price_out": 1.0}, "say with --label-cap"),
        ({"label_cap": 1.0}, "--label-cap needs the prices"),
        ({"label_endpoint": None}, "--label-model is given, but no endpoint"),
        ({"label_endpoint": None, "label_model": "", "label_cap_tokens": 9}, "--label-cap-tokens is given"),
    ],
)
def test_the_same_checks_as_on_the_command_line(
    runs: Path, database: Path, more: dict[str, Any], said: str
) -> None:
    given: dict[str, Any] = {"label_endpoint": "http://127.0.0.1:9/v1", "label_model": "m"} | more
    with (
        pytest.raises(StorageError) as error,
        serving(Settings(runs=runs, database=database, **given)),
    ):
        raise AssertionError
    assert re.search(said, f"{error.value.message} {error.value.hint}")


def test_the_owner_sees_prices_and_caps_and_others_how_to_get_the_right(
    owner: Page, server: ModelServer
) -> None:
    host = server.url.split("/")[2]
    found = owner.client.get("/api/labelling", headers=owner.headers).json()
    assert found == {
        "available": True, "owner": True, "endpoint": host, "model": "org/toy-1",
        "prices": {"prompt": 1.0, "completion": 4.0}, "cap": 1.0, "cap_tokens": None,
        "cap_left": 1.0, "cap_tokens_left": None, "hint": "",
    }  # fmt: skip
    other = owner.client.get("/api/labelling").json()
    assert not other["owner"]
    assert "printed in its terminal" in other["hint"]


# ---- who may ------------------------------------------------------------------------------------


def test_nobody_else_can_start_or_go_on(owner: Page, server: ModelServer) -> None:
    """Not without the secret, not with a guess, not by knowing an estimate, not on a set that is there."""
    digest = owner.estimate(**WANTED)["digest"]
    assert owner.wait(owner.begin(cap=1.0, **WANTED))["state"] == "done"
    asked = len(server.requests)
    secret = owner.headers[OWNER]
    for guess in (None, "", "x", secret[:-1], secret + "x", secret.swapcase(), "\u00e9\u00e9"):
        headers = {} if guess is None else {OWNER: guess.encode()}
        for path, body in (
            (":estimate", WANTED),
            ("", WANTED | {"estimate": digest, "cap": 1.0}),
            ("", {"go_on": 1, "trials": 3, "estimate": digest, "cap": 1.0}),
        ):
            answer = owner.client.post(SETS + path, json=body, headers=headers)
            assert (answer.status_code, answer.json()["code"]) == (403, "owner_only")
            assert "printed in its terminal" in answer.json()["hint"]
    # The secret does not count anywhere but in its header.
    for query, header in ((f"?owner={secret}", {}), ("", {"Cookie": f"{OWNER}={secret}"})):
        answer = owner.client.post(f"{SETS}:estimate{query}", json=WANTED, headers=header)
        assert answer.status_code == 403
    assert len(server.requests) == asked
    assert len(owner.sets()) == 1
    assert len(owner.client.get("/api/jobs").json()["jobs"]) == 1


def test_a_page_of_another_site_cannot_start_anything(owner: Page, server: ModelServer) -> None:
    body = WANTED | {"estimate": owner.estimate(**WANTED)["digest"], "cap": 1.0}
    for headers, status in (
        ({"Origin": "https://elsewhere.example"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Host": "elsewhere.example"}, 400),
    ):
        answer = owner.client.post(SETS, json=body, headers=owner.headers | headers)
        assert answer.status_code == status
        assert answer.json()["code"] in ("foreign_origin", "bad_host")
    # A form can be sent from anywhere, but neither as JSON nor with a header of its own.
    assert owner.client.post(SETS, data={"estimate": "x"}).status_code in (403, 422)
    assert server.requests == []


def test_the_right_comes_on_top_of_the_token(settings: Settings) -> None:
    token = "0123456789abcdef"
    with serving(settings.model_copy(update={"token": token})) as (client, workshop):
        right = {OWNER: workshop.treasury.secret or ""}
        bearer = {"Authorization": f"Bearer {token}"}
        assert client.post(f"{SETS}:estimate", json=WANTED, headers=right).status_code == 401
        assert client.post(f"{SETS}:estimate", json=WANTED, headers=bearer).status_code == 403
        assert client.post(f"{SETS}:estimate", json=WANTED, headers=right | bearer).status_code == 200


# ---- what it costs ------------------------------------------------------------------------------


def test_an_estimate_sends_nothing_and_counts_what_is_left(owner: Page, server: ModelServer) -> None:
    found = owner.estimate(**WANTED)
    assert (found["name"], found["label_set_id"], found["components"]) == ("evidence toy-1", None, 3)
    assert found["requests"] == 3 + 2 * 3
    assert found["cost"] == pytest.approx((found["prompt_tokens"] + 4 * found["completion_tokens"]) / 1e6)
    assert (found["spent"], found["spent_tokens"]) == (0, 0)
    assert server.requests == []
    assert owner.sets() == []
    owner.wait(owner.begin(cap=1.0, **WANTED))
    after = owner.estimate(**WANTED)
    assert (after["requests"], after["label_set_id"]) == (0, 1)
    assert after["spent"] == pytest.approx(len(server.requests) * (100 + 4 * 10) / 1e6)
    assert after["digest"] != found["digest"]


def test_nobody_starts_blind(owner: Page, server: ModelServer) -> None:
    estimate = owner.estimate(**WANTED)
    body = WANTED | {"cap": 1.0}
    for wrong in (
        body | {"estimate": "0" * 64},
        body | {"estimate": estimate["digest"], "trials": 2},
        body | {"estimate": estimate["digest"], "keys": list(RARE[:2])},
        body | {"estimate": estimate["digest"], "examples": 20},
        body | {"estimate": estimate["digest"], "name": "another"},
    ):
        assert owner.post("", 409, **wrong)["code"] == "estimate_first"
    owner.wait(owner.post("", 202, **body, estimate=estimate["digest"]))
    # What was estimated then is not what would be asked now.
    assert owner.post("", 409, **body, estimate=estimate["digest"])["code"] == "estimate_first"
    assert {len(request.body["messages"]) for request in server.requests} == {2}


def test_a_cap_is_needed_and_cannot_be_above_that_of_the_server(owner: Page, server: ModelServer) -> None:
    body = WANTED | {"estimate": owner.estimate(**WANTED)["digest"]}
    assert "how much may be spent" in owner.post("", 422, **body)["message"]
    assert "1 is left" in owner.post("", 422, **body, cap=1.01)["message"]
    owner.post("", 422, **body, cap=-1.0)
    owner.post("", 422, **body, cap="0.5")
    assert server.requests == []


def test_the_cap_of_the_server_is_for_all_that_is_started(settings: Settings, server: ModelServer) -> None:
    """One after another cannot spend more together than the command line allowed."""
    with serving(settings.model_copy(update={"label_cap": 0.03, "label_price_in": 10.0})) as (c, workshop):
        owner = Page(c, workshop, workshop.treasury.secret)
        # Each answer counts 100 and 10 tokens, 0.00104; the largest cost of a request is about 0.02.
        server.answer = lambda r: label(usage=(900, 10)) if r.is_label else willing(r)
        caps: list[float] = []
        for name in ("a", "b", "c", "d", "e"):
            left = c.get("/api/labelling").json()["cap_left"]
            job = owner.wait(owner.begin(cap=left, keys=list(RARE), trials=0, name=name))
            assert job["state"] == "done"
            caps.append(left)
        assert caps == sorted(caps, reverse=True)
        assert job["result"]["ended"] == "cap"
        spent = sum(s["spending"]["cost"] for s in owner.sets())
        assert 0 < spent <= 0.03
        assert c.get("/api/labelling").json()["cap_left"] == pytest.approx(0.03 - spent)


def test_the_cap_of_a_job_stops_it_before(owner: Page, server: ModelServer) -> None:
    job = owner.wait(owner.begin(cap=0.0001, **WANTED))
    assert (job["state"], job["result"]["ended"], job["result"]["label_set_id"]) == ("done", "cap", 1)
    assert server.requests == []
    # An earlier part of the set does not count against this one's.
    assert owner.wait(owner.begin(cap=0.9, go_on=1))["result"]["ended"] == "finished"


# ---- the job ------------------------------------------------------------------------------------


def test_a_job_labels_scores_and_says_what_it_spent(owner: Page, server: ModelServer) -> None:
    job = owner.begin(cap=0.5, name="mine", **WANTED)
    assert (job["kind"], job["run"]) == ("labels", "toy")
    with owner.client.stream("GET", f"/api/jobs/{job['id']}/events") as answer:
        events = [json.loads(line[6:]) for line in answer.iter_lines() if line.startswith("data: ")]
    end = events[-1]
    assert end["state"] == "done"
    assert end["result"]["label_set_id"] == 1
    (found,) = owner.sets()
    assert (found["name"], found["labelled"], found["failed"], found["ended"]) == ("mine", 3, 0, "finished")
    assert found["detection"]["components"] == 3
    spent = end["labelling"]
    assert (spent["label_set_id"], spent["name"], spent["failed"], spent["cap"]) == (1, "mine", 0, 0.5)
    assert spent["requests"] == found["spending"]["requests"] == len(server.requests)
    assert spent["tokens"] == 110 * len(server.requests)
    assert spent["cost"] == pytest.approx(found["spending"]["cost"])
    assert {r.body["model"] for r in server.requests} == {"org/toy-1"}


def test_a_prediction_and_a_graph_do_not_wait_for_labels(owner: Page, server: ModelServer) -> None:
    server.answer = lambda _: label(delay=30.0)
    job = owner.begin(cap=0.9, trials=0, keys=list(RARE))
    owner.wait(job, lambda _: bool(server.requests))
    started = time.monotonic()
    body = {"token_ids": [1, 2, 3]}
    assert owner.client.post("/api/runs/toy/predictions", json=body).status_code == 200
    answer = owner.client.post("/api/runs/toy/graphs", json=body | {"settings": {}})
    assert answer.status_code in (200, 202), answer.text
    assert owner.wait(answer.json())["state"] == "done"
    assert time.monotonic() - started < 25
    assert owner.wait(job, lambda _: True)["state"] == "running"
    owner.client.delete(f"/api/jobs/{job['id']}")


def test_stopped_at_once_with_all_that_was_answered_and_gone_on_with(
    owner: Page, server: ModelServer
) -> None:
    server.answer = lambda r: label(f"label {r.number}", delay=0.0 if r.number < 2 else 60.0)
    job = owner.begin(cap=0.9, trials=0, keys=list(RARE))
    owner.wait(job, lambda _: len(server.requests) == 3)
    # Also whoever watches hears of the second answer, which came right after the first.
    with owner.client.stream("GET", f"/api/jobs/{job['id']}/events") as events:
        lines = (line for line in events.iter_lines() if line.startswith("data: "))
        jobs = (json.loads(line[6:]) for line in lines)
        told = next(found for found in jobs if found["done"] == 2 and found["labelling"]["requests"] == 3)
    assert told["state"] == "running"
    started = time.monotonic()
    stopped = owner.client.delete(f"/api/jobs/{job['id']}").json()
    assert stopped["state"] == "cancelled"
    assert time.monotonic() - started < 2
    (found,) = owner.sets()
    assert (found["labelled"], found["failed"], found["ended"]) == (2, 0, "interrupted")
    # What was under way may be charged for: it counts at its largest.
    assert (found["spending"]["requests"], found["spending"]["uncounted"]) == (3, 1)
    server.answer = willing
    again = owner.wait(owner.begin(cap=0.9, go_on=1, trials=0))
    assert again["state"] == "done"
    assert (again["done"], len(server.requests)) == (1, 4)
    assert owner.sets()[0]["labelled"] == 3


def test_stopped_while_it_waits_for_a_server_that_is_busy(owner: Page, server: ModelServer) -> None:
    server.answer = lambda _: complains(429, "busy", headers={"Retry-After": "500"})
    job = owner.begin(cap=0.9, trials=0, keys=list(RARE))
    owner.wait(job, lambda _: bool(server.requests))
    time.sleep(0.2)
    started = time.monotonic()
    assert owner.client.delete(f"/api/jobs/{job['id']}").json()["state"] == "cancelled"
    assert time.monotonic() - started < 2
    assert owner.sets()[0]["failed"] == 0  # neither an answer nor a failure


def test_failures_are_listed_and_asked_again(owner: Page, server: ModelServer) -> None:
    server.answer = lambda r: complains(400, "too long") if r.number == 1 else label()
    job = owner.wait(owner.begin(cap=0.9, trials=0, keys=list(RARE)))
    assert (job["state"], job["labelling"]["failed"]) == ("done", 1)
    failed = owner.client.get(f"{SETS}/1", params={"status": "failed"}).json()
    assert [one["error"] for one in failed["labels"]] == ["refused with status 400: too long"]
    assert failed["total"] == 1
    assert owner.client.get(f"{SETS}/1", params={"status": "done"}).json()["total"] == 2
    server.answer = willing
    owner.wait(owner.begin(cap=0.9, go_on=1, trials=0))
    assert owner.client.get(f"{SETS}/1", params={"status": "failed"}).json()["total"] == 0


def test_an_endpoint_that_refuses_ends_the_job_with_its_reason(owner: Page, server: ModelServer) -> None:
    server.answer = lambda _: complains(401, "no such key")
    job = owner.wait(owner.begin(cap=0.9, trials=0, keys=list(RARE)))
    assert (job["state"], job["error"]["code"]) == ("failed", "labelling_stopped")
    assert "status 401: no such key" in job["error"]["message"]
    server.answer = willing
    assert owner.wait(owner.begin(cap=0.9, go_on=1, trials=0))["state"] == "done"


def test_a_server_that_is_stopped_leaves_a_set_to_go_on_with(settings: Settings, server: ModelServer) -> None:
    server.answer = lambda r: label(delay=0.0 if r.number < 1 else 60.0)
    with serving(settings) as (client, workshop):
        page = Page(client, workshop, workshop.treasury.secret)
        first = workshop.treasury.secret
        job = page.begin(cap=0.9, trials=0, keys=list(RARE))
        page.wait(job, lambda found: found["done"] == 1)
    with serving(settings) as (client, workshop):
        # The right of the last start is none of this one's.
        assert workshop.treasury.secret != first
        assert client.post(f"{SETS}:estimate", json=WANTED, headers=page.headers).status_code == 403
        page = Page(client, workshop, workshop.treasury.secret)
        assert (page.sets()[0]["labelled"], page.sets()[0]["ended"]) == (1, "interrupted")
        server.answer = willing
        page.wait(page.begin(cap=0.9, go_on=1, trials=0))
        assert page.sets()[0]["labelled"] == 3


# ---- the command line beside the page -----------------------------------------------------------


def _command(server: ModelServer, *more: str) -> list[str]:
    return [
        "label", "toy", "--endpoint", server.url, "--model", "org/toy-1", "--keys", ",".join(RARE),
        "--price-in", "1", "--price-out", "4", "--cap", "1", *more,
    ]  # fmt: skip


def test_the_command_goes_on_with_a_set_of_the_page_and_back(
    owner: Page, server: ModelServer, runs: Path, database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRIBUTARY_RUNS", str(runs))
    monkeypatch.setenv("TRIBUTARY_DATABASE", str(database))
    owner.wait(owner.begin(cap=0.9, trials=0, keys=list(RARE[:1])))
    assert command(_command(server, "--trials", "0")) == 0
    assert (len(owner.sets()), owner.sets()[0]["labelled"], len(server.requests)) == (1, 3, 3)
    job = owner.wait(owner.begin(cap=0.9, go_on=1, trials=1))
    assert (job["state"], owner.sets()[0]["detection"]["components"]) == ("done", 3)
    # Labels of two ways of asking are not mixed: said before anything is paid.
    assert "made with another examples" in owner.post(":estimate", 409, **WANTED, examples=20)["message"]


def test_two_never_work_on_one_set(
    owner: Page, server: ModelServer, runs: Path, database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRIBUTARY_RUNS", str(runs))
    monkeypatch.setenv("TRIBUTARY_DATABASE", str(database))
    server.answer = lambda _: label(delay=60.0)
    job = owner.begin(cap=0.9, trials=0, keys=list(RARE))
    owner.wait(job, lambda _: len(server.requests) == 3)
    line = [sys.executable, "-m", "backend.cli", *_command(server)]
    refused = subprocess.run(line, capture_output=True, text=True, check=False, timeout=120)
    assert refused.returncode == 2
    assert "another process is working on label set 1" in refused.stderr
    # The page again: it joins the job that runs.
    assert owner.begin(cap=0.9, trials=0, keys=list(RARE))["id"] == job["id"]
    owner.client.delete(f"/api/jobs/{job['id']}")
    with subprocess.Popen(line, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 120
        while len(server.requests) < 6:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        body = {"go_on": 1, "trials": 0}
        digest = owner.estimate(**body)["digest"]
        assert "another process" in owner.post("", 409, **body, estimate=digest, cap=0.9)["message"]
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    assert len(server.requests) == 6


# ---- secrets ------------------------------------------------------------------------------------


def test_the_owner_deletes_a_set_on_which_nobody_works(owner: Page, server: ModelServer) -> None:
    job = owner.wait(owner.begin(cap=1.0, **WANTED))
    assert job["state"] == "done"
    (found,) = owner.sets()
    path = f"{SETS}/{found['id']}"
    for headers in ({}, {OWNER: "x" * 43}):
        assert owner.client.delete(path, headers=headers).status_code == 403
    with owner.workshop.database.label_sets.working(found["id"]):
        refused = owner.client.delete(path, headers=owner.headers)
        assert (refused.status_code, refused.json()["code"]) == (409, "not_possible")
    assert len(owner.sets()) == 1
    assert owner.client.delete(path, headers=owner.headers).status_code == 204
    assert owner.sets() == []
    assert owner.client.delete(path, headers=owner.headers).status_code == 404


def test_a_set_with_a_judge_of_its_own_is_gone_on_with_on_the_command_line(
    owner: Page, server: ModelServer, runs: Path, database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRIBUTARY_RUNS", str(runs))
    monkeypatch.setenv("TRIBUTARY_DATABASE", str(database))
    command(
        ["label", "toy", "--endpoint", server.url, "--model", "org/toy-1", "--keys", ",".join(RARE),
         "--judge-model", "better"]
    )  # fmt: skip
    (found,) = owner.sets()
    assert found["judge"]["model"] == "better"
    refused = owner.post(":estimate", 409, go_on=found["id"], trials=2)
    assert "judged by 'better'" in refused["message"]


def test_the_secret_and_the_key_are_only_where_they_belong(
    runs: Path, server: ModelServer, database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A real server process: its terminal has the link, and nothing else has either secret."""
    monkeypatch.setenv("MY_KEY", "sk-very-secret")
    monkeypatch.setenv("TRIBUTARY_DATABASE", str(database))
    server.answer = lambda r: complains(400, "sk-very-secret") if r.number == 0 else willing(r)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    line = [
        sys.executable, "-m", "backend.cli", "serve", "--runs", str(runs), "--port", str(port),
        "--label-endpoint", server.url, "--label-model", "toy", "--label-key-env", "MY_KEY",
        "--label-cap-tokens", "1000000",
    ]  # fmt: skip
    answers: list[str] = []
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said = process.stdout.readline() + process.stdout.readline()
        link = next(word for word in said.split() if "#owner=" in word)
        secret = link.partition("#owner=")[2]
        assert len(secret) >= 32
        assert "#owner=" in link.removeprefix(f"http://127.0.0.1:{port}/")
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
            deadline = time.monotonic() + 60
            while True:
                try:
                    client.get("/api/health")
                    break
                except httpx.TransportError:
                    assert time.monotonic() < deadline
                    time.sleep(0.05)
            right = {OWNER: secret}

            def ask(method: str, path: str, **options: Any) -> Any:
                answer = client.request(method, path, **options)
                answers.append(answer.text + str(answer.headers))
                return answer.json()

            body: dict[str, Any] = {"keys": list(RARE), "trials": 0}
            digest = ask("POST", f"{SETS}:estimate", json=body, headers=right)["digest"]
            job = ask("POST", SETS, json=body | {"estimate": digest}, headers=right)
            while ask("GET", f"/api/jobs/{job['id']}")["state"] in ("queued", "running"):
                time.sleep(0.05)
            for path in ("/api/labelling", "/api/jobs", SETS, f"{SETS}/1"):
                ask("GET", path, headers=right)
            ask("POST", SETS, json={"estimate": 3}, headers=right)
            ask("POST", f"{SETS}:estimate", json=body, headers={OWNER: secret + "x"})
        process.terminate()
        out, err = process.communicate(timeout=30)
    assert {r.headers["Authorization"] for r in server.requests} == {"Bearer sk-very-secret"}
    assert (said + out).count(secret) == 1
    everywhere = [
        err,
        *answers,
        *(file.read_bytes().decode("latin-1") for file in tmp_path.rglob("*.sqlite3*")),
    ]
    for text in everywhere:
        assert secret not in text
        assert "sk-very-secret" not in text
    assert "sk-very-secret" not in said + out
