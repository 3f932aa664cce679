"""Searching the vocabulary."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from backend.dependencies import RunDep
from backend.errors import responses
from backend.schemas import TokenPage
from backend.service.tokens import search

router = APIRouter(prefix="/runs/{run}", tags=["tokens"])


@router.get("/tokens", name="search", responses=responses(404, 409, 422))
def search_tokens(
    run: RunDep,
    q: Annotated[str, Query(max_length=200, description="Part of a token's text, or a token id")] = "",
    limit: Annotated[int, Query(ge=1, le=10_000)] = 50,
) -> TokenPage:
    """Tokens whose text contains q: exact matches first, then beginnings, then by frequency."""
    return search(run, q, limit)
