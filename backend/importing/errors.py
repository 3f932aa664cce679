"""Why something cannot be imported, in one sentence, and what to do about it."""

from __future__ import annotations

from storage.errors import StorageError


class ImportRefusedError(StorageError):
    """What was given is not what Tributary reads, is damaged, or contradicts itself; nothing was written."""
