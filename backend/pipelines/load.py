"""From a run directory on disk to a decomposition that can be computed with."""

from __future__ import annotations

import torch

from compute.address import parse_address
from compute.decomposition.model import Decomposition
from compute.targets.config import TargetConfig
from compute.targets.model import TargetModel
from storage.errors import NoModelError, RunError
from storage.run_directory import RunDirectory


def load_decomposition(run: RunDirectory, device: str = "cpu") -> Decomposition:
    """Build the run's model and read its weights; raises :class:`RunError` where they do not fit, and
    :class:`NoModelError` where the run has none."""
    info = run.info
    if info.kind != "model" or info.importance is None:
        raise NoModelError(
            f"the run {info.name} came without a language model, which this needs",
            "open the run that it was made from",
        )
    try:
        with torch.device("meta"):  # its tensors are those of the file, without a copy
            target = TargetModel(TargetConfig.model_validate(info.target))
        counts = {parse_address(site.address): site.n_components for site in info.sites}
        decomposition = Decomposition(target, counts, info.importance)
        tensors = run.model_tensors()
        decomposition.import_tensors(
            {name: torch.from_numpy(value.copy()) for name, value in tensors.items()}
        )
    except ValueError as error:
        raise RunError(
            f"the model of {run.path} cannot be loaded: {error}", "restore it from a copy"
        ) from error
    return decomposition.to(device).eval()
