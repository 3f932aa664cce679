"""Doing the work of a label set: layer by layer, many questions at once, one failure at a time.

What is done is in the database the moment it is done, so that the same work called again goes on where
it stopped, however it stopped, and asks again only what failed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass

from backend.autolabel.answers import ChoiceAnswer, LabelAnswer
from backend.autolabel.caller import Caller, QuestionFailedError, WorkStoppedError
from backend.autolabel.scoring import ImpossibleError, Question, Windows, question
from backend.autolabel.strategies import Labels, Layer, Prompt, Strategy
from storage.errors import DatabaseError, StorageError
from storage.label_records import Item, Trial, TrialKind
from storage.label_sets import LabelSets

#: Tokens that an answer is expected to have.
LABEL_OUTPUT, CHOICE_OUTPUT = 150, 30
KINDS: tuple[TrialKind, ...] = ("detection", "fuzzing")


@dataclass(frozen=True)
class Tally:
    """How far the work is."""

    phase: str
    done: int
    total: int
    failed: int


class Runner:
    """Works on one set. ``give_up`` questions failing in a row end it: the endpoint does not work."""

    def __init__(
        self,
        caller: Caller,
        judge: Caller,
        sets: LabelSets,
        set_id: int,
        *,
        concurrency: int = 8,
        give_up: int = 20,
        report: Callable[[Tally], None] = lambda tally: None,
    ) -> None:
        self._caller = caller
        self._judge = judge
        self._sets = sets
        self._set_id = set_id
        self._concurrency = concurrency
        self._give_up = give_up
        self._report = report
        self._in_a_row = 0
        # Facts are read from mapped files by one thread at a time.
        self._reading = asyncio.Lock()

    # ---- labels ---------------------------------------------------------------------------------

    async def label(self, strategy: Strategy, keys: Sequence[str]) -> None:
        """Ask what is not known yet, stage by stage."""
        for stage in strategy.stages:
            await asyncio.to_thread(self._sets.add_items, self._set_id, stage, keys)
        labels: dict[str, dict[str, str]] = {stage: {} for stage in strategy.stages}
        for item in await asyncio.to_thread(self._sets.items, self._set_id):
            if item.status == "done":
                labels[item.stage][item.key] = item.label
        wanted = set(keys)
        done = sum(len(wanted & known.keys()) for known in labels.values())
        progress = _Progress("labels", done, len(strategy.stages) * len(keys), self._report)
        for layer in strategy.layers(keys):
            waiting = [key for key in layer.keys if key not in labels[layer.stage]]

            async def one(key: str, layer: Layer = layer) -> bool:
                return await self._label(strategy, layer.stage, key, labels)

            await self._all(self._caller, waiting, one, progress)
            if self._caller.stopped:
                return

    async def _label(
        self, strategy: Strategy, stage: str, key: str, labels: dict[str, dict[str, str]]
    ) -> bool:
        prompt: Prompt | None = None
        try:
            prompt = await self._prompt(strategy, stage, key, labels)
            answer = await self._caller.ask(stage, key, prompt.messages, LabelAnswer, output=LABEL_OUTPUT)
        except QuestionFailedError as error:
            material = {} if prompt is None else prompt.material
            item = Item(stage, key, "failed", "", {}, material, str(error))
        else:
            item = Item(stage, key, "done", answer.label, answer.model_dump(), prompt.material, "")
            labels[stage][key] = answer.label
        await asyncio.to_thread(self._sets.save_item, self._set_id, item)
        return self._went_well(self._caller, item.error)

    async def _prompt(self, strategy: Strategy, stage: str, key: str, labels: Labels) -> Prompt:
        async with self._reading:
            try:
                return await asyncio.to_thread(strategy.prompt, stage, key, labels)
            except DatabaseError:
                raise
            except StorageError as error:
                raise QuestionFailedError(str(error)) from None

    # ---- scores ---------------------------------------------------------------------------------

    async def score(self, windows: Windows, keys: Sequence[str], stage: str, trials: int, seed: int) -> None:
        """Ask the judge ``trials`` questions of each kind about every label that there is."""
        items = {item.key: item for item in self._sets.items(self._set_id, stage) if item.status == "done"}
        known = {(t.key, t.kind, t.number): t for t in self._sets.trials(self._set_id)}
        every: list[tuple[Item, TrialKind, int]] = [
            (items[key], kind, number)
            for key in keys
            if key in items
            for number in range(trials)
            for kind in KINDS
        ]
        waiting: list[tuple[Item, TrialKind, int]] = []
        for item, kind, number in every:
            trial = known.get((item.key, kind, number))
            if trial is None or trial.status in ("pending", "failed") or trial.label != item.label:
                waiting.append((item, kind, number))
        progress = _Progress("scores", len(every) - len(waiting), len(every), self._report)

        async def one(what: tuple[Item, TrialKind, int]) -> bool:
            return await self._trial(windows, *what, seed)

        self._in_a_row = 0
        await self._all(self._judge, waiting, one, progress)

    async def _trial(self, windows: Windows, item: Item, kind: TrialKind, number: int, seed: int) -> bool:
        def failed(error: Exception) -> Trial:
            return Trial(item.key, kind, number, "failed", item.label, error=str(error))

        try:
            asked = await self._question(windows, item, kind, number, seed)
            answer = await self._judge.ask(
                f"{kind} {number}", item.key, asked.messages(item.label), ChoiceAnswer, output=CHOICE_OUTPUT
            )
            trial = asked.judged(item.key, item.label, answer.chosen)
        except ImpossibleError as error:
            impossible = Trial(item.key, kind, number, "impossible", item.label, error=str(error))
            await asyncio.to_thread(self._sets.save_trial, self._set_id, impossible)
            return True
        except (QuestionFailedError, ValueError) as error:
            trial = failed(error)
        await asyncio.to_thread(self._sets.save_trial, self._set_id, trial)
        return self._went_well(self._judge, trial.error)

    async def _question(
        self, windows: Windows, item: Item, kind: TrialKind, number: int, seed: int
    ) -> Question:
        shown = item.material.get("examples", [])
        async with self._reading:
            try:
                return await asyncio.to_thread(question, windows, item.key, kind, number, shown, seed)
            except StorageError as error:
                raise QuestionFailedError(str(error)) from None

    # ---- both -----------------------------------------------------------------------------------

    def _went_well(self, asked: Caller, error: str) -> bool:
        self._in_a_row = self._in_a_row + 1 if error else 0
        if self._in_a_row >= self._give_up and not asked.stopped:
            asked.stopped = f"{self._in_a_row} questions in a row failed, the last with: {error}"
        return not error

    async def _all(
        self,
        asked: Caller,
        waiting: Sequence[object],
        one: Callable[..., Awaitable[bool]],
        progress: _Progress,
    ) -> None:
        """So many at a time; once the work is stopped, what is under way is finished and nothing begun."""
        rest: Iterator[object] = iter(waiting)

        async def worker() -> None:
            for what in rest:
                if asked.stopped:
                    return
                try:
                    progress.count(await one(what))
                except WorkStoppedError:
                    return

        async with asyncio.TaskGroup() as group:
            for _ in range(min(self._concurrency, len(waiting))):
                group.create_task(worker())


class _Progress:
    def __init__(self, phase: str, done: int, total: int, report: Callable[[Tally], None]) -> None:
        self._tally = Tally(phase, done, total, 0)
        self._report = report
        report(self._tally)

    def count(self, well: bool) -> None:
        t = self._tally
        self._tally = Tally(t.phase, t.done + 1, t.total, t.failed + (not well))
        self._report(self._tally)
