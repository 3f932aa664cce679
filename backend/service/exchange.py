"""Graphs as files: the whole of one as JSON, which can be read back, and its edges as CSV.

The format is in docs/graph-format.md. Both are written piece by piece. What is read back is trusted
in nothing: every column, key and number is checked before anything is stored.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Literal

import numpy as np
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError

from backend.errors import ServiceError
from backend.graph_file_schemas import GraphExport
from backend.graph_schemas import GraphSummary
from backend.service import graphs, workspaces
from backend.service.columns import EDGE_COLUMNS, NODE_COLUMNS, Nodes
from backend.service.run import Run
from backend.service.text import check_ids, tokenise
from backend.service.workshop import Workshop
from compute.address import Address, AddressError, parse_address
from storage.errors import ConflictError
from storage.graph_records import GraphRecord

Format = Literal["json", "csv"]
#: Edges written at once.
_PIECE = 20_000
_INTEGERS = ("site", "position", "index")
_NODE_TYPES: dict[str, type[np.float32 | np.int16 | np.int32 | np.uint32]] = {
    **dict.fromkeys(NODE_COLUMNS, np.float32),
    "site": np.int16,
    "position": np.int16,
    "index": np.int32,
}


# ---- export -------------------------------------------------------------------------------------


def export(workshop: Workshop, graph_id: int, format: Format) -> tuple[str, str, Iterator[bytes]]:  # noqa: A002
    """File name, media type and content."""
    run, record = workshop.graph(graph_id)
    nodes = workshop.columns.nodes(workshop.database, record)
    edges = workshop.columns.edges(workshop.database, record)
    name = f"{re.sub(r'[^A-Za-z0-9._-]', '_', run.name)[:80]}-graph-{graph_id}.{format}"
    if format == "csv":
        return name, "text/csv; charset=utf-8", _csv(nodes, edges)
    return name, "application/json", _json(_head(workshop, run, record, nodes), edges)


def _head(workshop: Workshop, run: Run, record: GraphRecord, nodes: Nodes) -> dict[str, Any]:
    """The document but for its edges."""
    prompt = workshop.database.prompt(record.prompt_id)
    short = graphs.summary(record)
    circuit = None
    if record.circuit_id is not None:
        found = workshop.database.circuit(record.circuit_id)
        circuit = {"settings": found.settings, "summary": found.summary, "title": found.title}
    workspace = workspaces.get(workshop, record.id)
    return {
        "format": "tributary-graph",
        "version": 1,
        "run": run.name,
        "run_digest": run.digest,
        "text": prompt.text,
        "token_ids": list(prompt.token_ids),
        "prompt_title": prompt.title,
        "title": record.title,
        "note": record.note,
        "settings": short.settings.model_dump(mode="json"),
        "circuit": circuit,
        "addresses": nodes.addresses,
        "nodes": graphs.graph_nodes(nodes).model_dump(mode="json"),
        "omitted": short.omitted.model_dump(mode="json"),
        "method": short.method,
        "method_reason": short.method_reason,
        "seconds": short.seconds,
        "peak_bytes": short.peak_bytes,
        "provenance": {name: str(value) for name, value in record.provenance.items()},
        "created": record.created,
        "workspace": workspace.model_dump(mode="json", exclude={"version"}),
    }


def _json(head: dict[str, Any], edges: dict[str, np.ndarray]) -> Iterator[bytes]:
    yield (json.dumps(head, ensure_ascii=False, allow_nan=False)[:-1] + ', "edges": {').encode()
    for i, name in enumerate(EDGE_COLUMNS):
        yield f'{", " if i else ""}"{name}": ['.encode()
        column = edges[name]
        for start in range(0, len(column), _PIECE):
            yield (("," if start else "") + ",".join(number_texts(column[start : start + _PIECE]))).encode()
        yield b"]"
    yield b"}}\n"


def _csv(nodes: Nodes, edges: dict[str, np.ndarray]) -> Iterator[bytes]:
    """One line for each edge; keys have neither commas nor quotes in them."""
    yield b"source,target,attr,attr_abs,target_scale\n"
    keys = nodes.keys
    for start in range(0, len(edges["source"]), _PIECE):
        part = {name: edges[name][start : start + _PIECE] for name in EDGE_COLUMNS}
        columns = (
            [keys[i] for i in part["source"].tolist()],
            [keys[i] for i in part["target"].tolist()],
            number_texts(part["attr"]),
            number_texts(part["attr_abs"]),
            number_texts(nodes.columns["scale"][part["target"]]),
        )
        yield "".join(f"{','.join(row)}\n" for row in zip(*columns, strict=True)).encode()


def number_texts(column: np.ndarray) -> list[str]:
    """Numbers as JSON writes them, with as many digits as say them exactly; null for what is no number."""
    if column.dtype.kind in "iu":
        return [str(value) for value in column.tolist()]
    digits = 9 if column.dtype.itemsize <= 4 else 17
    if np.all(np.isfinite(column)):
        return [f"{value:.{digits}g}" for value in column.tolist()]
    return [f"{value:.{digits}g}" if math.isfinite(value) else "null" for value in column.tolist()]


# ---- import -------------------------------------------------------------------------------------


async def import_graph(workshop: Workshop, run: Run, content: bytes) -> tuple[GraphSummary, bool]:
    """Store what :func:`export` wrote, and whether that is new. Raises a 422 that says what is wrong."""
    return await run_in_threadpool(_import, workshop, run, content)


def _import(workshop: Workshop, run: Run, content: bytes) -> tuple[GraphSummary, bool]:
    try:
        file = GraphExport.model_validate_json(content)
    except ValidationError as error:
        raise RequestValidationError(error.errors(include_url=False, include_context=False)) from error
    if file.run_digest != run.digest:
        raise ServiceError(
            409,
            "other_run",
            f"The file is of another run than {run.name}, or of that run before it was made again",
            f"It was exported from a run called {file.run[:80]!r}; import it there.",
        )
    check_ids(run, file.token_ids)
    settings = graphs.checked_settings(run, file.settings, len(file.token_ids))
    nodes = _nodes(run, file)
    edges = _edges(file, len(nodes))
    workspaces.check(nodes, file.workspace)
    text = file.text
    if not text or tokenise_or_none(run, text) != file.token_ids:
        text = run.vocabulary.decode(file.token_ids)
    database = workshop.database
    prompt, _ = database.add_prompt(run.name, run.digest, file.token_ids, text, file.prompt_title)
    stored = settings.model_dump(mode="json") | {graphs.IMPORTED: hashlib.sha256(content).hexdigest()}
    known = database.find_graph(prompt.id, stored, None)
    if known is not None:
        return graphs.summary(known), False
    columns: dict[str, np.ndarray | list[Any]] = {"addresses": nodes.addresses, **nodes.columns}
    provenance = file.provenance | {"imported": datetime.now(UTC).isoformat(timespec="seconds")}
    if file.circuit is not None:
        provenance["circuit"] = json.dumps(file.circuit, ensure_ascii=False)
    record = database.add_graph(
        prompt.id,
        stored,
        None,
        dict(provenance),
        {
            "omitted": file.omitted.model_dump(mode="json"),
            "method": file.method,
            "method_reason": file.method_reason,
            "seconds": file.seconds,
            "peak_bytes": file.peak_bytes,
        },
        columns,
        edges,
        status="reduced" if file.omitted.edges else "complete",
        title=file.title,
        note=file.note,
    )
    with suppress(ConflictError):  # the same file was imported at the same moment, and its workspace is there
        database.save_workspace(record.id, 0, workspaces.record(file.workspace))
    return graphs.summary(record), True


def tokenise_or_none(run: Run, text: str) -> list[int] | None:
    try:
        return tokenise(run, text)
    except ServiceError:
        return None


def _wrong(where: str, what: str) -> ServiceError:
    return ServiceError(422, "bad_input", f"{where}: {what}", "The file was altered or is not complete.")


def _nodes(run: Run, file: GraphExport) -> Nodes:
    """The node columns, every node checked against the run, the prompt and the settings."""
    given = file.nodes
    n = len(given.site)
    columns: dict[str, np.ndarray] = {}
    for name in NODE_COLUMNS:
        values: list[Any] = getattr(given, name)
        if len(values) != n:
            raise _wrong(f"nodes.{name}", f"it has {len(values)} entries, but nodes.site {n}")
        columns[name] = _column(f"nodes.{name}", values, _NODE_TYPES[name])
    if len(set(file.addresses)) != len(file.addresses):
        raise _wrong("addresses", "one is there twice")
    site, position, index = (columns[name] for name in _INTEGERS)
    ids = np.asarray(file.token_ids)
    if n and not (site.min() >= 0 and site.max() < len(file.addresses)):
        raise _wrong("nodes.site", f"there are {len(file.addresses)} addresses")
    if n and not (position.min() >= 0 and position.max() < len(ids)):
        raise _wrong("nodes.position", f"the prompt has {len(ids)} tokens")
    for number, address in enumerate(file.addresses):
        here = site == number
        _check_indices(run, file, address, position[here], index[here], ids)
    place = np.stack([site.astype(np.int64), position.astype(np.int64), index.astype(np.int64)])
    if np.unique(place, axis=1).shape[1] != n:
        raise _wrong("nodes", "one is there twice")
    ci = columns["ci"]
    importance = run.info.importance
    largest = np.inf if importance is not None and importance.leaves_unit_interval else 1.0
    if not np.all(np.isnan(ci) | ((ci >= 0) & (ci <= largest))):
        raise _wrong("nodes.ci", f"causal importance is from 0 to {'1' if largest == 1 else 'infinity'}")
    if not np.all(columns["scale"] >= 0):
        raise _wrong("nodes.scale", "every node has one, and none is negative")
    return Nodes(list(file.addresses), columns)


def _check_indices(
    run: Run, file: GraphExport, address: str, position: np.ndarray, index: np.ndarray, ids: np.ndarray
) -> None:
    where = f"nodes at {address[:80]}"
    fits: np.ndarray | bool
    if address == "target":
        ends = [max(term.position for term in target.terms) for target in file.settings.targets]
        fits = (index >= 0) & (index < len(ends))
        if np.all(fits):
            fits = position == np.asarray([*ends, 0])[index]
    elif address == "embed":
        fits = index == ids[position]
    elif address == "output":
        fits = (index >= 0) & (index < run.config.vocab_size)
    elif address == "position":
        fits = (index == position) & (not run.config.rotary)
    else:
        parsed = _site(run, address)
        low = -2 if run.topology.sites[parsed].has_bias else -1
        fits = (index >= low) & (index < run.n_components[parsed])
    if not np.all(fits):
        raise _wrong(where, "one of them does not exist in this run, prompt or settings")


def _site(run: Run, text: str) -> Address:
    try:
        address = parse_address(text)
    except AddressError as error:
        raise _wrong("addresses", str(error)) from error
    if address not in run.n_components:
        raise _wrong("addresses", f"{run.name} has no {text}")
    return address


def _edges(file: GraphExport, n_nodes: int) -> dict[str, np.ndarray]:
    """The edge columns in the order of targets, then sources."""
    given, length = file.edges, len(file.edges.source)
    columns: dict[str, np.ndarray] = {}
    for name in EDGE_COLUMNS:
        values: list[Any] = getattr(given, name)
        if len(values) != length:
            raise _wrong(f"edges.{name}", f"it has {len(values)} entries, but edges.source {length}")
        kind = np.float32 if name.startswith("attr") else np.uint32
        columns[name] = _column(f"edges.{name}", values, kind)
        if not np.all(np.isfinite(columns[name])):
            raise _wrong(f"edges.{name}", "a number is too large")
    for name in ("source", "target"):
        if length and columns[name].max() >= n_nodes:
            raise _wrong(f"edges.{name}", f"there are {n_nodes} nodes")
    order = np.lexsort((columns["source"], columns["target"]))
    columns = {name: column[order] for name, column in columns.items()}
    same = (np.diff(columns["source"].astype(np.int64)) == 0) & (
        np.diff(columns["target"].astype(np.int64)) == 0
    )
    if np.any(same):
        raise _wrong("edges", "one is there twice")
    return columns


def _column(
    where: str, values: list[Any], kind: type[np.float32 | np.int16 | np.int32 | np.uint32]
) -> np.ndarray:
    """Numbers as an array; null becomes NaN."""
    try:
        if kind is np.float32:
            wide = np.array([np.nan if value is None else value for value in values], dtype=np.float64)
            with np.errstate(over="ignore"):
                narrow = wide.astype(kind)
            if np.any(np.isinf(narrow)):
                raise OverflowError
            return narrow
        numbers = np.array(values, dtype=np.int64)
        limits = np.iinfo(np.dtype(kind).name)
        if len(numbers) and not (limits.min <= numbers.min() and numbers.max() <= limits.max):
            raise OverflowError
        return numbers.astype(kind)
    except OverflowError:
        raise _wrong(where, "a number is too large") from None
