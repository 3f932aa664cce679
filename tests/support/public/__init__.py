"""Runs in the layouts of the public decomposition code, and the numbers of the models that wrote them.

Shares no code with ``compute/`` and ``backend/``: what an import makes of these directories is
compared with :class:`PublicRun`, which is the reference.
"""

from tests.support.public.attribution_files import write_dense, write_four_edge
from tests.support.public.run import PublicRun, write_public_run
from tests.support.public.toys import PublicToyRun, write_public_toy

__all__ = [
    "PublicRun",
    "PublicToyRun",
    "write_dense",
    "write_four_edge",
    "write_public_run",
    "write_public_toy",
]
