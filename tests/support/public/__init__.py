"""Runs in the layouts of the public decomposition code, and the numbers of the models that wrote them.

Shares no code with ``compute/`` and ``backend/``: what an import makes of these directories is
compared with :class:`PublicRun`, which is the reference.
"""

from tests.support.public.run import PublicRun, write_public_run

__all__ = ["PublicRun", "write_public_run"]
