"""Whether the server is up."""

from __future__ import annotations

from fastapi import APIRouter

from backend.dependencies import LibraryDep
from backend.errors import responses
from backend.schemas import Health
from backend.service.timing import Stopwatch
from backend.version import version

router = APIRouter(tags=["health"])


@router.get("/health", responses=responses())
def get(library: LibraryDep) -> Health:
    """Answers without opening a run. The one route that needs no token."""
    watch = Stopwatch()
    return Health(status="ok", version=version(), runs=len(library.names()), seconds=watch.seconds)
