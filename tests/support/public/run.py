"""Write one run directory of the public code, and answer with the numbers of its own model."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, Literal

import torch
import yaml
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor, nn

from tests.support.public import layouts
from tests.support.public.attributions import PublicAttributions, attributions
from tests.support.public.components import ComponentModel, Masks, insert_identity
from tests.support.public.huggingface import CLASSES, huggingface_model, matrices
from tests.support.public.importance import (
    LOWER,
    PER_MODULE,
    GlobalMlp,
    GlobalTransformer,
    PerModule,
    ReverseResidual,
    SiteShape,
    randomise_importance,
)
from tests.support.public.targets import MODULES, PretrainConfig, pretrained_model, randomise

WORDS = [
    "the",
    "quick",
    "brown",
    "fox",
    "jumps",
    "over",
    "a",
    "lazy",
    "dog",
    "and",
    "then",
    "it",
    "rests",
    "in",
    "warm",
    "grass",
    "until",
    "evening",
    "comes",
    "while",
    "two",
    "old",
    "friends",
    "walk",
    "slowly",
    "along",
    "river",
    "bank",
    "talking",
    "about",
    "their",
    "long",
    "journey",
    "home",
    "from",
    "far",
    "away",
    "lands",
    "where",
    "winter",
    "never",
    "ends",
    "nor",
    "does",
    "any",
    "bird",
    "sing",
    "at",
    "dawn",
    "under",
    "grey",
    "skies",
    "of",
    "cold",
    "stone",
    "towers",
]


def write_tokenizer(path: Path, size: int) -> None:
    """A ``tokenizer.json`` of whole words; ``size`` of them."""
    words = ["[UNK]", "[EOS]", *dict.fromkeys(WORDS)][:size]
    words += [f"word{i}" for i in range(len(words), size)]
    model = models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]")
    tokenizer = Tokenizer(model)
    tokenizer.add_special_tokens(["[UNK]", "[EOS]"])
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(path))


@dataclass
class PublicRun:
    """A written run directory and the model that wrote it."""

    directory: Path
    #: Directory with the target's configuration and tokenizer (``--target``, ``--tokenizer``).
    target_directory: Path
    model: ComponentModel
    importance_functions: nn.Module
    kind: str
    sigmoid: str
    #: Paths of the token embedding and of the unembedding.
    embed: str
    unembed: str
    #: What was written: the configuration, and the tensors of the last checkpoint.
    config: dict[str, Any]
    tensors: dict[str, Tensor]
    #: A batch [3, 10] to compare on.
    tokens: Tensor

    @property
    def paths(self) -> list[str]:
        """Concrete paths of the decomposed modules, in the order of the configuration."""
        return [*self.model.counts]

    @torch.no_grad()
    def target_logits(self, tokens: Tensor | None = None) -> Tensor:
        return self.model.logits(self.tokens if tokens is None else tokens)

    @torch.no_grad()
    def masked_logits(
        self, masks: Masks, delta_masks: Masks | None = None, tokens: Tensor | None = None
    ) -> Tensor:
        """Logits with masks [B, T, C] and delta masks [B, T] by path; without those no deltas."""
        return self.model.masked(self.tokens if tokens is None else tokens, masks, delta_masks)

    @torch.no_grad()
    def activations(self, tokens: Tensor | None = None) -> dict[str, Tensor]:
        """Component activations x V of the target's own pass, [B, T, C] by path."""
        inputs = self.model.inputs(self.tokens if tokens is None else tokens)
        return {path: self.model.components[path].activations(x) for path, x in inputs.items()}

    @torch.no_grad()
    def importance(self, tokens: Tensor | None = None, *, squash: bool = True) -> dict[str, Tensor]:
        """Causal importance (the ``lower`` squashing, noise-free) [B, T, C] by path."""
        tokens = self.tokens if tokens is None else tokens
        raw = importances(self.model, self.importance_functions, self.kind, tokens)
        return {path: LOWER[self.sigmoid](z) if squash else z for path, z in raw.items()}

    def attributions(
        self, tokens: Tensor | None = None, *, ci_weighted: bool = True, deltas: bool = False
    ) -> PublicAttributions:
        """Raw sums over the batch by the published definition (masks 1; no deltas unless asked)."""
        tokens = self.tokens if tokens is None else tokens
        return attributions(
            self.model,
            tokens,
            self.importance(tokens),
            embed=self.embed,
            unembed=self.unembed,
            ci_weighted=ci_weighted,
            deltas=deltas,
        )


def importances(model: ComponentModel, functions: nn.Module, kind: str, tokens: Tensor) -> dict[str, Tensor]:
    """Causal importance before it is squashed, [..., C] by path."""
    inputs = model.inputs(tokens)
    activations = {path: model.components[path].activations(x) for path, x in inputs.items()}
    if kind in PER_MODULE:
        of = dict(functions.named_children())
        return {path: of[path.replace(".", "-")](x, activations[path]) for path, x in inputs.items()}
    embedded = {path for path in inputs if model.components[path].embedding}
    raw = functions({path: activations[path] if path in embedded else inputs[path] for path in inputs})
    return {path: raw[path] for path in inputs}


def matching(model: nn.Module, patterns: Mapping[str, int]) -> dict[str, int]:
    """Counts by module path, in the order of the patterns, then of the model."""
    found: dict[str, int] = {}
    for pattern, count in patterns.items():
        for path, _ in model.named_modules():
            if fnmatch(path, pattern):
                assert path not in found, f"{path} matches twice"
                found[path] = count
    return found


def _default_settings(kind: str, paths: Sequence[str]) -> dict[str, Any]:
    attention = {"n_heads": 2, "max_len": 24, "rope_base": 10_000.0}
    if kind == "global_shared_transformer":
        shape = {"d_model": 12, "n_blocks": 2, "mlp_hidden_dim": [10], "attn_config": attention}
        return {"simple_transformer_ci_cfg": shape}
    if kind != "global_reverse_residual":
        return {}
    blocks = dict.fromkeys(next(part for part in p.split(".") if part.isdigit()) for p in paths)
    groups = [{"name": f"layer.{i}", "patterns": [f"*.{i}.*"]} for i in sorted(blocks, key=int, reverse=True)]
    return {
        "block_groups": groups,
        "d_resid_ci_fn": 12,
        "reader_hidden_dims": [9],
        "transition_hidden_dim": 10,
        "transition_attn_config": attention,
    }


def importance_functions(
    model: ComponentModel, kind: str, hidden: Sequence[int], settings: Mapping[str, Any]
) -> nn.Module:
    shapes: dict[str, SiteShape] = {}
    for path, parts in model.components.items():
        d_in, count = parts.V.shape
        shapes[path] = SiteShape(count if parts.embedding else d_in, count)
    if kind in PER_MODULE:
        per_module = {
            p.replace(".", "-"): PerModule(kind, s.d_in, s.count, hidden) for p, s in shapes.items()
        }
        return nn.ModuleDict(per_module)
    if kind == "global_shared_mlp":
        return GlobalMlp(shapes, hidden)
    if kind == "global_shared_transformer":
        c = settings["simple_transformer_ci_cfg"]
        widths = c["mlp_hidden_dim"] or [4 * c["d_model"]]
        attention = c["attn_config"]
        return GlobalTransformer(
            shapes, c["d_model"], c["n_blocks"], attention["n_heads"], widths, attention["rope_base"]
        )
    assert kind == "global_reverse_residual"
    groups = {
        g["name"]: [p for pattern in g["patterns"] for p in shapes if fnmatch(p, pattern)]
        for g in settings["block_groups"]
    }
    attention = settings["transition_attn_config"]
    return ReverseResidual(
        groups,
        shapes,
        settings["d_resid_ci_fn"],
        settings["reader_hidden_dims"],
        settings["transition_hidden_dim"],
        attention and attention["n_heads"],
        attention["rope_base"] if attention else 1.0,
    )


def _write_target(directory: Path, target: nn.Module, config: PretrainConfig | None, words: int) -> str:
    """The target's own directory; what ``pretrained_model_path`` would be."""
    directory.mkdir(parents=True)
    write_tokenizer(directory / "tokenizer.json", words)
    if config is None:
        target.save_pretrained(directory)  # type: ignore[operator]
        return str(directory)
    (directory / "final_config.yaml").write_text(yaml.safe_dump({"train_dataset_config": {}, "seed": 0}))
    (directory / "model_config.yaml").write_text(yaml.safe_dump(config.fields))
    checkpoint = directory / "checkpoints" / "model_step_500.pt"
    checkpoint.parent.mkdir()
    torch.save(target.state_dict(), checkpoint)
    return str(checkpoint)


def write_public_run(
    path: Path,
    *,
    family: str = "LlamaSimpleMLP",
    layout: layouts.Layout = "A-newest",
    importance: str = "shared_mlp",
    sigmoid: str = "leaky_hard",
    sampling: str = "continuous",
    sites: Mapping[str, int] | Sequence[str] | None = None,
    identities: Mapping[str, int] | None = None,
    hidden: Sequence[int] = (7,),
    settings: Mapping[str, Any] | None = None,
    model: Mapping[str, Any] | None = None,
    words: int = 60,
    target_from: Literal["path", "name"] = "path",
    stored_as: torch.dtype = torch.float32,
    extra_config: Mapping[str, Any] | None = None,
    seed: int = 0,
) -> PublicRun:
    """Write a run directory at ``path`` as the public code of one era would, and its target beside it.

    ``sites`` are fnmatch patterns of module paths with their numbers of components (default: every
    matrix within blocks); ``model`` overrides fields of the target's configuration; ``hidden`` and
    ``settings`` shape the importance functions; ``target_from`` tells whether the configuration
    refers to the target by a local path or by a name on a server; ``stored_as`` is the type of the
    target's tensors in the checkpoint; ``extra_config`` is added to the configuration's top level.
    """
    huggingface = family in CLASSES
    vocab = int((model or {}).get("vocab_size", 62))
    config = None if huggingface else PretrainConfig(**{"model_type": family, **(model or {})})
    if config is None:
        overrides = {k: v for k, v in (model or {}).items() if k != "vocab_size"}
        target: nn.Module = huggingface_model(family, vocab, seed, **overrides)
    else:
        target = pretrained_model(config)
        randomise(target, seed)
    target.requires_grad_(requires_grad=False)
    with torch.no_grad():
        for parameter in target.parameters():
            parameter.copy_(parameter.to(stored_as))
    reference = _write_target(path.parent / f"{path.name}-target", target, config, words)

    if sites is None:
        sites = matrices(target)
    if not isinstance(sites, Mapping):
        sites = {pattern: 6 if layout == "A-old" else 5 + i % 4 for i, pattern in enumerate(sites)}
    inserted = dict(identities or {})
    for matrix in matching(target, inserted):
        insert_identity(target, matrix)
    counts = matching(target, {**sites, **{f"{p}.pre_identity": n for p, n in inserted.items()}})
    components = ComponentModel(target, counts)
    generator = torch.Generator().manual_seed(seed + 1)
    components.randomise(generator)
    settings = {**_default_settings(importance, [*counts]), **(settings or {})}
    functions = importance_functions(components, importance, hidden, settings)
    randomise_importance(functions, seed + 2)
    functions.requires_grad_(requires_grad=False)

    prefix = "_ci_fns" if importance in PER_MODULE else "_global_ci_fn"
    tensors = layouts.state_dict(
        layout,
        {name: value.to(stored_as) for name, value in target.state_dict().items()},
        {p: dict(parts.state_dict()) for p, parts in components.components.items()},
        {f"{prefix}.{name}": value for name, value in functions.state_dict().items()},
    )
    written = _write_run(
        path, layout, family, reference, target_from, tensors, dict(extra_config or {}),
        kind=importance, hidden=[*hidden], settings=settings, sigmoid=sigmoid, sampling=sampling,
        patterns=sites, identities=inserted,
    )  # fmt: skip
    names = ("transformer.wte", "model.embed_tokens", "wte")
    modules = dict(target.named_modules())
    tokens = torch.randint(min(vocab, words), (3, 10), generator=generator)
    return PublicRun(
        directory=path,
        target_directory=path.parent / f"{path.name}-target",
        model=components,
        importance_functions=functions,
        kind=importance,
        sigmoid=sigmoid,
        embed=next(name for name in names if name in modules),
        unembed="lm_head",
        config=written,
        tensors=tensors,
        tokens=tokens,
    )


def _write_run(
    path: Path, layout: layouts.Layout, family: str, reference: str, target_from: str,
    tensors: dict[str, Tensor], extra: dict[str, Any], **about: Any,
) -> dict[str, Any]:  # fmt: skip
    """The run directory itself: configuration and checkpoints; the configuration as written."""
    path.mkdir(parents=True)
    name = "wandb:someone/spd/runs/t-12345678" if target_from == "name" else None
    huggingface = family in CLASSES
    if layout in ("B", "B-early"):
        if huggingface:
            spec = {"kind": "hf", "model_class": f"transformers.{family}", "model_name": reference}
        else:
            where = f"param_decomp_lab.experiments.lm.pretrain.models.{MODULES[family]}.{family}"
            spec = {"kind": "pretrained", "model_class": where, "run_path": name or reference}
        config = layouts.run_meta(target=spec, tokenizer="SimpleStories/none", **about) | extra
        (path / ("run_meta.yaml" if layout == "B" else "experiment_config.yaml")).write_text(
            yaml.safe_dump(config)
        )
    else:
        where = f"transformers.{family}" if huggingface else f"spd.pretrain.models.{MODULES[family]}.{family}"
        if layout == "A-old" and not huggingface:
            where = f"simple_stories_train.models.{MODULES[family]}.{family}"
        output = (
            {"output_extract": "logits" if huggingface else 0}
            if layout == "A-newest"
            else {"pretrained_model_output_attr": "logits" if huggingface else "idx_0"}
        )
        if huggingface:
            source = {"pretrained_model_name": reference, "pretrained_model_path": None}
        else:
            source = {"pretrained_model_name": name, "pretrained_model_path": None if name else reference}
        fields = {"pretrained_model_class": where, **source, **output}
        config = layouts.final_config(layout, target=fields, tokenizer="SimpleStories/none", **about) | extra
        (path / "final_config.yaml").write_text(yaml.safe_dump(config))
    if layout == "C":
        (path / "final_config.yaml").rename(path / "launch_config.yaml")
        for part in ("decomposition", "training"):
            (path / "ckpts" / "1000" / part).mkdir(parents=True)
        (path / "metrics.jsonl").write_text(json.dumps({"step": 0, "loss": 1.0}) + "\n")
        return config
    # An earlier checkpoint, whose name comes later in the order of strings.
    torch.save({k: v + 1 if v.is_floating_point() else v for k, v in tensors.items()}, path / "model_900.pth")
    torch.save(tensors, path / "model_10000.pth")
    return config
