"""From a published directory to the page's answers, with the commands that a researcher would type."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch

from backend.cli import run as tributary
from backend.settings import Settings
from storage.corpus import windows
from storage.layout import GROUPS
from storage.run_directory import RunDirectory
from tests.backend.conftest import served
from tests.backend.test_graph_routes import compute, keys_of, ok, read_edges
from tests.support.public import PublicRun, write_public_run
from tests.support.public.attribution_files import four_edge_content
from tests.support.public.attributions import PublicAttributions, prompt_attributions
from tests.support.public.run import WORDS

WINDOW = 12
VARIANTS: dict[str, dict[str, Any]] = {
    "newest": {"importance": "global_shared_transformer", "sites": {"h.*.attn.*": 5, "h.*.mlp.*": 6}},
    "old": {"family": "LlamaSimple", "layout": "A-old", "sites": {"h.*.mlp.*_proj": 6, "h.1.attn.o_proj": 6}},
    "fused": {"family": "GPT2LMHeadModel", "layout": "B"},
}


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> dict[str, PublicRun]:
    folder = tmp_path_factory.mktemp("published")
    return {name: write_public_run(folder / name, **options) for name, options in VARIANTS.items()}


@pytest.fixture(scope="module")
def runs(published: dict[str, PublicRun], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All of them imported, with a text, and attributed by the published definition."""
    folder = tmp_path_factory.mktemp("runs")
    text = folder.parent / "text.txt"
    text.write_text("\n\n".join(" ".join(WORDS[i : i + 15]) for i in range(0, 40, 10)))
    for name, public in published.items():
        target = str(public.target_directory)
        arguments = ["import", str(public.directory), "--target", target, "--tokenizer", target, "--offline"]
        assert tributary([*arguments, "--text", str(text), "--runs", str(folder)]) == 0
        choices = ["--delta", "off", "--length", str(WINDOW), "--device", "cpu"]
        assert tributary(["attribute", name, "--runs", str(folder), *choices]) == 0
    return folder


@pytest.fixture(scope="module")
def api(runs: Path) -> Iterator[httpx.Client]:
    with served(Settings(runs=runs)) as client:
        client.base_url = client.base_url.join("/api/")
        yield client


def whole_text(public: PublicRun, run: RunDirectory) -> PublicAttributions:
    """The reference's sums over the run's text, in the windows that the command reads."""
    total = PublicAttributions()
    for group in range(GROUPS):
        for tokens in windows(run.corpus().group(group, GROUPS), WINDOW, 8):
            total = add(total, public.attributions(tokens))
    return total


def add(a: PublicAttributions, b: PublicAttributions) -> PublicAttributions:
    if not a.n_tokens:
        return b

    def both(x: Any, y: Any) -> Any:
        return {key: both(x[key], y[key]) for key in y} if isinstance(y, dict) else x + y

    fields = {name: both(getattr(a, name), getattr(b, name)) for name in vars(b) if name != "w_unembed"}
    return PublicAttributions(**fields, w_unembed=b.w_unembed)


@pytest.mark.parametrize("name", VARIANTS)
def test_a_card_shows_the_published_numbers(name: str, api: httpx.Client, runs: Path, published: Any) -> None:
    public, run = published[name], RunDirectory.open(runs / name)
    expected = whole_text(public, run)
    paths = {site.address: site.source_path for site in run.info.sites}
    address = next(site.address for site in run.info.sites if site.source_path == public.paths[-1])
    target, component = public.paths[-1], 3
    rms = math.sqrt(expected.act_square_sum[target][component].item() / expected.n_tokens)
    for metric, rows in (("attr", expected.regular), ("attr_abs", expected.regular_abs)):
        normalised = {
            f"{ours}:{c}": (value[component, c] / expected.ci_sum[path][c] / rms).item()
            for ours, path in paths.items()
            if (value := rows[target].get(path)) is not None
            for c in range(value.shape[1])
            if expected.ci_sum[path][c] > 0
        }
        scale = max(abs(value) for value in normalised.values())
        for sign in ("positive", "negative"):
            query = {"metric": metric, "sign": sign, "k": 200}
            listed = ok(api.get(f"runs/{name}/components/{address}:{component}/sources", params=query))
            assert listed["tokens"] == expected.n_tokens
            found = {e["key"]: e["value"] for e in listed["entries"] if e["kind"] == "component"}
            wanted = {k: v for k, v in normalised.items() if (v > 0) == (sign == "positive")}
            for key, value in wanted.items():
                assert found.get(key, 0.0) == pytest.approx(value, rel=1e-4, abs=1e-4 * scale), key
            assert set(found) <= set(normalised)
    card = ok(api.get(f"runs/{name}/components/{address}:{component}"))
    assert card["sources_positive"]["status"] == "available"
    described = ok(api.get(f"runs/{name}"))
    assert described["name"] == name
    assert name in {summary["name"] for summary in ok(api.get("runs"))["runs"]}


@pytest.mark.parametrize("name", VARIANTS)
def test_a_prompt_graph_has_the_published_edges(
    name: str, api: httpx.Client, runs: Path, published: Any
) -> None:
    public, run = published[name], RunDirectory.open(runs / name)
    settings = {"delta": "through", "alive_above": 0.0}
    graph = ok(api.get(f"graphs/{compute(api, name, text='the quick brown fox jumps', settings=settings)}"))
    _, _, edges = read_edges(api.get(f"graphs/{graph['id']}/edges").content)
    keys = keys_of(graph)
    paths = {site.address: site.source_path for site in run.info.sites}
    tokens = torch.tensor([run.tokenizer().encode("the quick brown fox jumps").ids])
    nodes = [key for key in keys if key.startswith(f"{[*paths][-1]}:") and key[-1].isdigit()]
    target = nodes[-1]
    address, position, component = target.split(":")
    expected, _ = prompt_attributions(
        public.model, tokens, paths[address] or "", int(component), int(position),
        embed=public.embed, unembed=public.unembed,
    )  # fmt: skip
    into = {keys[s]: v for s, t, v in zip(edges["source"], edges["target"], edges["attr"], strict=True)
            if keys[t] == target}  # fmt: skip
    alive = public.importance(tokens)
    scale = max(value.abs().max().item() for value in expected.values())
    checked = 0
    for ours, path in paths.items():
        for p, c in (alive[path][0] > 0).nonzero() if path in expected else ():
            value = expected[path][p, c].item()
            assert into.get(f"{ours}:{p}:{c}", 0.0) == pytest.approx(value, rel=1e-4, abs=1e-4 * scale)
            checked += 1
    assert checked > 5


@pytest.mark.parametrize("name", VARIANTS)
def test_the_exported_file_is_the_one_that_the_public_harvester_writes(
    name: str, runs: Path, published: Any, tmp_path: Path
) -> None:
    public, run = published[name], RunDirectory.open(runs / name)
    file = tmp_path / "attributions.pt"
    assert tributary(["export", name, "--format", "four-edge", str(file), "--runs", str(runs)]) == 0
    found = torch.load(file, weights_only=True)
    expected = four_edge_content(public, whole_text(public, run))
    assert found.keys() == expected.keys()
    for part, wanted in expected.items():
        if isinstance(wanted, dict):
            assert found[part].keys() >= {layer for layer, value in wanted.items() if len(value)}
        same_values(found[part], wanted, part)


def same_values(found: Any, expected: Any, where: str) -> None:
    """Nested alike, to 1e-4 of the largest value of each matrix, or of its target's own size."""
    if isinstance(expected, dict):
        for key, value in expected.items():
            if isinstance(value, dict) and not value:
                assert not found.get(key)
            else:
                same_values(found[key], value, f"{where}.{key}")
    elif isinstance(expected, torch.Tensor):
        if expected.is_floating_point() and "embed" in where:
            # Into the first norm everything cancels, up to rounding.
            assert (found - expected).abs().max() <= 1e-4 * max(expected.abs().max().item(), 0.3), where
        else:
            torch.testing.assert_close(
                found, expected, rtol=1e-4, atol=1e-4 * expected.abs().max().item(), msg=where
            )
    else:
        assert found == expected, where
