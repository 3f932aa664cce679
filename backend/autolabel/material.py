"""Facts about components of a run, from its harvest and its attributions."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Literal

import numpy as np

from backend.autolabel.facts import Facts, Neighbour, TokenFact, Window, site_words
from backend.autolabel.prompts import quoted
from backend.service.run import Run
from compute.address import Key, parse_key
from compute.statistics.association import associations, strongest
from storage.attributions import AttributionStore, Sign
from storage.errors import NotComputedError
from storage.harvest import Examples, Harvest

#: Tokens of a kind that are told of a component.
TOKENS = 10
#: Neighbours that are told of a component: of positive and of negative sign.
NEIGHBOURS: tuple[tuple[Sign, int], ...] = (("positive", 8), ("negative", 4))


class RunMaterial:
    """``n_examples`` texts are shown of a component, a third of them or more its strongest firings, the
    others of a uniform sample. ``store`` is needed for neighbours only."""

    def __init__(self, run: Run, harvest: Harvest, store: AttributionStore | None, n_examples: int) -> None:
        self._run = run
        self._harvest = harvest
        self._store = store
        self._n_examples = n_examples
        self._texts = run.vocabulary.texts

    @property
    def threshold(self) -> float:
        return self._harvest.settings.threshold

    def firings(self, key: str) -> int:
        found = parse_key(key)
        return int(self._harvest.site("firing_count", found.address)[found.index])

    def facts(self, key: str) -> Facts:
        found = parse_key(key)
        return Facts(
            key=key,
            where=site_words(found.address, self._run.n_blocks),
            firings=self.firings(key),
            tokens=self._harvest.tokens,
            inputs=self._inputs(found, TOKENS),
            outputs=self._outputs(found),
            examples=self._shown(found),
            threshold=self.threshold,
        )

    # ---- texts ----------------------------------------------------------------------------------

    def windows(self, key: str, kind: Literal["random", "strongest"]) -> list[Window]:
        found = parse_key(key)
        assert isinstance(found.index, int)
        examples = self._harvest.examples(found.address, found.index, kind)
        return [_window(examples, row, self._texts) for row in range(len(examples.corpus_position))]

    def _shown(self, key: Key) -> tuple[Window, ...]:
        """Texts that do not overlap: the same text twice would look like two witnesses.

        Scoring needs texts that were not shown, so that at most half of the sample is.
        """
        sample = self.windows(str(key), "random")
        of_sample = min(self._n_examples - self._n_examples // 3, len(sample) // 2)
        kept: list[Window] = []
        for part, limit in (
            (self.windows(str(key), "strongest"), self._n_examples - of_sample),
            (sample, of_sample),
        ):
            taken = 0
            for window in part:
                if taken == limit:
                    break
                if not any(window.overlaps(other) for other in kept):
                    kept.append(window)
                    taken += 1
        return tuple(kept)

    # ---- tokens ---------------------------------------------------------------------------------

    def _inputs(self, key: Key, n: int) -> tuple[TokenFact, ...]:
        assert isinstance(key.index, int)
        ids, counts = self._harvest.input_counts(key.address, key.index)
        return self._tokens(key, ids, counts.astype(np.float64), self._harvest.token_count, n)

    def _outputs(self, key: Key) -> tuple[TokenFact, ...]:
        assert isinstance(key.index, int)
        ids, mass = self._harvest.output_mass_of(key.address, key.index)
        return self._tokens(key, ids, mass, self._harvest.output_mass, TOKENS)

    def _tokens(
        self, key: Key, ids: np.ndarray, joint: np.ndarray, totals: np.ndarray, n: int
    ) -> tuple[TokenFact, ...]:
        """The tokens that go with the component most surely; rare ones only if there is no doubt."""
        firings = self.firings(str(key))
        if not firings or not len(ids):
            return ()
        found = associations(joint, firings, totals[ids].astype(np.float64), self._harvest.tokens)
        return tuple(
            TokenFact(
                text=self._texts[int(ids[i])],
                recall=float(found.recall[i]),
                precision=float(found.precision[i]),
                count=float(found.joint[i]),
                total=float(totals[ids[i]]),
            )
            for i in strongest(found, n, "positive")
        )

    # ---- neighbours -----------------------------------------------------------------------------

    def neighbours(
        self, key: str, direction: Literal["sources", "targets"], labels: Mapping[str, str]
    ) -> list[Neighbour]:
        assert self._store is not None
        query = self._store.top_sources if direction == "sources" else self._store.top_targets
        found: list[Neighbour] = []
        for sign, k in NEIGHBOURS:
            try:
                entries = query(parse_key(key), k, sign).entries
            except NotComputedError:  # nothing of this kind flows here
                continue
            for entry in entries:
                label = labels.get(str(entry.key))
                text = self._about(entry.key) if label is None else label
                found.append(Neighbour(str(entry.key), entry.value, text, label is not None))
        return sorted(found, key=lambda neighbour: -abs(neighbour.value))

    def _about(self, key: Key) -> str:
        """What can be said of something that has no label."""
        if key.index == "delta":
            return "what no component of this matrix explains"
        if key.index == "bias":
            return "the bias of this matrix"
        text = self._run.label(key)
        if text is not None:
            return f"the {'next ' if key.address.kind == 'output' else ''}token {quoted(text)}"
        if not key.address.is_site:
            return "a position of the text"
        tokens = ", ".join(quoted(fact.text) for fact in self._inputs(key, 3))
        return f"(no label) fires mostly on {tokens}" if tokens else "(no label)"


class ScoringWindows:
    """The texts that scoring asks about. ``pool`` runs the model, once, when silent texts are needed."""

    def __init__(self, material: RunMaterial, pool: Callable[[], SilentPool], seed: int) -> None:
        self._material = material
        self._make_pool = pool
        self._seed = seed

    @cached_property
    def _pool(self) -> SilentPool:
        return self._make_pool()

    @property
    def threshold(self) -> float:
        return self._material.threshold

    def firing(self, key: str) -> list[Window]:
        return self._material.windows(key, "random")

    def silent(self, key: str) -> list[Window]:
        windows = self._pool.silent(key)
        rng = random.Random(hashlib.sha256(f"{self._seed}/{key}/silent".encode()).digest())
        rng.shuffle(windows)
        return windows


class SilentPool:
    """Random texts of the corpus, and which of some components fire anywhere in each.

    ``fires`` [texts, keys]: whether the causal importance is above 0 at any token of the text.
    """

    def __init__(self, windows: Sequence[Window], keys: Sequence[str], fires: np.ndarray) -> None:
        self.windows = tuple(windows)
        self._column = {key: column for column, key in enumerate(keys)}
        self._fires = fires

    def silent(self, key: str) -> list[Window]:
        column = self._fires[:, self._column[key]]
        return [window for window, fires in zip(self.windows, column, strict=True) if not fires]


def _window(examples: Examples, row: int, texts: Sequence[str]) -> Window:
    """One example without what lies outside the text: near an edge the firing is not in its middle."""
    tokens = examples.tokens[row]
    inside = np.flatnonzero(tokens >= 0)
    first, last = int(inside[0]), int(inside[-1]) + 1
    return Window(
        position=int(examples.corpus_position[row]),
        tokens=tuple(texts[int(token)] for token in tokens[first:last]),
        ci=tuple(examples.ci[row, first:last].tolist()),
        activation=tuple(examples.activation[row, first:last].tolist()),
        centre=examples.left - first,
    )
