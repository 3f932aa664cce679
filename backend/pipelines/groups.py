"""Groups of documents and their batches: what a pass over the text looks at."""

from __future__ import annotations

import re
from collections.abc import Sequence

from backend.pipelines.common import UsageError
from storage.layout import GROUPS


def parse_groups(text: str) -> list[int]:
    """Numbers of groups, from ``all``, ``3`` or ``0-7``; raises :class:`UsageError`."""
    if text == "all":
        return list(range(GROUPS))
    match = re.fullmatch(r"(\d+)(?:-(\d+))?", text)
    if match is not None:
        first, last = int(match.group(1)), int(match.group(2) or match.group(1))
        if first <= last < GROUPS:
            return list(range(first, last + 1))
    raise UsageError(
        f"--groups {text} is not a range of groups", f"write all, or for example 0-7 (0 to {GROUPS - 1})"
    )


def spread(group: int, count: int, limit: int | None) -> Sequence[int]:
    """Which of the ``count`` batches of a group are looked at where all groups together have ``limit``.

    They lie evenly from its beginning to its end: texts come in the order of the corpus, so that the
    first batches would be all of one book.
    """
    if limit is None:
        return range(count)
    n = min(count, limit // GROUPS + (group < limit % GROUPS))
    return [(2 * place + 1) * count // (2 * n) for place in range(n)]
