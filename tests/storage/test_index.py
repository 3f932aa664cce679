"""An index gives what a scan gives, for every kind of key and question."""

from __future__ import annotations

import numpy as np
import pytest

from compute.address import OUTPUT, Key, parse_key
from storage.attributions import AttributionStore
from storage.errors import StorageError, StoreDamagedError
from storage.run_directory import RunDirectory


def every_key(run: RunDirectory) -> list[Key]:
    keys = [Key(site.parsed, number % site.n_components) for number, site in enumerate(run.info.sites)]
    texts = (
        "embed:0",
        "embed:133",
        "output:7",
        "0.attn.o:delta",
        "1.attn.v:delta",
        "position:4",
        "0.attn.o:bias",
    )
    return [*keys, *map(parse_key, texts)]


def ask(store: AttributionStore, key: Key, direction: str, **options: object) -> object:
    query = store.top_sources if direction == "sources" else store.top_targets
    try:
        return query(key, 4, **options)  # type: ignore[arg-type]
    except StorageError as error:
        return type(error)


def test_index_and_scan_agree(run_copy: RunDirectory) -> None:
    scan, indexed = run_copy.attributions(), run_copy.attributions()
    indexed.build_index(k=6)
    assert indexed.verify() > scan.manifest.settings.n_groups
    scan._index_read = True  # pyright: ignore[reportPrivateUsage]  (never looks for an index)
    for key in every_key(run_copy):
        for direction in ("sources", "targets"):
            for metric in scan.metrics:
                for options in (
                    {"sign": "positive", "normalised": True},
                    {"sign": "negative", "normalised": False},
                    {"sign": "negative", "normalised": True, "include_outputs": False},
                ):
                    if direction == "sources":
                        options.pop("include_outputs", None)
                    expected = ask(scan, key, direction, metric=metric, **options)
                    found = ask(indexed, key, direction, metric=metric, **options)
                    if isinstance(expected, type):
                        assert found is expected
                        continue
                    assert found.entries == expected.entries, (str(key), direction, metric, options)  # type: ignore[attr-defined]
                    assert found.total == expected.total  # type: ignore[attr-defined]
                    assert found.total_value == pytest.approx(expected.total_value, rel=1e-5, abs=1e-9)  # type: ignore[attr-defined]


def test_more_than_the_index_holds_is_scanned(run_copy: RunDirectory) -> None:
    store = run_copy.attributions()
    store.build_index(k=2)
    assert len(store.top_sources(parse_key("0.attn.q:1"), 9, "positive").entries) == 9


def test_a_damaged_or_foreign_index_is_named(run_copy: RunDirectory) -> None:
    store = run_copy.attributions()
    store.build_index(k=3)
    file = store.path / "index.bin"
    content = np.frombuffer(file.read_bytes(), np.uint8).copy()
    content[::512] ^= 1
    file.write_bytes(content.tobytes())
    again = run_copy.attributions()
    with pytest.raises(StoreDamagedError, match=r"index\.bin"):
        again.top_targets(parse_key("0.attn.o:1"), 3, "positive")
    (store.path / "index.json").write_text("{}")
    with pytest.raises(StoreDamagedError, match=r"index\.json"):
        run_copy.attributions().top_sources(parse_key("0.attn.o:1"), 3, "positive")


def test_unused_keys_stay_out(run_copy: RunDirectory) -> None:
    store = run_copy.attributions()
    store.build_index(k=3)
    result = store.top_targets(parse_key("0.attn.o:1"), 3, "positive", include_outputs=False)
    assert all(entry.key.address != OUTPUT for entry in result.entries)
