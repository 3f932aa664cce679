"""What a token is as text, where it stands in a text."""

from __future__ import annotations

from collections.abc import Callable

from tokenizers import Tokenizer, decoders


def byte_of_character() -> dict[str, int]:
    """Byte-level BPE writes every byte as one printable character; this is the inverse of that table."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + i): byte for i, byte in enumerate(others)}


def is_byte_level(tokenizer: Tokenizer) -> bool:
    """Whether every token stands for bytes of its own, spaces included."""
    return isinstance(tokenizer.decoder, decoders.ByteLevel)


def running_text(tokenizer: Tokenizer) -> Callable[[int], str]:
    """Says what a token adds to a text that it does not begin.

    Decoded alone, a word of a WordPiece, word-level or sentence-piece vocabulary has lost the space
    before it, and texts put together from such tokens are one long word.
    """
    added = set(tokenizer.get_added_tokens_decoder())

    def alone(token_id: int) -> str:
        return tokenizer.decode([token_id], skip_special_tokens=False)

    before = next(
        (i for i in range(tokenizer.get_vocab_size()) if i not in added and _is_letter(alone(i))), None
    )
    if is_byte_level(tokenizer) or before is None:
        return alone
    text_before = alone(before)

    def after(token_id: int) -> str:
        both = tokenizer.decode([before, token_id], skip_special_tokens=False)
        if token_id in added or not both.startswith(text_before):
            return alone(token_id)
        return both[len(text_before) :]

    return after


def _is_letter(text: str) -> bool:
    """Whether a token can stand before any other without being changed by it, or taken for its beginning."""
    return text.isascii() and text.isalpha()
