"""How much memory this machine, or the container around us, has, and how much a computation took."""

from __future__ import annotations

import os
import re
import sys
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

_LIMIT_FILES = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")


def total_bytes() -> int:
    """All memory that could ever be used."""
    found = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for file in _LIMIT_FILES:
        try:
            found.append(int(file.read_text()))
        except (OSError, ValueError):  # absent, or "max"
            continue
    return min(found)


def _status(name: str) -> int:
    """A figure of /proc/self/status in bytes; 0 where the system has none."""
    try:
        match = re.search(rf"^{name}:\s+(\d+) kB", _STATUS.read_text(), flags=re.MULTILINE)
    except OSError:
        return 0
    return int(match[1]) * 1024 if match else 0


class PeakMemory:
    """``with PeakMemory() as peak``: afterwards ``peak.bytes`` is the most that was held at once inside.

    Above what the process (and on a GPU, torch's allocator) held when it began. Of the whole process:
    what other threads do meanwhile counts too. 0 where the system does not say.
    """

    bytes: int = 0

    def __enter__(self) -> PeakMemory:
        with suppress(OSError):
            _CLEAR.write_text("5")  # Linux: start the record of the largest size anew
        self._before = _status("VmRSS")
        self._cuda = _cuda()
        if self._cuda is not None:
            self._cuda.reset_peak_memory_stats()
            self._cuda_before = int(self._cuda.memory_allocated())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bytes = max(0, _status("VmHWM") - self._before)
        if self._cuda is not None:
            self.bytes += int(self._cuda.max_memory_allocated()) - self._cuda_before


def _cuda() -> Any:
    """torch's CUDA module where it is in use."""
    torch = sys.modules.get("torch")
    return torch.cuda if torch is not None and torch.cuda.is_initialized() else None
