"""Published causal-importance functions as ours: configuration, and where each tensor comes from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import pairwise
from typing import TypeVar, cast

import torch
from torch import Tensor

from backend.importing.errors import ImportRefusedError
from backend.importing.settings import AttentionSettings, Settings
from backend.importing.sites import DecomposedModule
from compute.decomposition.importance_config import (
    SITE_KINDS,
    AttentionImportance,
    ImportanceConfig,
    ReverseResidualGroup,
    ReverseResidualImportance,
    SiteKind,
    TransformerImportance,
)

_GLOBAL = "importance.global."
Value = TypeVar("Value")


@dataclass(frozen=True)
class Part:
    """One of our tensors, and the source's tensor that it is: key and shape there."""

    ours: str
    key: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Frequencies:
    """Rotary frequencies of a head, which checkpoints hold although they follow from the configuration."""

    d_head: int
    base: float

    @property
    def shape(self) -> tuple[int, ...]:
        return ((self.d_head + 1) // 2,)

    def values(self) -> Tensor:
        return self.base ** (-torch.arange(0, self.d_head, 2, dtype=torch.float32) / self.d_head)


@dataclass(frozen=True)
class ImportanceSource:
    """An importance function: ours, its tensors' origins, and what else belongs to it."""

    config: ImportanceConfig
    parts: tuple[Part, ...]
    #: Whether the parts are of one function for all modules (``ci_fn._global_ci_fn``).
    is_global: bool
    #: Our vectors that the source does not have: how long, and of which value throughout.
    constants: dict[str, tuple[int, float]]
    #: Source tensors that follow from the configuration.
    derived: dict[str, Frequencies]


@dataclass(frozen=True)
class _Site:
    path: str
    address: str
    d_in: int
    n_components: int


def importance_source(
    settings: Settings, modules: Sequence[DecomposedModule], widths: dict[str, int]
) -> ImportanceSource:
    """The importance function of the modules that keep their components.

    ``widths`` are the modules' input widths by address. Raises :class:`ImportRefusedError` for kinds
    that Tributary does not know.
    """
    sites = [
        _Site(module.path, str(module.address), widths[str(module.address)], module.n_components)
        for module in modules
        if module.address is not None
    ]
    ci = settings.ci_config
    builders: dict[str, Callable[[Settings, list[_Site]], ImportanceSource]] = {
        "global_shared_mlp": _shared_mlp,
        "global_shared_transformer": _transformer,
        "global_reverse_residual": _reverse_residual,
    }
    if ci.extra_input_module_patterns:
        raise ImportRefusedError(
            "the run's importance function also takes the inputs of modules that are not decomposed "
            f"({', '.join(ci.extra_input_module_patterns[:5])})",
            "Tributary evaluates importance functions of decomposed modules' inputs only",
        )
    try:
        if ci.fn_type in SITE_KINDS:
            return _per_site(settings, sites)
        if ci.fn_type in builders:
            return builders[ci.fn_type](settings, sites)
    except ValueError as error:
        raise ImportRefusedError(
            f"the settings of the importance function do not fit together: {error}"
        ) from error
    raise ImportRefusedError(
        f"Tributary does not know the importance function {ci.fn_type!r} (mode {ci.mode!r})",
        f"it knows {', '.join((*SITE_KINDS, *builders))}",
    )


def _needed(value: Value | None, name: str, kind: str) -> Value:
    if value is None:
        raise ImportRefusedError(f"the configuration of {kind} lacks {name}", "restore final_config.yaml")
    return value


def _layers(ours: str, key: str, widths: Sequence[int], lead: tuple[int, ...] = ()) -> list[Part]:
    """An MLP's matrices and biases; the source counts its activations as layers too."""
    parts: list[Part] = []
    for layer, (i, o) in enumerate(pairwise(widths)):
        parts += [
            Part(f"{ours}weights.{layer}", f"{key}{2 * layer}.W", (*lead, i, o)),
            Part(f"{ours}biases.{layer}", f"{key}{2 * layer}.b", (*lead, o)),
        ]
    return parts


def _per_site(settings: Settings, sites: list[_Site]) -> ImportanceSource:
    ci = settings.ci_config
    hidden = _needed(ci.hidden_dims, "hidden_dims", ci.fn_type)
    parts: list[Part] = []
    constants: dict[str, tuple[int, float]] = {}
    for site in sites:
        shared = ci.fn_type == "shared_mlp"
        width = 1 if ci.fn_type == "mlp" else site.d_in
        ours, key = f"importance.{site.address}.", f"{site.path.replace('.', '-')}.layers."
        if shared:
            parts += _layers(ours, key, [width, *hidden, site.n_components])
        else:
            parts += _layers(ours, key, [width, *hidden, 1], (site.n_components,))
        seen = site.n_components if ci.fn_type == "mlp" else site.d_in
        constants[f"{ours}mean"] = (seen, 0.0)
        constants[f"{ours}scale"] = (seen, 1.0)
    config = ImportanceConfig(kind=cast("SiteKind", ci.fn_type), hidden=hidden, sigmoid=settings.sigmoid_type)
    return ImportanceSource(config, tuple(parts), False, constants, {})


def _sorted(sites: list[_Site]) -> list[_Site]:
    """Global functions take modules in the order of their names as strings, so 10 comes before 2."""
    return sorted(sites, key=lambda site: site.path)


def _shared_mlp(settings: Settings, sites: list[_Site]) -> ImportanceSource:
    ordered = _sorted(sites)
    hidden = _needed(settings.ci_config.hidden_dims, "hidden_dims", "global_shared_mlp")
    widths = [sum(s.d_in for s in ordered), *hidden, sum(s.n_components for s in ordered)]
    config = ImportanceConfig(
        kind="global_shared_mlp",
        hidden=hidden,
        sigmoid=settings.sigmoid_type,
        order=tuple(site.address for site in ordered),
    )
    return ImportanceSource(config, tuple(_layers(_GLOBAL, "layers.", widths)), True, {}, {})


def _transformer(settings: Settings, sites: list[_Site]) -> ImportanceSource:
    ordered = _sorted(sites)
    sizes = _needed(
        settings.ci_config.simple_transformer_ci_cfg, "simple_transformer_ci_cfg", "global_shared_transformer"
    )
    d, attention = sizes.d_model, sizes.attn_config
    hidden = (4 * d,) if sizes.mlp_hidden_dim is None else sizes.mlp_hidden_dim
    config = ImportanceConfig(
        kind="global_shared_transformer",
        sigmoid=settings.sigmoid_type,
        order=tuple(site.address for site in ordered),
        transformer=TransformerImportance(
            d_model=d,
            n_blocks=sizes.n_blocks,
            n_heads=attention.n_heads,
            mlp_hidden=hidden,
            max_length=attention.max_len,
            rope_base=attention.rope_base,
            final_norm=sizes.final_rms_norm,
        ),
    )
    d_in, total = sum(s.d_in for s in ordered), sum(s.n_components for s in ordered)
    parts = _linear(f"{_GLOBAL}input", "_input_projector", d_in, d)
    parts += _linear(f"{_GLOBAL}output", "_output_head", d, total)
    derived: dict[str, Frequencies] = {}
    for block in range(sizes.n_blocks):
        ours, key = f"{_GLOBAL}blocks.{block}.", f"_blocks.{block}."
        parts += _attention(f"{ours}attn.", f"{key}attn.", d)
        parts += _layers(f"{ours}mlp.", f"{key}mlp.", [d, *hidden, d])
        derived[f"{key}attn.rope.inv_freq"] = _frequencies(d, attention)
    return ImportanceSource(config, tuple(parts), True, {}, derived)


def _linear(ours: str, key: str, d_in: int, d_out: int) -> list[Part]:
    return [Part(f"{ours}.weight", f"{key}.W", (d_in, d_out)), Part(f"{ours}.bias", f"{key}.b", (d_out,))]


def _attention(ours: str, key: str, d: int) -> list[Part]:
    names = (("q", "q_proj"), ("k", "k_proj"), ("v", "v_proj"), ("o", "out_proj"))
    return [Part(f"{ours}{our}", f"{key}{their}.weight", (d, d)) for our, their in names]


def _frequencies(d_model: int, attention: AttentionSettings) -> Frequencies:
    return Frequencies(d_model // attention.n_heads, attention.rope_base)


def _reverse_residual(settings: Settings, sites: list[_Site]) -> ImportanceSource:
    ci, kind = settings.ci_config, "global_reverse_residual"
    d = _needed(ci.d_resid_ci_fn, "d_resid_ci_fn", kind)
    reader_hidden = _needed(ci.reader_hidden_dims, "reader_hidden_dims", kind)
    transition_hidden = () if ci.transition_hidden_dim is None else (ci.transition_hidden_dim,)
    attention = ci.transition_attn_config
    groups = _groups(settings, sites)
    parts: list[Part] = []
    derived: dict[str, Frequencies] = {}
    for number, (name, members) in enumerate(groups):
        ours, key = f"{_GLOBAL}groups.{number}.", name.replace(".", "-")
        d_in, total = sum(s.d_in for s in members), sum(s.n_components for s in members)
        parts += _linear(f"{ours}input", f"_inp_projectors.{key}", d_in, d)
        parts.append(Part(f"{ours}reader_norm", f"_reader_norms.{key}.weight", (d,)))
        parts += _layers(f"{ours}reader.", f"_readers.{key}.", [d, *reader_hidden, total])
        if number == len(groups) - 1:
            continue
        parts.append(Part(f"{ours}transition_norm", f"_transition_norms.{key}.weight", (d,)))
        if transition_hidden:
            parts += _layers(f"{ours}transition.", f"_transitions.{key}.", [d, *transition_hidden, d])
        else:
            weight, bias = f"{ours}transition.weights.0", f"{ours}transition.biases.0"
            parts += [
                Part(weight, f"_transitions.{key}.W", (d, d)),
                Part(bias, f"_transitions.{key}.b", (d,)),
            ]
        if attention is not None:
            parts.append(Part(f"{ours}attn_norm", f"_attn_norms.{key}.weight", (d,)))
            parts += _attention(f"{ours}attn.", f"_attn_transitions.{key}.", d)
            derived[f"_attn_transitions.{key}.rope.inv_freq"] = _frequencies(d, attention)
    config = ImportanceConfig(
        kind=kind,
        sigmoid=settings.sigmoid_type,
        order=tuple(site.address for _, members in groups for site in members),
        reverse_residual=ReverseResidualImportance(
            groups=tuple(
                ReverseResidualGroup(name=name, sites=tuple(site.address for site in members))
                for name, members in groups
            ),
            d_residual=d,
            reader_hidden=reader_hidden,
            transition_hidden=transition_hidden,
            attention=None
            if attention is None
            else AttentionImportance(
                n_heads=attention.n_heads, max_length=attention.max_len, rope_base=attention.rope_base
            ),
        ),
    )
    return ImportanceSource(config, tuple(parts), True, {}, derived)


def _groups(settings: Settings, sites: list[_Site]) -> list[tuple[str, list[_Site]]]:
    """Sites by group, in the order of the groups' patterns; each site belongs to exactly one."""
    groups: list[tuple[str, list[_Site]]] = []
    taken: dict[str, str] = {}
    for group in _needed(settings.ci_config.block_groups, "block_groups", "global_reverse_residual"):
        members: list[_Site] = []
        for pattern in group.patterns:
            for site in (site for site in sites if fnmatchcase(site.path, pattern)):
                if site.path in taken:
                    raise ImportRefusedError(
                        f"{site.path} belongs to two groups of the importance function, {taken[site.path]} and "
                        f"{group.name}",
                        "the public code refuses this too",
                    )
                taken[site.path] = group.name
                members.append(site)
        groups.append((group.name, members))
    missing = [site.path for site in sites if site.path not in taken]
    empty = [name for name, members in groups if not members]
    if missing or empty:
        what = (
            f"no group has {', '.join(missing[:5])}" if missing else f"no module is in {', '.join(empty[:5])}"
        )
        raise ImportRefusedError(
            f"the groups of the importance function do not fit the run: {what}",
            "check block_groups in the configuration",
        )
    return groups
