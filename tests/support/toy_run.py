"""Toy runs whose components are the known solution, made by hand rather than trained."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import Tensor

from compute.address import Address
from compute.decomposition.importance_config import ImportanceConfig
from compute.toys.config import ExpectedPattern, ResidualMlpConfig, TmsConfig, ToyData
from compute.toys.decomposition import ToyDecomposition
from compute.toys.model import ToyModel
from storage.run_directory import RunDirectory, RunInfo, RunSite, write_run

UP, DOWN = Address(0, "mlp", "up"), Address(0, "mlp", "down")


def shuffled(count: int, seed: int) -> list[int]:
    """Where the components that act are among all of them."""
    return torch.randperm(count, generator=torch.Generator().manual_seed(seed)).tolist()


def solved_tms(n_features: int = 5, n_components: int = 8) -> ToyDecomposition:
    """Features on a circle; in both matrices component ``shuffled(...)[i]`` is feature i's own.

    Importances are clamp(8 a, 0, 1) in linear1 and clamp(4 (a − 0.35), 0, 1) in linear2, where
    neighbouring features also move a component a little.
    """
    expected = tuple(
        ExpectedPattern(address=str(address), pattern="identity", k=n_features) for address in (UP, DOWN)
    )
    config = TmsConfig(
        n_features=n_features,
        n_hidden=2,
        tied=True,
        data=ToyData(feature_probability=0.05, low=0, high=1),
        expected=expected,
    )
    toy = ToyDecomposition(
        ToyModel(config), {UP: n_components, DOWN: n_components}, ImportanceConfig(kind="mlp")
    )
    angle = 2 * math.pi * torch.arange(n_features) / n_features
    directions = torch.stack([angle.cos(), angle.sin()])  # [2, F]
    tensors = _zeros(toy) | {
        "target.0.mlp.up.weight": directions,
        "target.0.mlp.down.weight": directions.T.contiguous(),
        "target.0.mlp.down.bias": torch.full((n_features,), -0.1),
    }
    for site, seed, factor, shift in ((UP, 1, 8.0, 0.0), (DOWN, 2, 4.0, -1.4)):
        own = shuffled(n_components, seed)[:n_features]
        V, U = tensors[f"components.{site}.V"], tensors[f"components.{site}.U"]
        if site == UP:
            V[:, own], U[own] = torch.eye(n_features), directions.T
        else:
            V[:, own], U[own] = directions, torch.eye(n_features)
        _linear_importance(tensors, site, factor, shift)
    toy.import_tensors(tensors)
    return toy


def solved_mlp(n_features: int = 6, n_components: int = 9, n_layers: int = 2) -> ToyDecomposition:
    """An identity embedding; block i's neurons each double the features f with f mod n_layers = i."""
    own = [[f for f in range(n_features) if f % n_layers == i] for i in range(n_layers)]
    d_mlp = max(map(len, own))
    expected = [
        ExpectedPattern(address=str(Address(i, "mlp", projection)), pattern="dense", k=len(own[i]))
        for i in range(n_layers)
        for projection in ("up", "down")
    ]
    config = ResidualMlpConfig(
        n_features=n_features,
        d_embed=n_features,
        d_mlp=d_mlp,
        n_layers=n_layers,
        activation="relu",
        label="act_plus_resid",
        label_coefficients=(1.0,) * n_features,
        data=ToyData(feature_probability=0.1, low=-1, high=1),
        expected=tuple(expected),
    )
    model = ToyModel(config)
    counts = dict.fromkeys(model.modules_at, n_components)
    toy = ToyDecomposition(model, counts, ImportanceConfig(kind="mlp"))
    tensors = _zeros(toy) | {
        "target.embedding": torch.eye(n_features),
        "target.unembedding": torch.eye(n_features),
    }
    for block in range(n_layers):
        places = shuffled(n_components, block)
        for neuron, feature in enumerate(own[block]):
            for site, row, column in (
                (Address(block, "mlp", "up"), neuron, feature),
                (Address(block, "mlp", "down"), feature, neuron),
            ):
                tensors[f"target.{site}.weight"][row, column] = 1
                tensors[f"components.{site}.V"][column, places[neuron]] = 1
                tensors[f"components.{site}.U"][places[neuron], row] = 1
        for projection in ("up", "down"):
            _linear_importance(tensors, Address(block, "mlp", projection), 8.0, 0.0)
    toy.import_tensors(tensors)
    return toy


def _zeros(toy: ToyDecomposition) -> dict[str, Tensor]:
    return {name: torch.zeros(value.shape) for name, value in toy.export_tensors().items()}


def _linear_importance(tensors: dict[str, Tensor], site: Address, factor: float, shift: float) -> None:
    """z = factor · a + shift for every component of a site."""
    tensors[f"importance.{site}.scale"].fill_(1)
    tensors[f"importance.{site}.weights.0"].fill_(factor)
    tensors[f"importance.{site}.biases.0"].fill_(shift)


def write_toy_run(path: Path, toy: ToyDecomposition) -> RunDirectory:
    """Write a toy run directory as the importer does."""
    sites = tuple(
        RunSite(
            address=str(address),
            module_path=(module := toy.target.modules_at[address]).path,
            d_in=module.d_in,
            d_out=module.d_out,
            n_components=count,
            source_path=module.path,
        )
        for address, count in toy.n_components.items()
    )
    info = RunInfo(
        kind="toy",
        name=path.name,
        title=f"A {toy.target.config.kind} whose solution is known",
        description="Made by hand for tests.",
        licence="MIT",
        created="2026-01-01T00:00:00+00:00",
        provenance={"made by": "tests/support/toy_run.py"},
        target=toy.target.config.model_dump(mode="json"),
        importance=toy.importance,
        sites=sites,
        tokenizer=None,
    )
    return write_run(path, info, {n: t.numpy() for n, t in toy.export_tensors().items()}, None, None)
