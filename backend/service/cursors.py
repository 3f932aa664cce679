"""Cursors of paged lists: where the next page begins, and a mark of the list it belongs to."""

from __future__ import annotations

import hashlib

from backend.errors import ServiceError

#: What a cursor looks like, for the OpenAPI document.
PATTERN = "^[0-9]{1,9}-[0-9a-f]{12}$"


class Cursors:
    """Cursors of one list; ``what`` is everything that decides what is in it and in which order."""

    def __init__(self, *what: object) -> None:
        self._mark = hashlib.sha256(repr(what).encode()).hexdigest()[:12]

    def start(self, cursor: str | None, hint: str) -> int:
        """Where a page begins; raises a 404 for a cursor of another list."""
        if cursor is None:
            return 0
        number, _, mark = cursor.partition("-")
        if mark != self._mark or not (number.isascii() and number.isdigit() and len(number) < 10):
            raise ServiceError(
                404,
                "unknown_cursor",
                "The cursor does not belong to this listing",
                f"Ask without one; {hint}",
            )
        return int(number)

    def after(self, end: int, total: int) -> str | None:
        """The cursor of the page that begins at ``end``; ``None`` where there is none."""
        return f"{end}-{self._mark}" if end < total else None
