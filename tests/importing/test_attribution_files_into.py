"""Files that the public model wrote about itself, added to the run that was imported from it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from backend.importing.errors import ImportRefusedError
from backend.importing.options import ImportOptions
from backend.importing.run import import_run
from compute.address import OUTPUT, Key, parse_key
from storage.errors import StorageError
from storage.run_directory import RunDirectory
from tests.importing.published import Imported, import_public
from tests.support import published_files as files
from tests.support.public import write_public_run
from tests.support.public.attribution_files import dense_content, four_edge_content
from tests.support.public.attributions import PublicAttributions
from tests.support.tiny_run import make_tiny_run


@pytest.fixture(scope="module", params=["LlamaSimpleMLP", "GPT2LMHeadModel"])
def imported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Imported:
    folder = tmp_path_factory.mktemp("published")
    return import_public(write_public_run(folder / "run", family=request.param))


def _add(imported: Imported, content: dict[str, Any], name: str) -> RunDirectory:
    file = imported.public.directory.parent / f"{name}.pt"
    torch.save(content, file)
    runs = imported.run.path.parent
    assert import_run(file, ImportOptions(runs=runs, into=imported.run.name)).path == imported.run.path
    return RunDirectory.open(imported.run.path)


def _assert_raw(run: RunDirectory, imported: Imported, sums: PublicAttributions) -> None:
    store = run.attributions()
    pairs = [(t, s, v) for t, sources in sums.regular.items() for s, v in sources.items()]
    assert len(pairs) >= 10
    for target, source, values in pairs:
        for i, j in ((0, 0), (1, 2)):
            ends = Key(imported.addresses[source], j), Key(imported.addresses[target], i)
            found = store.attribution(*ends)
            assert found.connected
            assert found.raw == pytest.approx(float(values[i, j]), rel=1e-5, abs=1e-6)
    for source, values in sums.unembed.items():
        logits = sums.w_unembed.T @ values
        found = store.attribution(Key(imported.addresses[source], 1), Key(OUTPUT, 5))
        assert found.raw == pytest.approx(float(logits[5, 1]), rel=1e-4, abs=1e-5)


def test_four_edge_types_on_the_run_they_belong_to(imported: Imported) -> None:
    sums = imported.public.attributions(ci_weighted=True)
    run = _add(imported, four_edge_content(imported.public, sums), "four")
    _assert_raw(run, imported, sums)
    assert [check.error for check in run.verify() if check.error is not None] == []


def test_two_matrices_by_module_path_with_the_tokenizers_vocabulary(imported: Imported) -> None:
    sums = imported.public.attributions(ci_weighted=False)
    vocab = len(sums.token_count)
    run = _add(imported, dense_content(imported.public, sums, vocab - 3), "two")
    _assert_raw(run, imported, sums)
    # Tokens that the tokenizer does not have are known to the model, and nowhere in the file.
    store = run.attributions()
    beyond = store.top_targets(Key(parse_key("embed:0").address, vocab - 1), 3, "positive")
    assert (beyond.entries, beyond.total) == ((), 0)
    assert store.top_sources(Key(OUTPUT, vocab - 1), 3, "positive").entries


def test_what_does_not_fit_the_run_is_refused_by_name(imported: Imported, tmp_path: Path) -> None:
    sums = imported.public.attributions(ci_weighted=True)
    content = four_edge_content(imported.public, sums)
    before = imported.run.attribution_subruns()
    with pytest.raises(ImportRefusedError, match=r"w_unembed of .* is not the unembedding of"):
        _add(imported, content | {"w_unembed": content["w_unembed"].flip(1)}, "other")
    with pytest.raises(
        ImportRefusedError,
        match=r"does not fit the run .*the file lacks .*; the run lacks .*; the file has 7 tokens",
    ):
        _add(imported, files.four_edge_file(), "foreign")
    fewer = dense_content(imported.public, sums)
    n = len(fewer["component_layer_keys"]) - 1
    fewer["component_layer_keys"] = fewer["component_layer_keys"][:-1]
    fewer["source_to_component"] = fewer["source_to_component"][:-1, :n]
    fewer["source_to_out_residual"] = fewer["source_to_out_residual"][:-1]
    with pytest.raises(ImportRefusedError, match=r"has \d+ components in the file, \d+ in the run"):
        _add(imported, fewer, "fewer")
    toy = make_tiny_run(tmp_path / "toy")
    torch.save(files.four_edge_file(), tmp_path / "a.pt")
    with pytest.raises(StorageError, match="does not fit the run toy"):
        import_run(tmp_path / "a.pt", ImportOptions(runs=tmp_path, into=toy.name))
    assert imported.run.attribution_subruns() == before
    assert not list((imported.run.path / "attributions").glob(".*")), "something was left half-written"
