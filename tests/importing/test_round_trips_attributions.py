"""Attribution files with a reference model's own numbers, written as the public harvester writes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

from backend.importing.options import ImportOptions
from backend.importing.run import import_run
from compute.address import Key, parse_address
from storage.attributions import AttributionStore
from storage.run_directory import RunDirectory
from tests.importing.published import import_public
from tests.support.public import PublicRun, write_dense, write_four_edge, write_public_run
from tests.support.public.attribution_files import canonical, has_gates
from tests.support.public.attributions import PublicAttributions

CASES: dict[str, dict[str, Any]] = {
    "plain mlp": {"model": {"n_layer": 1}},
    "fused": {"family": "GPT2", "model": {"n_layer": 1}},
    "some matrices": {
        "family": "LlamaSimple",
        "sites": {"h.*.mlp.up_proj": 4, "h.*.mlp.down_proj": 5, "h.0.attn.v_proj": 3},
    },
}


@pytest.fixture(params=CASES.values(), ids=CASES.keys())
def public(request: pytest.FixtureRequest, tmp_path: Path) -> PublicRun:
    return write_public_run(tmp_path / "s-1", **request.param)


def address_of(public: PublicRun, path: str) -> str:
    return canonical(path, gated=has_gates(public))


def check(store: AttributionStore, public: PublicRun, sums: PublicAttributions, metric: str) -> int:
    """Every third edge has the reference's value, divided as published; how many were looked at."""
    rows, embed = (sums.regular, sums.embed) if metric == "attr" else (sums.regular_abs, sums.embed_abs)
    blocks: list[tuple[str, str, Tensor, Tensor, Tensor]] = []
    for target, sources in rows.items():
        rms = (sums.act_square_sum[target] / sums.n_tokens).sqrt()
        where = address_of(public, target)
        blocks += [(where, address_of(public, s), v, sums.ci_sum[s], rms) for s, v in sources.items()]
        if target in embed:
            blocks.append((where, "embed", embed[target], sums.token_count.float(), rms))
    if metric == "attr":
        logits = (sums.logit_square_sum / sums.n_tokens).sqrt()
        residual = [(address_of(public, s), v, sums.ci_sum[s]) for s, v in sums.unembed.items()]
        residual.append(("embed", sums.embed_unembed, sums.token_count.float()))
        blocks += [("output", s, sums.w_unembed.T @ value, n, logits) for s, value, n in residual]
    looked_at = 0
    for target, source, raw, count, rms in blocks:
        values = raw / count.clamp(min=1e-10) / rms.clamp(min=1e-10)[:, None]
        scale = raw.abs().max().item()
        for flat in range(0, raw.numel(), 3 if raw.numel() < 200 else 61):
            t, s = divmod(flat, raw.shape[1])
            found = store.attribution(Key(parse_address(source), s), Key(parse_address(target), t), metric)  # type: ignore[arg-type]
            assert found.raw == pytest.approx(raw[t, s].item(), rel=1e-4, abs=1e-5 * scale)
            if count[s] > 0.01:
                assert found.value == pytest.approx(values[t, s].item(), rel=1e-3, abs=1e-5)
            looked_at += 1
    return looked_at


def test_a_file_of_four_edge_types(public: PublicRun, tmp_path: Path):
    sums = write_four_edge(tmp_path / "attributions.pt", public)
    alone = import_run(tmp_path / "attributions.pt", ImportOptions(runs=tmp_path / "runs", name="alone"))
    run = RunDirectory.open(alone.path)
    assert run.info.kind == "attributions"
    assert {site.address: site.n_components for site in run.info.sites} == {
        address_of(public, path): n for path, n in public.model.counts.items()
    }
    assert check(run.attributions(), public, sums, "attr") > 50
    assert check(run.attributions(), public, sums, "attr_abs") > 20
    assert run.attributions().tokens == sums.n_tokens


def test_a_file_added_to_the_run_that_it_is_of(public: PublicRun, tmp_path: Path):
    sums = write_four_edge(tmp_path / "attributions.pt", public)
    imported = import_public(public)
    runs = imported.run.path.parent
    added = import_run(tmp_path / "attributions.pt", ImportOptions(runs=runs, into=imported.run.name))
    assert added.path == imported.run.path
    store = imported.run.attributions()
    assert check(store, public, sums, "attr") > 50
    assert check(store, public, sums, "attr_abs") > 20


@pytest.mark.parametrize("words", [None, 60])
def test_a_file_of_two_matrices(public: PublicRun, words: int | None, tmp_path: Path):
    sums = write_dense(tmp_path / "attributions.pt", public, vocab_size=words)
    alone = import_run(tmp_path / "attributions.pt", ImportOptions(runs=tmp_path / "runs", name="alone"))
    store = RunDirectory.open(alone.path).attributions()
    for target, sources in sums.regular.items():
        blocks = {address_of(public, source): value for source, value in sources.items()}
        if target in sums.embed:
            blocks["embed"] = sums.embed[target][:, :words]
        for source, value in blocks.items():
            for t, s in ((0, 0), (1, 2), (value.shape[0] - 1, value.shape[1] - 1)):
                key = Key(parse_address(source), s), Key(parse_address(address_of(public, target)), t)
                expected = value[t, s].item() / sums.n_tokens
                found = store.attribution(*key).value
                assert found == pytest.approx(expected, rel=1e-4, abs=1e-6 * value.abs().max().item())
