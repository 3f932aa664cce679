"""Searching the vocabulary."""

from __future__ import annotations

from backend.schemas import TokenHit, TokenPage
from backend.service.run import Run
from backend.service.timing import Stopwatch


def search(run: Run, query: str, limit: int) -> TokenPage:
    """Tokens whose text contains ``query``, and the token with that id: equal texts first, then texts
    that begin with it (a leading space aside), then the others; more frequent ones first in each."""
    watch = Stopwatch()
    vocabulary = run.vocabulary
    counts = run.token_counts()
    wanted = query.casefold()
    hits = vocabulary.matching(query)
    by_id = int(query) if query.isascii() and query.isdigit() and len(query) < 10 else -1
    if 0 <= by_id < vocabulary.size and by_id not in hits:
        hits.append(by_id)

    def order(token_id: int) -> tuple[int, int, int]:
        text = vocabulary.folded[token_id]
        if text == wanted:
            rank = 0
        elif text.strip() == wanted.strip() or token_id == by_id:
            rank = 1
        else:
            rank = 2 if text.lstrip().startswith(wanted.lstrip()) else 3
        return (rank, -int(counts[token_id]) if counts is not None else 0, token_id)

    hits.sort(key=order)
    tokens = [
        TokenHit(
            token_id=i,
            text=vocabulary.texts[i],
            count=None if counts is None else int(counts[i]),
            embed_key=f"embed:{i}",
            output_key=f"output:{i}",
        )
        for i in hits[:limit]
    ]
    return TokenPage(run=run.name, tokens=tokens, total=len(hits), seconds=watch.seconds)
