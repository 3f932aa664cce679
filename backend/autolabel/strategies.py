"""Ways of labelling. A strategy says in which order what is asked; asking is the runner's business.

``evidence`` asks once for each component, from its texts and tokens. ``context`` walks the graph of
attributions: from the end to the beginning, what each component does by the labels of what it drives;
from the beginning to the end, when it fires by the labels of what drives it; then one label from both.
Work is cut into layers, so that whatever a prompt quotes is known before it is written.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from backend.autolabel import prompts
from backend.autolabel.facts import Facts, Neighbour
from backend.autolabel.provider import Message
from compute.address import Address, parse_key

StrategyName = Literal["evidence", "context"]
#: Labels that are known so far: stage → key → label.
Labels = Mapping[str, Mapping[str, str]]


@dataclass(frozen=True)
class Layer:
    """Questions that do not need each other's answers."""

    stage: str
    keys: tuple[str, ...]


@dataclass(frozen=True)
class Prompt:
    """What is asked, and what was shown: enough to see later on what a label rests."""

    messages: list[Message]
    material: dict[str, Any]


class Material(Protocol):
    """Where the strategies have their facts from."""

    def facts(self, key: str) -> Facts: ...

    def neighbours(
        self, key: str, direction: Literal["sources", "targets"], labels: Mapping[str, str]
    ) -> list[Neighbour]:
        """The strongest of both signs; ``labels`` by key, for those that have one."""
        ...


class Strategy(Protocol):
    name: StrategyName
    #: In order; the last one's labels are the components'.
    stages: tuple[str, ...]

    def layers(self, keys: Sequence[str]) -> list[Layer]: ...

    def prompt(self, stage: str, key: str, labels: Labels) -> Prompt: ...


class Evidence:
    name: StrategyName = "evidence"
    stages: tuple[str, ...] = ("evidence",)

    def __init__(self, material: Material) -> None:
        self._material = material

    def layers(self, keys: Sequence[str]) -> list[Layer]:
        return [Layer("evidence", tuple(keys))]

    def prompt(self, stage: str, key: str, labels: Labels) -> Prompt:
        facts = self._material.facts(key)
        return Prompt(prompts.evidence(facts), {"examples": _spans(facts)})


class Context:
    name: StrategyName = "context"
    stages: tuple[str, ...] = ("output", "input", "unify")

    def __init__(self, material: Material) -> None:
        self._material = material

    def layers(self, keys: Sequence[str]) -> list[Layer]:
        depths: dict[tuple[int, int], list[str]] = {}
        for key in keys:
            depths.setdefault(depth(parse_key(key).address), []).append(key)
        forward = [tuple(depths[place]) for place in sorted(depths)]
        return [
            *(Layer("output", layer) for layer in reversed(forward)),
            *(Layer("input", layer) for layer in forward),
            Layer("unify", tuple(keys)),
        ]

    def prompt(self, stage: str, key: str, labels: Labels) -> Prompt:
        facts = self._material.facts(key)
        if stage == "unify":
            made = prompts.unify(facts, labels["output"].get(key, ""), labels["input"].get(key, ""))
            return Prompt(made, {"examples": _spans(facts)})
        direction = "targets" if stage == "output" else "sources"
        shown = self._material.neighbours(key, direction, labels[stage])
        write = prompts.output_pass if stage == "output" else prompts.input_pass
        material = {
            "neighbours": [
                {"key": n.key, "value": n.value, "text": n.text, "labelled": n.labelled} for n in shown
            ]
        }
        return Prompt(write(facts, shown), material)


def depth(address: Address) -> tuple[int, int]:
    """Components of equal depth never drive each other; those of a smaller one come first."""
    assert address.block is not None
    attention = address.kind.startswith("attn")
    return address.block, (0 if attention else 2) + address.writes_residual


def _spans(facts: Facts) -> list[list[int]]:
    """Where in the corpus the shown texts are: scoring must not ask about them again."""
    return [[window.start, window.end] for window in facts.examples]
