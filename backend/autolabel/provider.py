"""What the labelling needs of a language model, and how an attempt to ask one can end.

A provider makes one exchange for each call. Waiting, trying again, limits and money are the business of
``backend.autolabel.caller``, so that every provider has them alike.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

JsonSchema = Mapping[str, Any]


@dataclass(frozen=True)
class Message:
    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True)
class Usage:
    """Tokens as the provider counted them."""

    prompt_tokens: int
    completion_tokens: int


@dataclass(frozen=True)
class Answer:
    """What a model said, word for word; ``usage`` is None where the provider does not count.

    ``finish`` is the provider's reason for the end: ``length`` means that the answer was cut.
    """

    text: str
    usage: Usage | None
    finish: str
    model: str
    seconds: float


class Provider(Protocol):
    """Asks a model."""

    async def complete(self, messages: Sequence[Message], schema: JsonSchema, *, max_output: int) -> Answer:
        """One answer, of ``max_output`` tokens at most, that should match ``schema``.

        Raises one of the errors below. Whether the answer does match is for the caller to see.
        """
        ...

    async def close(self) -> None: ...


class ProviderError(Exception):
    """An exchange without an answer. ``charged``: whether the provider may have charged for it."""

    charged = False


class TemporaryError(ProviderError):
    """Another attempt may succeed; ``retry_after`` are the seconds that the provider asked to wait."""

    def __init__(self, message: str, *, retry_after: float | None = None, charged: bool = False) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        self.charged = charged


class RequestRefusedError(ProviderError):
    """This request will not be answered, others may be: too long, or against the provider's rules."""

    def __init__(self, message: str, usage: Usage | None = None, *, charged: bool = False) -> None:
        super().__init__(message)
        self.usage = usage
        self.charged = charged


class EndpointError(ProviderError):
    """No request will be answered: a wrong key, an unknown model, an address where nothing is."""
