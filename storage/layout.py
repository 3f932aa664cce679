"""What a store contains: settings, rows of every read point, arrays and where their bytes lie.

This is the manifest of an attribution store as pydantic models; docs/file-format.md explains it to
those who write another reader. The words (read point, row block, reader) are those of
``compute.attribution.sums``, which is not imported because it needs torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any, Final, Literal, Protocol, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from compute.address import Address, Key, parse_address

FORMAT = "tributary-attributions"
VERSION = 1
#: The file of a store that came with tensors of its own.
TENSORS: Final = "tensors.safetensors"
GROUPS = 16
RowKind = Literal["embed", "position", "component", "delta", "bias"]
#: ``unknown``: of a read point that was imported without its model.
Operation = Literal["norm", "attention", "mlp", "unknown"]
#: Formats of published attribution files (backend/importing/attribution_files.py).
ImportedFormat = Literal["four-edge", "two-matrix"]
#: ``rms``: by the source's denominator and the target's RMS. ``tokens``: a mean over all tokens.
Normalisation = Literal["rms", "tokens"]
Metric = Literal["attr", "attr_abs", "attr_frozen"]

#: Statistics that exist a second time under ``abs_part/`` when attr_abs rests on a part of the tokens.
ABS_PART = "abs_part/"
#: Bytes of one block of totals, and of one bundle of group values: the units of reading and checking.
_TOTAL_BYTES, _GROUP_BYTES = 1 << 14, 1 << 14
_TILE, _GROUP_TILE = 64, 16
#: Arrays that hold one number for each edge, [targets, rows].
EDGE_ARRAYS = ("abs/", "edges/")


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _SumsRowBlock(Protocol):
    @property
    def address(self) -> Address: ...
    @property
    def kind(self) -> RowKind: ...
    @property
    def offset(self) -> int: ...
    @property
    def count(self) -> int: ...


class _SumsReadPoint(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def operation(self) -> Operation: ...
    @property
    def d_in(self) -> int: ...
    @property
    def readers(self) -> tuple[Address, ...]: ...
    @property
    def blocks(self) -> Sequence[_SumsRowBlock]: ...
    @property
    def through(self) -> tuple[Address, ...]: ...


class RowBlock(_Model):
    """Consecutive rows of a read point: all components of a site, its delta, all tokens …"""

    address: str
    kind: RowKind
    offset: int = Field(ge=0)
    count: int = Field(ge=1)

    @cached_property
    def parsed(self) -> Address:
        return parse_address(self.address)

    def key(self, row: int) -> Key:
        """The source that ``row`` (counted from the start of the read point) stands for."""
        if self.kind == "delta" or self.kind == "bias":
            return Key(self.parsed, self.kind)
        return Key(self.parsed, row - self.offset)


class ReadPoint(_Model):
    """A vector that the ``readers`` (targets) read, and the rows (sources) that flow into it.

    Where the reader's edges are stored one by one, ``d_in`` is how many components it has.
    """

    name: str
    operation: Operation
    d_in: int = Field(ge=1)
    readers: tuple[str, ...]
    blocks: tuple[RowBlock, ...]
    #: Modules left whole on the way from the sources; not written where there are none.
    through: tuple[str, ...] = ()

    @model_serializer(mode="wrap")
    def _write(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in write(self).items() if name != "through" or value}

    @property
    def n_rows(self) -> int:
        return sum(block.count for block in self.blocks)

    @property
    def scale_free(self) -> bool:
        """Whether embeddings are the only source of a norm: their attributions cancel up to eps."""
        embeddings = all(block.kind == "embed" for block in self.blocks)
        return self.operation == "norm" and embeddings and not self.through

    def scale_free_row(self, row: int) -> bool:
        """Whether what a row gives cancels up to eps: that of all rows of a scale-free norm, and of the
        embeddings in what block 0 mixes, which they only reach through that norm (with queries, keys
        or values left whole)."""
        if self.scale_free or self.name != "0.attn.mixed":
            return self.scale_free
        kinds = {block.kind for block in self.blocks}
        return self.block_at(row).kind == "embed" and "position" not in kinds

    def block_at(self, row: int) -> RowBlock:
        """The row block that holds ``row``."""
        return next(block for block in self.blocks if row < block.offset + block.count)

    @model_validator(mode="after")
    def _check(self) -> Self:
        offset = 0
        for block in self.blocks:
            if block.offset != offset:
                raise ValueError(f"the rows of {self.name} have a gap at {offset}")
            offset += block.count
        return self


class TensorCheck(_Model):
    """A tensor of the model that queries multiply with, and its CRC-32."""

    shape: tuple[int, ...]
    crc32: int


class Settings(_Model):
    """Everything that decides what the numbers mean. Stores add only where all of it is equal."""

    delta: Literal["node", "off"]
    ci_weighted: bool
    metrics: tuple[Literal["attr", "attr_abs"], ...]
    #: ``none``, ``all`` or ``top:N``.
    output_abs: str = "none"
    abs_targets: dict[str, tuple[int, ...]] = Field(default_factory=dict)
    #: 0: sums over the whole text alone, from which no standard errors follow.
    n_groups: int = Field(default=GROUPS, ge=0, le=4096)
    layouts: tuple[ReadPoint, ...]
    #: Whether norms remove the mean (LayerNorm).
    centred_norm: bool
    model_sha256: str
    corpus_sha256: str
    #: What else decides the numbers: batches, share of tokens with attr_abs, number type …
    options: dict[str, str] = Field(default_factory=dict)
    #: The format of the published file that the sums were imported from; None: computed here. Not
    #: written where it is None.
    imported_from: ImportedFormat | None = None

    @model_serializer(mode="wrap")
    def _write(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in write(self).items() if name != "imported_from" or value}

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.n_groups == 1:
            raise ValueError("one group of documents is none")
        for point in self.layouts:
            if len(point.readers) > 1 and any(map(self.edgewise, point.readers)):
                raise ValueError(f"edges into {point.name} are stored one by one, but it has several readers")
        return self

    def edgewise(self, reader: str) -> bool:
        """Whether ``attr`` into a reader is stored edge by edge, and not in the space of its read point."""
        return self.imported_from is not None and reader != "output"

    @property
    def normalisation(self) -> Normalisation:
        """How values are normalised where nothing else is asked for."""
        return "tokens" if self.imported_from == "two-matrix" else "rms"

    @classmethod
    def of_sums(
        cls,
        layouts: Iterable[_SumsReadPoint],
        abs_targets: Mapping[Address, Iterable[int]],
        **rest: Any,
    ) -> Self:
        """Settings from the layouts of ``compute.attribution.sums`` and the fields given by name."""
        points = tuple(
            ReadPoint(
                name=point.name,
                operation=point.operation,
                d_in=point.d_in,
                readers=tuple(str(reader) for reader in point.readers),
                blocks=tuple(
                    RowBlock(address=str(b.address), kind=b.kind, offset=b.offset, count=b.count)
                    for b in point.blocks
                ),
                through=tuple(str(address) for address in point.through),
            )
            for point in layouts
        )
        targets = {str(address): tuple(int(i) for i in indices) for address, indices in abs_targets.items()}
        return cls(layouts=points, abs_targets=targets, **rest)


def has_frozen(settings: Settings) -> bool:
    """Whether frozen-norm attributions can be made: they need to be known from weights and one number
    for each source, which they are where no path crosses a matrix that was left whole."""
    return settings.imported_from is None and not any(point.through for point in settings.layouts)


def site_sizes(settings: Settings) -> dict[str, int]:
    """Components of every site, and of ``output`` the tokens: all sites are sources somewhere, or their
    edges are stored one by one."""
    sizes: dict[str, int] = {}
    for point in settings.layouts:
        sizes.update((reader, point.d_in) for reader in point.readers if settings.edgewise(reader))
        for block in point.blocks:
            if block.kind == "component":
                sizes[block.address] = block.count
            elif block.kind == "embed":
                sizes["output"] = block.count
    return sizes


class BlockPlan(_Model):
    """Where one plane of an array lies: a grid of equally large blocks, in row-major order."""

    offset: int = Field(ge=0)
    rows: int = Field(ge=1)
    columns: int = Field(ge=1)


class ArrayPlan(_Model):
    """One array: shape [rows, columns] (statistics: one row), and its blocks in the files.

    A compact store, and one without groups, has one file, and no plan for ``groups``.
    """

    name: str
    shape: tuple[int, int]
    dtype: Literal["<f2", "<f4", "<f8", "<i4", "|u1"]
    total: BlockPlan
    groups: BlockPlan | None


class Manifest(_Model):
    format: Literal["tributary-attributions"] = FORMAT
    version: Literal[1] = VERSION
    encoding: Literal["full", "compact"] = "full"
    store_id: str = Field(pattern=r"^[0-9a-f]{32}$")
    created: str
    tokens: int = Field(ge=0)
    abs_tokens: int = Field(ge=0)
    method: str
    method_reason: str
    settings: Settings
    provenance: dict[str, str]
    #: What a compact encoding loses, in words, and as figures measured when it was made.
    encoding_note: str | None = None
    encoding_loss: dict[str, float] = Field(default_factory=dict)
    model_tensors: dict[str, TensorCheck]
    #: The file of this store that holds ``model_tensors``; None, and not written: they are the model's.
    tensors: Literal["tensors.safetensors"] | None = None
    arrays: tuple[ArrayPlan, ...]
    sizes: dict[str, int]

    @model_serializer(mode="wrap")
    def _write(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in write(self).items() if name != "tensors" or value}


def _ceil(a: int, b: int) -> int:
    return -(-a // b)


def _power(n: int) -> int:
    """The largest power of two ≤ n (at least 1): blocks of the two files then nest."""
    return 1 << (max(n, 1).bit_length() - 1)


def block_shape(name: str, shape: tuple[int, int], itemsize: int) -> tuple[int, int]:
    """Block of the totals: tiles for ``abs/`` and ``edges/``, whole rows for signed sums, long runs for statistics."""
    return _block(name, shape, _TILE, _TOTAL_BYTES // itemsize)


def group_block_shape(name: str, shape: tuple[int, int], itemsize: int, n_groups: int) -> tuple[int, int]:
    """Bundle of all groups' values: small, because only the strongest entries are looked up in it."""
    return _block(name, shape, _GROUP_TILE, _GROUP_BYTES // (n_groups * itemsize))


def _block(name: str, shape: tuple[int, int], tile: int, elements: int) -> tuple[int, int]:
    rows, columns = max(shape[0], 1), max(shape[1], 1)
    if rows == 1:
        return 1, min(columns, _power(elements))
    if name.startswith(EDGE_ARRAYS):
        return min(rows, tile), min(columns, tile)
    return min(rows, _power(elements // columns)), columns


def plan_arrays(
    shapes: Mapping[str, tuple[int, ...]], n_groups: int
) -> tuple[tuple[ArrayPlan, ...], dict[str, int]]:
    """Plans for arrays of these shapes, in sorted order, and the sizes of the files in bytes: two, or one
    where there are no groups.

    Arrays of two dimensions are float32, statistics (one dimension) float64. Each block is followed
    by an eight-byte word that holds its CRC-32.
    """
    plans: list[ArrayPlan] = []
    totals = groups = 0
    for name in sorted(shapes):
        raw = shapes[name]
        shape = (1, raw[0]) if len(raw) == 1 else (raw[0], raw[1])
        dtype: Literal["<f4", "<f8"] = "<f8" if len(raw) == 1 else "<f4"
        size = 8 if dtype == "<f8" else 4
        r, c = block_shape(name, shape, size)
        bundle = None
        if n_groups:
            gr, gc = group_block_shape(name, shape, size, n_groups)
            bundle = BlockPlan(offset=groups, rows=gr, columns=gc)
            groups += _ceil(shape[0], gr) * _ceil(shape[1], gc) * record_size(n_groups * gr * gc * size)
        plans.append(
            ArrayPlan(
                name=name,
                shape=shape,
                dtype=dtype,
                total=BlockPlan(offset=totals, rows=r, columns=c),
                groups=bundle,
            )
        )
        totals += _ceil(shape[0], r) * _ceil(shape[1], c) * record_size(r * c * size)
    return tuple(plans), {"totals.bin": totals} | ({"groups.bin": groups} if n_groups else {})


def plan_compact(
    shapes: Mapping[str, tuple[tuple[int, int], str]],
) -> tuple[tuple[ArrayPlan, ...], dict[str, int]]:
    """Plans for the arrays of a compact store, given shape and type; and the size of its one file."""
    plans: list[ArrayPlan] = []
    offset = 0
    for name in sorted(shapes):
        shape, dtype = shapes[name]
        size = int(dtype[2:])
        r, c = block_shape(name, shape, size)
        total = BlockPlan(offset=offset, rows=r, columns=c)
        plans.append(
            ArrayPlan.model_validate(
                {"name": name, "shape": shape, "dtype": dtype, "total": total, "groups": None}
            )
        )
        offset += _ceil(shape[0], r) * _ceil(shape[1], c) * record_size(r * c * size)
    return tuple(plans), {"compact.bin": offset}


def denominator_name(settings: Settings, block: RowBlock, *, part: bool) -> str:
    """The statistic that divides a block's rows; ``tokens`` is one number for all of them."""
    name = "tokens"
    if settings.normalisation == "rms":
        name = {"embed": "token_count", "position": "position_count"}.get(block.kind, "tokens")
    if block.kind == "component" and settings.ci_weighted:
        name = f"ci_sum/{block.address}"
    return f"{ABS_PART}{name}" if part else name


def record_size(payload: int) -> int:
    """Bytes of a block on disk: the payload, padded to eight, and the checksum word."""
    return _ceil(payload, 8) * 8 + 8
