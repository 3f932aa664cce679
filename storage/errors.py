"""Everything that can be wrong with a run, a store or a question to it, by name.

Each error carries ``message`` (what is wrong) and ``hint`` (what to do about it); the service and the
command line show both and nothing else.
"""

from __future__ import annotations

from pathlib import Path


class StorageError(Exception):
    """Base of all errors of the storage room that a user can cause or meet."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(f"{message}; {hint}" if hint else message)
        self.message = message
        self.hint = hint


class RunError(StorageError):
    """A run that is missing, damaged or not a run at all."""


class UnknownKeyError(StorageError):
    """A key that names nothing in this run: an unknown site, or an index outside the site."""


class NotComputedError(StorageError):
    """A meaningful question whose answer this store does not hold; ``reason`` says why."""

    def __init__(self, reason: str, hint: str = "") -> None:
        super().__init__(reason, hint)
        self.reason = reason


class StoreDamagedError(StorageError):
    """A file that is truncated, altered, misplaced or missing. Never answered with a number."""

    def __init__(
        self, file: Path, what: str, hint: str = "restore the file from a copy, or make it again"
    ) -> None:
        super().__init__(f"{file}: {what}", hint)
        self.file = file
        self.what = what


class SettingsDifferError(StorageError):
    """Two stores, or an interrupted one and a new request, that were not made in the same way."""
