"""Compact stores: what is shipped with a run, a fraction of the full store, with its loss measured.

Values are float16 with one float32 scale for each row. Signed group values are stored as deviations
from what the source's denominators predict, x_g = X · N_g/N + deviation, in four bits: only standard
errors depend on them. For attr_abs the standard error of the normalised value is one byte. Sources
that never occurred have rows of zeros and are dropped; targets that are never alive are dropped from
attr_abs alone. A compact store answers every query of a full one but the standard errors of raw
attr_abs sums, and cannot be merged.
"""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from compute.address import OUTPUT, Key, parse_address
from storage.attributions import AttributionStore
from storage.blocks import BlockWriter
from storage.compact_codes import pack_deviations, pack_relative_errors
from storage.errors import StorageError
from storage.files import publish
from storage.jackknife import standard_errors
from storage.layout import ABS_PART, ReadPoint, Settings, denominator_name, plan_compact, site_sizes
from storage.manifest import write_manifest
from storage.planes import FullPlanes
from storage.run_directory import RunDirectory

#: Statistics whose group values queries need; of the others the total is enough.
_BY_GROUP = ("ci_sum/", "activation_square_sum/", "token_count", "position_count", "logit_square_sum",
             "centred_logit_square_sum", "tokens", "frozen_weight/")  # fmt: skip
_ROWS, _BAND = 512, 16
_SAMPLED_KEYS = 48


@dataclass
class _Encoder:
    """The arrays of a compact store as they are made, and the largest rounding error so far."""

    planes: FullPlanes
    settings: Settings
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    row_error: float = 0.0

    def statistic(self, name: str) -> None:
        self.arrays[name] = self.planes.total(name).astype(np.float64)
        if self.settings.n_groups and name.removeprefix(ABS_PART).startswith(_BY_GROUP):
            self.arrays[f"{name}/groups"] = self.planes.groups(name)[:, 0].astype(np.float32)

    def _half(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Values [n, d] as float16 shares of each row's largest, and that largest [n]."""
        scale = np.abs(values).max(1, initial=0.0)
        scale = np.where(scale > 0, scale, 1.0).astype(np.float32)
        shares = (values / scale[:, None]).astype(np.float16)
        error = np.abs(shares * scale[:, None].astype(np.float64) - values).max(1, initial=0.0) / scale
        self.row_error = max(self.row_error, float(error.max(initial=0.0)))
        return shares, scale

    def signed(self, name: str, point: ReadPoint, n_rows: int) -> None:
        """A ``signed/`` or ``frozen_delta/`` array, a few hundred rows at a time."""
        kept: list[np.ndarray] = []
        pieces: dict[str, list[np.ndarray]] = {"values": [], "scale": []}
        if self.settings.n_groups:
            pieces |= {"codes": [], "code_scale": []}
        for start in range(0, n_rows, _ROWS):
            band = slice(start, min(start + _ROWS, n_rows))
            total = self.planes.total(name, band).astype(np.float64)
            occurs = np.flatnonzero(np.abs(total).max(1, initial=0.0) > 0)
            shares, scale = self._half(total[occurs])
            kept.append(occurs + start)
            pieces["values"].append(shares)
            pieces["scale"].append(scale)
            if not self.settings.n_groups:
                continue
            groups = self.planes.groups(name, band)[:, occurs]
            expected = shares.astype(np.float64) * scale[:, None]
            share = self._shares(point, occurs + start, delta=name.startswith("frozen_delta/"))
            deviations = groups - share[:, :, None] * expected
            codes, code_scale = pack_deviations(deviations.transpose(1, 0, 2))
            pieces["codes"].append(codes.reshape(len(occurs), -1))
            pieces["code_scale"].append(code_scale)
        self.arrays[f"{name}/rows"] = np.concatenate(kept).astype(np.int32)[None]
        for part, values in pieces.items():
            joined = np.concatenate(values)
            self.arrays[f"{name}/{part}"] = joined[None] if joined.ndim == 1 else joined

    def _shares(self, point: ReadPoint, rows: np.ndarray, *, delta: bool) -> np.ndarray:
        """N_g/N of rows of a read point, [groups, n], from the rounded denominators a reader will see."""
        shares = np.empty((self.settings.n_groups, len(rows)))
        for i, row in enumerate(rows):
            name, index = "tokens", 0
            if not delta:
                block = point.block_at(int(row))
                name = denominator_name(self.settings, block, part=False)
                index = 0 if name == "tokens" else int(row) - block.offset
            values = self.arrays[f"{name}/groups"][:, index].astype(np.float64)
            shares[:, i] = values / max(values.sum(), 1e-10)
        return shares

    def single(self, name: str, point: ReadPoint, rows: np.ndarray) -> None:
        """An array of single edges of a store without groups, of the target rows given."""
        part = name.startswith("abs/") and self.planes.has(f"{ABS_PART}tokens")
        names = [denominator_name(self.settings, block, part=part) for block in point.blocks]
        pieces = [
            np.broadcast_to(self.planes.total(one)[0], block.count)
            for one, block in zip(names, point.blocks, strict=True)
        ]
        denominators = np.concatenate(pieces)
        columns = np.flatnonzero(denominators > 0)
        total = self.planes.total(name)[rows][:, columns]
        self._edges(name, total / denominators[columns], columns)

    def _edges(self, name: str, values: np.ndarray, columns: np.ndarray) -> None:
        """Edges [targets, columns] as means of their source."""
        self.arrays[f"{name}/values"], scale = self._half(values)
        self.arrays[f"{name}/scale"] = scale[None]
        self.arrays[f"{name}/columns"] = columns.astype(np.int32)[None]

    def absolute(self, reader: str, point: ReadPoint, rows: np.ndarray, squares: str) -> None:
        """An ``abs/`` array, of the target rows given; ``squares`` names the targets' sums of squares."""
        name = f"abs/{reader}"
        part = f"{ABS_PART}tokens" if self.planes.has(f"{ABS_PART}tokens") else "tokens"
        tokens = self.planes.groups(part)[:, 0, 0]
        source = self._source_groups(point)
        denominators = source.sum(0)
        chosen = self.settings.abs_targets.get(reader)
        targets = rows if chosen is None else np.asarray(chosen)[rows]
        square_groups = self.planes.groups(squares)[:, 0]
        columns = np.flatnonzero(denominators > 0)
        values, errors = np.empty((len(rows), len(columns))), np.empty((len(rows), len(columns)), np.uint8)
        for first in range(0, int(rows.max(initial=-1)) + 1, _BAND):
            here = np.flatnonzero((rows >= first) & (rows < first + _BAND))
            band = slice(first, min(first + _BAND, int(rows.max()) + 1))
            groups = self.planes.groups(name, band)[:, rows[here] - first][:, :, columns]
            total = self.planes.total(name, band)[rows[here] - first][:, columns].astype(np.float64)
            values[here] = total / denominators[columns]
            for i, of_row in zip(here, groups.transpose(1, 0, 2), strict=True):
                spread = np.broadcast_to(square_groups[:, targets[i], None], of_row.shape)
                jackknife = standard_errors(of_row, source[:, columns], spread, tokens, normalised=True)
                rms = max(float(np.sqrt(square_groups[:, targets[i]].sum() / tokens.sum())), 1e-10)
                errors[i] = pack_relative_errors(jackknife, values[i] / rms)
        self._edges(name, values, columns)
        self.arrays[f"{name}/errors"] = errors

    def _source_groups(self, point: ReadPoint) -> np.ndarray:
        """attr_abs denominators of a read point by group, [groups, n_rows]."""
        part = self.planes.has(f"{ABS_PART}tokens")
        pieces = [
            np.broadcast_to(
                self.planes.groups(denominator_name(self.settings, block, part=part))[:, 0],
                (self.settings.n_groups, block.count),
            )
            for block in point.blocks
        ]
        return np.concatenate(pieces, 1)


def compact(run: RunDirectory, subrun: str | None = None, *, abs_above: float = 0.0) -> str:
    """Write a compact copy of a subrun (default: the newest) beside it; returns its name.

    attr_abs keeps the targets whose causal importance is somewhere above ``abs_above``; more than 0
    needs the run's component statistics and raises :class:`RunError` without them.
    """
    store = run.attributions(subrun)
    manifest = store.manifest
    if manifest.encoding == "compact":
        raise StorageError(f"{store.path} is compact already")
    settings, planes = manifest.settings, FullPlanes(store.path, manifest)
    encoder = _Encoder(planes, settings)
    for array in manifest.arrays:
        if array.dtype == "<f8":
            encoder.statistic(array.name)
    abs_targets = dict(settings.abs_targets)
    statistics = run.statistics() if abs_above > 0 else None

    def keeps(address: str) -> np.ndarray:
        """Whether attr_abs into each component of a site is kept, [C]."""
        if statistics is None:
            return encoder.planes.total(f"ci_sum/{address}")[0] > 0
        return statistics.site("ci_max", parse_address(address)) > abs_above

    for point in settings.layouts:
        if planes.has(f"signed/{point.name}"):
            encoder.signed(f"signed/{point.name}", point, point.n_rows)
        deltas = sum(block.kind == "delta" for block in point.blocks)
        if deltas and planes.has(f"frozen_delta/{point.name}"):
            encoder.signed(f"frozen_delta/{point.name}", point, deltas)
        for reader in point.readers:
            if planes.has(f"edges/{reader}"):
                encoder.single(f"edges/{reader}", point, np.arange(point.d_in))
            if planes.has(f"abs/{reader}"):
                abs_targets |= _absolute(encoder, reader, point, keeps)
    store_id = secrets.token_hex(16)
    folder = run.path / "attributions"
    work = folder / f".compacting-{store_id}"
    work.mkdir()
    try:
        shapes = {n: ((v.shape[0], v.shape[1]), v.dtype.str) for n, v in encoder.arrays.items()}
        plans, sizes = plan_compact(shapes)
        writer = BlockWriter(work / "compact.bin", plans, "total", 1, store_id, "compact.bin")
        for name, values in encoder.arrays.items():
            writer.write(name, 0, 0, values[None])
        writer.close()
        if manifest.tensors is not None:
            shutil.copyfile(store.path / manifest.tensors, work / manifest.tensors)
        changes = {
            "encoding": "compact",
            "store_id": store_id,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "settings": settings.model_copy(update={"abs_targets": abs_targets}),
            "provenance": manifest.provenance | {"compacted_from": manifest.store_id},
            "arrays": plans,
            "sizes": sizes,
        }
        made = manifest.model_copy(update=changes)
        write_manifest(work, made)
        loss = {"rounding_of_row_maximum": encoder.row_error} | _measure(run, store, work)
        write_manifest(
            work,
            made.model_copy(
                update={"encoding_loss": loss, "encoding_note": _note(loss, abs_above, settings)}
            ),
        )
        return publish(work, folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _absolute(
    encoder: _Encoder, reader: str, point: ReadPoint, keeps: Callable[[str], np.ndarray]
) -> dict[str, tuple[int, ...]]:
    """Encode attr_abs into a reader; returns its targets if not all of them are kept."""
    chosen = encoder.settings.abs_targets.get(reader)
    part = ABS_PART if encoder.planes.has(f"{ABS_PART}tokens") else ""
    if reader == "output":
        count = encoder.planes.total("token_count").shape[1] if chosen is None else len(chosen)
        encoder.absolute(reader, point, np.arange(count), f"{part}centred_logit_square_sum")
        return {}
    kept = keeps(reader)
    every = np.arange(len(kept)) if chosen is None else np.asarray(chosen)
    rows = np.flatnonzero(kept[every])
    if encoder.settings.n_groups:
        encoder.absolute(reader, point, rows, f"{part}activation_square_sum/{reader}")
    else:
        encoder.single(f"abs/{reader}", point, rows)
    return {} if len(rows) == len(kept) else {reader: tuple(int(i) for i in every[rows])}


def _measure(run: RunDirectory, full: AttributionStore, work: Path) -> dict[str, float]:
    """How far values and standard errors of strongest entries move, over keys spread over the model."""
    rounded = run.open_attributions(work)
    every = [(site.parsed, i) for site in run.info.sites for i in range(site.n_components)]
    every = every[:: max(1, len(every) // _SAMPLED_KEYS)]
    keys = [Key(address, index) for address, index in every]
    if any("output" in point.readers for point in full.manifest.settings.layouts):
        vocab = site_sizes(full.manifest.settings)["output"]
        keys += [Key(OUTPUT, i) for i in range(min(8, vocab))]
    value_errors: list[float] = []
    error_errors: list[float] = []
    for metric in full.metrics:
        for key in keys:
            chosen = rounded.manifest.settings.abs_targets.get(str(key.address))
            if metric == "attr_abs" and (
                key.address.kind == "output" or (chosen is not None and key.index not in chosen)
            ):
                continue
            for entry in full.top_sources(key, 5, "positive", metric).entries:
                again = rounded.attribution(entry.key, key, metric)
                value_errors.append(abs(again.value - entry.value) / entry.value)
                if entry.standard_error and again.standard_error:
                    error_errors.append(abs(again.standard_error / entry.standard_error - 1))
    return {
        "strongest_values_largest_relative_error": max(value_errors, default=0.0),
        "standard_errors_median_relative_error": float(np.median(error_errors)) if error_errors else 0.0,
        "standard_errors_95_percent_below": float(np.quantile(error_errors, 0.95)) if error_errors else 0.0,
    }


def _note(loss: dict[str, float], abs_above: float, settings: Settings) -> str:
    left_out = f"whose importance is nowhere above {abs_above:g}" if abs_above > 0 else "that are never alive"
    rounding = (
        f"Values are rounded to {loss['rounding_of_row_maximum']:.1e} of the largest in their row at most; the "
        f"strongest entries moved by {loss['strongest_values_largest_relative_error']:.1e} of their value at most."
    )
    sentences = [rounding]
    if settings.n_groups:
        sentences.append(
            f"Standard errors moved by {loss['standard_errors_median_relative_error']:.1%} (median) and less "
            f"than {loss['standard_errors_95_percent_below']:.1%} (95 % of them)."
        )
    if "attr_abs" in settings.metrics:
        sentences.append(f"attr_abs leaves out targets {left_out}.")
    return " ".join(sentences)
