"""A published run and what an import makes of it, side by side."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from backend.importing.options import ImportedRun, ImportOptions
from backend.importing.run import import_run
from backend.pipelines.load import load_decomposition
from compute.address import OUTPUT, Address, parse_address
from compute.attribution.engine import AttributionEngine
from compute.attribution.sums import AttributionSums
from compute.decomposition.model import Decomposition
from storage.run_directory import RunDirectory
from tests.support.public import PublicRun
from tests.support.public.attributions import PublicAttributions

#: The largest difference that is still agreement, relative to the largest value compared.
TOLERANCE = 1e-4


@dataclass
class Imported:
    """The reference, and the run that was made of its directory."""

    public: PublicRun
    result: ImportedRun
    run: RunDirectory
    decomposition: Decomposition
    #: Our address of each concrete module path.
    addresses: dict[str, Address]

    def ours(self, by_path: Mapping[str, Tensor]) -> dict[Address, Tensor]:
        return {self.addresses[path]: value for path, value in by_path.items()}

    @torch.no_grad()
    def masked_logits(
        self, masks: Mapping[str, Tensor], deltas: Mapping[str, Tensor] | None = None
    ) -> Tensor:
        delta_masks = None if deltas is None else {a: m[..., None] for a, m in self.ours(deltas).items()}
        site = self.decomposition.site_function(self.ours(masks), delta_masks)
        return self.decomposition.target(self.public.tokens, site=site)


def import_public(public: PublicRun, **options: Any) -> Imported:
    """Import the directory as the command line does, and load what was written."""
    runs = public.directory.parent / "imported"
    settings: dict[str, Any] = {
        "runs": runs,
        "name": public.directory.name,
        "target": public.target_directory,
        "tokenizer": public.target_directory,
        "offline": True,
    }
    result = import_run(public.directory, ImportOptions(**(settings | options)))
    run = RunDirectory.open(result.path)
    addresses = {site.source_path: parse_address(site.address) for site in run.info.sites}
    return Imported(
        public, result, run, load_decomposition(run), {p: a for p, a in addresses.items() if p is not None}
    )


def assert_close(found: Tensor, expected: Tensor, what: str, scale: float | None = None) -> None:
    """Equal to 1e-4 of ``scale``, or of the largest value expected."""
    assert found.shape == expected.shape, what
    size = expected.abs().max().item() if scale is None else scale
    error = (found - expected).abs().max().item() / max(size, 1e-30)
    assert error <= TOLERANCE, f"{what}: {error:.1e}"


def sums_of(imported: Imported, tokens: Tensor, **options: Any) -> AttributionSums:
    engine = AttributionEngine(imported.decomposition, **options)
    sums = engine.new_sums()
    engine.accumulate(sums, tokens)
    return sums


def assert_same_attributions(imported: Imported, sums: AttributionSums, expected: PublicAttributions) -> None:
    """Every pair of modules that either side connects, to 1e-4 of what acts on the target at all.

    Where only a token embedding and a norm lie before a target, attributions cancel to the norm's
    epsilon: rounding noise, which is measured against the target's own size instead.
    """
    paths = {address: path for path, address in imported.addresses.items()}
    seen: set[tuple[str, str]] = set()
    for point in sums.layouts:
        Z = sums.arrays[f"signed/{point.name}"]
        for reader in point.readers:
            signed, magnitude = _expected_rows(expected, paths, reader)
            scale = max((value.abs().max().item() for value in signed.values()), default=0.0)
            if reader == OUTPUT:
                found_signed, found_abs = Z.T, None
            else:
                size = (expected.act_square_sum[paths[reader]] * expected.n_tokens).sqrt().max().item()
                scale = max(scale, 0.03 * size)
                found_signed, found_abs = (
                    (Z @ imported.decomposition.V(reader)).T,
                    sums.arrays[f"abs/{reader}"],
                )
            for block in point.blocks:
                if block.kind not in ("component", "embed"):
                    continue
                source = "embed" if block.kind == "embed" else paths[block.address]
                rows = slice(block.offset, block.offset + block.count)
                seen.add((str(reader), source))
                wanted = signed.get(source)
                if wanted is None:
                    wanted = torch.zeros(len(found_signed), block.count)
                assert_close(found_signed[:, rows], wanted, f"{source} → {reader}", scale)
                if found_abs is not None and source in magnitude:
                    assert_close(
                        found_abs[:, rows], magnitude[source], f"{source} → {reader} (absolute)", scale
                    )
    for path, sources in expected.regular.items():
        for source, value in sources.items():
            known = (str(imported.addresses[path]), source) in seen
            assert known or not value.any(), f"{source} → {path} is missing"
    for path, value in expected.embed.items():
        assert (str(imported.addresses[path]), "embed") in seen or not value.any()
    for source, value in expected.unembed.items():
        assert ("output", source) in seen or not value.any()


def _expected_rows(
    expected: PublicAttributions, paths: Mapping[Address, str], reader: Address
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Signed and absolute sums into one reader by source, [n_targets, n_sources]."""
    if reader == OUTPUT:
        return {**expected.unembed, "embed": expected.embed_unembed}, {}
    path = paths[reader]
    signed, magnitude = dict(expected.regular[path]), dict(expected.regular_abs[path])
    if path in expected.embed:
        signed["embed"], magnitude["embed"] = expected.embed[path], expected.embed_abs[path]
    return signed, magnitude


def assert_same_statistics(imported: Imported, sums: AttributionSums, expected: PublicAttributions) -> None:
    """Denominators of published attributions."""
    for path, address in imported.addresses.items():
        assert_close(sums.arrays[f"ci_sum/{address}"].float(), expected.ci_sum[path], f"ci_sum of {path}")
        squares = sums.arrays[f"activation_square_sum/{address}"].float()
        assert_close(squares, expected.act_square_sum[path], f"squares of {path}")
    assert_close(sums.arrays["logit_square_sum"].float(), expected.logit_square_sum, "squares of logits")
    assert torch.equal(sums.arrays["token_count"].long(), expected.token_count)
    assert sums.tokens == expected.n_tokens


def random_masks(public: PublicRun, seed: int = 7) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Masks [B, T, C] and delta masks [B, T] of a stochastic pass, by path."""
    generator = torch.Generator().manual_seed(seed)
    shape = public.tokens.shape
    masks = {path: torch.rand(*shape, n, generator=generator) for path, n in public.model.counts.items()}
    return masks, {path: torch.rand(shape, generator=generator) for path in masks}


def written(path: Path) -> list[str]:
    """What there is in a folder, hidden things too."""
    return sorted(entry.name for entry in path.iterdir()) if path.exists() else []
