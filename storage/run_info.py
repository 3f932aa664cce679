"""The content of ``run.json``: what a run is (docs/file-format.md)."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from compute.address import Address, parse_address
from compute.decomposition.importance_config import ImportanceConfig

FORMAT = "tributary-run"
VERSION = 1


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class RunSite(_Model):
    """One decomposed weight matrix; V is [d_in, C], U is [C, d_out]. Widths are None where the run
    came without its model."""

    address: str
    module_path: str
    d_in: int | None = Field(ge=1)
    d_out: int | None = Field(ge=1)
    n_components: int = Field(ge=1)
    #: The module's path in the program that the run was imported from, e.g. ``h.0.attn.q_proj``.
    source_path: str | None = None

    @property
    def parsed(self) -> Address:
        return parse_address(self.address)


class RunNote(_Model):
    """A sentence that everyone who reads the run's numbers should know, shown on its page.

    ``topic``: ``left_whole`` (matrices without components), ``later_tokens`` (importances that depend
    on later tokens), ``sampling`` (trained with other masks than it is evaluated with),
    ``ignored_settings`` (of the configuration it was imported with), ``converted`` (changed on import).
    """

    topic: Literal["left_whole", "later_tokens", "sampling", "ignored_settings", "converted"]
    text: str


#: ``model``: a decomposed language model. ``attributions``: published attributions without their
#: model. ``toy``: a decomposed model of features instead of tokens.
RunKind = Literal["model", "attributions", "toy"]


class AttributedModel(_Model):
    """``target`` of a run of kind ``attributions``: what its file says of the model."""

    vocab_size: int = Field(ge=1)
    d_model: int | None = Field(ge=1)


class RunInfo(_Model):
    """The content of ``run.json``. ``target`` is a ``compute.targets.config.TargetConfig`` as a dict
    (for ``kind`` other than ``model``: :class:`AttributedModel`, or what the modules of toys say)."""

    format: Literal["tributary-run"] = FORMAT
    version: Literal[1] = VERSION
    kind: RunKind = "model"
    name: str
    title: str
    description: str
    licence: str
    created: str
    provenance: dict[str, str]
    target: dict[str, Any]
    #: None where the run came without its model.
    importance: ImportanceConfig | None
    sites: tuple[RunSite, ...]
    notes: tuple[RunNote, ...] = ()
    #: None where the run came without.
    tokenizer: Literal["tokenizer.json"] | None = "tokenizer.json"
    #: SHA-256 of the files named; filled in by :func:`write_run`.
    files: dict[str, str] = Field(default_factory=dict)

    @property
    def n_components(self) -> int:
        return sum(site.n_components for site in self.sites)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.kind == "model":
            if self.importance is None:
                raise ValueError("importance is missing")
            if any(site.d_in is None or site.d_out is None for site in self.sites):
                raise ValueError("the width of a site is missing")
        return self
