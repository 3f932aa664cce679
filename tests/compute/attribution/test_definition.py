"""The definition itself, where the answer can be worked out by hand or by moving an activation."""

from __future__ import annotations

import pytest
import torch

from compute.address import EMBED, OUTPUT, parse_address
from compute.attribution.definition import Edges, attributions, cut_pass, time_definition
from compute.decomposition.importance_config import ImportanceConfig
from compute.decomposition.model import Decomposition
from compute.targets.config import TargetConfig
from compute.targets.model import TargetModel
from tests.compute.attribution.models import Case, blocks_of, engine_sums

VALUE, MIXED = parse_address("0.attn.v"), parse_address("0.attn.o")


def hand_made() -> tuple[Decomposition, torch.Tensor]:
    """One block, one head, d = 2, every weight zero but those of one path, importance 1/2 throughout.

    Token 0 is embedded as (4, 0) and token 1 as (-2, 0); positions are zero. The LayerNorm of (4, 0) is (1, -1),
    that of (-2, 0) is (-1, 1): eps is too small to matter. Queries and keys are zero, so that position 1 looks at both
    positions alike.
    """
    config = TargetConfig(
        family="gpt2",
        n_blocks=1,
        d_model=2,
        d_ff=1,
        n_heads=1,
        n_kv_heads=1,
        vocab_size=2,
        context=2,
        activation="relu",
        norm_eps=1e-30,
    )
    target = TargetModel(config)
    decomposition = Decomposition(
        target, dict.fromkeys(target.topology.sites, 1), ImportanceConfig(kind="mlp", hidden=(2,))
    )
    decomposition.double()
    with torch.no_grad():
        for name, parameter in decomposition.named_parameters():
            parameter.fill_(1.0 if name.endswith("norm.weight") else 0.0)
        target.token_embedding.weight.copy_(torch.tensor([[4.0, 0.0], [-2.0, 0.0]]))
        decomposition.V(VALUE).copy_(torch.tensor([[3.0], [0.0]]))  # a_v = 3 x̂_0
        decomposition.U(VALUE).copy_(torch.tensor([[1.0, 0.0]]))
        decomposition.V(MIXED).copy_(torch.tensor([[2.0], [5.0]]))  # a_o = 2 z_0
        for address in decomposition.addresses:
            linear = target.linear(address)
            linear.weight.copy_((decomposition.V(address) @ decomposition.U(address)).T)
            bias = decomposition.importance_function(address).biases[-1]
            bias.fill_(0.5)  # importance 1/2 everywhere, whatever the input
    return decomposition, torch.tensor([[0, 1]])


def test_values_into_o_by_hand():
    decomposition, tokens = hand_made()
    # a_v = (3, -3) at the two positions. z(0) = a_v(0), z(1) = (a_v(0) + a_v(1)) / 2 = 0.
    # a_o(0) = 6 and a_o(1) = 0, whose derivatives by a_v are 2 at (0, 0) and 1 at (1, 0) and (1, 1):
    # attr = ½ · [(2 + 1) · 3 + 1 · (-3)] = 3. With |a_o| the sign of a_o(1) = 0 removes position 1:
    # attr_abs = ½ · 2 · 3 = 3.
    found = attributions(decomposition, tokens)
    assert found[Edges("attr", MIXED, VALUE, "component")].item() == pytest.approx(3)
    assert found[Edges("attr_abs", MIXED, VALUE, "component")].item() == pytest.approx(3)
    cut = cut_pass(decomposition, tokens, "node")
    assert cut.targets[MIXED].flatten().tolist() == pytest.approx([6, 0])
    fast = blocks_of(decomposition, engine_sums(decomposition, tokens))
    assert fast[Edges("attr", MIXED, VALUE, "component")].item() == pytest.approx(3)
    assert fast[Edges("attr_abs", MIXED, VALUE, "component")].item() == pytest.approx(3)


def test_a_norm_is_scale_free_by_hand():
    decomposition, tokens = hand_made()
    found = attributions(decomposition, tokens, metrics=("attr", "attr_frozen"))
    # The value's activation is 3 x̂_0 = ±3 and does not depend on how long the embedding is.
    assert found[Edges("attr", VALUE, EMBED, "embed")].abs().max().item() < 1e-9
    # With the scale held constant, the whole activation is due to the embedding.
    assert found[Edges("attr_frozen", VALUE, EMBED, "embed")][0].tolist() == pytest.approx([3, -3])


@pytest.mark.parametrize("delta", ["node", "off", "through"])
def test_attribution_is_the_slope_when_an_activation_is_scaled(delta: str):
    decomposition, tokens = Case(n_heads=2, n_kv_heads=2, density=1.0).build()
    found = attributions(decomposition, tokens, delta=delta, metrics=("attr",), ci_weighted=False)  # type: ignore[arg-type]
    source = parse_address("0.glu.up")
    target = parse_address("1.attn.k" if delta == "through" else "0.glu.down")
    scale = torch.ones((), dtype=torch.float64, requires_grad=True)

    def site(address, x):  # the network itself with the source scaled and nothing else cut but components
        a = x @ decomposition.V(address)
        seen.setdefault(address, a)
        b = a.detach() * scale if address == source else a.detach()
        y = b @ decomposition.U(address)
        if delta == "through":
            y = y + x @ decomposition.delta(address).T
        elif delta == "node":
            y = y + (x @ decomposition.delta(address).T).detach()
        return y

    seen: dict[object, torch.Tensor] = {}
    from compute.targets.model import Trace

    decomposition.target(tokens, site=site, trace=Trace())
    expected = [
        torch.autograd.grad(seen[target][..., t].sum(), scale, retain_graph=True)[0].item() for t in range(2)
    ]
    block = found[Edges("attr", target, source, "component")]
    assert block.sum(1)[:2].tolist() == pytest.approx(expected)


def test_through_reaches_all_sites_upstream():
    decomposition, tokens = Case().build()
    target = parse_address("1.glu.down")
    found = attributions(decomposition, tokens, delta="through", metrics=("attr",), targets={target: [0]})
    sources = {edges.source for edges in found}
    assert parse_address("0.attn.q") in sources
    assert target not in sources
    assert parse_address("1.glu.up") in sources


def test_targets_and_sources_can_be_restricted_to_the_alive_ones():
    decomposition, tokens = Case().build()
    target, source = parse_address("1.attn.o"), parse_address("1.attn.v")
    full = attributions(decomposition, tokens)
    part = attributions(decomposition, tokens, targets={target: [1, 0], OUTPUT: [4]}, sources={source: [1]})
    assert {edges.target for edges in part} == {target, OUTPUT}
    for metric in ("attr", "attr_abs"):
        edges = Edges(metric, target, source, "component")
        torch.testing.assert_close(part[edges], full[edges][[1, 0]][:, [1]])


def test_timing_counts_every_target():
    decomposition, tokens = Case().build()
    timing = time_definition(decomposition, tokens, metric="attr", sample=1)
    assert timing.n_targets == decomposition.total_components + decomposition.target.config.d_model
    assert timing.seconds > 0
