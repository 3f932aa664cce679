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
    """What is expected if nothing has to be asked twice; ``counted`` prompts were written."""

    requests: int
    labelling: Usage
    judging: Usage
    counted: int

    @property
    def usage(self) -> Usage:
        one, other = self.labelling, self.judging
        return Usage(one.prompt_tokens + other.prompt_tokens, one.completion_tokens + other.completion_tokens)

    def cost(self, prices: Prices | None, judge_prices: Prices | None) -> float | None:
        """None without prices; where only one has them, the other costs nothing."""
        if prices is None and judge_prices is None:
            return None
        return sum(
            price.cost(usage)
            for price, usage in ((prices, self.labelling), (judge_prices, self.judging))
            if price is not None
        )


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
    labelling, judging = _Sum(), _Sum()

    for stage in strategy.stages:
        open_keys = [key for key in sample if (stage, key) not in finished]
        n = sum((stage, key) not in finished for key in keys)
        requests += n
        for key in open_keys:
            labelling.add(strategy.prompt(stage, key, labels).messages, LABEL_OUTPUT, n / len(open_keys))
            counted += 1
    questions = max(0, trials * len(KINDS) * len(keys) - asked)
    if questions:
        requests += questions
        for key in sample:
            texts = material.windows(key, "random")[: 2 * EACH]
            marks = [window.fires(material.threshold) for window in texts]
            share = questions / len(KINDS) / len(sample)
            judging.add(prompts.detection(_LABEL, texts), CHOICE_OUTPUT, share)
            judging.add(prompts.fuzzing(_LABEL, texts, marks), CHOICE_OUTPUT, share)
            counted += len(KINDS)
    return Estimate(requests, labelling.usage, judging.usage, counted)


class _Sum:
    """Tokens added up, each prompt standing for a number of others."""

    def __init__(self) -> None:
        self._prompt = self._completion = 0.0

    def add(self, messages: Sequence[Message], output: int, share: float) -> None:
        usage = expected(messages, output)
        self._prompt += share * usage.prompt_tokens
        self._completion += share * usage.completion_tokens

    @property
    def usage(self) -> Usage:
        return Usage(round(self._prompt), round(self._completion))
