"""What embeddings contribute, by position and by direction: the same numbers, and the definition's."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor

import compute.attribution.engine as engine_module
from compute.address import Address
from compute.attribution.definition import attributions
from compute.attribution.forward_mode import add_pseudo_sources, entering_tangents, worthwhile
from compute.attribution.prompt import PromptSettings, prompt_graph
from compute.decomposition.model import Decomposition
from tests.compute.attribution.models import Case, blocks_of, engine_sums, worst_error
from tests.compute.attribution.prompts import expected_blocks, found_blocks

CASES = [
    dataclasses.replace(case, n_blocks=2, whole=0.6, n_sequences=3, length=4, density=0.5, seed=seed)
    for seed, case in enumerate(
        (
            Case(family="llama", n_heads=4, n_kv_heads=2),
            Case(family="gpt2", n_heads=2, n_kv_heads=2, fused=True),
            Case(family="llama", n_heads=2, n_kv_heads=1, qk_norm=True),
        )
    )
]


def _always(*_: int) -> bool:
    return True


def _never(*_: int) -> bool:
    return False


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("at_once", [1, 10**9])
def test_by_position_and_by_direction_agree(
    case: Case, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    decomposition, tokens = case.build()
    tokens[1, 2] = tokens[0, 0]  # a token that occurs in two sequences
    calls = 0

    def counted(*arguments: Any) -> None:
        nonlocal calls
        calls += 1
        add_pseudo_sources(*arguments)

    monkeypatch.setattr(engine_module, "add_pseudo_sources", counted)
    monkeypatch.setattr("compute.attribution.forward_mode._BATCH_ELEMENTS", at_once)
    monkeypatch.setattr(engine_module, "worthwhile", _always)
    forward = engine_sums(decomposition, tokens, delta="node", output_abs="all")
    assert calls == 1
    monkeypatch.setattr(engine_module, "worthwhile", _never)
    backward = engine_sums(decomposition, tokens, delta="node", output_abs="all")
    assert calls == 1
    found, other = blocks_of(decomposition, forward), blocks_of(decomposition, backward)
    assert found.keys() == other.keys()
    for edges, values in found.items():
        torch.testing.assert_close(values, other[edges], rtol=1e-9, atol=1e-11, msg=str(edges))
    expected = attributions(decomposition, tokens, delta="node", metrics=("attr", "attr_abs"))
    error, where = worst_error(found, expected)
    assert error <= 1e-9, where


PROMPTS = [
    (
        Case(family="llama", n_heads=4, n_kv_heads=2),
        ("q", "k", "v", "o"),
        ("gate", "up", "down"),
        "attn",
        "glu",
    ),
    (
        Case(family="gpt2", n_heads=2, n_kv_heads=2, fused=True),
        ("qkv", "o"),
        ("up", "down"),
        "attn_fused",
        "mlp",
    ),
    (Case(family="llama", qk_norm=True), ("q", "k", "v", "o"), ("gate", "up", "down"), "attn", "glu"),
]


@pytest.mark.parametrize("parts", PROMPTS)
@pytest.mark.parametrize("delta", ["node", "through"])
@pytest.mark.parametrize("attention_too", [False, True])
def test_prompts_go_back_no_further_than_the_first_site(
    parts: Any, delta: Any, attention_too: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    case, attention, mlp, attention_kind, mlp_kind = parts
    whole = [f"0.{attention_kind}.{p}" for p in attention] + [f"0.{mlp_kind}.{p}" for p in mlp]
    if attention_too:
        whole += [f"1.{attention_kind}.{p}" for p in attention]
    decomposition, tokens = dataclasses.replace(case, n_blocks=3, whole=tuple(whole), seed=3).build()
    options = PromptSettings(delta=delta, output_probability=0.05, output_positions="all")
    calls: list[int] = []

    def counted(decomposition: Decomposition, tokens: Tensor, block: int) -> dict[Address, Tensor]:
        calls.append(block)
        return entering_tangents(decomposition, tokens, block)

    monkeypatch.setattr("compute.attribution.prompt_adjoint.entering_tangents", counted)
    graph = prompt_graph(decomposition, tokens[0], options)
    assert calls == [1]
    expected = expected_blocks(decomposition, tokens[0], graph)
    error, where = worst_error(found_blocks(graph), expected)
    assert error <= 1e-9, where
    monkeypatch.setattr("compute.attribution.prompt_adjoint._TANGENT_ELEMENTS", 0)
    all_the_way = prompt_graph(decomposition, tokens[0], options)
    assert calls == [1]
    error, where = worst_error(found_blocks(all_the_way), expected)
    assert error <= 1e-9, where


def test_when_it_is_worthwhile() -> None:
    assert worthwhile(128, 1, 576)
    assert not worthwhile(128, 1, 128)
    assert not worthwhile(512, 2, 600)
