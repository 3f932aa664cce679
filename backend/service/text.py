"""Texts and the tokens that a run's model sees. What was tokenised once is kept as ids ever after."""

from __future__ import annotations

from collections.abc import Sequence

from backend.errors import ServiceError
from backend.evidence_schemas import FiringsOfText, FiringsOfTokens
from backend.graph_schemas import GraphOfText, GraphOfTokens
from backend.prompt_schemas import PredictionsOfText, PredictionsOfTokens, PromptOfText, PromptOfTokens
from backend.schemas import Token
from backend.service.run import Run
from storage.errors import UnknownKeyError

_OfText = PromptOfText | PredictionsOfText | GraphOfText | FiringsOfText
_OfTokens = PromptOfTokens | PredictionsOfTokens | GraphOfTokens | FiringsOfTokens


def token_ids(run: Run, request: _OfText | _OfTokens) -> tuple[list[int], str]:
    """The tokens that a request means, and the text they stand for.

    Raises a 404 for a token that the model does not have, a 413 for more than its context, and a 422
    for none at all.
    """
    if isinstance(request, _OfText):
        return tokenise(run, request.text), request.text
    ids = list(request.token_ids)
    check_ids(run, ids)
    return ids, run.vocabulary.decode(ids)


def tokenise(run: Run, text: str) -> list[int]:
    """The ids of a text; no token is added at its beginning or end.

    Raises a 409 where the run has no model to read it, or no tokenizer.
    """
    _ = run.config
    ids = run.directory.tokenizer().encode(text, add_special_tokens=False).ids
    check_ids(run, ids)
    return ids


def check_ids(run: Run, ids: Sequence[int]) -> None:
    """Raises what :func:`token_ids` does."""
    if not ids:
        raise ServiceError(422, "bad_input", "The prompt is empty", "Give at least one token.")
    context = run.config.context
    if len(ids) > context:
        raise ServiceError(
            413,
            "too_large",
            f"The prompt has {len(ids):,} tokens; the model reads {context:,} at most",
            f"Leave out {len(ids) - context:,} of them.",
        )
    largest = max(ids)
    if largest >= run.config.vocab_size or min(ids) < 0:
        raise UnknownKeyError(
            f"{run.name} has no token {largest if largest >= run.config.vocab_size else min(ids)}",
            f"ids are 0 to {run.config.vocab_size - 1}",
        )


def token_texts(run: Run, ids: Sequence[int]) -> list[str]:
    texts = run.vocabulary.texts
    return [texts[token_id] for token_id in ids]


def tokens(run: Run, ids: Sequence[int]) -> list[Token]:
    return [Token(id=i, text=text) for i, text in zip(ids, token_texts(run, ids), strict=True)]
