"""Published attribution files as stores: the published figures, every edge of both formats, and refusals."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch

from backend.importing.attribution_files import import_attributions
from backend.importing.errors import ImportRefusedError
from backend.importing.options import ImportOptions
from compute.address import Key, parse_address, parse_key
from storage.attributions import AttributionStore
from storage.compact import compact
from storage.errors import NotComputedError, StorageError, StoreDamagedError
from storage.merge import merge
from storage.run_directory import RunDirectory
from tests.support import published_files as files

Metric = Literal["attr", "attr_abs"]


def _import(tmp_path: Path, content: object, name: str = "made", **options: Any) -> RunDirectory:
    file = tmp_path / f"{name}.pt"
    torch.save(content, file)
    imported = import_attributions(file, ImportOptions(runs=tmp_path / "runs", name=name, **options))
    return RunDirectory.open(imported.path)


def _store(run: RunDirectory, subrun: str | None = None) -> AttributionStore:
    return run.attributions(subrun)


def test_published_figures(tmp_path: Path) -> None:
    store = _store(_import(tmp_path, files.oracle_file()))
    target, output = parse_key("0.mlp.up:0"), parse_key("output:0")
    found = store.top_sources(target, 5, "positive")
    assert [str(entry.key) for entry in found.entries] == ["embed:0", "embed:1"]
    assert [entry.value for entry in found.entries] == pytest.approx([0.015, 0.015])
    assert store.top_sources(target, 5, "positive", "attr_abs").entries[0].value == pytest.approx(0.03)
    into_output = {str(entry.key): entry.value for entry in store.top_sources(output, 5, "positive").entries}
    assert into_output == pytest.approx(
        {"0.mlp.up:0": 0.02, "0.mlp.up:1": 0.02, "embed:0": 1 / 600, "embed:1": 1 / 600}
    )
    assert store.attribution(parse_key("embed:0"), target).raw == 6.0
    assert store.top_sources(target, 5, "negative").entries == ()


def test_merged_parts_are_the_published_figure(tmp_path: Path) -> None:
    first = _import(tmp_path, files.oracle_file(embed=4, ci=20, squares=100, count=80, tokens=40), "first")
    second = _import(tmp_path, files.oracle_file(embed=8, ci=30, squares=500, count=120, tokens=60), "second")
    parts = [run.path / "attributions" / run.attribution_subruns()[0] for run in (first, second)]
    store = _store(first, merge(parts, first.path))
    assert store.tokens == 100
    entry = store.top_sources(parse_key("0.mlp.up:1"), 1, "positive").entries[0]
    assert entry.value == pytest.approx(12 / 200 / math.sqrt(6))
    assert store.verify() > 0
    with pytest.raises(StorageError, match="same file"):
        merge([parts[0], _again(tmp_path, first, parts[0])], first.path)


def _again(tmp_path: Path, run: RunDirectory, part: Path) -> Path:
    """The same file, added to its run a second time."""
    imported = import_attributions(tmp_path / "first.pt", ImportOptions(runs=run.path.parent, into="first"))
    found = [name for name in run.attribution_subruns() if run.path / "attributions" / name != part]
    assert imported.path == run.path
    return run.path / "attributions" / found[0]


@pytest.mark.parametrize("encoding", ["full", "indexed", "compact"])
@pytest.mark.parametrize("metric", ["attr", "attr_abs"])
def test_every_edge_of_a_four_edge_file(tmp_path: Path, metric: Metric, encoding: str) -> None:
    content = files.four_edge_file()
    run = _import(tmp_path, content)
    if encoding == "indexed":
        _store(run).build_index(4)
    store = _store(run, compact(run)) if encoding == "compact" else _store(run)
    assert store.metrics == ("attr", "attr_abs")
    near: Any = {"rel": 2e-3, "abs": 2e-2} if encoding == "compact" else {"rel": 1e-5, "abs": 1e-7}
    for target, sources in files.SOURCES.items():
        if target == "output" and metric == "attr_abs":
            continue
        everything = np.concatenate(
            [files.normalised(content, source, target, metric) for source in sources], 1
        )
        keys = [Key(parse_address(s), i) for s in sources for i in range(files.COUNTS.get(s, files.VOCAB))]
        for index, row in enumerate(everything):
            key = Key(parse_address(target), index)
            for source, value in zip(keys, row, strict=True):
                found = store.attribution(source, key, metric)
                assert found.value == pytest.approx(value, **near)
                assert found.connected
                assert found.standard_error is found.support is None
            top = store.top_sources(key, 3, "negative", metric)
            best = [keys[i] for i in np.argsort(row)[:3] if row[i] < 0]
            assert [entry.key for entry in top.entries] == best
            assert top.total == np.count_nonzero(row < 0)
            assert top.total_value == pytest.approx(row[row < 0].sum(), **near)
    assert store.verify() > 0


@pytest.mark.parametrize("metric", ["attr", "attr_abs"])
def test_top_targets_and_strongest_ends(tmp_path: Path, metric: Metric) -> None:
    content = files.four_edge_file(1)
    store = _store(_import(tmp_path, content))
    source = parse_key("0.attn.o:1")
    values = {
        f"{target}:{i}": row[1]
        for target, sources in files.SOURCES.items()
        if "0.attn.o" in sources and not (target == "output" and metric == "attr_abs")
        for i, row in enumerate(files.normalised(content, "0.attn.o", target, metric))
    }
    best = sorted((key for key in values if values[key] > 0), key=lambda key: -values[key])
    top = store.top_targets(source, 4, "positive", metric)
    assert [str(entry.key) for entry in top.entries] == best[:4]
    assert top.total == len(best)
    ends = store.strongest_ends()
    if metric == "attr":
        assert str(ends.targets[source.address].key(1)) == max(values, key=lambda key: abs(values[key]))
    assert ends.sources[parse_address("0.attn.v")].key(0) is not None


def test_what_the_format_lacks_is_absent_with_the_reason(tmp_path: Path) -> None:
    run = _import(tmp_path, files.four_edge_file())
    store = _store(run)
    target = parse_key("1.glu.up:0")
    with pytest.raises(NotComputedError, match="attr_frozen is not in the published file"):
        store.top_sources(target, 1, "positive", "attr_frozen")
    with pytest.raises(NotComputedError, match="attr_abs into output tokens is not in the published file"):
        store.top_sources(parse_key("output:0"), 1, "positive", "attr_abs")
    for source in ("0.glu.down:delta", "position:0"):
        with pytest.raises(NotComputedError, match="published files hold tokens and components only"):
            store.top_targets(parse_key(source), 1, "positive")
    with pytest.raises(NotComputedError, match=r"holds no edges from 1\.glu\.up"):
        store.top_targets(target, 1, "positive")
    # Not connected: an exact zero, and no support is claimed.
    apart = store.attribution(parse_key("0.attn.v:0"), target)
    assert (apart.value, apart.connected, apart.support) == (0.0, False, None)
    plain = _store(_import(tmp_path, files.four_edge_file(magnitudes=False), "plain"))
    assert plain.metrics == ("attr",)
    with pytest.raises(NotComputedError, match="attr_abs is not in the published file"):
        plain.top_sources(target, 1, "positive", "attr_abs")


_CONCRETE = {
    "0.attn.v": "h.0.attn.v_proj",
    "0.attn.o": "h.0.attn.o_proj",
    "0.glu.up": "h.0.mlp.up_proj",
    "0.glu.down": "h.0.mlp.down_proj",
    "1.glu.up": "h.1.mlp.up_proj",
}


@pytest.mark.parametrize("names", [None, _CONCRETE])
def test_two_matrices_are_shown_as_they_are(tmp_path: Path, names: dict[str, str] | None) -> None:
    content = files.two_matrix_file(names=names)
    run = _import(tmp_path, content)
    assert [site.address for site in run.info.sites] == list(files.COUNTS)
    store = _store(run)
    assert store.normalisation == "tokens"
    assert not store.ci_weighted
    for target, sources in files.SOURCES.items():
        if target == "output":
            continue
        for source in sources:
            layers = (names or {}).get(source, source), (names or {}).get(target, target)
            raw = files.raw_sum(content, *layers)
            for i, j in np.ndindex(raw.shape):
                found = store.attribution(Key(parse_address(source), j), Key(parse_address(target), i))
                assert found.raw == pytest.approx(raw[i, j], rel=1e-6)
                assert found.value == pytest.approx(raw[i, j] / files.TOKENS, rel=1e-6)
    assert not store.attribution(parse_key("0.attn.v:0"), parse_key("1.glu.up:0")).connected
    with pytest.raises(NotComputedError, match="need the model's unembedding"):
        store.top_sources(parse_key("output:0"), 1, "positive")
    rounded = _store(run, compact(run)).attribution(parse_key("embed:1"), parse_key("0.glu.up:1"))
    assert rounded.value == pytest.approx(
        store.attribution(parse_key("embed:1"), parse_key("0.glu.up:1")).value, rel=2e-3
    )
    store.build_index(3)
    assert _store(run, store.subrun).top_sources(parse_key("0.glu.up:0"), 3, "positive").entries


def _set(*path: str, to: object) -> Callable[[dict[str, Any]], None]:
    def change(content: dict[str, Any]) -> None:
        place: Any = content
        for name in path[:-1]:
            place = place[name]
        if to is None:
            del place[path[-1]]
        else:
            place[path[-1]] = to

    return change


_NAN = torch.full((3, files.VOCAB), math.nan)
_WRONG_FOUR_EDGE = {
    "no statistics": (_set("ci_sum", to=None), "has no ci_sum; .*early version"),
    "no matrices": (_set("w_unembed", to=None), "has no w_unembed"),
    "shape": (
        _set("regular_attr", "0.attn.o", "0.attn.v", to=torch.zeros(3, 2)),
        r"regular_attr\[0.attn.o\]\[0.attn.v\] has shape \[3, 2\], not \[2, 3\]",
    ),
    "vocabulary": (_set("embed_attr", "0.glu.up", to=torch.zeros(3, 8)), r"embed_attr\[0.glu.up\] has shape"),
    "statistic": (_set("component_act_sq_sum", "0.glu.up", to=None), r"component_act_sq_sum\[0.glu.up\] is no tensor"),
    "no tensor": (_set("logit_sq_sum", to=[1.0]), "logit_sq_sum is no tensor"),
    "half of attr_abs": (_set("regular_attr_abs", "0.attn.o", "0.attn.v", to=None), "attr_abs of 0.attn.v into 0.attn.o is missing"),
    "unknown source": (_set("unembed_attr", "9.glu.up", to=torch.zeros(4, 2)), "ci_sum has no 9.glu.up"),
    "no number": (_set("embed_attr", "0.glu.up", to=_NAN), r"embed_attr\[0.glu.up\] holds .* no numbers"),
    "tokens": (_set("n_tokens_processed", to=0), "rests on 0 tokens"),
    "foreign names": (_set("ci_sum", "encoder.3.dense", to=torch.ones(2)), "component_act_sq_sum.encoder.3.dense. is no tensor"),
}  # fmt: skip


@pytest.mark.parametrize("case", _WRONG_FOUR_EDGE)
def test_wrong_four_edge_files_are_refused_by_name(tmp_path: Path, case: str) -> None:
    change, message = _WRONG_FOUR_EDGE[case]
    content = files.four_edge_file()
    change(content)
    _refused(tmp_path, content, message)


_WRONG_TWO_MATRIX = {
    "shape": (_set("source_to_component", to=torch.zeros(3, 3)), r"source_to_component has shape \[3, 3\], not \[21, 14\]"),
    "keys": (_set("component_layer_keys", to=["0.attn.v:1"]), "does not name the components .*0.attn.v:1"),
    "mixed keys": (_set("component_layer_keys", to=["0.attn.v:0", "0.attn.o:0", "0.attn.v:1"]), "one layer after another"),
    "width": (_set("d_model", to=9), "source_to_out_residual has shape"),
    "missing": (_set("n_tokens_processed", to=None), "has no n_tokens_processed"),
}  # fmt: skip


@pytest.mark.parametrize("case", _WRONG_TWO_MATRIX)
def test_wrong_two_matrix_files_are_refused_by_name(tmp_path: Path, case: str) -> None:
    change, message = _WRONG_TWO_MATRIX[case]
    content = files.two_matrix_file()
    change(content)
    _refused(tmp_path, content, message)


def test_layers_of_unknown_models_are_refused(tmp_path: Path) -> None:
    content = files.two_matrix_file(names={"0.attn.v": "encoder.layer.0.value"})
    _refused(tmp_path, content, "layers of no known model: encoder.layer.0.value")
    ambiguous = {"component_layer_keys": ["h.0.mlp.down_proj:0"], "vocab_size": 2, "d_model": 2}
    ambiguous |= {"source_to_component": torch.ones(3, 1), "source_to_out_residual": torch.ones(3, 2)}
    _refused(tmp_path, ambiguous | {"n_tokens_processed": 1, "ci_threshold": 0.0}, "gated MLP")


def test_damaged_and_foreign_files_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "cut.pt"
    torch.save(files.four_edge_file(), file)
    file.write_bytes(file.read_bytes()[:-2000])
    options = ImportOptions(runs=tmp_path / "runs", name="made")
    with pytest.raises(ImportRefusedError, match=r"is damaged|cannot be read"):
        import_attributions(file, options)
    file.write_bytes(b"\x80\x02csubprocess\nrun\n.")
    with pytest.raises(ImportRefusedError, match="holds more than tensors"):
        import_attributions(file, options)
    _refused(tmp_path, [1, 2], "is not a file of dataset attributions")
    assert not (tmp_path / "runs" / "made").exists()


def test_a_file_that_claims_more_than_the_disk_holds_is_refused(tmp_path: Path) -> None:
    content = files.oracle_file()
    # Views of one number: a small file of huge matrices.
    n, vocab = 1 << 20, 1 << 22
    content |= {"embed_attr": {"0.mlp.up": torch.zeros(1).expand(n, vocab)}, "embed_attr_abs": {}}
    content |= {"regular_attr": {}, "regular_attr_abs": {}, "unembed_attr": {}}
    content |= {
        "embed_unembed_attr": torch.zeros(1).expand(2, vocab),
        "w_unembed": torch.zeros(1).expand(2, vocab),
    }
    content |= {"ci_sum": {"0.mlp.up": torch.ones(n)}, "component_act_sq_sum": {"0.mlp.up": torch.ones(n)}}
    content |= {"logit_sq_sum": torch.ones(vocab), "embed_token_count": torch.ones(vocab)}
    _refused(tmp_path, content, "make room on the disk")


def test_damage_of_what_came_with_the_file_is_found(tmp_path: Path) -> None:
    run = _import(tmp_path, files.four_edge_file())
    file = _store(run).path / "tensors.safetensors"
    content = bytearray(file.read_bytes())
    content[-3] ^= 64
    file.write_bytes(content)
    store = _store(RunDirectory.open(run.path))
    assert store.top_sources(parse_key("1.glu.up:0"), 1, "positive").entries
    with pytest.raises(StoreDamagedError, match="is not the tensor that the attributions were made with"):
        store.top_sources(parse_key("output:0"), 1, "positive")
    assert [check.path.name for check in run.verify() if check.error is not None] == [store.subrun]
    file.unlink()
    with pytest.raises(StoreDamagedError, match="is missing"):
        RunDirectory.open(run.path).attributions()


def _refused(tmp_path: Path, content: object, message: str) -> None:
    with pytest.raises(ImportRefusedError, match=message):
        _import(tmp_path, content)
    assert list((tmp_path / "runs").glob("*")) == [], "something was left half-written"


def test_options_that_do_not_go_together_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "a.pt"
    torch.save(files.four_edge_file(), file)
    runs = tmp_path / "runs"
    with pytest.raises(ImportRefusedError, match="--into RUN"):
        import_attributions(file, ImportOptions(runs=runs))
    with pytest.raises(ImportRefusedError, match="not both"):
        import_attributions(file, ImportOptions(runs=runs, name="a", into="b"))
    with pytest.raises(ImportRefusedError, match="--text does not go with"):
        import_attributions(file, ImportOptions(runs=runs, name="a", text=(file,)))
