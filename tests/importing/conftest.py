"""Published runs that several tests import, each written once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.importing.changing import Changeable
from tests.support.public import write_public_run


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Write a published run with these properties, or take the one that another test has written."""
    folder = tmp_path_factory.mktemp("published")
    known: dict[str, Path] = {}

    def write(**properties: Any) -> Path:
        key = repr(sorted(properties.items()))
        if key not in known:
            known[key] = write_public_run(folder / f"run-{len(known)}", **properties).directory
        return known[key]

    return write


@pytest.fixture
def changeable(published: Callable[..., Path], tmp_path: Path) -> Callable[..., Changeable]:
    """A copy of a published run that a test may change; its target is found only by ``--target``."""

    def copy(**properties: Any) -> Changeable:
        return Changeable(published(**{"target_from": "name", **properties}), tmp_path)

    return copy
