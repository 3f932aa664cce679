"""Queries, opening and merging of attribution stores larger than the memory of who asks.

    python benchmarks/queries.py [--gigabytes 2] [--queries 200] [--folder DIR]

Writes a store of random sums of a made-up model (Llama type, 4 blocks, d_model 256, vocabulary 2,048,
the number of components following from the size asked for), indexes it, and asks for the 10 strongest
sources and targets of random keys in a process of its own. *Cold*: before every single query the
system is told to drop every page of the store from its cache (posix_fadvise DONTNEED), which is what
memory much smaller than the store amounts to in the worst case. *Warm*: the same keys again. The
process's own peak memory is printed, so that its ratio to the store is known; the model's matrices are
mapped and count in it. Processor time is given beside the time on the clock: on a machine that is
busy with other work the difference is what others took, and reading.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from compute.address import OUTPUT, Address, Key
from compute.targets.config import TargetConfig
from compute.topology import Topology
from storage.assemble import assemble
from storage.attributions import AttributionStore
from storage.keys import KeySpace
from storage.layout import ReadPoint, RowBlock, Settings, plan_arrays
from storage.manifest import check_tensors
from storage.merge import merge
from storage.model_tensors import ModelTensors

CONFIG = TargetConfig(
    family="llama", n_blocks=4, d_model=256, d_ff=512, n_heads=8, n_kv_heads=4, vocab_size=2048,
    context=512, activation="silu",
)  # fmt: skip
TOPOLOGY = Topology(CONFIG)
GIGABYTE = 1e9


def settings_of(components: int, sha256: str, corpus: str) -> Settings:
    """Row layouts of the made-up model with this many components at each site."""
    points: list[ReadPoint] = []
    for point in TOPOLOGY.read_points:
        blocks: list[RowBlock] = []
        rows = 0
        sources = [("embed", "embed", CONFIG.vocab_size)] if point.pseudo_sources else []
        for address in point.sources:
            sources += [(str(address), "component", components), (str(address), "delta", 1)]
        for address, kind, count in sources:
            blocks.append(
                RowBlock.model_validate({"address": address, "kind": kind, "offset": rows, "count": count})
            )
            rows += count
        points.append(
            ReadPoint(
                name=point.name,
                operation=point.operation,
                d_in=point.d_in,
                readers=tuple(map(str, point.readers)),
                blocks=tuple(blocks),
            )
        )
    return Settings(
        delta="node", ci_weighted=True, metrics=("attr", "attr_abs"), layouts=tuple(points), centred_norm=False,
        model_sha256=sha256, corpus_sha256=corpus,
    )  # fmt: skip


def shapes_of(settings: Settings, components: int) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {
        "tokens": (1,), "token_count": (CONFIG.vocab_size,), "logit_square_sum": (CONFIG.vocab_size,),
    }  # fmt: skip
    for address in TOPOLOGY.sites:
        shapes |= {f"{name}/{address}": (components,) for name in ("ci_sum", "activation_square_sum")}
    for point in settings.layouts:
        shapes[f"signed/{point.name}"] = (point.n_rows, point.d_in)
        if point.operation == "norm":
            shapes[f"frozen_weight/{point.name}"] = (point.n_rows,)
            deltas = sum(block.kind == "delta" for block in point.blocks)
            if deltas:
                shapes[f"frozen_delta/{point.name}"] = (deltas, point.d_in)
        shapes |= {
            f"abs/{reader}": (components, point.n_rows) for reader in point.readers if reader != "output"
        }
    return shapes


def components_for(gigabytes: float) -> int:
    """The largest number of components a site whose store is not larger than asked for."""
    best = 8
    for components in range(8, 4096, 8):
        _, sizes = plan_arrays(shapes_of(settings_of(components, "", ""), components), 16)
        if sum(sizes.values()) > gigabytes * GIGABYTE:
            break
        best = components
    return best


def write_model(folder: Path, components: int) -> str:
    """A model file with random matrices; its SHA-256."""
    rng = np.random.default_rng(0)
    tensors = {
        "target.token_embedding.weight": rng.normal(size=(CONFIG.vocab_size, CONFIG.d_model)),
        "target.unembedding.weight": rng.normal(size=(CONFIG.vocab_size, CONFIG.d_model)),
        "target.final_norm.weight": np.ones(CONFIG.d_model),
    }
    for block in range(CONFIG.n_blocks):
        tensors |= {
            f"target.blocks.{block}.{part}_norm.weight": np.ones(CONFIG.d_model) for part in ("attn", "mlp")
        }
    for address, site in TOPOLOGY.sites.items():
        tensors[f"components.{address}.V"] = rng.normal(size=(site.d_in, components))
        tensors[f"components.{address}.U"] = rng.normal(size=(components, site.d_out))
    file = folder / "model.safetensors"
    save_file({name: value.astype(np.float32) for name, value in tensors.items()}, file)
    return hashlib.sha256(file.read_bytes()).hexdigest()


def write_store(folder: Path, components: int, sha256: str, seed: int) -> Path:
    """A store of random sums, streamed to disk; group sums are slices of a pool of random numbers."""
    rng = np.random.default_rng(seed)
    pool = rng.standard_normal(1 << 21).astype(np.float32)
    settings = settings_of(components, sha256, f"random {seed}")

    def values(name: str, rows: slice, columns: slice) -> np.ndarray:
        shape = (settings.n_groups, rows.stop - rows.start, columns.stop - columns.start)
        if name == "tokens":
            return np.full(shape, 1e6)
        count = int(np.prod(shape))
        start = int(rng.integers(len(pool)))
        drawn = np.resize(np.roll(pool, -start), count).reshape(shape)
        statistic = name.startswith(("ci_sum", "token_count", "activation", "logit"))
        return np.abs(drawn) * 1e3 if statistic else drawn

    (folder / "attributions").mkdir(exist_ok=True)
    work = folder / "attributions" / f".building-{seed}"
    work.mkdir()
    name = assemble(
        work, folder / "attributions", settings, shapes_of(settings, components), values,
        store_id=f"{seed:032x}", method="closed_form", method_reason="random numbers", provenance={},
        model_tensors=check_tensors(ModelTensors(folder / "model.safetensors")),
    )  # fmt: skip
    return folder / "attributions" / name


def drop_cache(folder: Path) -> None:
    for path in folder.iterdir():
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def peak_megabytes() -> float:
    """Of this program alone: ru_maxrss would include the process that started it."""
    line = next(
        line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")
    )
    return int(line.split()[1]) / 1024


def random_keys(store: AttributionStore, count: int, direction: str) -> list[Key]:
    rng = np.random.default_rng(1)
    sizes = KeySpace(store.manifest.settings).sizes
    places: list[Address] = [address for address in sizes if address != OUTPUT or direction == "sources"]
    chosen = [places[int(rng.integers(len(places)))] for _ in range(count)]
    return [Key(address, int(rng.integers(sizes[address]))) for address in chosen]


def ask(path: Path, model: Path, queries: int, indexed: bool) -> None:
    """The process that asks: prints one JSON line."""
    drop_cache(path)
    tensors = ModelTensors(model)
    manifest = json.loads((path / "manifest.json").read_text())
    drop_cache(path)
    begin = time.perf_counter()
    store = AttributionStore.open(path, tensors, manifest["settings"]["model_sha256"])
    opened = time.perf_counter() - begin
    found: dict[str, dict[str, float]] = {}
    for direction in ("sources", "targets"):
        for metric in store.metrics:
            keys = random_keys(store, queries, direction)
            if metric == "attr_abs":
                down = TOPOLOGY.read_points[-1].sources[-1]
                keys = [key for key in keys if key.address != OUTPUT and key.address != down]
            for state in ("cold", "warm"):
                taken: list[float] = []
                processor: list[float] = []
                for number, key in enumerate(keys):
                    if state == "cold":
                        drop_cache(path)
                    begin, busy = time.perf_counter(), time.process_time()
                    query = store.top_sources if direction == "sources" else store.top_targets
                    query(key, 10, "positive" if number % 2 else "negative", metric)
                    taken.append((time.perf_counter() - begin) * 1e3)
                    processor.append((time.process_time() - busy) * 1e3)
                found[f"{direction} {metric} {state}"] = {
                    "p50": float(np.quantile(taken, 0.5)),
                    "p99": float(np.quantile(taken, 0.99)),
                    "processor p50": float(np.quantile(processor, 0.5)),
                    "processor p99": float(np.quantile(processor, 0.99)),
                }
    print(
        json.dumps(
            {"open_seconds": opened, "peak_megabytes": peak_megabytes(), "indexed": indexed, "queries": found}
        )
    )


def add_up(first: Path, second: Path, folder: Path) -> None:
    """The process that merges: prints one JSON line."""
    before = peak_megabytes()
    begin = time.perf_counter()
    name = merge([first, second], folder)
    seconds = time.perf_counter() - begin
    size = sum(path.stat().st_size for path in (folder / "attributions" / name).iterdir())
    print(
        json.dumps({"seconds": seconds, "bytes": size, "peak_megabytes": peak_megabytes(), "before": before})
    )


def child(*arguments: str) -> dict[str, object]:
    command = [sys.executable, __file__, *arguments]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return json.loads(output.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--gigabytes", type=float, default=2.0)
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--folder", type=Path, default=None)
    parser.add_argument("--step", nargs="*", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step:
        step, *rest = options.step
        if step == "ask":
            ask(Path(rest[0]), Path(rest[1]), int(rest[2]), rest[3] == "indexed")
        else:
            add_up(Path(rest[0]), Path(rest[1]), Path(rest[2]))
        return
    with tempfile.TemporaryDirectory(dir=options.folder) as temporary:
        run(Path(temporary), options.gigabytes, options.queries)


def run(folder: Path, gigabytes: float, queries: int) -> None:
    components = components_for(gigabytes)
    sha256 = write_model(folder, components)
    begin = time.perf_counter()
    path = write_store(folder, components, sha256, seed=1)
    size = sum(file.stat().st_size for file in path.iterdir())
    total = components * len(TOPOLOGY.sites)
    print(
        f"store: {size / GIGABYTE:.2f} GB, {total:,} components, written in {time.perf_counter() - begin:.0f} s"
    )
    model = folder / "model.safetensors"
    tables: list[dict[str, object]] = [
        child("--step", "ask", str(path), str(model), str(max(queries // 5, 20)), "scan")
    ]
    begin = time.perf_counter()
    AttributionStore.open(path, ModelTensors(model), sha256).build_index(k=32)
    indexed = sum(file.stat().st_size for file in path.iterdir()) - size
    print(f"index: {indexed / GIGABYTE:.2f} GB more, built in {time.perf_counter() - begin:.0f} s")
    tables.append(child("--step", "ask", str(path), str(model), str(queries), "indexed"))
    for table in tables:
        peak = float(str(table["peak_megabytes"]))
        name = "with the index" if table["indexed"] else "without an index"
        opened = float(str(table["open_seconds"])) * 1e3
        print(
            f"\n{name}: opened in {opened:.0f} ms, peak memory {peak:.0f} MB = store / {size / 1e6 / peak:.0f}"
        )
        print(f"{'10 strongest, ms':34s}{'p50':>9s}{'p99':>9s}{'processor p50':>16s}{'p99':>9s}")
        found = table["queries"]
        assert isinstance(found, dict)
        for label, times in found.items():
            busy = f"{times['processor p50']:16.2f}{times['processor p99']:9.2f}"
            print(f"{label:34s}{times['p50']:9.2f}{times['p99']:9.2f}{busy}")
    smaller = components_for(gigabytes / 4)
    other = folder / "merged"
    other.mkdir()
    sha256 = write_model(other, smaller)
    parts = [write_store(other, smaller, sha256, seed=seed) for seed in (2, 3)]
    merged = child("--step", "merge", str(parts[0]), str(parts[1]), str(other))
    rate = float(str(merged["bytes"])) * 3 / float(str(merged["seconds"])) / 1e6
    print(
        f"\nmerge of two stores of {float(str(merged['bytes'])) / GIGABYTE:.2f} GB: {float(str(merged['seconds'])):.1f} s "
        f"({rate:.0f} MB/s read and written), peak memory {float(str(merged['peak_megabytes'])):.0f} MB, "
        f"of which {float(str(merged['before'])):.0f} MB before it started"
    )


if __name__ == "__main__":
    main()
