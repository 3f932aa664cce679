"""A complete run directory of a toy model, for tests of everything that reads runs.

Weights, components and importances are random. Attributions are random arrays of the right names
and shapes by default (``sums="random"``: fast, and any value may occur), or those of the engine over
the toy corpus (``sums="engine"``); both are written through the same writer.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from compute.address import OUTPUT
from compute.attribution.engine import AttributionEngine
from compute.attribution.sums import ReadPointLayout, RowBlock, layout
from compute.decomposition.importance_config import ImportanceKind, SigmoidKind
from compute.decomposition.model import Decomposition
from compute.targets.config import Family, TargetConfig
from compute.targets.model import TargetModel
from storage.corpus import Document, tokenize, train_tokenizer, windows
from storage.layout import Settings
from storage.run_directory import RunDirectory, RunInfo, RunNote, RunSite, write_run
from storage.statistics import write_statistics
from storage.writer import StoreWriter
from tests.support.importance_kinds import tiny_importance
from tests.support.naive_harvest import write_naive_harvest

TEXT = "the quick brown fox jumps over a lazy dog and then it rests in warm grass until evening comes"


def tiny_decomposition(
    family: Family = "llama",
    n_blocks: int = 2,
    n_components: int = 5,
    seed: int = 0,
    vocab_size: int = 270,
    tied_embeddings: bool = False,
    *,
    sites: Collection[str] | None = None,
    fused: bool = False,
    gated: bool | None = None,
    importance: ImportanceKind = "shared_mlp",
    sigmoid: SigmoidKind = "leaky_hard",
) -> Decomposition:
    """A random target of width 16 with random components and importances.

    ``sites`` are the addresses of the matrices that have components; None: every matrix has.
    """
    generator = torch.Generator().manual_seed(seed)
    config = TargetConfig(
        family=family,
        n_blocks=n_blocks,
        d_model=16,
        d_ff=24,
        n_heads=4,
        n_kv_heads=2 if family == "llama" else 4,
        vocab_size=vocab_size,
        context=32,
        activation="silu" if family == "llama" else "gelu",
        tied_embeddings=tied_embeddings,
        fused_qkv=fused,
        gated_mlp=gated,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        target = TargetModel(config)
        modules = target.topology.modules
        chosen = [address for address in modules if sites is None or str(address) in sites]
        counts = {address: n_components + i % 3 for i, address in enumerate(chosen)}
        decomposition = Decomposition(target, counts, tiny_importance(importance, counts, sigmoid))
    with torch.no_grad():
        for parameter in decomposition.parameters():
            scale = 0.3 if parameter.dim() > 1 else 0.1
            noise = torch.randn(parameter.shape, generator=generator) * scale
            # Gains stay near one; matrices are replaced, for some come uninitialised.
            parameter.copy_(noise if parameter.dim() > 1 else parameter + noise)
    return decomposition


def random_sums(
    layouts: tuple[ReadPointLayout, ...],
    decomposition: Decomposition,
    rng: np.random.Generator,
    *,
    tokens: int,
    output_abs: bool = False,
    abs_part: bool = False,
) -> dict[str, np.ndarray]:
    """Arrays named and shaped as those of ``AttributionSums``, with random content."""
    config = decomposition.target.config
    vocab = config.vocab_size
    arrays: dict[str, np.ndarray] = {}
    for prefix, n in (("", tokens), ("abs_part/", tokens // 2))[: 2 if abs_part else 1]:
        for address, count in decomposition.n_components.items():
            fired = rng.random(count) < 0.8 if not prefix else arrays[f"ci_sum/{address}"] > 0
            arrays[f"{prefix}ci_sum/{address}"] = rng.gamma(1.0, 2.0, count) * fired
            arrays[f"{prefix}activation_sum/{address}"] = rng.normal(size=count)
            arrays[f"{prefix}activation_abs_sum/{address}"] = rng.gamma(2.0, 3.0, count)
            arrays[f"{prefix}activation_square_sum/{address}"] = rng.gamma(2.0, 5.0, count)
        seen = rng.random(vocab) < 0.7 if not prefix else arrays["token_count"] > 0
        arrays[f"{prefix}token_count"] = (1.0 + rng.poisson(n / vocab, vocab)) * seen
        if not config.rotary:
            arrays[f"{prefix}position_count"] = np.full(config.context, n / config.context)
        arrays[f"{prefix}logit_sum"] = rng.normal(size=vocab)
        arrays[f"{prefix}logit_square_sum"] = rng.gamma(2.0, 5.0, vocab)
        if output_abs:
            arrays[f"{prefix}centred_logit_square_sum"] = rng.gamma(2.0, 5.0, vocab)
        arrays[f"{prefix}tokens"] = np.array([float(n)])
    for point in layouts:
        occurs = np.concatenate([_occurrence(block, arrays, "") for block in point.blocks])
        occurs_abs = np.concatenate(
            [_occurrence(b, arrays, "abs_part/" if abs_part else "") for b in point.blocks]
        )
        n_delta = sum(block.kind == "delta" for block in point.blocks)
        arrays[f"signed/{point.name}"] = rng.normal(size=(point.n_rows, point.d_in)) * occurs[:, None]
        if point.operation == "norm":
            arrays[f"frozen_weight/{point.name}"] = rng.normal(size=point.n_rows) * occurs
            if n_delta:
                arrays[f"frozen_delta/{point.name}"] = rng.normal(size=(n_delta, point.d_in))
        for reader in point.readers:
            n_targets = vocab if reader == OUTPUT else decomposition.n_components[reader]
            if reader != OUTPUT or output_abs:
                arrays[f"abs/{reader}"] = rng.normal(size=(n_targets, point.n_rows)) * occurs_abs
    return arrays


def _occurrence(block: RowBlock, arrays: dict[str, np.ndarray], prefix: str) -> np.ndarray:
    """Whether each source of a row block occurs at all: rows of others are zero, as in real sums."""
    if block.kind == "embed":
        return arrays[f"{prefix}token_count"] > 0
    if block.kind == "component":
        return arrays[f"{prefix}ci_sum/{block.address}"] > 0
    return np.ones(block.count, bool)


def tiny_settings(
    run: RunDirectory,
    decomposition: Decomposition,
    *,
    delta: Literal["node", "off"] = "node",
    output_abs: bool = False,
    n_groups: int = 16,
) -> Settings:
    return Settings.of_sums(
        layout(decomposition, delta),
        {},
        delta=delta,
        ci_weighted=True,
        metrics=("attr", "attr_abs"),
        output_abs="all" if output_abs else "none",
        n_groups=n_groups,
        centred_norm=decomposition.target.config.centred_norm,
        model_sha256=run.info.files["model.safetensors"],
        corpus_sha256=run.corpus().sha256,
    )


def write_random_attributions(
    run: RunDirectory,
    decomposition: Decomposition,
    *,
    seed: int = 0,
    delta: Literal["node", "off"] = "node",
    output_abs: bool = False,
    abs_part: bool = False,
    n_groups: int = 16,
) -> str:
    """Add an attribution subrun of random sums to a run; its name."""
    rng = np.random.default_rng(seed)
    settings = tiny_settings(run, decomposition, delta=delta, output_abs=output_abs, n_groups=n_groups)
    provenance = {"git_commit": "0" * 40, "made_by": "tests"}
    writer = StoreWriter(run.path, settings, provenance, method="closed_form", method_reason="random numbers")
    for group in range(n_groups):
        sums = random_sums(
            layout(decomposition, delta),
            decomposition,
            rng,
            tokens=100 + group,
            output_abs=output_abs,
            abs_part=abs_part,
        )
        writer.write_group(group, sums)
    return writer.finish()


def write_real_attributions(
    run: RunDirectory, decomposition: Decomposition, *, output_abs: bool = False
) -> str:
    """Add a subrun computed by the engine over the whole toy corpus; its name."""
    engine = AttributionEngine(decomposition, output_abs="all" if output_abs else None)
    settings = tiny_settings(run, decomposition, output_abs=output_abs)
    writer = StoreWriter(
        run.path, settings, {"made_by": "tests"}, method=engine.method, method_reason=engine.method_reason
    )
    for group in range(settings.n_groups):
        sums = engine.new_sums()
        for batch in windows(
            run.corpus().group(group, settings.n_groups), decomposition.target.config.context, 8
        ):
            engine.accumulate(sums, batch)
        writer.write_group(group, {name: value.numpy() for name, value in sums.arrays.items()})
    return writer.finish()


def _write_statistics(run: RunDirectory, decomposition: Decomposition, rng: np.random.Generator) -> None:
    vocab = decomposition.target.config.vocab_size
    tokens = len(run.corpus().tokens)
    arrays: dict[str, np.ndarray] = {
        "tokens": np.array([tokens]),
        "token_count": np.bincount(run.corpus().tokens, minlength=vocab).astype(np.int64),
    }
    for address, count in decomposition.n_components.items():
        alive = rng.integers(0, tokens, count)
        alive[-1] = 0  # one component that is never alive
        arrays[f"alive_count/{address}"] = alive
        arrays[f"ci_sum/{address}"] = alive * rng.uniform(0.1, 0.9, count)
        arrays[f"ci_max/{address}"] = (alive > 0) * rng.uniform(0.2, 1.0, count)
        arrays[f"activation_square_sum/{address}"] = rng.gamma(2.0, tokens, count)
        top = np.stack([rng.permutation(vocab)[:10] for _ in range(count)]).astype(np.int32)
        mass = -np.sort(-rng.gamma(1.0, 1.0, (count, 10)).astype(np.float32))
        top[alive == 0], mass[alive == 0] = -1, 0.0
        arrays[f"top_token/{address}"], arrays[f"top_token_ci/{address}"] = top, mass
    write_statistics(run.path, arrays, {"made_by": "tests"})


def make_tiny_run(
    path: Path,
    family: Family = "llama",
    *,
    n_blocks: int = 2,
    n_components: int = 5,
    seed: int = 0,
    attributions: bool = True,
    statistics: bool = True,
    output_abs: bool = False,
    abs_part: bool = False,
    delta: Literal["node", "off"] = "node",
    tied_embeddings: bool = False,
    sums: Literal["random", "engine"] = "random",
    harvest: bool = False,
    sites: Collection[str] | None = None,
    fused: bool = False,
    gated: bool | None = None,
    importance: ImportanceKind = "shared_mlp",
    sigmoid: SigmoidKind = "leaky_hard",
    text: bool = True,
    words: bool = True,
    notes: Sequence[RunNote] = (),
    source_paths: Mapping[str, str] | None = None,
    provenance: Mapping[str, str] | None = None,
) -> RunDirectory:
    """Build a run at ``path`` (its last part is the run's name) and open it.

    ``sites``: those that have components, all by default. Without ``text`` the run has no corpus, and
    nothing that is computed from one; without ``words`` it has no tokenizer. ``source_paths`` by
    address, ``notes`` and ``provenance`` are what an import leaves.
    """
    rng = np.random.default_rng(seed)
    documents = [
        Document(
            f"text {i}",
            "made up for tests",
            " ".join(rng.choice(TEXT.split(" "), 40 + int(rng.integers(40)))),
        )
        for i in range(40)
    ]
    tokenizer = train_tokenizer(documents, 270)
    decomposition = tiny_decomposition(
        family,
        n_blocks,
        n_components,
        seed,
        tokenizer.get_vocab_size(),
        tied_embeddings,
        sites=sites,
        fused=fused,
        gated=gated,
        importance=importance,
        sigmoid=sigmoid,
    )
    source_paths = source_paths or {}
    info = RunInfo(
        name=path.name,
        title="A toy run",
        description="Random weights, made up for tests.",
        licence="MIT",
        created="2026-01-01T00:00:00+00:00",
        provenance=dict(provenance or {"made_by": "tests"}),
        target=decomposition.target.config.model_dump(mode="json"),
        importance=decomposition.importance,
        sites=tuple(
            RunSite(
                address=str(address),
                module_path=site.module_path,
                d_in=site.d_in,
                d_out=site.d_out,
                n_components=decomposition.n_components[address],
                source_path=source_paths.get(str(address)),
            )
            for address, site in decomposition.topology.sites.items()
        ),
        notes=tuple(notes),
    )
    tensors = {name: value.numpy() for name, value in decomposition.export_tensors().items()}
    corpus = tokenize(documents, tokenizer) if text else None
    run = write_run(path, info, tensors, tokenizer if words else None, corpus)
    if corpus is None:
        return run
    if statistics:
        _write_statistics(run, decomposition, rng)
    if attributions and sums == "engine":
        write_real_attributions(run, decomposition, output_abs=output_abs)
    elif attributions:
        write_random_attributions(
            run, decomposition, seed=seed, delta=delta, output_abs=output_abs, abs_part=abs_part
        )
    if harvest:
        write_naive_harvest(run, decomposition)
    return run
