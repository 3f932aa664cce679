"""Evidence over HTTP, against the harvest and the model directly."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch

from backend.errors import ServiceError
from backend.pipelines.load import load_decomposition
from backend.service.background import Once
from backend.settings import Settings
from compute.address import Key, parse_key
from compute.decomposition.model import Decomposition
from storage.errors import StoreDamagedError
from storage.files import publish
from storage.harvest import Harvest
from storage.harvest_writer import write_harvest
from storage.run_directory import RunDirectory
from tests.backend.conftest import served
from tests.support.naive_harvest import naive_harvest, write_naive_harvest

KEY = "1.glu.down:2"


def get(client: httpx.Client, path: str, **parameters: Any) -> Any:
    answer = client.get(f"/api/runs/llama{path}", params=parameters)
    assert answer.status_code == 200, answer.text
    return answer.json()


def refused(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


@pytest.fixture(scope="module")
def harvest(llama: RunDirectory) -> Harvest:
    return llama.harvest()


@pytest.fixture(scope="module")
def model(llama: RunDirectory) -> Decomposition:
    return load_decomposition(llama)


@pytest.fixture(scope="module")
def read(llama: RunDirectory, model: Decomposition, harvest: Harvest) -> tuple[np.ndarray, np.ndarray]:
    """Where each component fires [n, C], and the tokens [n], read once more in the harvest's windows."""
    fires: list[np.ndarray] = []
    tokens: list[np.ndarray] = []
    for group in range(16):
        for window in llama.corpus().group(group, 16).long().split(harvest.settings.window):
            _, inputs = model.clean_pass(window[None])
            with torch.no_grad():
                importance = model.causal_importance(inputs)
            fires.append(torch.cat([importance[a][0] for a in harvest.addresses], 1).numpy() > 0)
            tokens.append(window.numpy())
    return np.concatenate(fires), np.concatenate(tokens)


def component(text: str) -> tuple[Any, int]:
    key = parse_key(text)
    assert isinstance(key.index, int)
    return key.address, key.index


# ---- evidence -----------------------------------------------------------------------------------


def test_numbers_are_those_of_the_harvest(client: httpx.Client, harvest: Harvest) -> None:
    found = get(client, f"/components/{KEY}/evidence")
    address, index = component(KEY)

    def value(name: str) -> float:
        return float(harvest.site(name, address)[index])

    fired, n = value("firing_count"), harvest.tokens
    assert (found["subrun"], found["tokens"], found["documents"]) == (harvest.subrun, n, 40)
    assert (found["firing_count"], found["density"]) == (fired, fired / n)
    assert found["mean_ci"] == pytest.approx(value("ci_sum") / n)
    assert found["max_ci"] == value("ci_max")
    assert found["activation"] == {
        "mean": pytest.approx(value("activation_sum") / n),
        "rms": pytest.approx(np.sqrt(value("activation_square_sum") / n)),
        "min": value("activation_min"),
        "max": value("activation_max"),
        "mean_firing": pytest.approx(value("firing_activation_sum") / fired),
    }
    assert sum(found["histogram"]["counts"]) == fired
    assert len(found["histogram"]["edges"]) == len(found["histogram"]["counts"]) + 1
    assert "scaled by ‖U‖" in found["unit"]
    assert "without replacement" in found["sampling"]
    assert "95%" in found["ranking"]


def test_input_tokens_are_those_of_the_text(
    client: httpx.Client, harvest: Harvest, read: tuple[np.ndarray, np.ndarray]
) -> None:
    """From the model itself: where it fires, counted token by token."""
    found = get(client, f"/components/{KEY}/evidence", k=200)
    fires, tokens = read[0][:, harvest.flat(*component(KEY))], read[1]
    n, fired = len(tokens), int(fires.sum())
    assert found["firing_count"] == fired
    listed = found["input_tokens"]["positive"] + found["input_tokens"]["negative"]
    assert listed
    for entry in listed:
        here = tokens == entry["token_id"]
        both = int((here & fires).sum())
        assert (entry["count"], entry["token_total"], entry["firing_count"]) == (both, here.sum(), fired)
        assert entry["recall"] == pytest.approx(both / fired)
        assert entry["precision"] == pytest.approx(both / here.sum())
        expected = fired * here.sum() / n
        assert entry["pmi"] == pytest.approx(np.log((both + 0.5) / (expected + 0.5)))
        assert entry["pmi_low"] < entry["pmi"] < entry["pmi_high"]
        assert entry["recall_low"] <= entry["recall"] <= entry["recall_high"]
        assert entry["precision_low"] <= entry["precision"] <= entry["precision_high"]
    signs = [entry["pmi_low"] for entry in found["input_tokens"]["positive"]]
    assert signs == sorted(signs, reverse=True)
    assert min(signs, default=1) > 0
    signs = [entry["pmi_high"] for entry in found["input_tokens"]["negative"]]
    assert signs == sorted(signs)
    assert max(signs, default=-1) < 0


def test_a_list_says_of_how_many_it_is(client: httpx.Client) -> None:
    whole = get(client, f"/components/{KEY}/evidence", k=200)
    few = get(client, f"/components/{KEY}/evidence", k=1)
    for part in ("input_tokens", "output_tokens", "cofiring"):
        for sign in ("positive", "negative"):
            # So small a run has fewer than 200 of everything.
            count = len(whole[part][sign])
            assert whole[part][f"{sign}_total"] == few[part][f"{sign}_total"] == count < 200
            assert few[part][sign] == whole[part][sign][:1]
    assert any(len(whole[part]["positive"]) > 1 for part in ("input_tokens", "cofiring"))


def test_cofiring_is_that_of_the_text(
    client: httpx.Client, harvest: Harvest, read: tuple[np.ndarray, np.ndarray]
) -> None:
    found = get(client, f"/components/{KEY}/evidence", k=200)["cofiring"]
    fires = read[0][:, harvest.flat(*component(KEY))]
    assert found["complete"]
    assert KEY not in {entry["key"] for entry in found["positive"] + found["negative"]}
    assert found["positive"]
    assert found["negative"]
    for entry in [*found["positive"], *found["negative"]]:
        other = read[0][:, harvest.flat(*component(entry["key"]))]
        both = int((fires & other).sum())
        assert (entry["count"], entry["other_count"]) == (both, other.sum())
        assert entry["recall"] == pytest.approx(both / fires.sum())
        assert entry["precision"] == pytest.approx(both / other.sum())
        assert entry["jaccard"] == pytest.approx(both / (fires | other).sum())


def test_what_never_meets_leads_the_negative_lists(
    client: httpx.Client, harvest: Harvest, read: tuple[np.ndarray, np.ndarray]
) -> None:
    """Published tools leave out exactly these. From the model itself, for all components and tokens."""
    fires, tokens = read
    one_hot = np.zeros((len(tokens), len(harvest.token_count)))
    one_hot[np.arange(len(tokens)), tokens] = 1
    silent_pairs = 0
    for flat in range(0, harvest.n_components, 4):
        address, index = harvest.component(flat)
        if not fires[:, flat].any():
            continue
        found = get(client, f"/components/{address}:{index}/evidence", k=200)
        for name, others in (("cofiring", fires.astype(float)), ("input_tokens", one_hot)):
            joint, by_chance = fires[:, flat] @ others, fires[:, flat].sum() * others.mean(0)
            listed = {
                harvest.flat(*component(entry["key"])) if name == "cofiring" else entry["token_id"]
                for entry in found[name]["negative"]
                if entry["count"] == 0
            }
            assert (joint[list(listed)] == 0).all()
            # Of none where two are expected, the interval reaches up to 2.51 / 2.5.
            assert listed == set(np.flatnonzero((joint == 0) & (by_chance > 2.01)).tolist())
            silent_pairs += len(listed) * (name == "cofiring")
    assert silent_pairs > 0


# ---- examples -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["random", "strongest"])
def test_examples_page_through(
    client: httpx.Client, llama: RunDirectory, harvest: Harvest, kind: Any
) -> None:
    expected, corpus = harvest.examples(*component(KEY), kind), llama.corpus()
    found: list[Any] = []
    cursor: dict[str, str] = {}
    while True:
        page = get(client, f"/components/{KEY}/examples", kind=kind, limit=2, **cursor)
        found += page["examples"]
        assert page["kept"] == page["matching"] == len(expected.document)
        assert page["total"] == harvest.site("firing_count", component(KEY)[0])[component(KEY)[1]]
        if page["next_cursor"] is None:
            break
        cursor = {"cursor": page["next_cursor"]}
    assert len(found) == len(expected.document)
    for row, example in enumerate(found):
        position = int(expected.corpus_position[row])
        number = int(np.searchsorted(corpus.offsets, position, "right")) - 1
        assert (example["corpus_position"], example["document"]) == (position, number)
        assert example["document_title"] == corpus.titles[number]
        assert example["document_position"] == position - corpus.offsets[number]
        assert example["tokens"][example["left"]]["id"] == corpus.tokens[position]
        for place, token in enumerate(example["tokens"]):
            if token is None:
                assert expected.tokens[row, place] == -1
                assert example["ci"][place] is example["activation"][place] is None
            else:
                assert token["id"] == expected.tokens[row, place]
                assert example["ci"][place] == expected.ci[row, place]
                assert example["activation"][place] == expected.activation[row, place]


def test_examples_on_one_token(client: httpx.Client) -> None:
    every = get(client, f"/components/{KEY}/examples", limit=200)["examples"]
    token = every[0]["tokens"][every[0]["left"]]["id"]
    wanted = [e for e in every if e["tokens"][e["left"]]["id"] == token]
    page = get(client, f"/components/{KEY}/examples", limit=200, token=token)
    assert page["examples"] == wanted
    assert (page["matching"], page["kept"]) == (len(wanted), len(every))
    assert get(client, f"/components/{KEY}/examples", token=269 + 10_000)["matching"] == 0


def test_a_cursor_holds_for_its_own_list(client: httpx.Client) -> None:
    cursor = get(client, f"/components/{KEY}/examples", limit=1)["next_cursor"]
    path = f"/api/runs/llama/components/{KEY}/examples"
    for other in ({"kind": "strongest"}, {"token": 5}):
        answer = client.get(path, params={"cursor": cursor, "limit": 1, **other})
        assert refused(answer) == (404, "unknown_cursor")
    assert client.get(path, params={"cursor": cursor}).status_code == 200
    for wrong in ("7-000000000000", "²-" + cursor.partition("-")[2], "x"):
        assert refused(client.get(path, params={"cursor": wrong}))[0] in (404, 422)


def test_what_is_not_there_is_said(client: httpx.Client) -> None:
    for route in ("evidence", "examples"):
        answer = client.get(f"/api/runs/bare/components/0.attn.q:1/{route}")
        assert refused(answer) == (409, "not_computed")
        assert answer.json()["hint"] == "Run: tributary harvest bare"
        for key in ("embed:3", "output:3", "0.attn.o:delta", "0.attn.q:999"):
            answer = client.get(f"/api/runs/llama/components/{key}/{route}")
            assert refused(answer) == (404, "unknown_key")
        answer = client.get(f"/api/runs/llama/components/{KEY}/{route}", params={"subrun": "../../bare"})
        assert refused(answer) == (404, "unknown_subrun")


# ---- documents and texts ------------------------------------------------------------------------


@pytest.mark.parametrize("key", [KEY, "0.attn.q:1", "0.glu.gate:0"])
def test_a_document_shows_the_values_of_its_examples(
    client: httpx.Client, harvest: Harvest, key: str
) -> None:
    """Computed now in the windows of the harvest, so that both are the same numbers."""
    for kind in ("random", "strongest"):
        for example in get(client, f"/components/{key}/examples", kind=kind)["examples"]:
            shown = [place for place, token in enumerate(example["tokens"]) if token is not None]
            start = example["document_position"] - example["left"] + shown[0]
            page = get(client, f"/documents/{example['document']}", start=start, length=len(shown), key=key)
            assert page["tokens"] == [example["tokens"][place] for place in shown]
            np.testing.assert_allclose(page["ci"], [example["ci"][i] for i in shown], atol=1e-5)
            np.testing.assert_allclose(
                page["activation"], [example["activation"][i] for i in shown], rtol=1e-4, atol=1e-5
            )


def test_a_document_is_read_part_by_part(client: httpx.Client, llama: RunDirectory) -> None:
    corpus = llama.corpus()
    page = get(client, "/documents/19", length=37, key=KEY)
    ids, values = [token["id"] for token in page["tokens"]], page["ci"]
    while page["next_start"] is not None:
        start = page["next_start"]
        page = get(client, "/documents/19", start=start, length=37, key=KEY)
        assert page["start"] == start == len(ids)
        ids += [token["id"] for token in page["tokens"]]
        values += page["ci"]
    assert ids == corpus.document(19).tolist()
    assert (page["title"], page["validation"], page["documents"]) == ("text 19", True, 40)
    assert (page["total"], page["corpus_start"]) == (len(ids), corpus.offsets[19])
    whole = get(client, "/documents/19", length=2048, key=KEY)
    np.testing.assert_allclose(whole["ci"], values, atol=1e-5)
    assert "windows of 32" in whole["windows"]
    plain = get(client, "/documents/19")
    assert (plain["ci"], plain["activation"], plain["windows"], plain["peak_bytes"]) == (None, None, None, 0)
    assert client.get("/api/runs/bare/documents/3", params={"key": "0.attn.q:1"}).status_code == 200


def test_documents_that_are_not_there(client: httpx.Client, llama: RunDirectory) -> None:
    assert refused(client.get("/api/runs/llama/documents/40")) == (404, "unknown_document")
    answer = client.get("/api/runs/llama/documents/3", params={"start": len(llama.corpus().document(3))})
    assert refused(answer) == (404, "unknown_document")
    answer = client.get("/api/runs/llama/documents/3", params={"key": "embed:5"})
    assert refused(answer) == (404, "unknown_key")


def test_firings_on_a_text(client: httpx.Client, llama: RunDirectory, model: Decomposition) -> None:
    text = "the quick brown fox"
    body = {"text": text, "keys": ["1.attn.o:1", KEY, "1.attn.o:1"], "k": 4, "per_token": 2}
    answer = client.post("/api/runs/llama/firings", json=body)
    assert answer.status_code == 200, answer.text
    found = answer.json()
    ids = llama.tokenizer().encode(text, add_special_tokens=False).ids
    assert [token["id"] for token in found["tokens"]] == ids
    assert [row["key"] for row in found["components"]] == ["1.attn.o:1", KEY]
    with torch.no_grad():
        _, inputs = model.clean_pass(torch.tensor([ids]))
        importance = model.causal_importance(inputs)
    for row in [*found["components"], *found["strongest"]]:
        address, index = component(row["key"])
        ci = importance[address][0, :, index].numpy()
        activation = (inputs[address][0] @ model.V(address)[:, index]) * model.U(address)[index].norm()
        np.testing.assert_allclose(row["ci"], ci, atol=1e-6)
        np.testing.assert_allclose(row["activation"], activation.detach().numpy(), rtol=1e-4, atol=1e-6)
        assert row["ci_sum"] == pytest.approx(ci.sum(), rel=1e-5)
        assert row["ci"][row["position"]] == row["ci_max"] == max(row["ci"])
        assert row["firing_count"] == (ci > 0).sum()
    sums = np.sort(np.concatenate([i[0].sum(0).numpy() for i in importance.values()]))[::-1]
    np.testing.assert_allclose([row["ci_sum"] for row in found["strongest"]], sums[:4], rtol=1e-5)
    alive = torch.cat([importance[a][0] for a in importance], 1) > 0
    assert [row["firing_count"] for row in found["positions"]] == alive.sum(1).tolist()
    assert found["firing"] == int(alive.any(0).sum())
    assert all(len(row["strongest"]) == 2 for row in found["positions"])
    again = client.post("/api/runs/llama/firings", json={"token_ids": ids, "k": 0, "per_token": 0}).json()
    assert again["tokens"] == found["tokens"]
    assert again["strongest"] == again["components"] == []


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"text": "the " * 400}, 413, "too_large"),
        ({"token_ids": [1] * 33}, 413, "too_large"),
        ({"token_ids": [10**6]}, 404, "unknown_key"),
        ({"text": "a", "keys": ["embed:3"]}, 404, "unknown_key"),
        ({"text": "a", "keys": ["0.attn.q:99"]}, 404, "unknown_key"),
        ({"text": "a", "keys": ["nothing"]}, 422, "bad_input"),
        ({"text": "a", "keys": ["0.attn.q:1"] * 21}, 422, "bad_input"),
        ({"text": ""}, 422, "bad_input"),
        ({"text": "a", "k": 201}, 422, "bad_input"),
        ({"text": "a", "k": "3"}, 422, "bad_input"),
        ({}, 422, "bad_input"),
    ],
)
def test_firings_that_cannot_be(client: httpx.Client, body: dict[str, Any], status: int, code: str) -> None:
    assert refused(client.post("/api/runs/llama/firings", json=body)) == (status, code)


# ---- the table and batches ----------------------------------------------------------------------


def test_components_that_fire_on_a_token(client: httpx.Client, harvest: Harvest, llama: RunDirectory) -> None:
    page = get(client, "/components", fires_on="E", sort="-fires_on", limit=2000)
    assert [token["text"] for token in page["fires_on"]] == ["E", "e"]  # the first is not in the text
    token = page["fires_on"][1]["id"]
    assert page["scan_seconds"] > 0
    listed = {row["key"]: row["fires_on"] for row in page["components"]}
    lows = [entry["pmi_low"] for entry in listed.values()]
    assert lows == sorted(lows, reverse=True)
    for flat in range(harvest.n_components):
        address, index = harvest.component(flat)
        key = f"{address}:{index}"
        ids, counts = harvest.input_counts(address, index)
        entry = get(client, f"/components/{key}/evidence", k=200)["input_tokens"]["positive"]
        expected = next((one for one in entry if one["token_id"] == token), None)
        assert listed.get(key) == expected
        if expected is not None:
            assert expected["count"] == counts[ids == token][0]
    assert 0 < len(listed) < llama.info.n_components
    nothing = get(client, "/components", fires_on="no such token")
    assert (nothing["total"], nothing["fires_on"]) == (0, [])
    assert get(client, "/components")["fires_on"] is None


def test_sorting_by_a_token_needs_one_and_a_harvest(client: httpx.Client) -> None:
    answer = client.get("/api/runs/llama/components", params={"sort": "fires_on"})
    assert refused(answer) == (422, "bad_input")
    answer = client.get("/api/runs/bare/components", params={"fires_on": "e"})
    assert refused(answer) == (409, "not_computed")
    assert "tributary harvest bare" in answer.json()["hint"]
    answer = client.get("/api/runs/bare/components", params={"sort": "strongest_source"})
    assert refused(answer) == (409, "not_computed")
    assert "tributary attribute bare" in answer.json()["hint"]


@pytest.mark.parametrize("column", ["strongest_source", "strongest_target"])
def test_sorting_by_the_strongest_end(client: httpx.Client, llama: RunDirectory, column: str) -> None:
    rows = get(client, "/components", sort=f"-{column}", limit=2000)
    assert rows["scan_seconds"] > 0
    ends = [row[column] for row in rows["components"]]
    sizes = [abs(end["value"]) for end in ends if end is not None]
    assert sizes == sorted(sizes, reverse=True)
    assert all(end is None for end in ends[len(sizes) :])
    rising = get(client, "/components", sort=column, limit=2000)["components"]
    assert [abs(row[column]["value"]) for row in rising[: len(sizes)]] == sizes[::-1]
    store = llama.attributions()
    query = store.top_sources if column == "strongest_source" else store.top_targets
    first = rows["components"][0]
    key = parse_key(first["key"])
    found = [entry for sign in ("positive", "negative") for entry in query(key, 1, sign).entries]
    best = max(found, key=lambda entry: abs(entry.value))
    assert first[column]["key"] == str(best.key)
    assert first[column]["value"] == pytest.approx(best.value, rel=1e-4)
    other = "strongest_target" if column == "strongest_source" else "strongest_source"
    assert first[other] is None


def test_densities_between_bounds(client: httpx.Client) -> None:
    every = get(client, "/components", limit=2000)["components"]
    page = get(client, "/components", limit=2000, min_density=0.3, max_density=0.7)
    expected = [row["key"] for row in every if 0.3 <= row["density"] <= 0.7]
    assert [row["key"] for row in page["components"]] == expected
    assert 0 < len(expected) < len(every)
    assert client.get("/api/runs/bare/components", params={"min_density": 0}).json()["total"] == 0
    assert refused(client.get("/api/runs/llama/components", params={"min_density": 2}))[0] == 422


def test_labels_are_sorted_and_searched(client: httpx.Client) -> None:
    names = {"0.attn.q:3": "zebras", "1.glu.up:1": "Apples", "0.attn.k:2": "apples"}
    for key, name in names.items():
        body = {"version": 0, "name": name, "text": "", "rating": None, "author": "me"}
        assert client.put(f"/api/runs/gpt2/labels/{key.replace('glu', 'mlp')}", json=body).is_success
    path = "/api/runs/gpt2/components"
    rows = client.get(path, params={"sort": "label", "limit": 2000}).json()["components"]
    assert [row["key"] for row in rows[:3]] == ["1.mlp.up:1", "0.attn.k:2", "0.attn.q:3"]
    rows = client.get(path, params={"sort": "-label", "limit": 2000}).json()["components"]
    assert [row["key"] for row in rows[:3]] == ["0.attn.q:3", "0.attn.k:2", "1.mlp.up:1"]
    rows = client.get(path, params={"q": "Zebra"}).json()["components"]
    assert [row["key"] for row in rows] == ["0.attn.q:3"]


def test_a_batch_has_evidence_in_compact_form(client: httpx.Client) -> None:
    body = {"keys": [KEY, "embed:3"], "k": 1}
    cards = client.post("/api/runs/llama/components:batch", json=body).json()["cards"]
    whole = get(client, f"/components/{KEY}/evidence", k=5)
    compact = cards[0]["evidence"]
    assert compact["density"] == whole["density"]
    assert compact["input_tokens"] == whole["input_tokens"]["positive"]
    assert compact["output_tokens"] == whole["output_tokens"]["positive"]
    assert compact["examples"] == get(client, f"/components/{KEY}/examples", limit=2)["examples"]
    assert cards[1]["evidence"] is None
    without = client.post("/api/runs/llama/components:batch", json=body | {"evidence": False}).json()
    assert without["cards"][0]["evidence"] is None
    bare = client.post("/api/runs/bare/components:batch", json={"keys": ["0.attn.q:1"]}).json()
    assert bare["cards"][0]["evidence"] is None


# ---- what changes and what breaks ---------------------------------------------------------------


@pytest.fixture
def own(llama: RunDirectory, tmp_path: Path) -> Iterator[tuple[httpx.Client, RunDirectory]]:
    """A server over a copy that may be changed."""
    shutil.copytree(llama.path, tmp_path / "runs" / "llama")
    with served(Settings(runs=tmp_path / "runs")) as client:
        yield client, RunDirectory.open(tmp_path / "runs" / "llama")


def test_a_new_harvest_is_used_at_once(
    own: tuple[httpx.Client, RunDirectory], model: Decomposition, harvest: Harvest
) -> None:
    client, run = own
    assert get(client, f"/components/{KEY}/evidence")["subrun"] == harvest.subrun
    cursor = get(client, f"/components/{KEY}/examples", limit=1)["next_cursor"]
    newer = write_naive_harvest(run, model, harvest.settings.model_copy(update={"left": 2, "seed": 9}))
    assert get(client, f"/components/{KEY}/evidence")["subrun"] == newer
    assert get(client, f"/components/{KEY}/examples")["examples"][0]["left"] == 2
    older = get(client, f"/components/{KEY}/examples", subrun=harvest.subrun)
    assert older["examples"][0]["left"] == harvest.settings.left
    answer = client.get(f"/api/runs/llama/components/{KEY}/examples", params={"cursor": cursor})
    assert refused(answer) == (404, "unknown_cursor")


def test_what_never_fires_has_empty_lists(
    own: tuple[httpx.Client, RunDirectory], model: Decomposition, harvest: Harvest
) -> None:
    client, run = own
    # Causal importances are 1 at most: nothing is above this.
    write_naive_harvest(run, model, harvest.settings.model_copy(update={"threshold": 2.0}))
    found = get(client, f"/components/{KEY}/evidence")
    assert (found["threshold"], found["firing_count"], found["density"]) == (2.0, 0, 0.0)
    assert found["activation"]["mean_firing"] is None
    assert found["histogram"] == {"edges": [], "counts": []}
    for part in ("input_tokens", "output_tokens", "cofiring"):
        assert found[part] == {
            "positive": [],
            "negative": [],
            "positive_total": 0,
            "negative_total": 0,
            "complete": True,
        }
    page = get(client, f"/components/{KEY}/examples")
    assert (page["examples"], page["kept"], page["next_cursor"]) == ([], 0, None)
    assert get(client, "/components", fires_on="e")["total"] == 0
    batch = client.post("/api/runs/llama/components:batch", json={"keys": [KEY]}).json()
    assert batch["cards"][0]["evidence"]["examples"] == []
    fired = client.post("/api/runs/llama/firings", json={"text": "the", "keys": [KEY]}).json()
    assert (fired["threshold"], fired["firing"]) == (2.0, 0)
    assert fired["components"][0]["firing_count"] == fired["positions"][0]["firing_count"] == 0
    assert fired["positions"][0]["strongest"] == []


def test_of_a_list_that_is_not_whole_only_what_is_kept_takes_part(
    own: tuple[httpx.Client, RunDirectory], model: Decomposition, harvest: Harvest
) -> None:
    client, run = own
    key = "0.attn.q:1"  # it never fires on some frequent tokens
    manifest, totals, blocks = naive_harvest(run, model, harvest.settings)
    kept = np.flatnonzero(totals["token_count"])[10:]
    for block in blocks:
        counts = dict(zip(block["input/ids"].tolist(), block["input/values"].tolist(), strict=True))
        block["input/offsets"] = np.array([0, len(kept)])
        block["input/ids"] = kept
        block["input/values"] = np.array([counts.get(token, 0) for token in kept.tolist()])
    settings = harvest.settings.model_copy(update={"compact": "a small copy of this"})
    complete = {"input": False, "output": True, "cofiring": True}
    manifest = manifest.model_copy(update={"settings": settings, "complete": complete})
    work = run.path / "harvest" / ".writing"
    work.mkdir()
    write_harvest(work, manifest, totals, blocks, run.corpus().tokens)
    publish(work, run.path / "harvest")
    whole = get(client, f"/components/{key}/evidence", k=200, subrun=harvest.subrun)
    found = get(client, f"/components/{key}/evidence", k=200)
    assert "A small copy of this." in found["notes"]
    assert not found["input_tokens"]["complete"]
    for sign in ("positive", "negative"):
        expected = [entry for entry in whole["input_tokens"][sign] if entry["token_id"] in kept]
        assert found["input_tokens"][sign] == expected
    assert any(entry["count"] == 0 for entry in found["input_tokens"]["negative"])
    assert found["cofiring"] == whole["cofiring"]


def test_damage_is_named_and_never_answered_with_numbers(own: tuple[httpx.Client, RunDirectory]) -> None:
    client, run = own
    file = run.path / "harvest" / run.harvest_subruns()[0] / "records.bin"
    content = bytearray(file.read_bytes())
    content[::7] = bytes(255 - byte for byte in content[::7])
    file.write_bytes(content)
    for path in (f"components/{KEY}/evidence", f"components/{KEY}/examples", "components?fires_on=e"):
        answer = client.get(f"/api/runs/llama/{path}")
        assert refused(answer) == (409, "store_damaged")
        assert "records.bin" in answer.json()["message"]
    # Cards still show what is whole, and say what is not.
    batch = client.post("/api/runs/llama/components:batch", json={"keys": [KEY]}).json()
    assert batch["cards"][0]["sources_positive"]["status"] == "available"
    assert any("records.bin" in note for note in batch["cards"][0]["notes"])


def test_what_takes_long_is_worked_out_once() -> None:
    calls: list[int] = []

    def slow(report: Any) -> int:
        calls.append(1)
        report("rows", 1, 2)
        time.sleep(0.3)
        return 42

    once: Once[int] = Once("It is being counted")
    with pytest.raises(ServiceError) as busy:
        once.get("a", slow, patience=0.1)
    assert busy.value.status == 503
    assert "50% done" in busy.value.body.message
    assert once.get("a", slow).value == once.get("a", slow).value == 42
    assert len(calls) == 1
    assert once.get("b", slow).seconds >= 0.3
    assert len(calls) == 2

    def damaged(_: Any) -> int:
        raise StoreDamagedError(Path("file"), "is damaged")

    with pytest.raises(StoreDamagedError):
        once.get("c", damaged)
    assert once.get("c", slow).value == 42


def test_keys_are_in_display_order(client: httpx.Client, harvest: Harvest) -> None:
    """The flat indices of harvest, table and firings are the same."""
    rows = get(client, "/components", limit=2000)["components"]
    keys = [str(Key(*harvest.component(flat))) for flat in range(harvest.n_components)]
    assert [row["key"] for row in rows] == keys
