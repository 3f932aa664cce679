"""The published mapping file: component → cluster, ``null`` for a component that is alone.

Two variants exist. The newer is ``{clustering_run_id, notes, pd_run, iteration, clusters}``, the older
``{ensemble_id, notes, spd_run, n_iterations, run_idx, clusters}``. Keys are ``<layer>:<index>``, where a
layer is one of our addresses (newer) or the concrete path of its module (older); both are read in either
variant. A component that the file does not mention is unknown, which is not the same as alone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

import numpy as np

from storage.clusters import ALONE, Clustering
from storage.errors import InvalidValueError

Variant = Literal["newer", "older"]
_FIELDS: dict[Variant, frozenset[str]] = {
    "newer": frozenset(("clustering_run_id", "notes", "pd_run", "iteration", "clusters")),
    "older": frozenset(("ensemble_id", "notes", "spd_run", "n_iterations", "run_idx", "clusters")),
}
#: Numbers beyond this do not survive a reader that keeps them in float64, as browsers do.
_LARGEST = 2**53 - 1


@dataclass(frozen=True)
class ReadMapping:
    """An imported file: ``component`` and ``cluster`` as in storage.clusters, and what did not match."""

    variant: Variant
    component: np.ndarray
    cluster: np.ndarray
    notes: str
    #: The other fields, in words, for the provenance.
    described: dict[str, str]
    #: Keys that name nothing in this run.
    unmatched: tuple[str, ...]


def write_mapping(
    clustering: Clustering,
    run_name: str,
    module_paths: Mapping[str, str],
    *,
    variant: Variant = "newer",
    iteration: int | None = None,
) -> dict[str, Any]:
    """A clustering as the published document; raises :class:`InvalidValueError` beyond what is stored."""
    grouping = clustering.at(iteration)
    keys: list[str] = []
    for address, count in clustering.manifest.sites:
        layer = address if variant == "newer" else module_paths[address]
        keys += [f"{layer}:{i}" for i in range(count)]
    clusters = {
        keys[component]: None if cluster == ALONE else cluster
        for component, cluster in enumerate(grouping.cluster.tolist())
        if cluster >= ALONE
    }
    notes = clustering.manifest.notes
    if variant == "newer":
        return {
            "clustering_run_id": clustering.subrun,
            "notes": notes,
            "pd_run": run_name,
            "iteration": grouping.iteration,
            "clusters": clusters,
        }
    return {
        "ensemble_id": clustering.subrun,
        "notes": notes,
        "spd_run": run_name,
        "n_iterations": grouping.iteration,
        "run_idx": 0,
        "clusters": clusters,
    }


def read_mapping(
    document: object, sites: tuple[tuple[str, int], ...], module_paths: Mapping[str, str]
) -> ReadMapping:
    """Read a published document; raises :class:`InvalidValueError` saying what is wrong with it."""
    if not isinstance(document, dict):
        raise InvalidValueError("a mapping is a JSON object", _EXPECTED)
    content = cast("dict[str, Any]", document)
    try:
        json.dumps(content, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise InvalidValueError("the mapping holds half a character", "write it again as UTF-8") from None
    variant: Variant | None = next((v for v, fields in _FIELDS.items() if fields == content.keys()), None)
    if variant is None:
        raise InvalidValueError(
            f"a mapping of clusters does not have the fields {', '.join(sorted(map(str, content)))[:200]}",
            _EXPECTED,
        )
    numbers: dict[str, int] = {}
    offset = 0
    for address, count in sites:
        for layer in {address, module_paths[address]}:
            numbers |= {f"{layer}:{i}": offset + i for i in range(count)}
        offset += count
    found, unmatched = _entries(content["clusters"], numbers)
    if not found:
        raise InvalidValueError(
            "no component of the mapping is in this run"
            + (f" (it names {', '.join(unmatched[:3])})" if unmatched else ""),
            "is it the mapping of another model?",
        )
    component = np.array(sorted(found), np.int64)
    described = {key: str(value)[:200] for key, value in content.items() if key not in ("clusters", "notes")}
    return ReadMapping(
        variant=variant,
        component=component,
        cluster=np.array([found[number] for number in component.tolist()], np.int64),
        notes=str(content["notes"] or ""),
        described=described,
        unmatched=tuple(unmatched),
    )


def parse_mapping(content: bytes) -> object:
    """A file's content as JSON; raises ValueError or RecursionError where it is none, or says a thing twice."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            seen: set[str] = set()
            twice = next(key for key, _ in pairs if key in seen or seen.add(key))
            raise InvalidValueError(f"{twice[:80]} is mapped twice", "name each component once")
        return found

    return json.loads(content, object_pairs_hook=once)


_EXPECTED = "expected are " + " or ".join(
    "{" + ", ".join(sorted(fields)) + "}" for fields in _FIELDS.values()
)


def _entries(clusters: object, numbers: Mapping[str, int]) -> tuple[dict[int, int], list[str]]:
    """Component → cluster, and the keys that are not of this run."""
    if not isinstance(clusters, dict):
        raise InvalidValueError("clusters is not an object of components", _EXPECTED)
    found: dict[int, int] = {}
    unmatched: list[str] = []
    for key, value in cast("dict[str, Any]", clusters).items():
        if value is not None and (type(value) is not int or not 0 <= value <= _LARGEST):
            raise InvalidValueError(
                f"the cluster of {key[:80]} is {str(value)[:40]!r}", "write a whole number from 0, or null"
            )
        number = numbers.get(key)
        if number is None:
            unmatched.append(key)
        elif number in found:
            raise InvalidValueError(f"{key[:80]} is mapped twice", "name each component once")
        else:
            found[number] = ALONE if value is None else value
    return found, unmatched
