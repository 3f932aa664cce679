"""The configuration of a published decomposition, whatever its age: what of it decides how a run is read.

Lenient on purpose: what Tributary does not need is ignored, and every ignored setting is listed. Fields,
their defaults and how old spellings became new ones are facts of goodfire-ai/spd (spd/configs.py) and
goodfire-ai/param-decomp (param_decomp/configs.py, param_decomp_lab/experiments/lm/run.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from backend.importing.errors import ImportRefusedError
from compute.decomposition.importance_config import SigmoidKind

Layout = Literal["spd", "param_decomp"]

#: Larger than any configuration; a file that is not one should not be read for minutes.
_LARGEST_YAML = 8 << 20
#: Values that a configuration may have, those counted again that aliases repeat.
_MOST_VALUES = 200_000


class _Lenient(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class ModulePattern(_Lenient):
    """Modules to decompose, by a pattern over their paths, and how many components each gets."""

    module_pattern: str
    C: int = Field(ge=1)


class AttentionSettings(_Lenient):
    n_heads: int = Field(ge=1)
    max_len: int = Field(default=2048, ge=1)
    rope_base: float = Field(default=10_000.0, gt=0)


class TransformerSettings(_Lenient):
    d_model: int = Field(ge=1)
    n_blocks: int = Field(ge=1, le=1000)
    mlp_hidden_dim: tuple[int, ...] | None = None
    attn_config: AttentionSettings
    final_rms_norm: bool = False

    @field_validator("mlp_hidden_dim", mode="before")
    @classmethod
    def _one_or_many(cls, value: object) -> object:
        return [value] if isinstance(value, int) else value


class BlockGroup(_Lenient):
    name: str
    patterns: tuple[str, ...]


class ImportanceSettings(_Lenient):
    """``ci_config``, or what older fields say."""

    mode: str = "layerwise"
    #: Left out by modes that have only one, which Tributary does not know.
    fn_type: str = "unnamed"
    hidden_dims: tuple[int, ...] | None = None
    simple_transformer_ci_cfg: TransformerSettings | None = None
    block_groups: tuple[BlockGroup, ...] | None = None
    d_resid_ci_fn: int | None = None
    reader_hidden_dims: tuple[int, ...] | None = None
    transition_hidden_dim: int | None = None
    transition_attn_config: AttentionSettings | None = None
    extra_input_module_patterns: tuple[str, ...] | None = None


class Settings(_Lenient):
    """What decides how a checkpoint is read, in the newest spelling."""

    module_info: tuple[ModulePattern, ...]
    identity_module_info: tuple[ModulePattern, ...] = ()
    ci_config: ImportanceSettings
    sigmoid_type: SigmoidKind = "leaky_hard"
    sampling: Literal["continuous", "binomial"] = "continuous"
    use_delta_component: bool = True
    tied_weights: tuple[tuple[str, str], ...] = ()
    #: Dotted class of the target model; only its last part counts, nothing is imported.
    model_class: str
    model_path: str | None = None
    model_name: str | None = None
    tokenizer_name: str | None = None
    task_name: str = "lm"
    dataset_name: str | None = None

    @field_validator("identity_module_info", "tied_weights", mode="before")
    @classmethod
    def _none_is_nothing(cls, value: object) -> object:
        return () if value is None else value

    @property
    def class_name(self) -> str:
        return self.model_class.replace(":", ".").rpartition(".")[2]


@dataclass(frozen=True)
class ReadSettings:
    """A configuration as read: its meaning, what of it was not used, and the whole of it."""

    layout: Layout
    settings: Settings
    #: Dotted paths.
    ignored: tuple[str, ...]
    raw: Mapping[str, Any]


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML file that holds one mapping; raises :class:`ImportRefusedError`."""
    try:
        if path.stat().st_size > _LARGEST_YAML:
            raise ImportRefusedError(f"{path} is too large to be a configuration")
        content: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ImportRefusedError(f"{path} cannot be read ({error.strerror})") from error
    except (yaml.YAMLError, UnicodeDecodeError, ValueError, RecursionError) as error:
        first = str(error).partition("\n")[0]
        raise ImportRefusedError(
            f"{path} is not YAML that Tributary reads ({first})", "configurations may hold plain values only"
        ) from error
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in cast("Any", content)):
        raise ImportRefusedError(f"{path} does not hold settings by name")
    _refuse_endless(content, path)
    return cast("dict[str, Any]", content)


def _refuse_endless(content: Any, path: Path) -> None:
    """Aliases can make a short file of YAML as large as one likes, or contain itself."""
    waiting: list[Any] = [content]
    for _ in range(_MOST_VALUES):
        if not waiting:
            return
        value = waiting.pop()
        if isinstance(value, dict):
            waiting += cast("dict[Any, Any]", value).values()
        elif isinstance(value, list):
            waiting += cast("list[Any]", value)
    raise ImportRefusedError(f"{path} repeats its values so often that it is too large to be a configuration")


def layout_of(raw: Mapping[str, Any]) -> Layout | None:
    """Which layout a configuration is of, by what it says; None: it is of no decomposition."""
    pd = raw.get("pd")
    if isinstance(pd, dict) and isinstance(raw.get("target"), dict):
        return "param_decomp"
    decomposes = "module_info" in raw or "target_module_patterns" in raw
    return "spd" if decomposes and "pretrained_model_class" in raw else None


def read_settings(raw: Mapping[str, Any], where: Path) -> ReadSettings:
    """The meaning of a configuration; raises :class:`ImportRefusedError` naming the field that is wrong."""
    layout = layout_of(raw)
    if layout is None:
        raise ImportRefusedError(f"{where} is not the configuration of a decomposition")
    used: set[str] = set()
    reader = _Reader(raw, used)
    values = _values(reader, layout)
    try:
        settings = Settings.model_validate(
            {name: value for name, value in values.items() if value is not None}
        )
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise ImportRefusedError(
            f"{where}: {field}: {first['msg']}", "Tributary reads the settings of the public code"
        ) from error
    if reader.take("pd.dual_hidden_ci"):
        raise ImportRefusedError(
            f"{where}: every component has two importances in this run (pd.dual_hidden_ci), one for hidden "
            "activations and one for outputs; Tributary knows one",
            "import a run with a single importance function",
        )
    return ReadSettings(layout, settings, _unused(raw, used), raw)


class _Reader:
    """Takes values out of nested settings by dotted path, and remembers which."""

    def __init__(self, raw: Mapping[str, Any], used: set[str]) -> None:
        self._raw = raw
        self._used = used

    def take(self, *paths: str) -> Any:
        """The first of several spellings that is there and not null; all of them count as read."""
        found: Any = None
        for path in paths:
            value: Any = self._raw
            for part in path.split("."):
                value = cast("dict[str, Any]", value).get(part) if isinstance(value, dict) else None
            self._used.add(path)
            found = value if found is None else found
        return found


def _values(reader: _Reader, layout: Layout) -> dict[str, Any]:
    pd = "pd." if layout == "param_decomp" else ""
    take = reader.take
    values: dict[str, Any] = {
        "module_info": take(f"{pd}decomposition_targets", f"{pd}module_info"),
        "identity_module_info": take(f"{pd}identity_decomposition_targets", f"{pd}identity_module_info"),
        "sigmoid_type": take(f"{pd}sigmoid_type"),
        "sampling": take(f"{pd}sampling"),
        "use_delta_component": take(f"{pd}use_delta_component"),
        "tied_weights": take(f"{pd}tied_weights"),
        "ci_config": _importance(reader, pd),
        "model_class": take(
            *(("target.spec.model_class", "target.model_class") if pd else ()), "pretrained_model_class"
        ),
        "model_path": take(
            *(("target.spec.run_path", "target.run_path") if pd else ()), "pretrained_model_path"
        ),
        "model_name": take(
            *(("target.spec.model_name", "target.model_name") if pd else ()),
            "pretrained_model_name",
            "pretrained_model_name_hf",
        ),
        "tokenizer_name": take(*(("data.tokenizer_name",) if pd else ()), "tokenizer_name"),
        "dataset_name": take(*(("data.dataset_name",) if pd else ()), "task_config.dataset_name"),
        "task_name": _task(reader) if pd else take("task_config.task_name"),
    }
    if values["model_class"] is None and pd:
        values["model_class"] = _TOY_CLASSES.get(values["task_name"])
    # What the target's output is taken by says nothing that the target's class does not.
    take("target.output_extract", "output_extract", "pretrained_model_output_attr", "target.spec.kind")
    for new, old in (
        ("module_info", "target_module_patterns"),
        ("identity_module_info", "identity_module_patterns"),
    ):
        patterns = take(f"{pd}{old}")
        count = take(f"{pd}C")
        if values[new] is None and isinstance(patterns, list):
            values[new] = [_pattern(entry, count) for entry in cast("list[Any]", patterns)]
    return values


def _pattern(entry: Any, count: Any) -> Any:
    """Old spellings: a pattern with one count for all, or [pattern, count]."""
    if isinstance(entry, list) and len(cast("list[Any]", entry)) == 2:
        pattern, own = cast("list[Any]", entry)
        return {"module_pattern": pattern, "C": own}
    return {"module_pattern": entry, "C": count}


def _importance(reader: _Reader, pd: str) -> Any:
    """``ci_config``; before it, a type and hidden widths, which were called gates at first."""
    newest = reader.take(f"{pd}ci_config")
    kind = reader.take(f"{pd}ci_fn_type", f"{pd}gate_type")
    hidden = reader.take(f"{pd}ci_fn_hidden_dims", f"{pd}gate_hidden_dims")
    is_global = reader.take(f"{pd}use_global_ci")
    if newest is not None:
        return newest
    kind = "vector_mlp" if kind is None else kind
    if is_global and not str(kind).startswith("global_"):
        kind = "global_shared_mlp"
    return {
        "mode": "global" if str(kind).startswith("global_") else "layerwise",
        "fn_type": kind,
        "hidden_dims": [8] if hidden is None else hidden,
    }


#: The target's class where the configuration of a ``param_decomp`` run leaves it to the experiment.
_TOY_CLASSES = {"tms": "TMSModel", "resid_mlp": "ResidMLP"}


def _task(reader: _Reader) -> str:
    """The task of a ``param_decomp`` run: named, or of the class that would reload it, or by its data."""
    kind, reloader = reader.take("experiment_kind"), reader.take("reloader_class")
    for task in ("resid_mlp", "tms", "ih"):
        if kind == task or f".{task}." in str(reloader or ""):
            return task
    if kind is None and reloader is None and reader.take("data.feature_probability") is not None:
        return "resid_mlp" if "mlp_in" in str(reader.take("pd.decomposition_targets")) else "tms"
    return "lm"


def _unused(raw: Mapping[str, Any], used: set[str], prefix: str = "") -> tuple[str, ...]:
    """Dotted paths of what was not read; where only a part of a mapping was, its other parts."""
    found: list[str] = []
    for key, value in raw.items():
        path = f"{prefix}{key}"
        if path in used:
            found += _unknown_parts(path, value)
        elif isinstance(value, dict) and any(name.startswith(f"{path}.") for name in used):
            found += _unused(cast("dict[str, Any]", value), used, f"{path}.")
        else:
            found.append(path)
    return tuple(found)


#: Models of the settings that are read as a whole, by the last part of their path.
_NESTED: dict[str, type[BaseModel]] = {
    "ci_config": ImportanceSettings,
    "simple_transformer_ci_cfg": TransformerSettings,
    "attn_config": AttentionSettings,
    "transition_attn_config": AttentionSettings,
}


def _unknown_parts(path: str, value: Any) -> list[str]:
    model = _NESTED.get(path.rpartition(".")[2])
    if model is None or not isinstance(value, dict):
        return []
    found: list[str] = []
    for key, part in cast("dict[str, Any]", value).items():
        if key in model.model_fields:
            found += _unknown_parts(f"{path}.{key}", part)
        else:
            found.append(f"{path}.{key}")
    return found
