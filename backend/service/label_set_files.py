"""A label set as a file: every label with its scores, who gave it and when. As JSON or CSV.

It is for analysis elsewhere. A set cannot be read back: what was asked and answered stays in the
database, and labels of people are another file (label_files.py), which refuses these.
"""

from __future__ import annotations

import csv
import io
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

from backend.label_set_schemas import LabelScore, LabelSetFile, SetEntry
from backend.service.label_files import to_cell
from backend.service.label_sets import in_order, set_label, summary
from backend.service.run import Run
from storage.label_records import LabelSet

if TYPE_CHECKING:
    from storage.label_sets import LabelSets

Format = Literal["json", "csv"]
_KINDS = ("detection", "fuzzing")
#: Of each kind of score.
_SCORE = ("right", "judged", "accuracy", "low", "high")
COLUMNS = (
    *("key", "label", "status", "confidence", "reasoning", "error"),
    *(f"{kind}_{what}" for kind in _KINDS for what in _SCORE),
    *("model", "judge", "set", "created", "source"),
)


def export(store: LabelSets, run: Run, found: LabelSet, format: Format) -> tuple[str, str, bytes]:  # noqa: A002
    """File name, media type and content."""
    file = document(store, run, found)
    name = f"{_plain(run.name)}-{_plain(found.name)}.{format}"
    if format == "csv":
        return name, "text/csv; charset=utf-8", _csv(file)
    return name, "application/json", (file.model_dump_json(indent=1) + "\n").encode()


def document(store: LabelSets, run: Run, found: LabelSet) -> LabelSetFile:
    items, counts = store.final_items(found.id), store.trial_counts(found.id)
    answered = store.answered(found.id)
    labels: list[SetEntry] = []
    for key in in_order(items):
        said = set_label(items[key], counts)
        model, created = answered.get(key, ("", "")) if said.status == "done" else ("", "")
        labels.append(SetEntry(**said.model_dump(), model=model, created=created))
    return LabelSetFile(
        format="tributary-label-set",
        version=1,
        run=run.name,
        run_digest=run.digest,
        exported=datetime.now(UTC).isoformat(timespec="seconds"),
        set=summary(store, found),
        labels=labels,
    )


def _plain(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "_", name)[:80]


def _csv(file: LabelSetFile) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.writer(text, quoting=csv.QUOTE_ALL)
    writer.writerow(COLUMNS)
    judge = "" if file.set.judge is None else file.set.judge.model
    for entry in file.labels:
        words = (entry.key, entry.label, entry.status, entry.confidence, entry.reasoning, entry.error)
        numbers = (*_numbers(entry.detection), *_numbers(entry.fuzzing))
        who = (entry.model, judge, file.set.name, entry.created, f"auto:{file.set.name}")
        writer.writerow([*map(to_cell, words), *numbers, *map(to_cell, who)])
    # Spreadsheets know by the mark at its beginning that the file is UTF-8.
    return text.getvalue().encode("utf-8-sig")


def _numbers(score: LabelScore) -> list[str]:
    interval = (None, None) if score.interval is None else (score.interval.low, score.interval.high)
    values = (score.right, score.judged, score.accuracy, *interval)
    return ["" if value is None else str(value) for value in values]
