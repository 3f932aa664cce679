"""Texts put together from single tokens are the texts that the tokenizer decodes."""

from __future__ import annotations

from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from backend.service.vocabulary import Vocabulary
from storage.corpus import Document, train_tokenizer
from storage.search_index import token_bytes
from storage.search_text import BREAK
from storage.token_text import running_text

WORDS = ["[UNK]", "the", "quick", "a", "fox", ".", "it", "##ly", "##s", "'"]


@cache
def tokenizer(kind: str) -> Tokenizer:
    if kind == "bytes":
        return train_tokenizer([Document("t", "s", "the quick fox ☃ it is quickly\n" * 20)], 270)
    vocabulary = {word: i for i, word in enumerate(WORDS)}
    if kind == "wordpiece":
        made = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
        made.decoder = decoders.WordPiece()
    elif kind == "sentencepiece":
        pieces = [(word if word[0] in "[#.'" else f"▁{word}", -1.0) for word in WORDS]
        made = Tokenizer(models.Unigram(pieces, unk_id=0, byte_fallback=False))
        made.decoder = decoders.Sequence(
            [decoders.Replace("▁", " "), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
        )
    else:
        made = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.add_special_tokens([AddedToken("[EOS]", special=True)])
    return made


KINDS = ["words", "wordpiece", "sentencepiece", "bytes"]


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
def test_tokens_in_a_row_are_the_text(kind: str, data: st.DataObject) -> None:
    made = tokenizer(kind)
    size = made.get_vocab_size()
    # What begins a text has no space before it, and a piece of a word is written as such there.
    ordinary = st.integers(0, size - 1).filter(lambda i: i not in made.get_added_tokens_decoder())
    ids = [1, *data.draw(st.lists(ordinary))]
    texts = token_bytes(made, size)
    joined = b"".join(texts[i] for i in ids).decode("utf-8", "replace")
    assert joined.removeprefix(" ") == made.decode(ids, skip_special_tokens=False).removeprefix(" ")


@pytest.mark.parametrize(
    ("kind", "the", "ly"),
    [("words", " the", " ##ly"), ("wordpiece", " the", "ly"), ("sentencepiece", " the", "##ly")],
)
def test_a_word_has_the_space_before_it(kind: str, the: str, ly: str) -> None:
    made = tokenizer(kind)
    text_of = running_text(made)
    assert (text_of(1), text_of(7)) == (the, ly)
    end = made.token_to_id("[EOS]")
    assert text_of(end) == "[EOS]"
    assert token_bytes(made, made.get_vocab_size())[end] == BREAK
    vocabulary = Vocabulary(made, made.get_vocab_size() + 1)
    assert vocabulary.texts[1] == the
    assert vocabulary.texts[-1].startswith("<unused")
    assert vocabulary.reading("the") == [1]


def test_a_vocabulary_without_any_letters_is_decoded_one_by_one() -> None:
    made = Tokenizer(models.WordLevel({"1": 0, "2": 1}, unk_token="1"))
    assert [running_text(made)(i) for i in (0, 1)] == ["1", "2"]
