"""Texts of tokens, as they are shown and searched."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property

from tokenizers import Tokenizer

from storage.token_text import byte_of_character, running_text


class Vocabulary:
    """The texts of all ``size`` tokens; ids that the tokenizer does not know are named so.

    Without a tokenizer a token is shown by its id: ``#17``.
    """

    def __init__(self, tokenizer: Tokenizer | None, size: int) -> None:
        self._tokenizer = tokenizer
        self.size = size

    @cached_property
    def texts(self) -> list[str]:
        if self._tokenizer is None:
            return [f"#{token_id}" for token_id in range(self.size)]
        text_of, bytes_of = running_text(self._tokenizer), byte_of_character()
        return [_text(self._tokenizer, token_id, text_of, bytes_of) for token_id in range(self.size)]

    @cached_property
    def folded(self) -> list[str]:
        """The texts in the form in which they are compared."""
        return [text.casefold() for text in self.texts]

    def decode(self, ids: Sequence[int]) -> str:
        """The text of some tokens in a row; of their ids, with spaces between, without a tokenizer."""
        if self._tokenizer is None:
            return " ".join(f"#{token_id}" for token_id in ids)
        return self._tokenizer.decode(list(ids), skip_special_tokens=False)

    def matching(self, query: str) -> list[int]:
        """Ids of the tokens whose text contains ``query``, in any case of letters."""
        wanted = query.casefold()
        return [token_id for token_id, text in enumerate(self.folded) if wanted in text]

    def reading(self, query: str) -> list[int]:
        """Ids of the tokens whose text is ``query``, in any case of letters, with or without spaces around."""
        wanted = query.casefold()
        bare = wanted.strip()
        return [
            token_id
            for token_id, text in enumerate(self.folded)
            if text == wanted or (bare and text.strip() == bare)
        ]


def _text(
    tokenizer: Tokenizer, token_id: int, text_of: Callable[[int], str], bytes_of: dict[str, int]
) -> str:
    token = tokenizer.id_to_token(token_id)
    if token is None:
        return f"<unused {token_id}>"
    text = text_of(token_id)
    if "\ufffd" in text and all(character in bytes_of for character in token):
        # Part of a character: its bytes say more than the replacement sign.
        return "".join(f"\\x{bytes_of[character]:02x}" for character in token)
    return text
