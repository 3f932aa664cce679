"""From what other programs write to Tributary's runs (``tributary import``), and back.

What a path holds is recognised by its content (``recognise``), its configuration is read leniently
(``settings``), its target is found among the known families (``target_files``), every key of the
checkpoint is accounted for (``tensors``), and ``run`` writes the run.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from backend.importing.errors import ImportRefusedError

if TYPE_CHECKING:
    from backend.importing.options import ImportedRun, ImportOptions

__all__ = ["ImportRefusedError", "import_run"]


def import_run(path: Path, options: ImportOptions) -> ImportedRun:
    """Read what is at ``path`` and write it as a run; raises :class:`ImportRefusedError`."""
    from backend.importing.run import import_run as run  # it needs torch

    return run(path, options)
