"""Every route, against what the storage room says directly."""

from __future__ import annotations

from typing import Any

import httpx
import numpy as np
import pytest

from compute.address import parse_key
from storage.run_directory import RunDirectory


def get(client: httpx.Client, path: str, **parameters: Any) -> Any:
    answer = client.get(f"/api{path}", params=parameters)
    assert answer.status_code == 200, answer.text
    assert answer.json()["seconds"] >= 0
    return answer.json()


def test_health(client: httpx.Client) -> None:
    assert get(client, "/health").keys() == {"status", "version", "runs", "seconds"}
    assert get(client, "/health")["status"] == "ok"


def test_runs_are_listed_with_what_each_has(client: httpx.Client) -> None:
    runs = {run["name"]: run for run in get(client, "/runs")["runs"]}
    assert {"llama", "gpt2", "bare"} <= runs.keys()
    assert runs["llama"]["has_attributions"]
    assert not runs["bare"]["has_attributions"]
    assert runs["gpt2"]["family"] == "gpt2"


def test_run_detail(client: httpx.Client, llama: RunDirectory) -> None:
    detail = get(client, "/runs/llama")
    assert [site["address"] for site in detail["sites"]][:4] == [
        "0.attn.q",
        "0.attn.k",
        "0.attn.v",
        "0.attn.o",
    ]
    statistics = llama.statistics()
    for site in detail["sites"]:
        ci_max = statistics.arrays[f"ci_max/{site['address']}"]
        assert site["n_alive"] == int((ci_max > 0.1).sum())
        alive = statistics.arrays[f"alive_count/{site['address']}"]
        assert site["mean_l0"] == pytest.approx(alive.sum() / statistics.tokens)
    store = llama.attributions()
    assert detail["attributions"]["subrun"] == store.subrun == detail["subruns"][0]
    assert detail["attributions"]["tokens"] == store.tokens
    assert detail["attributions"]["metrics"] == ["attr", "attr_abs", "attr_frozen"]
    assert detail["attributions"]["output_abs"] == "all"
    assert detail["evaluation"] is None
    assert detail["problems"] == []
    assert detail["kind"] == "model"
    assert detail["capabilities"] == dict.fromkeys(
        ("model", "tokenizer", "text", "attributions", "harvest"), True
    )
    assert detail["importance"] == {
        "kind": "shared_mlp",
        "hidden": [8],
        "sigmoid": "leaky_hard",
        "sees_later_tokens": False,
    }
    assert detail["n_decomposed"] == detail["n_modules"] == len(detail["sites"]) == 14
    assert detail["whole"] == detail["notes"] == []


def test_a_bare_run_says_that_nothing_was_computed(client: httpx.Client) -> None:
    detail = get(client, "/runs/bare")
    assert detail["attributions"] is None
    assert detail["subruns"] == []
    assert detail["harvests"] == []
    assert {site["n_alive"] for site in detail["sites"]} == {None}
    page = get(client, "/runs/bare/components")
    assert page["tokens"] is None
    assert {row["mean_ci"] for row in page["components"]} == {None}


def test_components_page_through_in_order(client: httpx.Client, llama: RunDirectory) -> None:
    keys: list[str] = []
    cursor: dict[str, str] = {}
    while True:
        page = get(client, "/runs/llama/components", limit=17, **cursor)
        keys += [row["key"] for row in page["components"]]
        assert page["total"] == llama.info.n_components
        if page["next_cursor"] is None:
            break
        cursor = {"cursor": page["next_cursor"]}
    assert len(keys) == llama.info.n_components
    assert keys == sorted(keys, key=parse_key)


@pytest.mark.parametrize("column", ["mean_ci", "max_ci", "density", "activation_rms"])
def test_components_sort(client: httpx.Client, column: str) -> None:
    rows = get(client, "/runs/llama/components", sort=f"-{column}", limit=2000)["components"]
    values = [row[column] for row in rows]
    assert values == sorted(values, reverse=True)
    values = [row[column] for row in get(client, "/runs/llama/components", sort=column)["components"]]
    assert values == sorted(values)


def test_component_statistics(client: httpx.Client, llama: RunDirectory) -> None:
    statistics = llama.statistics()
    row = get(client, "/runs/llama/components/0.glu.up:3")["summary"]
    u = llama.model_tensors()["components.0.glu.up.U"][3]
    square = statistics.arrays["activation_square_sum/0.glu.up"][3]
    assert row["mean_ci"] == pytest.approx(statistics.arrays["ci_sum/0.glu.up"][3] / statistics.tokens)
    assert row["density"] == pytest.approx(statistics.arrays["alive_count/0.glu.up"][3] / statistics.tokens)
    assert row["activation_rms"] == pytest.approx(np.sqrt(square / statistics.tokens) * np.linalg.norm(u))


def test_components_of_a_site(client: httpx.Client) -> None:
    page = get(client, "/runs/llama/components", site="1.attn.k")
    assert {row["address"] for row in page["components"]} == {"1.attn.k"}
    assert page["total"] == len(page["components"])


def test_components_are_found_by_key(client: httpx.Client) -> None:
    keys = [row["key"] for row in get(client, "/runs/llama/components", q="1.glu.down:2")["components"]]
    assert "1.glu.down:2" in keys
    keys = [row["key"] for row in get(client, "/runs/llama/components", q="1.GLU.", limit=2000)["components"]]
    assert sum(key.startswith("1.glu.") for key in keys) == get(client, "/runs/llama")["n_components"] - sum(
        not row["key"].startswith("1.glu.")
        for row in get(client, "/runs/llama/components", limit=2000)["components"]
    )


def test_components_are_found_by_token_text(client: httpx.Client, llama: RunDirectory) -> None:
    statistics, tokenizer = llama.statistics(), llama.tokenizer()
    token = tokenizer.token_to_id("z")
    expected = {
        f"{site.address}:{index}"
        for site in llama.info.sites
        for index in np.flatnonzero((statistics.arrays[f"top_token/{site.address}"] == token).any(axis=1))
    }
    found = get(client, "/runs/llama/components", q="z", limit=2000)["components"]
    assert expected <= {row["key"] for row in found}
    assert len(found) < llama.info.n_components


LISTS = [
    ("llama", "1.glu.down:2", "sources", "attr"),
    ("llama", "0.attn.o:1", "sources", "attr_abs"),
    ("llama", "output:40", "sources", "attr_frozen"),
    ("llama", "output:40", "sources", "attr_abs"),
    ("llama", "embed:40", "targets", "attr"),
    ("llama", "0.glu.down:1", "targets", "attr_abs"),
    ("llama", "0.attn.o:delta", "targets", "attr"),
    ("gpt2", "position:3", "targets", "attr"),
    ("gpt2", "0.mlp.down:bias", "targets", "attr_frozen"),
    ("gpt2", "1.mlp.up:0", "sources", "attr_abs"),
]


@pytest.mark.parametrize(("run", "key", "direction", "metric"), LISTS)
@pytest.mark.parametrize("sign", ["positive", "negative"])
@pytest.mark.parametrize("raw", [False, True])
def test_lists_are_those_of_the_store(
    client: httpx.Client,
    llama: RunDirectory,
    run: str,
    key: str,
    direction: str,
    metric: Any,
    sign: Any,
    raw: bool,
) -> None:
    found = get(client, f"/runs/{run}/components/{key}/{direction}", metric=metric, sign=sign, k=5, raw=raw)
    store = RunDirectory.open(llama.path.parent / run).attributions()
    query = store.top_sources if direction == "sources" else store.top_targets
    expected = query(parse_key(key), 5, sign, metric, normalised=not raw)
    assert found["total"] == expected.total
    assert found["total_value"] == expected.total_value
    assert found["tokens"] == expected.tokens
    assert found["normalised"] is not raw
    assert found["shown_value"] == pytest.approx(sum(entry["value"] for entry in found["entries"]))
    for entry, other in zip(found["entries"], expected.entries, strict=True):
        assert entry["key"] == str(other.key) == f"{entry['address']}:{entry['index']}"
        assert entry["value"] == other.value
        assert entry["standard_error"] == other.standard_error
        assert entry["support"] == other.support
        assert (entry["label"] is not None) == (entry["kind"] in ("embed", "output"))


def test_a_card_holds_its_four_lists(client: httpx.Client) -> None:
    card = get(client, "/runs/llama/components/1.attn.o:1", k=3)
    for direction in ("sources", "targets"):
        for sign in ("positive", "negative"):
            listed = card[f"{direction}_{sign}"]
            assert listed["status"] == "available"
            alone = get(client, f"/runs/llama/components/1.attn.o:1/{direction}", sign=sign, k=3)
            assert {**listed, "seconds": 0} == {**alone, "seconds": 0}
    assert card["kind"] == "component"
    assert card["summary"]["key"] == "1.attn.o:1"
    shares = [token["share"] for token in card["input_tokens"]]
    assert shares == sorted(shares, reverse=True)


def test_cards_of_tokens(client: httpx.Client, llama: RunDirectory) -> None:
    token = llama.tokenizer().token_to_id("e")
    count = int(llama.statistics().token_count[token])
    embed = get(client, f"/runs/llama/components/embed:{token}")
    assert (embed["label"], embed["kind"], embed["count"]) == ("e", "embed", count)
    assert embed["sources_positive"]["status"] == "unavailable"
    assert "source only" in embed["sources_positive"]["reason"]
    assert embed["targets_positive"]["status"] == "available"
    output = get(client, f"/runs/llama/components/output:{token}", metric="attr_abs")
    assert output["targets_negative"]["status"] == "unavailable"
    assert output["sources_negative"]["status"] == "available"
    assert any("centred" in note for note in output["notes"])


def test_a_card_without_attributions_still_shows_the_component(client: httpx.Client) -> None:
    card = get(client, "/runs/bare/components/0.attn.q:1")
    assert card["sources_positive"]["status"] == "unavailable"
    assert "tributary attribute" in card["sources_positive"]["reason"]
    assert card["subrun"] is None


def test_notes_say_what_numbers_do_not(client: httpx.Client) -> None:
    scale_free = get(client, "/runs/llama/components/0.attn.q:0")
    assert any("attr_frozen" in note for note in scale_free["notes"])
    part = get(client, "/runs/gpt2/components/0.mlp.down:0", metric="attr_abs")
    assert any("of the" in note and "tokens" in note for note in part["notes"])
    assert any("components only" in note for note in part["notes"])


def test_a_batch_gives_cards_in_order_and_reasons(client: httpx.Client) -> None:
    keys = ["1.attn.o:1", "embed:3", "0.attn.q:999", "output:3", "embed:3"]
    answer = client.post(
        "/api/runs/llama/components:batch", json={"keys": keys, "k": 2, "metric": "attr_abs"}
    )
    assert answer.status_code == 200
    body = answer.json()
    assert [card["key"] for card in body["cards"]] == ["1.attn.o:1", "embed:3", "output:3"]
    assert [(failure["key"], failure["error"]["code"]) for failure in body["failures"]] == [
        ("0.attn.q:999", "unknown_key")
    ]
    alone = get(client, "/runs/llama/components/1.attn.o:1", k=2, metric="attr_abs")
    assert body["cards"][0]["sources_positive"]["entries"] == alone["sources_positive"]["entries"]


def test_one_edge(client: httpx.Client, llama: RunDirectory) -> None:
    found = get(client, "/runs/llama/attribution", source="embed:40", target="1.attn.q:2")
    expected = llama.attributions().attribution(parse_key("embed:40"), parse_key("1.attn.q:2"))
    assert found["value"] == expected.value
    assert found["raw"] == expected.raw
    assert found["standard_error"] == expected.standard_error
    assert found["connected"]
    raw = get(client, "/runs/llama/attribution", source="embed:40", target="1.attn.q:2", raw=True)
    assert raw["value"] == expected.raw
    none = get(client, "/runs/llama/attribution", source="1.attn.q:2", target="0.attn.q:2")
    assert (none["connected"], none["value"]) == (False, 0.0)


def test_token_search(client: httpx.Client, llama: RunDirectory) -> None:
    tokenizer = llama.tokenizer()
    found = get(client, "/runs/llama/tokens", q="e", limit=1000)
    assert found["tokens"][0]["text"] == "e"
    assert found["tokens"][0]["embed_key"] == f"embed:{tokenizer.token_to_id('e')}"
    assert all("e" in token["text"].casefold() for token in found["tokens"])
    assert found["total"] == len(found["tokens"])
    everything = get(client, "/runs/llama/tokens", limit=1000)
    assert everything["total"] == tokenizer.get_vocab_size()
    by_id = get(client, "/runs/llama/tokens", q="7", limit=1000)
    assert 7 in {token["token_id"] for token in by_id["tokens"]}
    assert get(client, "/runs/bare/tokens", q="e")["tokens"][0]["count"] is None


def test_subruns_can_be_chosen(client: httpx.Client, llama: RunDirectory) -> None:
    subrun = llama.attributions().subrun
    card = get(client, "/runs/llama/components/0.attn.q:1", subrun=subrun)
    assert card["subrun"] == subrun
    answer = client.get("/api/runs/llama/components/0.attn.q:1", params={"subrun": "../../bare"})
    assert (answer.status_code, answer.json()["code"]) == (404, "unknown_subrun")
