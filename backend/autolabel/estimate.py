"""What a label set will cost, from the prompts that would be sent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from backend.autolabel import prompts
from backend.autolabel.budget import Prices, expected
from backend.autolabel.material import RunMaterial
from backend.autolabel.provider import Message, Usage
from backend.autolabel.runner import CHOICE_OUTPUT, KINDS, LABEL_OUTPUT
from backend.autolabel.scoring import EACH
from backend.autolabel.strategies import Strategy

#: Prompts that are written to count them; of more components evenly spread ones stand for all.
COUNTED = 300
#: Stands for labels that are not there yet.
_LABEL = "names of places after a preposition at the start of a sentence"


@dataclass(frozen=True)
class Estimate:
    """``usage`` is what is expected if nothing has to be asked twice; ``counted`` prompts were written."""

    requests: int
    usage: Usage
    counted: int

    def cost(self, prices: Prices | None) -> float | None:
        return None if prices is None else prices.cost(self.usage)


def estimate(
    strategy: Strategy,
    material: RunMaterial,
    keys: Sequence[str],
    trials: int,
    done: Sequence[tuple[str, str]] = (),
    asked: int = 0,
) -> Estimate:
    """Of what is not done; ``done`` are (stage, key), and ``asked`` questions of scoring are answered."""
    step = max(1, -(-len(keys) // COUNTED))
    sample = keys[::step]
    labels = {stage: dict.fromkeys(keys, _LABEL) for stage in strategy.stages}
    finished = set(done)
    requests = counted = 0
    prompt_tokens = completion_tokens = 0.0

    def add(messages: Sequence[Message], output: int, share: float) -> None:
        nonlocal prompt_tokens, completion_tokens, counted
        usage = expected(messages, output)
        prompt_tokens += share * usage.prompt_tokens
        completion_tokens += share * usage.completion_tokens
        counted += 1

    for stage in strategy.stages:
        open_keys = [key for key in sample if (stage, key) not in finished]
        n = sum((stage, key) not in finished for key in keys)
        requests += n
        for key in open_keys:
            add(strategy.prompt(stage, key, labels).messages, LABEL_OUTPUT, n / len(open_keys))
    questions = max(0, trials * len(KINDS) * len(keys) - asked)
    if questions:
        requests += questions
        for key in sample:
            texts = material.windows(key, "random")[: 2 * EACH]
            marks = [window.fires(material.threshold) for window in texts]
            share = questions / len(KINDS) / len(sample)
            add(prompts.detection(_LABEL, texts), CHOICE_OUTPUT, share)
            add(prompts.fuzzing(_LABEL, texts, marks), CHOICE_OUTPUT, share)
    return Estimate(requests, Usage(round(prompt_tokens), round(completion_tokens)), counted)
