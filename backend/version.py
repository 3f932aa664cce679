"""Which version of Tributary this is."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed_version


def version() -> str:
    try:
        return installed_version("tributary-attribution")
    except PackageNotFoundError:  # run from a checkout that is not installed
        return "0.0.0"
