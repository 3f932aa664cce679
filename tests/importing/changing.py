"""Change a published run on disk: its configuration, its checkpoint, its target's configuration."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

#: The last checkpoint that the generator writes.
CHECKPOINT = "model_10000.pth"


class Changeable:
    """A copy of a run and of its target; ``runs`` is where imports of it go."""

    def __init__(self, source: Path, folder: Path) -> None:
        self.path = folder / "published"
        self.target = folder / "target"
        self.runs = folder / "runs"
        shutil.copytree(source, self.path)
        shutil.copytree(source.parent / f"{source.name}-target", self.target)
        (self.target / "tokenizer.json").rename(folder / "tokenizer.json")
        self.tokenizer = folder / "tokenizer.json"

    @property
    def config(self) -> Path:
        names = ("final_config.yaml", "run_meta.yaml", "experiment_config.yaml")
        return next(self.path / name for name in names if (self.path / name).exists())

    def edit(self, change: Callable[[dict[str, Any]], Any]) -> None:
        """Change the settings in place."""
        _edit(self.config, change)

    def edit_target(self, change: Callable[[dict[str, Any]], Any]) -> None:
        _edit(self.target / "model_config.yaml", change)

    def edit_checkpoint(self, change: Callable[[dict[str, Tensor]], Any]) -> None:
        """Change the state dict in place."""
        tensors: dict[str, Tensor] = torch.load(self.path / CHECKPOINT, weights_only=True)
        change(tensors)
        torch.save(tensors, self.path / CHECKPOINT)

    def leftovers(self) -> list[str]:
        """What an import that was refused left behind."""
        return sorted(str(file.relative_to(self.runs)) for file in self.runs.rglob("*"))


def _edit(file: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    settings = yaml.safe_load(file.read_text())
    change(settings)
    file.write_text(yaml.safe_dump(settings))
