"""Components, delta, masks and routing of a decomposed model, and its causal-importance functions."""

import pytest
import torch
from torch import Tensor

from compute.address import parse_address
from compute.decomposition.importance import ImportanceFunction
from compute.decomposition.importance_config import SITE_KINDS, ImportanceConfig, SiteKind
from compute.decomposition.initialisation import initialise_components
from compute.decomposition.model import Decomposition
from tests.support.tiny_run import tiny_decomposition


@pytest.fixture(params=["llama", "gpt2"])
def decomposition(request: pytest.FixtureRequest) -> Decomposition:
    return tiny_decomposition(request.param).double()


@pytest.fixture
def tokens() -> Tensor:
    return torch.randint(270, (3, 9), generator=torch.Generator().manual_seed(1))


def ones(decomposition: Decomposition, value: float = 1.0) -> dict:
    return {a: torch.full((3, 9, 1), value, dtype=torch.float64) for a in decomposition.addresses}


def close(a: Tensor, b: Tensor) -> None:
    torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


def test_all_components_and_the_delta_are_the_target(decomposition: Decomposition, tokens: Tensor) -> None:
    masked = decomposition.target(tokens, site=decomposition.site_function(None, ones(decomposition)))
    close(masked, decomposition.target(tokens))
    for address in decomposition.addresses:
        weight = decomposition.target.linear(address).weight
        close((decomposition.V(address) @ decomposition.U(address)).T + decomposition.delta(address), weight)


def test_masks_multiply_activations_and_delta_masks_the_rest(decomposition: Decomposition) -> None:
    address = decomposition.addresses[0]
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(3, 9, 16, generator=generator, dtype=torch.float64)
    mask = torch.rand(3, 9, decomposition.n_components[address], generator=generator, dtype=torch.float64)
    delta = torch.rand(3, 9, 1, generator=generator, dtype=torch.float64)
    bias = decomposition.bias(address)
    shift = 0.0 if bias is None else bias
    by_hand = ((x @ decomposition.V(address)) * mask) @ decomposition.U(address) + shift
    close(decomposition.site_function({address: mask})(address, x), by_hand)
    with_delta = by_hand + delta * (x @ decomposition.delta(address).T)
    close(decomposition.site_function({address: mask}, {address: delta})(address, x), with_delta)


def test_routing_leaves_the_others_alone(decomposition: Decomposition, tokens: Tensor) -> None:
    zero = {a: torch.zeros(3, 9, 1, dtype=torch.float64) for a in decomposition.addresses}
    routing = {a: torch.zeros(3, 9, 1, dtype=torch.float64) for a in decomposition.addresses}
    for route in routing.values():
        route[0] = 1
    routed = decomposition.target(tokens, site=decomposition.site_function(zero, zero, routing))
    clean = decomposition.target(tokens)
    close(routed[1:], clean[1:])
    assert not torch.allclose(routed[0], clean[0])
    # A site that the routing does not name is the target's own.
    close(decomposition.target(tokens, site=decomposition.site_function(zero, zero, {})), clean)


def test_doubling_the_weight_doubles_only_the_target() -> None:
    decomposition = tiny_decomposition().double()
    address = parse_address("1.glu.up")
    with torch.no_grad():
        decomposition.target.linear(address).weight.copy_(
            2 * (decomposition.V(address) @ decomposition.U(address)).T
        )
    x = torch.randn(2, 3, 16, dtype=torch.float64)
    close(decomposition.target.linear(address)(x), 2 * decomposition.site_function()(address, x))


def test_export_import_and_what_does_not_fit(decomposition: Decomposition, tokens: Tensor) -> None:
    other = tiny_decomposition(decomposition.target.config.family, seed=7).double()
    tensors = decomposition.export_tensors()
    other.import_tensors(tensors)
    _, inputs = decomposition.clean_pass(tokens)
    ours, theirs = decomposition.causal_importance(inputs), other.causal_importance(inputs)
    assert all(torch.equal(ours[a], theirs[a]) for a in ours)
    name = "components.0.attn.q.V"
    with pytest.raises(ValueError, match=r"no tensor components\.0\.attn\.q\.V"):
        other.import_tensors({n: t for n, t in tensors.items() if n != name})
    with pytest.raises(ValueError, match="has shape"):
        other.import_tensors(tensors | {name: tensors[name][:-1]})
    with pytest.raises(ValueError, match="do not belong here: surplus"):
        other.import_tensors(tensors | {"surplus": torch.zeros(1)})


def test_only_components_and_importances_learn(decomposition: Decomposition) -> None:
    assert not any(p.requires_grad for p in decomposition.target.parameters())
    learning = {name.split(".")[0] for name, p in decomposition.named_parameters() if p.requires_grad}
    assert learning == {"_V", "_U", "_importance"}


@pytest.mark.parametrize("count", [4, 16, 24, 40])
def test_exact_initialisation_is_exact_and_balanced(count: int) -> None:
    target = tiny_decomposition().target
    decomposition = Decomposition(
        target, dict.fromkeys(target.topology.sites, count), ImportanceConfig(kind="shared_mlp")
    )
    initialise_components(decomposition, "exact", seed=3)
    for address, site in decomposition.topology.sites.items():
        v, u = decomposition.V(address), decomposition.U(address)
        torch.testing.assert_close(v.norm(dim=0), u.norm(dim=1), rtol=1e-3, atol=1e-4)
        if count >= min(site.d_in, site.d_out):
            assert decomposition.delta(address).abs().max() < 1e-5
        else:  # a projection of the weight: smaller than it, and not nothing
            assert decomposition.delta(address).norm() < target.linear(address).weight.norm()


@pytest.mark.parametrize("kind", SITE_KINDS)
@pytest.mark.parametrize("hidden", [(), (6,), (6, 5)])
def test_importance_functions_see_what_they_may(kind: SiteKind, hidden: tuple[int, ...]) -> None:
    function = ImportanceFunction(kind, 7, 4, hidden).double()
    function.initialise(torch.Generator().manual_seed(0), output_bias=0.5)
    x = torch.randn(2, 5, 7, dtype=torch.float64)
    a = torch.randn(2, 5, 4, dtype=torch.float64, requires_grad=True)
    function.standardise(x.flatten(0, 1), a.detach().flatten(0, 1))
    z = function(x, a)
    assert z.shape == (2, 5, 4)
    # z of one position and component, by hand from the parameters
    seen = a if kind == "mlp" else x
    standard = ((seen - function.mean) * function.scale)[1, 2]
    value = standard[3:4] if kind == "mlp" else standard
    for layer, parameters in enumerate(zip(function.weights, function.biases, strict=True)):
        w, b = parameters if kind == "shared_mlp" else (p[3] for p in parameters)
        value = (torch.nn.functional.gelu(value) if layer else value) @ w + b
    close(z[1, 2, 3], value[3 if kind == "shared_mlp" else 0])
    (gradient,) = torch.autograd.grad(z[0, 0, 1], a, allow_unused=True)
    assert (gradient is None) == (kind != "mlp")
    if gradient is not None:
        assert gradient[0, 0].nonzero().tolist() == [[1]]  # one component's own activation only
