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


class NoModelError(StorageError):
    """A question that only a run's language model could answer, of a run that came without one."""


class NoTokenizerError(StorageError):
    """Text was given to, or asked of, a run that came without a tokenizer."""


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


class DatabaseError(StorageError):
    """The graph database cannot be used: no permission, no space, a failing disk."""


class DatabaseBusyError(DatabaseError):
    """Others kept the database locked for longer than the busy timeout; nothing was changed."""


class DatabaseDamagedError(DatabaseError):
    """A file that is no database of ours, or content that is not what was written."""


class DatabaseVersionError(DatabaseError):
    """A database of a newer version of the program."""


class UnknownRecordError(StorageError):
    """An id that names nothing in the graph database."""


class InvalidValueError(StorageError):
    """A value that a database cannot hold, such as NaN in JSON or half a character."""


class ConflictError(StorageError):
    """Something was changed by someone else since it was read; ``version`` is what it is at now."""

    def __init__(self, message: str, hint: str, version: int) -> None:
        super().__init__(message, hint)
        self.version = version
