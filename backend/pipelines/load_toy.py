"""From a toy run's directory on disk to a decomposition that can be computed with."""

from __future__ import annotations

import torch

from compute.address import parse_address
from compute.toys.config import read_config
from compute.toys.decomposition import ToyDecomposition
from compute.toys.model import ToyModel
from storage.errors import NoModelError, RunError
from storage.run_directory import RunDirectory


def load_toy(run: RunDirectory) -> ToyDecomposition:
    """Build the run's toy model and read its weights; raises :class:`RunError` where they do not fit,
    and :class:`NoModelError` where the run holds no toy model."""
    info = run.info
    if info.kind != "toy" or info.importance is None:
        raise NoModelError(f"the run {info.name} holds no toy model", "ask for one of the kind toy")
    try:
        counts = {parse_address(site.address): site.n_components for site in info.sites}
        toy = ToyDecomposition(ToyModel(read_config(info.target)), counts, info.importance)
        tensors = run.model_tensors()
        toy.import_tensors({name: torch.from_numpy(value.copy()) for name, value in tensors.items()})
    except ValueError as error:
        raise RunError(
            f"the model of {run.path} cannot be loaded: {error}", "restore it from a copy"
        ) from error
    return toy.eval()
