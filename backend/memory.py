"""How much memory this machine, or the container around us, has."""

from __future__ import annotations

import os
from pathlib import Path

_LIMIT_FILES = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


def total_bytes() -> int:
    """All memory that could ever be used."""
    found = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for file in _LIMIT_FILES:
        try:
            found.append(int(file.read_text()))
        except (OSError, ValueError):  # absent, or "max"
            continue
    return min(found)
