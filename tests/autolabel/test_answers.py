"""Answers that are taken, and those that are not."""

from __future__ import annotations

import json

import pytest

from backend.autolabel.answers import ChoiceAnswer, LabelAnswer, MalformedAnswerError, parse, schema_of

GOOD = '{"reasoning": "r", "label": " commas in\\nlists. ", "confidence": "high"}'


@pytest.mark.parametrize(
    "text",
    [
        GOOD,
        f"\n {GOOD}\n",
        f"```json\n{GOOD}\n```",
        f"```\n{GOOD}```",
        f'<think>Maybe {{"label": "x"}}?</think>\n{GOOD}',
    ],
)
def test_an_object_with_what_models_add(text: str) -> None:
    found = parse(text, LabelAnswer)
    assert (found.label, found.confidence) == ("commas in lists", "high")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "not JSON"),
        ("Sure! " + GOOD, "not JSON"),
        (GOOD + GOOD, "not JSON"),
        (GOOD[:-1], "not JSON"),
        ("[" + GOOD + "]", "valid dictionary"),
        ("[" * 100_000, "not JSON"),
        ('{"reasoning": "r", "confidence": "high"}', "label: Field required"),
        ('{"reasoning": "r", "label": 3, "confidence": "high"}', "label"),
        ('{"reasoning": "r", "label": " . ", "confidence": "high"}', "label is empty"),
        ('{"reasoning": "r", "label": "x", "confidence": "certain"}', "confidence"),
        ('{"reasoning": "r", "label": "x", "confidence": "low", "extra": 1}', "extra"),
        (json.dumps({"reasoning": "r", "label": "x" * 201, "confidence": "low"}), "label"),
    ],
)
def test_anything_else_is_refused_with_a_reason(text: str, reason: str) -> None:
    with pytest.raises(MalformedAnswerError, match=reason):
        parse(text, LabelAnswer)


def test_choices_are_whole_numbers() -> None:
    assert parse('{"chosen": [3, 1]}', ChoiceAnswer).chosen == [3, 1]
    for wrong in ('{"chosen": ["1"]}', '{"chosen": [1.5]}', '{"chosen": 1}', '{"chosen": [true]}'):
        with pytest.raises(MalformedAnswerError):
            parse(wrong, ChoiceAnswer)


def test_the_schema_is_one_that_strict_servers_take() -> None:
    schema = schema_of(LabelAnswer)
    assert schema["additionalProperties"] is False
    assert schema["required"] == list(schema["properties"]) == ["reasoning", "label", "confidence"]
    assert "maxLength" not in json.dumps(schema)
