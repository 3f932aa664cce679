"""Runs of the public toy models: the toy model of superposition and the residual MLP."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
import yaml
from torch import Tensor, nn

from tests.support.public import layouts
from tests.support.public.components import ComponentModel, Masks, insert_identity
from tests.support.public.importance import LOWER, randomise_importance
from tests.support.public.run import importance_functions, importances, matching
from tests.support.public.targets import randomise


class TMSModel(nn.Module):
    """x ↦ relu(W₂ H … H W₁ x + b)."""

    def __init__(self, n_features: int, n_hidden: int, n_hidden_layers: int, *, tied: bool) -> None:
        super().__init__()
        self.linear1 = nn.Linear(n_features, n_hidden, bias=False)
        self.linear2 = nn.Linear(n_hidden, n_features)
        layers = [nn.Linear(n_hidden, n_hidden, bias=False) for _ in range(n_hidden_layers)]
        self.hidden_layers = nn.ModuleList(layers) if layers else None
        self.tied = tied

    def forward(self, x: Tensor) -> Tensor:
        x = self.linear1(x)
        for layer in self.hidden_layers or ():
            x = layer(x)
        return self.linear2(x).clamp(min=0)


class _ToyMlp(nn.Module):
    def __init__(self, width: int, hidden: int, *, in_bias: bool, out_bias: bool, act: str) -> None:
        super().__init__()
        self.mlp_in = nn.Linear(width, hidden, bias=in_bias)
        self.mlp_out = nn.Linear(hidden, width, bias=out_bias)
        self.act = F.gelu if act == "gelu" else F.relu

    def forward(self, x: Tensor) -> Tensor:
        return self.mlp_out(self.act(self.mlp_in(x)))


class ResidMLP(nn.Module):
    """Features embedded by W_E into a residual stream, MLPs that add to it, read out by W_U."""

    def __init__(self, n_features: int, d_embed: int, d_mlp: int, n_layers: int, act_fn_name: str, in_bias: bool,
                 out_bias: bool) -> None:  # fmt: skip
        super().__init__()
        self.W_E = nn.Parameter(torch.empty(n_features, d_embed))
        self.W_U = nn.Parameter(torch.empty(d_embed, n_features))
        options = {"in_bias": in_bias, "out_bias": out_bias, "act": act_fn_name}
        self.layers = nn.ModuleList(_ToyMlp(d_embed, d_mlp, **options) for _ in range(n_layers))

    def forward(self, x: Tensor) -> Tensor:
        residual = x @ self.W_E
        for layer in self.layers:
            residual = residual + layer(residual)
        return residual @ self.W_U


@dataclass
class PublicToyRun:
    """A written run directory of a toy model and the model that wrote it."""

    directory: Path
    model: ComponentModel
    importance_functions: nn.Module
    kind: str
    sigmoid: str
    config: dict[str, Any]
    tensors: dict[str, Tensor]
    #: A batch of feature vectors [6, n_features].
    inputs: Tensor

    @torch.no_grad()
    def outputs(self, inputs: Tensor | None = None) -> Tensor:
        return self.model.logits(self.inputs if inputs is None else inputs)

    @torch.no_grad()
    def masked_outputs(
        self, masks: Masks, delta_masks: Masks | None = None, inputs: Tensor | None = None
    ) -> Tensor:
        """Outputs with masks [B, C] and delta masks [B] by path; without those no deltas."""
        return self.model.masked(self.inputs if inputs is None else inputs, masks, delta_masks)

    @torch.no_grad()
    def importance(self, inputs: Tensor | None = None) -> dict[str, Tensor]:
        """Causal importance [B, C] by path."""
        inputs = self.inputs if inputs is None else inputs
        raw = importances(self.model, self.importance_functions, self.kind, inputs)
        return {path: LOWER[self.sigmoid](z) for path, z in raw.items()}


_TMS = {"n_features": 5, "n_hidden": 3, "n_hidden_layers": 1, "tied_weights": False,
        "init_bias_to_zero": False, "device": "cpu"}  # fmt: skip
_RESID = {"n_features": 6, "d_embed": 8, "d_mlp": 10, "n_layers": 2, "act_fn_name": "gelu", "in_bias": True,
          "out_bias": True}  # fmt: skip


def write_public_toy(
    path: Path,
    *,
    task: str = "tms",
    layout: layouts.Layout = "A-newest",
    importance: str = "mlp",
    sigmoid: str = "leaky_hard",
    sites: Mapping[str, int] | None = None,
    identities: Mapping[str, int] | None = None,
    hidden: Sequence[int] = (7,),
    settings: Mapping[str, Any] | None = None,
    model: Mapping[str, Any] | None = None,
    nested_train_config: bool | None = None,
    named: bool = True,
    extra_config: Mapping[str, Any] | None = None,
    seed: int = 0,
) -> PublicToyRun:
    """Write a run of ``tms`` or ``resid_mlp`` at ``path``, with the target and its configuration in it.

    The public code writes the bare model configuration of a TMS, and the whole training
    configuration of a residual MLP; ``nested_train_config`` asks for one or the other. ``named`` tells
    whether the configuration of layout B says which experiment it is of.
    """
    assert layout in ("A-newest", "A-per-module", "A-old", "B")
    shape = {**(_TMS if task == "tms" else _RESID), **(model or {})}
    if task == "tms":
        counts = [shape[k] for k in ("n_features", "n_hidden", "n_hidden_layers")]
        target: nn.Module = TMSModel(*counts, tied=bool(shape["tied_weights"]))
    else:
        target = ResidMLP(**shape)
    randomise(target, seed)
    if task == "tms" and shape["tied_weights"]:
        target.linear2.weight.data = target.linear1.weight.data.T.clone()  # type: ignore[union-attr]
    target.requires_grad_(requires_grad=False)
    if sites is None:
        tms = {"linear1": 7, "linear2": 6} | ({"hidden_layers.0": 5} if shape.get("n_hidden_layers") else {})
        sites = tms if task == "tms" else {"layers.*.mlp_in": 7, "layers.*.mlp_out": 6}
    if layout == "A-old":
        sites = dict.fromkeys(sites, 6)
    inserted = dict(identities or {})
    for matrix in matching(target, inserted):
        insert_identity(target, matrix)
    found = matching(target, {**sites, **{f"{p}.pre_identity": n for p, n in inserted.items()}})
    components = ComponentModel(target, found)
    generator = torch.Generator().manual_seed(seed + 1)
    components.randomise(generator)
    settings = dict(settings or {})
    if importance == "global_shared_transformer" and not settings:
        attention = {"n_heads": 2, "max_len": 16, "rope_base": 10_000.0}
        form = {"d_model": 8, "n_blocks": 2, "mlp_hidden_dim": [10], "attn_config": attention}
        settings = {"simple_transformer_ci_cfg": form}
    functions = importance_functions(components, importance, hidden, settings)
    randomise_importance(functions, seed + 2)
    functions.requires_grad_(requires_grad=False)

    prefix = "_global_ci_fn" if importance.startswith("global") else "_ci_fns"
    tensors = layouts.state_dict(
        layout,
        dict(target.state_dict()),
        {p: dict(parts.state_dict()) for p, parts in components.components.items()},
        {f"{prefix}.{name}": value for name, value in functions.state_dict().items()},
    )
    names = {"tms": ("tms", "TMSModel"), "resid_mlp": ("resid_mlp", "ResidMLP")}
    module, class_name = names[task]
    fields = {
        "pretrained_model_class": f"spd.experiments.{module}.models.{class_name}",
        "pretrained_model_path": f"wandb:someone/spd-train-{module}/runs/abc12345",
        "pretrained_model_name": None,
        **({"output_extract": None} if layout == "A-newest" else {"pretrained_model_output_attr": None}),
    }
    config = layouts.final_config(
        layout, kind=importance, hidden=[*hidden], settings=settings, sigmoid=sigmoid, sampling="continuous",
        patterns=sites, identities=inserted, target=fields, tokenizer="",
    )  # fmt: skip
    config |= {
        "tokenizer_name": None,
        "output_loss_type": "mse",
        "task_config": {
            "task_name": task, "feature_probability": 0.05, "data_generation_type": "at_least_zero_active",
        },
        **(extra_config or {}),
    }  # fmt: skip
    path.mkdir(parents=True)
    if layout == "B":
        spec = {"run_path": fields["pretrained_model_path"]}
        config = layouts.run_meta(
            kind=importance, hidden=[*hidden], settings=settings, sigmoid=sigmoid, sampling="continuous",
            patterns=sites, identities=inserted, target={}, tokenizer="",
        )  # fmt: skip
        config |= {
            "target": spec,
            "data": {"feature_probability": 0.05, "data_generation_type": "at_least_zero_active"},
            **({"experiment_kind": task} if named else {}),
            **(extra_config or {}),
        }
    (path / ("run_meta.yaml" if layout == "B" else "final_config.yaml")).write_text(yaml.safe_dump(config))
    nested = task == "resid_mlp" if nested_train_config is None else nested_train_config
    training = {f"{task}_model_config": shape, "feature_probability": 0.05, "batch_size": 2048, "steps": 100}
    (path / f"{task}_train_config.yaml").write_text(yaml.safe_dump(training if nested else shape))
    torch.save(target.state_dict(), path / f"{task}.pth")
    if task == "resid_mlp":
        (path / "label_coeffs.json").write_text(json.dumps([1.0] * int(shape["n_features"])))
    torch.save({k: v + 1 for k, v in tensors.items()}, path / "model_900.pth")
    torch.save(tensors, path / "model_10000.pth")
    inputs = torch.rand(6, int(shape["n_features"]), generator=generator)
    return PublicToyRun(path, components, functions, importance, sigmoid, config, tensors, inputs)
