"""What is known of a run's model whether or not the run has it: enough to name and list its keys."""

from __future__ import annotations

from dataclasses import dataclass

from compute.address import EMBED, OUTPUT, POSITION, Address
from compute.targets.config import TargetConfig
from compute.toys.config import read_config
from storage.run_directory import AttributedModel, RunInfo


@dataclass(frozen=True)
class ModelShape:
    """``d_model`` is None where nobody knows it. ``n_positions`` is how many learned positions there are; 0: positions are no sources."""

    vocab_size: int
    n_blocks: int
    d_model: int | None
    n_positions: int = 0

    @property
    def pseudo_sizes(self) -> dict[Address, int]:
        sizes = {EMBED: self.vocab_size, OUTPUT: self.vocab_size, POSITION: self.n_positions}
        return {address: count for address, count in sizes.items() if count}


def read_target(info: RunInfo) -> tuple[TargetConfig | None, ModelShape]:
    """The configuration of a run's language model, None where it came without one, and what is known
    without. Raises a pydantic error, a ValueError, where run.json has none of its kind."""
    if info.kind == "model":
        config = TargetConfig.model_validate(info.target)
        positions = 0 if config.rotary else config.context
        return config, ModelShape(config.vocab_size, config.n_blocks, config.d_model, positions)
    n_blocks = 1 + max((site.parsed.block or 0 for site in info.sites), default=-1)
    if info.kind == "attributions":
        known = AttributedModel.model_validate(info.target)
        return None, ModelShape(known.vocab_size, n_blocks, known.d_model)
    read_config(info.target)
    return None, ModelShape(0, n_blocks, None)
