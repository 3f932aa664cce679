"""Toy models by hand, and what must hold for every decomposition of one."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from compute.address import Address
from compute.decomposition.importance_config import ImportanceConfig
from compute.toys.config import ResidualMlpConfig, TmsConfig, ToyData, read_config
from compute.toys.decomposition import ToyDecomposition
from compute.toys.model import ToyModel
from compute.toys.response import answer, measure, sample_inputs, single_features

UP, DOWN = Address(0, "mlp", "up"), Address(0, "mlp", "down")


def tms_by_hand() -> ToyDecomposition:
    """Three features in two dimensions, tied, and one component for each feature in linear1.

    linear1's components are exact; linear2 has two, which leave out its third output's row.
    """
    w1 = torch.tensor([[1.0, 0.0, -1.0], [0.0, 1.0, -1.0]])
    model = ToyModel(TmsConfig(n_features=3, n_hidden=2, tied=True))
    config = ImportanceConfig(kind="mlp", hidden=())
    found = ToyDecomposition(model, {UP: 3, DOWN: 2}, config)
    tensors = {name: torch.zeros_like(value) for name, value in found.export_tensors().items()}
    tensors |= {
        "target.0.mlp.up.weight": w1,
        "target.0.mlp.down.weight": w1.T.contiguous(),
        "target.0.mlp.down.bias": torch.tensor([0.0, 0.1, -0.2]),
        "components.0.mlp.up.V": torch.eye(3),
        "components.0.mlp.up.U": w1.T.contiguous(),
        "components.0.mlp.down.V": torch.eye(2),
        "components.0.mlp.down.U": torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]),
    }
    # z = 2a − 0.5 for linear1, z = a for linear2.
    for site, factor, shift, count in (("0.mlp.up", 2.0, -0.5, 3), ("0.mlp.down", 1.0, 0.0, 2)):
        tensors[f"importance.{site}.scale"] = torch.ones(count)
        tensors[f"importance.{site}.weights.0"] = torch.full((count, 1, 1), factor)
        tensors[f"importance.{site}.biases.0"] = torch.full((count, 1), shift)
    found.import_tensors(tensors)
    return found


def test_tms_by_hand() -> None:
    toy = tms_by_hand()
    inputs = torch.tensor([[0.5, 0.0, 0.0], [0.0, 0.0, 1.0]])
    found = answer(toy, inputs)
    # hidden (0.5, 0): outputs ReLU(0.5, 0.1, −0.5 − 0.2); hidden (−1, −1): ReLU(−1, −0.9, 2 − 0.2).
    torch.testing.assert_close(found.outputs, torch.tensor([[0.5, 0.1, 0.0], [0.0, 0.0, 1.8]]))
    torch.testing.assert_close(found.activation[UP], inputs)
    # 2 · 0.5 − 0.5 = 0.5; 2 · 1 − 0.5 above 1; below 0 elsewhere.
    torch.testing.assert_close(found.importance[UP], torch.tensor([[0.5, 0.0, 0.0], [0.0, 0.0, 1.0]]))
    torch.testing.assert_close(found.importance[DOWN], torch.tensor([[0.5, 0.0], [0.0, 0.0]]))
    # Masked: hidden (0.25, 0) and (−1, −1); linear2's first component acts by half, or not at all.
    torch.testing.assert_close(found.masked, torch.tensor([[0.125, 0.1, 0.0], [0.0, 0.1, 0.0]]))


def test_fit_by_hand() -> None:
    fit = measure(tms_by_hand(), torch.tensor([[0.5, 0.0, 0.0], [0.0, 0.0, 1.0]]))
    # All on without delta only the third output is lost: 1.8 of it for the second input.
    assert fit.all_on == pytest.approx(1.8**2 / 6)
    assert fit.with_deltas == pytest.approx(0, abs=1e-12)
    assert fit.masked == pytest.approx((0.375**2 + 0.1**2 + 1.8**2) / 6)
    # linear1's delta is zero, so its masks act; linear2's makes up its third output alone.
    assert fit.nothing == pytest.approx((0.5**2 + 0.1**2 + 1.8**2) / 6)
    assert fit.power == pytest.approx((0.5**2 + 0.1**2 + 1.8**2) / 6)
    assert fit.sites[UP].delta_square == 0
    assert fit.sites[DOWN].delta_square == pytest.approx(2)
    assert fit.sites[DOWN].weight_square == pytest.approx(4)
    assert fit.sites[UP].entries == 6
    assert fit.sites[UP].l0 == 1
    assert fit.sites[DOWN].l0 == 0.5


def test_residual_mlp_by_hand() -> None:
    config = ResidualMlpConfig(
        n_features=2, d_embed=2, d_mlp=1, n_layers=2, activation="gelu", in_bias=True,
        label="act_plus_resid", label_coefficients=(1.0, 2.0),
    )  # fmt: skip
    model = ToyModel(config)
    tensors = {
        "embedding": torch.tensor([[1.0, 2.0], [0.0, 1.0]]),
        "unembedding": torch.tensor([[1.0, 0.0], [1.0, 1.0]]),
        "_linear.0-mlp-up.weight": torch.tensor([[1.0, -1.0]]),
        "_linear.0-mlp-up.bias": torch.tensor([3.0]),
        "_linear.0-mlp-down.weight": torch.tensor([[0.0], [1.0]]),
        "_linear.1-mlp-up.weight": torch.tensor([[0.0, 1.0]]),
        "_linear.1-mlp-up.bias": torch.tensor([-1.0]),
        "_linear.1-mlp-down.weight": torch.tensor([[1.0], [0.0]]),
    }
    model.load_state_dict(tensors)

    def gelu(x: float) -> float:
        return x * 0.5 * (1 + math.erf(x / math.sqrt(2)))

    r = [1.0, 2.0 + gelu(1 - 2 + 3)]
    r = [r[0] + gelu(r[1] - 1), r[1]]
    x = torch.tensor([[1.0, 0.0]])
    torch.testing.assert_close(model(x), torch.tensor([[r[0] + r[1], r[1]]]))
    label = model.label(torch.tensor([[1.0, 1.0]]))
    torch.testing.assert_close(label, torch.tensor([[gelu(1) + 1, gelu(2) + 1]]))


def random_toy(kind: str, seed: int = 0) -> ToyDecomposition:
    if kind == "tms":
        model = ToyModel(TmsConfig(n_features=5, n_hidden=3, n_hidden_layers=2))
    else:
        model = ToyModel(ResidualMlpConfig(n_features=5, d_embed=7, d_mlp=4, n_layers=2, activation="relu"))
    counts = {address: 6 for address in model.modules_at if address != Address(1, "mlp", "up")}
    found = ToyDecomposition(model, counts, ImportanceConfig(kind="vector_mlp", hidden=(4,)))
    generator = torch.Generator().manual_seed(seed)
    found.import_tensors(
        {n: torch.randn(t.shape, generator=generator) for n, t in found.export_tensors().items()}
    )
    return found.double()


@pytest.mark.parametrize("kind", ["tms", "resid_mlp"])
def test_deltas_restore_the_target_whatever_the_components_are(kind: str) -> None:
    toy = random_toy(kind)
    x = torch.randn(9, 5, dtype=torch.float64)
    on = {site: torch.ones(9, 1, dtype=torch.float64) for site in toy.n_components}
    torch.testing.assert_close(toy.target(x, toy.site_function(delta_masks=on)), toy.target(x))
    assert not torch.allclose(toy.target(x, toy.site_function()), toy.target(x))


@pytest.mark.parametrize("kind", ["tms", "resid_mlp"])
def test_linear_paths_are_derivatives(kind: str) -> None:
    toy = random_toy(kind)
    x = torch.zeros(5, dtype=torch.float64, requires_grad=True)
    for site in toy.target.modules_at:
        path = toy.target.from_features(site)
        if path is None or (kind == "resid_mlp" and site.block):
            continue
        read: list[Tensor] = []

        def watch(address: Address, value: Tensor, site: Address = site, read: list[Tensor] = read) -> Tensor:
            if address == site:
                read.append(value[0])
            return toy.target.linear(address)(value)

        toy.target(x[None], watch)
        for column, value in enumerate(read[0]):
            (gradient,) = torch.autograd.grad(value, x, retain_graph=True)
            torch.testing.assert_close(gradient, path.to(gradient)[:, column])


def test_followers_pass_through_what_is_left_whole() -> None:
    toy = random_toy("tms")
    decomposed = frozenset(toy.n_components)
    after = toy.target.followers(UP, decomposed)
    assert list(after) == [Address(2, "mlp", "up")]
    path = after[Address(2, "mlp", "up")]
    torch.testing.assert_close(path, toy.target.linear(Address(1, "mlp", "up")).weight.T)
    last = Address(2, "mlp", "up")
    assert toy.target.followers(last, decomposed) == {Address(2, "mlp", "down"): None}
    residual = random_toy("resid_mlp").target
    everything = frozenset(residual.modules_at)
    assert residual.followers(UP, everything) == {DOWN: None}
    assert residual.followers(DOWN, everything) == {Address(1, "mlp", "up"): None}


def test_batches_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    toy = random_toy("resid_mlp")
    inputs = single_features(toy, 0.75)
    whole = answer(toy, inputs)
    monkeypatch.setattr("compute.toys.decomposition._BATCH_NUMBERS", 48)
    parts = answer(toy, inputs)
    torch.testing.assert_close(parts.masked, whole.masked)
    for site in toy.n_components:
        torch.testing.assert_close(parts.importance[site], whole.importance[site])
    assert torch.equal(inputs, 0.75 * torch.eye(5, dtype=torch.float64))


def test_sampled_inputs_are_of_the_kind_asked_for() -> None:
    two = sample_inputs(
        ToyData(generation="exactly_two_active", feature_probability=0.1, low=-1, high=1), 8, 400, 0
    )
    assert ((two != 0).sum(1) == 2).all()
    assert two.min() < -0.9
    some = ToyData(feature_probability=0.25, low=0, high=1, synced=((0, 3),))
    found = sample_inputs(some, 6, 4000, 1)
    assert ((found[:, 0] != 0) == (found[:, 3] != 0)).all()
    assert float((found[:, 1] != 0).double().mean()) == pytest.approx(0.25, abs=0.03)
    assert float((found[:, 0] != 0).double().mean()) == pytest.approx(1 - 0.75**2, abs=0.03)
    assert torch.equal(found, sample_inputs(some, 6, 4000, 1))


def test_configurations_are_read_and_refused() -> None:
    read = read_config({"kind": "tms", "n_features": 5, "n_hidden": 2})
    assert [module.path for module in read.modules] == ["linear1", "linear2"]
    with pytest.raises(ValueError, match="label coefficients"):
        read_config({
            "kind": "resid_mlp", "n_features": 3, "d_embed": 4, "d_mlp": 2, "n_layers": 1,
            "activation": "relu", "label_coefficients": [1.0, 2.0],
        })  # fmt: skip
    with pytest.raises(ValueError, match="below 5"):
        read_config({
            "kind": "tms", "n_features": 5, "n_hidden": 2,
            "data": {"feature_probability": 0.1, "low": 0, "high": 1, "synced": [[1, 5]]},
        })  # fmt: skip
    with pytest.raises(ValueError, match="Input should be 'gelu' or 'relu'"):
        read_config({
            "kind": "resid_mlp", "n_features": 3, "d_embed": 4, "d_mlp": 2, "n_layers": 1, "activation": "tanh",
        })  # fmt: skip


def test_tensors_that_do_not_fit_are_named() -> None:
    toy = tms_by_hand()
    tensors = toy.export_tensors()
    with pytest.raises(ValueError, match=r"components\.0\.mlp\.up\.V has shape"):
        toy.import_tensors(tensors | {"components.0.mlp.up.V": torch.zeros(3, 4)})
    with pytest.raises(ValueError, match=r"do not belong here: target\.extra"):
        toy.import_tensors(tensors | {"target.extra": torch.zeros(1)})
    with pytest.raises(ValueError, match=r"no tensor target\.0\.mlp\.down\.bias"):
        toy.import_tensors({n: t for n, t in tensors.items() if n != "target.0.mlp.down.bias"})
    with pytest.raises(ValueError, match=r"has no 5\.mlp\.up"):
        ToyDecomposition(toy.target, {Address(5, "mlp", "up"): 2}, toy.importance)
