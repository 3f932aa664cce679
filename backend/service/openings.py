"""How documents of the run's own corpus begin: prompts that suit the model, to start from."""

from __future__ import annotations

import numpy as np

from backend.schemas import Opening, OpeningList
from backend.service.run import Run
from backend.service.timing import Stopwatch

#: An opening ends before the word that would make it longer than this.
LENGTH = 14


def openings(run: Run, n: int) -> OpeningList:
    """Beginnings of ``n`` documents spread over the held-out part of the corpus; the same each time.

    Empty where the run came without its corpus. Raises the corpus' errors where it is damaged.
    """
    watch = Stopwatch()
    if not (run.directory.path / "corpus").is_dir():
        return OpeningList(run=run.name, openings=[], seconds=watch.seconds)
    corpus = run.directory.corpus()
    held_out = [i for i in range(corpus.n_documents) if corpus.is_validation(i)]
    documents = held_out or list(range(corpus.n_documents))
    # The middles of n equal parts, so that parts of the corpus are represented.
    parts = min(n, len(documents))
    chosen = [documents[int((i + 0.5) * len(documents) / parts)] for i in range(parts)]
    texts = run.vocabulary.texts
    found: list[Opening] = []
    for number in chosen:
        # A document begins with the end-of-text token of the one before.
        ids = corpus.document(number)[1 : LENGTH + 2].tolist()
        end = _whole_words([texts[i] for i in ids])
        if end:
            text = run.vocabulary.decode(ids[:end])
            found.append(Opening(document=corpus.titles[number], text=text, token_ids=ids[:end]))
    return OpeningList(run=run.name, openings=found, seconds=watch.seconds)


def _whole_words(texts: list[str]) -> int:
    """How many of the tokens to keep, so that no word is cut: up to the last one that begins a word."""
    starts = np.flatnonzero([text[:1].isspace() for text in texts[1:]])
    return int(starts[-1]) + 1 if len(texts) > LENGTH and len(starts) else len(texts[:LENGTH])
