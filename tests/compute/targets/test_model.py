"""Both families of target model, at toy size: causality, interception, traces, position schemes."""

import pytest
import torch
from torch import Tensor

from compute.address import Address
from compute.targets.config import TargetConfig
from compute.targets.export import export_target, import_target
from compute.targets.model import TargetModel, Trace
from compute.topology import Topology

FAMILIES = {
    "llama": TargetConfig(family="llama", n_blocks=2, d_model=16, d_ff=24, n_heads=4, n_kv_heads=2, vocab_size=30, context=12, activation="silu"),
    "gpt2": TargetConfig(family="gpt2", n_blocks=2, d_model=16, d_ff=24, n_heads=4, n_kv_heads=4, vocab_size=30, context=12, activation="gelu"),
    "llama-qk": TargetConfig(family="llama", n_blocks=2, d_model=16, d_ff=24, n_heads=4, n_kv_heads=1, vocab_size=30, context=12, activation="relu", qk_norm=True),
    "llama-tied": TargetConfig(family="llama", n_blocks=1, d_model=16, d_ff=24, n_heads=2, n_kv_heads=2, vocab_size=30, context=12, activation="silu", tied_embeddings=True),
}  # fmt: skip


@pytest.fixture(params=list(FAMILIES))
def model(request: pytest.FixtureRequest) -> TargetModel:
    torch.manual_seed(0)
    built = TargetModel(FAMILIES[request.param]).double()
    for parameter in built.parameters():
        torch.nn.init.normal_(parameter, 0.1, 0.4)
    return built


@pytest.fixture
def tokens() -> Tensor:
    return torch.randint(30, (3, 10), generator=torch.Generator().manual_seed(1))


def test_the_traced_pass_is_the_plain_pass(model: TargetModel, tokens: Tensor) -> None:
    trace = Trace()
    torch.testing.assert_close(model(tokens, trace=trace), model(tokens), rtol=1e-12, atol=1e-12)
    assert set(trace.norms) == {p.name for p in model.topology.read_points if p.operation == "norm"}
    assert torch.allclose(trace.attention[0].pattern.sum(-1), torch.ones(()).double())
    assert trace.attention[0].pattern.triu(1).abs().max() == 0


def test_no_position_sees_the_future(model: TargetModel, tokens: Tensor) -> None:
    changed = tokens.clone()
    changed[:, 6:] = (changed[:, 6:] + 1) % 30
    before, after = model(tokens), model(changed)
    assert torch.equal(before[:, :6], after[:, :6])
    assert not torch.allclose(before[:, 6:], after[:, 6:])


def test_a_batch_is_its_sequences(model: TargetModel, tokens: Tensor) -> None:
    singles = torch.cat([model(row[None]) for row in tokens])
    torch.testing.assert_close(model(tokens), singles, rtol=1e-10, atol=1e-10)


def test_every_site_of_the_topology_is_intercepted(model: TargetModel, tokens: Tensor) -> None:
    seen: dict[Address, tuple[int, int]] = {}

    def site(address: Address, x: Tensor) -> Tensor:
        y = model.linear(address)(x)
        seen[address] = (x.shape[-1], y.shape[-1])
        return y

    torch.testing.assert_close(model(tokens, site=site), model(tokens))
    assert {a: (s.d_in, s.d_out) for a, s in model.topology.sites.items()} == seen
    assert list(seen) == sorted(seen, key=list(seen).index)  # one visit each, in forward order
    for address, s in model.topology.sites.items():
        assert model.get_submodule(s.module_path) is model.linear(address)


def test_export_and_import(model: TargetModel, tokens: Tensor) -> None:
    again = import_target(model.config, export_target(model))
    assert torch.equal(again(tokens), model(tokens))


def test_rotary_attention_depends_on_distance_only() -> None:
    model = TargetModel(FAMILIES["llama"]).double()
    tables = model.rotary(12, torch.zeros(1, dtype=torch.float64))
    assert tables is not None
    cos, sin = tables
    q, k = torch.randn(2, 4, dtype=torch.float64)

    def rotate(x: Tensor, p: int) -> Tensor:
        return x * cos[p] + torch.cat([-x[2:], x[:2]]) * sin[p]

    scores = [rotate(q, p + 3) @ rotate(k, p) for p in range(8)]
    assert torch.allclose(torch.stack(scores), scores[0])


def test_learned_positions_have_an_end(tokens: Tensor) -> None:
    with pytest.raises(ValueError, match="12 learned positions"):
        TargetModel(FAMILIES["gpt2"])(torch.zeros(1, 13, dtype=torch.int64))


def test_topology_matches_the_published_connectivity() -> None:
    topology = Topology(FAMILIES["llama"])
    named = {
        str(t): [str(s) for s in topology.sources_of(t)]
        for t in (*topology.sites, topology.read_points[-1].readers[0])
    }
    assert named["0.attn.q"] == ["embed"]
    assert named["0.attn.o"] == ["0.attn.q", "0.attn.k", "0.attn.v"]
    assert named["0.glu.up"] == ["embed", "0.attn.o"]
    assert named["0.glu.down"] == ["0.glu.gate", "0.glu.up"]
    assert named["1.attn.v"] == ["embed", "0.attn.o", "0.glu.down"]
    assert named["output"] == ["embed", "0.attn.o", "0.glu.down", "1.attn.o", "1.glu.down"]
    for target in topology.sites:
        for source in topology.sources_of(target):
            assert target in topology.targets_of(source)


@pytest.mark.parametrize(
    ("change", "message"),
    [({"n_heads": 3}, "not a multiple of n_heads"), ({"n_kv_heads": 3}, "not a multiple of n_kv_heads"),
     ({"n_heads": 16, "n_kv_heads": 16}, "even head size"), ({"typo": 1}, "Extra inputs")],
)  # fmt: skip
def test_impossible_shapes_are_refused(change: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TargetConfig.model_validate(FAMILIES["llama"].model_dump() | change)
