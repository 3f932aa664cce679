"""Our attributions as a published file: what is in it, and that nothing changes on the way there and back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch

from backend.cli import run as tributary
from backend.importing.attribution_files import import_attributions
from backend.importing.four_edge import export_four_edge
from backend.importing.options import ImportOptions
from compute.address import OUTPUT, Key, parse_address, parse_key
from storage.attributions import AttributionStore
from storage.compact import compact
from storage.errors import StorageError
from storage.run_directory import RunDirectory
from tests.support import published_files as files
from tests.support.tiny_run import make_tiny_run

Metric = Literal["attr", "attr_abs"]


@pytest.fixture(scope="module", params=["llama", "gpt2", "fused, in part"])
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    path = tmp_path_factory.mktemp("runs") / "toy"
    if request.param == "fused, in part":
        sites = ["0.attn_fused.qkv", "0.attn_fused.o", "1.glu.up", "1.glu.down"]
        return make_tiny_run(path, n_blocks=2, fused=True, sites=sites, delta="off")
    return make_tiny_run(path, request.param, n_blocks=1, n_components=3, output_abs=request.param == "llama")


def _exported(store: AttributionStore, tmp_path: Path) -> dict[str, Any]:
    """The file's content as the public reader gets it."""
    file = tmp_path / "exported.pt"
    export_four_edge(store, file)
    assert [entry.name for entry in tmp_path.iterdir()] == ["exported.pt"], "a scratch file was left"
    return torch.load(file, weights_only=True)


def _keys(store: AttributionStore) -> tuple[list[Key], list[Key]]:
    """All sources that the format can hold, and some targets of every reader."""
    sources: dict[Key, None] = {}
    targets: list[Key] = []
    for point in store.manifest.settings.layouts:
        for block in point.blocks:
            if block.kind in ("embed", "component"):
                step = max(1, block.count // 5)
                sources |= {Key(block.parsed, i): None for i in range(0, block.count, step)}
        for reader in map(parse_address, point.readers):
            targets += [Key(reader, i) for i in range(3)]
    return list(sources), targets


def test_there_and_back_every_edge_is_the_same(run: RunDirectory, tmp_path: Path) -> None:
    ours = run.attributions()
    export_four_edge(ours, tmp_path / "exported.pt")
    imported = import_attributions(
        tmp_path / "exported.pt", ImportOptions(runs=run.path.parent, into=run.name)
    )
    assert imported.path == run.path
    back = run.attributions(max(run.attribution_subruns()))
    assert back.manifest.settings.imported_from == "four-edge"
    # Stores that were not imported are written as ever.
    written = json.loads((ours.path / "manifest.json").read_bytes())
    assert {"imported_from", "tensors"}.isdisjoint({*written, *written["settings"]})
    sources, targets = _keys(ours)
    for source in sources:
        for target in targets:
            for metric in ("attr", "attr_abs"):
                if metric == "attr_abs" and target.address == OUTPUT:
                    continue
                before, after = (store.attribution(source, target, metric) for store in (ours, back))
                assert before.connected == after.connected
                assert after.raw == pytest.approx(before.raw, rel=1e-5, abs=1e-5)
                assert after.value == pytest.approx(before.value, rel=1e-5, abs=1e-5)
    if run.info.target["family"] == "llama" and len(run.info.sites) == 7:
        # Tokens are all that block 0 reads, so their effects cancel: known again from the run's topology.
        first = parse_key("0.attn.q:0")
        assert [store.top_sources(first, 1, "positive").entries[0].scale_free for store in (ours, back)] == [
            True
        ] * 2


def test_the_file_is_what_the_public_reader_takes_apart(run: RunDirectory, tmp_path: Path) -> None:
    store = run.attributions(min(run.attribution_subruns()))
    content = _exported(store, tmp_path)
    assert set(content) == set(files.four_edge_file())
    vocab, width = run.info.target["vocab_size"], run.info.target["d_model"]
    counts = {site.address: site.n_components for site in run.info.sites}
    assert {layer: tuple(value.shape) for layer, value in content["ci_sum"].items()} == {
        layer: (n,) for layer, n in counts.items()
    }
    assert content["w_unembed"].shape == content["embed_unembed_attr"].shape == (width, vocab)
    assert content["embed_token_count"].dtype == torch.int64
    assert content["logit_sq_sum"].dtype == content["w_unembed"].dtype == torch.float32
    assert type(content["n_tokens_processed"]) is int
    assert type(content["ci_threshold"]) is float
    for target, sources in content["regular_attr"].items():
        assert sources.keys() == content["regular_attr_abs"][target].keys()
        for source, value in sources.items():
            assert value.shape == (counts[target], counts[source])
    # The published formula on the file gives our normalised values.
    for target in ("output", next(iter(content["embed_attr"]))):
        expected = files.normalised(content, "embed", target)
        for i, j in ((0, 0), (2, 7), (1, 30)):
            found = store.attribution(Key(parse_address("embed"), j), Key(parse_address(target), i))
            assert found.value == pytest.approx(expected[i, j], rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("magnitudes", [True, False])
def test_a_published_file_comes_out_as_it_went_in(tmp_path: Path, magnitudes: bool) -> None:
    content = files.four_edge_file(magnitudes=magnitudes)
    torch.save(content, tmp_path / "in.pt")
    imported = import_attributions(tmp_path / "in.pt", ImportOptions(runs=tmp_path / "runs", name="made"))
    (tmp_path / "out").mkdir()
    again = _exported(RunDirectory.open(imported.path).attributions(), tmp_path / "out")
    _assert_equal(again, content)


def _assert_equal(one: Any, other: Any) -> None:
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            _assert_equal(one[key], other[key])
    elif isinstance(one, torch.Tensor):
        assert one.dtype == other.dtype
        assert torch.equal(one, other)
    else:
        assert one == other


def test_chosen_targets_are_zeros_and_said(tmp_path: Path) -> None:
    run = make_tiny_run(tmp_path / "toy", n_blocks=1)
    store = run.attributions(compact(run, abs_above=0.6))
    partial = store.manifest.settings.abs_targets
    assert partial
    exported = export_four_edge(store, tmp_path / "exported.pt")
    assert any("zeros there" in sentence for sentence in exported.left_out)
    content = torch.load(tmp_path / "exported.pt", weights_only=True)
    for reader, kept in partial.items():
        for value in content["regular_attr_abs"][reader].values():
            alive = np.flatnonzero(value.abs().sum(1).numpy())
            assert set(alive) <= set(kept)
            assert len(alive) or not len(kept)


def test_what_the_format_cannot_hold_is_told_or_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_tiny_run(tmp_path / "toy", "gpt2", n_blocks=1, abs_part=True)
    file = tmp_path / "out.pt"
    command = ["export", str(run.path), str(file), "--format", "four-edge"]
    assert tributary(command) == 0
    said = capsys.readouterr().err
    for sentence in (
        "Sources other than tokens and components are left out: deltas, biases, positions.",
        "attr_abs is left out: it rests on",
        "computed with deltas",
        "attr_frozen is left out.",
        "standard errors, are left out",
    ):
        assert sentence in said
    assert torch.load(file, weights_only=True)["regular_attr_abs"] == {}
    assert tributary(command) == 2
    assert "exists already" in capsys.readouterr().err
    # Means over tokens are no sums.
    torch.save(files.two_matrix_file(), tmp_path / "two.pt")
    import_attributions(tmp_path / "two.pt", ImportOptions(runs=tmp_path, name="two"))
    with pytest.raises(StorageError, match="holds means over tokens"):
        export_four_edge(RunDirectory.open(tmp_path / "two").attributions(), tmp_path / "two-out.pt")
