"""Label sets over HTTP: what a page shows of them."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from backend.client import ApiError, Client
from backend.service.library import open_run
from backend.settings import Settings
from storage.graphs import GraphDatabase
from storage.label_records import Item, Judge, Trial, TrialKind
from tests.backend.conftest import served

KEYS = ("0.attn.q:0", "0.attn.q:1", "0.attn.q:2", "1.glu.down:0")
MESSAGES = [{"role": "system", "content": "be good"}, {"role": "user", "content": "what is it?"}]


def item(key: str, label: str, stage: str = "evidence") -> Item:
    answer = {"reasoning": f"why {label}", "label": label, "confidence": "high"}
    return Item(stage, key, "done", label, answer, {"examples": [[3, 9]]}, "")


def trial(key: str, kind: TrialKind, hits: int, rejections: int) -> Trial:
    return Trial(key, kind, 0, "done", "x", 5, 5, hits, rejections, {"chosen": [1]})


@pytest.fixture(scope="module")
def labelled(
    runs_folder: Path, page: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[httpx.Client]:
    """Two sets on three and two components of the run, and one of an earlier making of it."""
    path = tmp_path_factory.mktemp("database") / "t.sqlite3"
    database = GraphDatabase(path)
    sets = database.label_sets
    digest = open_run("llama", runs_folder / "llama").digest
    settings = {"endpoint": "http://127.0.0.1:9/v1", "model": "toy", "prompts": "1"}
    for name, strategy in (("first", "evidence"), ("second", "context")):
        ident = sets.open_set("llama", digest, name, strategy, settings)[0].id
        stage = "evidence" if strategy == "evidence" else "unify"
        sets.add_items(ident, stage, KEYS[:3] if name == "first" else [KEYS[3], *KEYS[:2]])
        sets.save_item(ident, item(KEYS[0], "Commas" if name == "first" else "commas", stage))
        sets.save_item(ident, item(KEYS[1], f"{'=' * (name == 'first')}{name} label", stage))
        judge = Judge("toy" if name == "first" else "better", settings["endpoint"])
        sets.judge_by(ident, judge)
        sets.save_trial(ident, trial(KEYS[0], "detection", 5, 4 if name == "first" else 0))
        attempt = sets.begin_attempt(ident, stage, KEYS[0], MESSAGES, (900, 90), 9.0)
        sets.finish_attempt(
            attempt,
            "answered",
            answer="{}",
            tokens=(100, 10),
            counted=True,
            cost=0.5,
            seconds=1.5,
            model="toy-1",
        )
        sets.end(ident, "finished" if name == "first" else "cap")
    sets.save_item(1, Item("evidence", KEYS[2], "failed", "", {}, {}, "status 500"))
    sets.save_trial(1, Trial(KEYS[1], "detection", 0, "failed", "x", error="no answer"))
    sets.save_item(2, item(KEYS[0], "by its targets", "output"))
    sets.open_set("llama", "0" * 64, "of another making", "evidence", settings)
    database.close()
    with served(Settings(runs=runs_folder, page=page, database=path)) as client:
        yield client


def get(client: httpx.Client, path: str, status: int = 200, **params: Any) -> Any:
    answer = client.get(f"/api/runs/llama/label-sets{path}", params=params)
    assert answer.status_code == status, answer.text
    return answer.json()


def test_the_list_has_costs_and_scores_and_no_key(labelled: httpx.Client) -> None:
    document = get(labelled, "")
    assert [s["name"] for s in document["sets"]] == ["second", "first"]
    first = document["sets"][1]
    assert (first["strategy"], first["model"], first["ended"]) == ("evidence", "toy", "finished")
    assert (first["components"], first["labelled"], first["failed"]) == (3, 2, 1)
    assert first["spending"] == {
        "requests": 1, "failed": 0, "prompt_tokens": 100, "completion_tokens": 10, "uncounted": 0, "cost": 0.5,
    }  # fmt: skip
    detection = first["detection"]
    assert (detection["components"], detection["mean"], detection["failed"]) == (1, 0.9, 1)
    assert detection["interval"]["low"] < 0.9 < detection["interval"]["high"]
    assert first["fuzzing"] == {"components": 0, "mean": None, "interval": None, "failed": 0, "impossible": 0}
    assert "authorization" not in json.dumps(document).lower()
    assert labelled.get("/api/runs/bare/label-sets").json()["sets"] == []


def test_a_set_page_by_page(labelled: httpx.Client) -> None:
    document = get(labelled, "/1")
    assert [label["key"] for label in document["labels"]] == list(KEYS[:3])
    assert document["total"] == 3
    good, unscored, failed = document["labels"]
    assert (good["label"], good["confidence"], good["reasoning"]) == ("Commas", "high", "why Commas")
    assert (good["detection"]["right"], good["detection"]["judged"]) == (9, 10)
    assert (unscored["detection"]["accuracy"], unscored["detection"]["failed"]) == (None, 1)
    assert (failed["status"], failed["label"], failed["error"]) == ("failed", "", "status 500")
    second = get(labelled, "/1", start=1, limit=1)
    assert [label["key"] for label in second["labels"]] == [KEYS[1]]
    assert second["total"] == 3
    assert [label["key"] for label in get(labelled, "/1", q="LABEL first")["labels"]] == [KEYS[1]]
    assert [label["key"] for label in get(labelled, "/1", q="q:2")["labels"]] == [KEYS[2]]


def test_where_a_label_comes_from(labelled: httpx.Client) -> None:
    document = get(labelled, f"/2/components/{KEYS[0]}")
    assert [stage["stage"] for stage in document["stages"]] == ["unify", "output"]
    assert document["stages"][0]["material"] == {"examples": [[3, 9]]}
    (attempt,) = document["attempts"]
    assert attempt["messages"] == MESSAGES
    assert (attempt["answer"], attempt["state"], attempt["counted"], attempt["cost"]) == (
        "{}",
        "answered",
        True,
        0.5,
    )
    (asked,) = document["trials"]
    assert (asked["hits"], asked["rejections"], asked["details"]) == (5, 0, {"chosen": [1]})


def test_two_sets_side_by_side(labelled: httpx.Client) -> None:
    document = get(labelled, "/1/compare", other=2)
    assert [pair["key"] for pair in document["pairs"]] == list(KEYS)
    assert document["pairs"][2]["other"] is None
    assert document["pairs"][3]["one"] is None
    assert document["same"] == 1  # Commas and commas
    judges = [document[side]["judge"]["model"] for side in ("one", "other")]
    assert (judges, document["same_judge"]) == (["toy", "better"], False)
    assert get(labelled, "/1/compare", other=1)["same_judge"] is True
    assert document["detection"]["components"] == 1
    assert document["detection"]["mean"] == pytest.approx(0.9 - 0.5)
    assert (
        -1 <= document["detection"]["interval"]["low"] < 0.4 < document["detection"]["interval"]["high"] <= 1
    )
    assert document["fuzzing"] == {"components": 0, "mean": None, "interval": None}
    assert len(get(labelled, "/1/compare", other=2, start=3)["pairs"]) == 1


def test_a_set_as_a_file(labelled: httpx.Client) -> None:
    answer = labelled.get("/api/runs/llama/label-sets/1/export")
    assert answer.headers["content-disposition"] == 'attachment; filename="llama-first.json"'
    file = answer.json()
    assert (file["format"], file["version"], file["run"], file["set"]["name"]) == (
        "tributary-label-set", 1, "llama", "first",
    )  # fmt: skip
    assert file["set"]["judge"] == {"model": "toy", "endpoint": "http://127.0.0.1:9/v1"}
    assert [entry["key"] for entry in file["labels"]] == list(KEYS[:3])
    good, unasked, failed = file["labels"]
    page = get(labelled, "/1")["labels"][0]
    assert {name: good[name] for name in page} == page
    assert good["model"] == "toy-1"
    assert good["created"] >= file["set"]["created"]
    assert (unasked["model"], failed["model"], failed["error"]) == ("", "", "status 500")

    answer = labelled.get("/api/runs/llama/label-sets/1/export", params={"format": "csv"})
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    rows = list(csv.DictReader(io.StringIO(answer.content.decode("utf-8-sig"))))
    assert [row["key"] for row in rows] == list(KEYS[:3])
    first = rows[0]
    assert (first["label"], first["detection_right"], first["detection_judged"]) == ("Commas", "9", "10")
    assert (first["detection_accuracy"], first["fuzzing_accuracy"]) == ("0.9", "")
    assert (first["model"], first["judge"], first["source"]) == ("toy-1", "toy", "auto:first")
    # A label that a spreadsheet would calculate.
    assert rows[1]["label"] == "'=first label"
    # It is not taken for labels of people.
    read = labelled.post("/api/runs/llama/labels:import", content=answer.content).json()
    assert (read["read"], read["added"], read["n_unmatched"]) == (3, 0, 3)
    assert "given by a model" in read["unmatched"][0]["reason"]


def test_sets_from_a_notebook(labelled: httpx.Client, tmp_path: Path) -> None:
    with Client(str(labelled.base_url)) as client:
        run = client.run("llama")
        assert [found.name for found in run.label_sets()] == ["second", "first"]
        first, second = run.label_set("first"), run.label_set("second")
        assert (first.model.labelled, first.model.judge.model if first.model.judge else "") == (2, "toy")
        assert [label.key for label in first.labels()] == list(KEYS[:3])
        assert [label.label for label in first.labels("commas")] == ["Commas"]
        page = first.page(start=2, limit=1)
        assert ([label.status for label in page.labels], page.total) == (["failed"], 3)
        assert second.origin(KEYS[0]).attempts[0].messages[1].content == "what is it?"
        assert not first.compare(second).same_judge
        assert first.compare(second.id, start=3).pairs[0].key == KEYS[3]
        assert json.loads(first.export(tmp_path / "a.json").read_bytes())["set"]["name"] == "first"
        assert b"auto:first" in first.export(tmp_path / "a.csv").read_bytes()
        with pytest.raises(KeyError, match="second"):
            run.label_set("third")
        with pytest.raises(ApiError) as refused:
            first.delete("not the secret")
        assert refused.value.status == 403


def test_labels_of_models_stand_where_nobody_has_said_anything(labelled: httpx.Client) -> None:
    answer = labelled.get("/api/runs/llama/labels")
    named = {label["key"]: (label["name"], label["source"]) for label in answer.json()["labels"]}
    assert named == {KEYS[0]: ("commas", "auto:second"), KEYS[1]: ("second label", "auto:second")}
    tag = answer.headers["etag"]
    change = {"version": 0, "name": "plural nouns", "author": "Ada", "new_step": True}
    saved = labelled.put(f"/api/runs/llama/labels/{KEYS[0]}", json=change)
    assert saved.status_code == 200, saved.text
    answer = labelled.get("/api/runs/llama/labels", headers={"if-none-match": tag})
    assert answer.status_code == 200
    named = {label["key"]: (label["name"], label["source"]) for label in answer.json()["labels"]}
    assert named[KEYS[0]] == ("plural nouns", "person")
    assert named[KEYS[1]] == ("second label", "auto:second")


@pytest.mark.parametrize(
    ("path", "params", "status"),
    [
        ("/99", {}, 404),
        ("/3", {}, 404),  # of the run as it was before
        ("/1/compare", {"other": 3}, 404),
        ("/1/compare", {}, 422),
        ("/1/components/0.attn.q:4", {}, 404),
        ("/1/components/nonsense", {}, 422),
        ("/1", {"limit": 501}, 422),
        ("/1", {"start": -1}, 422),
    ],
)
def test_what_is_not_there(labelled: httpx.Client, path: str, params: dict[str, Any], status: int) -> None:
    assert get(labelled, path, status, **params).keys() == {"code", "message", "hint"}


def test_nothing_can_be_changed_and_without_a_model_nothing_started(labelled: httpx.Client) -> None:
    answer = labelled.post("/api/runs/llama/label-sets", json={"estimate": "x"})
    assert (answer.status_code, answer.json()["code"]) == (403, "not_offered")
    answer = labelled.delete("/api/runs/llama/label-sets/1")
    assert (answer.status_code, answer.json()["code"]) == (403, "owner_only")
    assert "tributary label-sets delete" in answer.json()["hint"]
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        for path in ("/1", f"/1/components/{KEYS[0]}", "/1/compare", "/1/export"):
            if (method, path) != ("DELETE", "/1"):
                answer = labelled.request(method, f"/api/runs/llama/label-sets{path}", json={})
                assert answer.status_code == 405
                assert "GET" in answer.headers["allow"] or path == "/1"
