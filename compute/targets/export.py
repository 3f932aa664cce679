"""A trained target model as named tensors, before it is decomposed."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from compute.targets.config import TargetConfig
from compute.targets.model import TargetModel


def target_tensors(model: TargetModel) -> dict[str, Tensor]:
    """The model's own tensors, under the names that a decomposed run uses too."""
    tensors = {f"target.{name}": value for name, value in model.state_dict().items()}
    if model.config.tied_embeddings:
        del tensors["target.unembedding.weight"]
    return tensors


def export_target(model: TargetModel) -> dict[str, Tensor]:
    """The model's tensors on the CPU, under the names that a decomposed run uses too."""
    return {name: value.detach().cpu().contiguous() for name, value in target_tensors(model).items()}


def import_target(config: TargetConfig, tensors: Mapping[str, Tensor]) -> TargetModel:
    """The inverse of :func:`export_target`; raises ``RuntimeError`` for tensors that do not fit.

    The tensors become the model's own, without a copy.
    """
    with torch.device("meta"):
        model = TargetModel(config)
    load_target_tensors(model, tensors)
    return model


def load_target_tensors(model: TargetModel, tensors: Mapping[str, Tensor]) -> None:
    """Set the model's tensors; a model on the device ``meta`` takes these as its own, others copy them.

    Names that do not begin with ``target.`` are passed over. Raises ``RuntimeError`` for what does not fit.
    """
    state = {
        name.removeprefix("target."): value for name, value in tensors.items() if name.startswith("target.")
    }
    if model.config.tied_embeddings:
        state["unembedding.weight"] = state["token_embedding.weight"]
    model.load_state_dict(state, assign=model.token_embedding.weight.is_meta)
    if model.config.tied_embeddings:
        model.unembedding.weight = model.token_embedding.weight
