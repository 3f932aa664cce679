"""How much memory there is, so that too large a computation is refused before it starts."""

from __future__ import annotations

import re
from pathlib import Path

import torch

from backend.pipelines.common import UsageError

_CGROUP_FILES = (
    (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")),
    (
        Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
        Path("/sys/fs/cgroup/memory/memory.usage_in_bytes"),
    ),
)


def available_bytes(device: str) -> int | None:
    """Bytes that can still be allocated on ``device``; None where the system does not say."""
    if device.startswith("cuda"):
        return torch.cuda.mem_get_info(torch.device(device))[0]
    free: list[int] = []
    try:
        match = re.search(r"MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text())
        free += [int(match.group(1)) * 1024] if match else []
    except OSError:
        pass
    for limit_file, usage_file in _CGROUP_FILES:
        try:
            free.append(int(limit_file.read_text()) - int(usage_file.read_text()))
        except (OSError, ValueError):  # absent, or "max"
            continue
    return min(free, default=None)


def check_fits(needed: int, device: str, what_helps: str) -> None:
    """Raises :class:`UsageError` with both numbers where ``needed`` bytes are not to be had."""
    available = available_bytes(device)
    if available is not None and needed > available:
        raise UsageError(
            f"this needs about {gibibytes(needed)} of memory on {device}, but {gibibytes(available)} are free",
            what_helps,
        )


def gibibytes(count: int) -> str:
    return f"{count / 2**30:.2f} GiB"
