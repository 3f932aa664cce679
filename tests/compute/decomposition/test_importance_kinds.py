"""Every published kind of causal importance against the formulas computed number by number."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from backend.pipelines.load import load_decomposition
from compute.activity import activity, firings
from compute.address import Address, parse_address
from compute.decomposition.config import DecompositionConfig
from compute.decomposition.importance_config import (
    IMPORTANCE_KINDS,
    ImportanceConfig,
    ImportanceKind,
    TransformerImportance,
)
from compute.decomposition.model import Decomposition
from compute.progress import silent
from storage.run_directory import DEMO_RUN, RunDirectory
from tests.support.importance_kinds import slow_z, tiny_importance
from tests.support.tiny_run import make_tiny_run, tiny_decomposition

GLOBAL = [kind for kind in IMPORTANCE_KINDS if kind.startswith("global")]
#: Two blocks in parts, out of string order in the model: q before o, but "o" < "q".
SITES = ("0.attn.q", "0.attn.o", "0.glu.up", "1.attn.k", "1.glu.down")
TOKENS = torch.tensor([[5, 9, 200, 5, 31, 77]])


def _model(
    kind: ImportanceKind,
    *,
    attention: bool = True,
    transition_hidden: tuple[int, ...] = (5,),
    final_norm: bool = False,
) -> Decomposition:
    """Random weights, so large that z is often within (0, 1) and often not."""
    decomposition = tiny_decomposition(sites=SITES)
    config = tiny_importance(
        kind,
        decomposition.addresses,
        attention=attention,
        transition_hidden=transition_hidden,
        final_norm=final_norm,
    )
    decomposition = Decomposition(decomposition.target, decomposition.n_components, config)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in decomposition.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.4)
        for name, buffer in decomposition.named_buffers():
            if name.endswith(("mean", "scale")):
                buffer.copy_(torch.randn(buffer.shape, generator=generator).abs())
    return decomposition.eval()


def _importance(decomposition: Decomposition, tokens: Tensor = TOKENS) -> dict[Address, Tensor]:
    with torch.no_grad():
        return decomposition.causal_importance(decomposition.clean_pass(tokens)[1])


@pytest.mark.parametrize(
    ("kind", "attention", "transition_hidden", "final_norm"),
    [
        *((kind, True, (5,), False) for kind in IMPORTANCE_KINDS),
        ("global_reverse_residual", False, (5,), False),
        ("global_reverse_residual", True, (), False),
        ("global_shared_transformer", True, (5,), True),
    ],
)
def test_every_kind_is_its_formula(
    kind: ImportanceKind, attention: bool, transition_hidden: tuple[int, ...], final_norm: bool
) -> None:
    decomposition = _model(
        kind, attention=attention, transition_hidden=transition_hidden, final_norm=final_norm
    )
    _, inputs = decomposition.clean_pass(TOKENS)
    tensors = {name: t.double().numpy() for name, t in decomposition.export_tensors().items()}
    seen = {str(a): x[0].double().numpy() for a, x in inputs.items()}
    activations = {name: x @ tensors[f"components.{name}.V"] for name, x in seen.items()}
    counts = {str(a): n for a, n in decomposition.n_components.items()}
    expected = slow_z(decomposition.importance, tensors, seen, activations, counts)
    found = _importance(decomposition)
    assert {str(a) for a in found} == set(SITES)
    inside = 0
    for address, g in found.items():
        z = expected[str(address)]
        np.testing.assert_allclose(g[0].numpy(), np.clip(z, 0, 1), atol=2e-5)
        inside += int(((z > 0) & (z < 1)).sum())
    assert inside > 10  # the sigmoid does not hide everything


@pytest.mark.parametrize("kind", IMPORTANCE_KINDS)
def test_sequences_of_a_batch_do_not_see_each_other(kind: ImportanceKind) -> None:
    decomposition = _model(kind)
    both = torch.cat([TOKENS, TOKENS.flip(1)])
    together, alone = _importance(decomposition, both), _importance(decomposition)
    for address, g in alone.items():
        torch.testing.assert_close(together[address][:1], g)


@pytest.mark.parametrize("kind", IMPORTANCE_KINDS)
def test_only_attention_sees_later_tokens(kind: ImportanceKind) -> None:
    decomposition = _model(kind)
    changed = TOKENS.clone()
    changed[0, -1] = 8
    before, after = _importance(decomposition), _importance(decomposition, changed)
    earlier = torch.cat([(before[a] - after[a])[0, :-1].abs().flatten() for a in before]).max()
    assert (earlier > 1e-4) == decomposition.importance.sees_later_tokens
    assert decomposition.importance.sees_later_tokens == (
        kind in ("global_shared_transformer", "global_reverse_residual")
    )


def test_a_reverse_residual_without_attention_sees_no_later_tokens() -> None:
    assert not _model("global_reverse_residual", attention=False).importance.sees_later_tokens


@pytest.mark.parametrize("kind", IMPORTANCE_KINDS)
def test_site_by_site_is_all_at_once(kind: ImportanceKind) -> None:
    decomposition = _model(kind)
    expected = _importance(decomposition)
    for address, importance, _ in activity(decomposition, TOKENS):
        assert torch.equal(importance, expected[address])
    for address, importance, _ in activity(decomposition, TOKENS, [parse_address("0.glu.up")]):
        assert torch.equal(importance, expected[address])
    found = firings(decomposition, TOKENS[0], silent)
    alive = torch.cat([g[0] > 0 for g in expected.values()], -1)
    assert found.per_token.tolist() == alive.sum(-1).tolist()


@pytest.mark.parametrize("kind", GLOBAL)
def test_inputs_without_sequence_are_sequences_of_one(kind: ImportanceKind) -> None:
    decomposition = _model(kind)
    _, inputs = decomposition.clean_pass(TOKENS)
    flat = decomposition.causal_importance({a: x[0] for a, x in inputs.items()})
    single = decomposition.causal_importance({a: x[0][:, None] for a, x in inputs.items()})
    for address in flat:
        torch.testing.assert_close(flat[address], single[address][:, 0])


@pytest.mark.parametrize("kind", GLOBAL)
def test_global_kinds_need_every_site(kind: ImportanceKind) -> None:
    decomposition = _model(kind)
    _, inputs = decomposition.clean_pass(TOKENS)
    del inputs[parse_address("0.glu.up")], inputs[parse_address("1.attn.k")]
    with pytest.raises(ValueError, match=rf"{kind} needs .* none of .*0\.glu\.up") as error:
        decomposition.causal_importance(inputs)
    assert "1.attn.k" in str(error.value)


def test_the_order_of_concatenation_is_the_one_given() -> None:
    """Names sorted as strings: block 10 comes before block 2."""
    sites = ("2.attn.q", "10.attn.q")
    decomposition = tiny_decomposition(n_blocks=11, sites=sites, importance="global_shared_mlp")
    assert decomposition.importance.order == ("10.attn.q", "2.attn.q")
    first, second = (parse_address(name) for name in decomposition.importance.order)
    function = decomposition.global_importance
    assert function is not None
    weight, bias = function.get_parameter("weights.0"), function.get_parameter("biases.1")
    with torch.no_grad():
        weight[16:] = 0  # blind to the second
        bias.copy_(torch.arange(len(bias)) / 100)
        function.get_parameter("weights.1").zero_()
    g = _importance(decomposition)
    n = decomposition.n_components[first]
    assert g[first][0, 0].tolist() == pytest.approx([i / 100 for i in range(n)])
    assert g[second][0, 0].tolist() == pytest.approx(
        [(n + i) / 100 for i in range(decomposition.n_components[second])]
    )
    with torch.no_grad():
        function.get_parameter("weights.1").fill_(0.1)
    inputs = decomposition.clean_pass(TOKENS)[1]
    moved = decomposition.causal_importance(inputs | {second: inputs[second] + 1})
    assert torch.equal(moved[first], decomposition.causal_importance(inputs)[first])
    assert not torch.equal(
        decomposition.causal_importance(inputs | {first: inputs[first] + 1})[first], moved[first]
    )


@pytest.mark.parametrize("kind", IMPORTANCE_KINDS)
def test_a_run_directory_keeps_it(kind: ImportanceKind, tmp_path: Path) -> None:
    run = make_tiny_run(
        tmp_path / "run", importance=kind, sigmoid="normal", attributions=False, statistics=False
    )
    opened = RunDirectory.open(run.path)
    expected = tiny_decomposition(importance=kind, sigmoid="normal").eval()
    assert opened.info.importance == expected.importance
    loaded = load_decomposition(opened)
    ours, theirs = _importance(loaded), _importance(expected)
    assert all(torch.equal(ours[a], theirs[a]) for a in theirs)


@pytest.mark.parametrize("kind", GLOBAL)
def test_tensors_that_do_not_fit_are_named(kind: ImportanceKind) -> None:
    decomposition = _model(kind)
    tensors = decomposition.export_tensors()
    own = sorted(name for name in tensors if name.startswith("importance."))
    assert all(name.startswith("importance.global.") for name in own)
    for name in (own[0], own[-1]):
        with pytest.raises(ValueError, match=f"has no tensor {name}"):
            decomposition.import_tensors({n: t for n, t in tensors.items() if n != name})
        with pytest.raises(ValueError, match=rf"{name} has shape .*, expected"):
            decomposition.import_tensors(tensors | {name: torch.zeros(3, 1)})
    with pytest.raises(ValueError, match=r"do not belong here: importance\.0\.attn\.q\.mean"):
        decomposition.import_tensors(tensors | {"importance.0.attn.q.mean": torch.zeros(16)})


def test_an_order_of_other_sites_is_refused() -> None:
    decomposition = _model("global_shared_mlp")
    config = decomposition.importance
    for order, match in (
        (config.order[1:], rf"does not have {config.order[0]}"),
        ((*config.order, "1.attn.v"), r"the decomposition does not, 1\.attn\.v"),
    ):
        with pytest.raises(ValueError, match=match):
            Decomposition(
                decomposition.target,
                decomposition.n_components,
                config.model_copy(update={"order": order}),
            )


@pytest.mark.parametrize(
    "fields",
    [
        {"kind": "global_shared_mlp"},
        {"kind": "mlp", "order": ["0.attn.q"]},
        {"kind": "global_shared_mlp", "order": ["0.attn.q", "0.attn.q"]},
        {"kind": "global_shared_mlp", "order": ["embed"]},
        {"kind": "global_shared_transformer", "order": ["0.attn.q"]},
        {"kind": "shared_mlp", "sigmoid": "softmax"},
        {"kind": "chunkwise"},
    ],
)
def test_contradictory_configurations_are_refused(fields: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        ImportanceConfig.model_validate(fields)


def test_heads_must_divide_the_width_evenly() -> None:
    with pytest.raises(ValidationError, match="even width"):
        TransformerImportance(d_model=6, n_blocks=1, n_heads=2, mlp_hidden=())


@pytest.mark.parametrize("kind", GLOBAL)
def test_global_kinds_are_not_trained_and_that_is_said(kind: ImportanceKind) -> None:
    with pytest.raises(ValidationError, match=f"{kind} is read from imported runs, but not trained"):
        DecompositionConfig.model_validate({"importance_kind": kind})


def test_run_files_from_before_the_kinds_still_read() -> None:
    importance = RunDirectory.open(DEMO_RUN).info.importance
    assert importance is not None
    assert (importance.kind, importance.hidden) == ("shared_mlp", (128,))
    assert (importance.sigmoid, importance.is_global, importance.sees_later_tokens) == (
        "leaky_hard",
        False,
        False,
    )
