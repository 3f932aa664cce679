"""What people call components, for the routes and for everything else that shows components.

:func:`labels_of` and :func:`label_texts` are for listings and searches. They answer with nothing where
the database cannot be used: components can be listed without their labels, and the routes of the
labels themselves say what is wrong.
"""

from __future__ import annotations

from backend.errors import ServiceError
from backend.label_schemas import (
    MAX_REPORTED,
    ImportUndone,
    Label,
    LabelChange,
    LabelContent,
    LabelDetail,
    LabelList,
    LabelStep,
    LabelUndo,
    PastImport,
    PastImportList,
    StepKind,
)
from backend.service.run import Run
from backend.service.timing import Stopwatch
from backend.service.workshop import Workshop
from compute.address import parse_key
from storage import label_records as stored
from storage.errors import DatabaseError
from storage.label_records import GivenLabel

_STEPS_SHOWN = 100


# ---- for everything that shows components -------------------------------------------------------


def labels_of(workshop: Workshop, run: Run) -> dict[str, Label]:
    """Key → what the component is called: by a person, else by the newest label set that names it."""
    try:
        return read_labels(workshop, run)
    except DatabaseError:
        return {}


def read_labels(workshop: Workshop, run: Run) -> dict[str, Label]:
    """As :func:`labels_of`, where nothing can be said without them; raises what is wrong with the database."""
    given = workshop.database.label_sets.labels(run.name, run.digest)
    found = {key: _given(key, label) for key, label in given.items()}
    return found | {label.key: _label(label) for label in _of_people(workshop, run)}


def label_texts(workshop: Workshop, run: Run) -> dict[str, str]:
    """Key → all that is written about the component: its name, then the note. What a search looks in."""
    return {
        key: "\n".join(filter(None, (label.name, label.text)))
        for key, label in labels_of(workshop, run).items()
    }


def _of_people(workshop: Workshop, run: Run) -> tuple[stored.LabelRecord, ...]:
    return workshop.database.labels.labels(run.name, run.digest)


# ---- the routes ---------------------------------------------------------------------------------


def revision(workshop: Workshop, run: Run) -> str:
    """Another one as soon as any label of the run is another."""
    database = workshop.database
    given = database.label_sets.revision(run.name, run.digest)
    return f"{run.digest[:16]}-{database.labels.revision(run.name, run.digest)}-{given}"


def list_labels(workshop: Workshop, run: Run, q: str | None) -> LabelList:
    watch = Stopwatch()
    labels = read_labels(workshop, run)
    words = [] if q is None else q.casefold().split()
    found = [label for label in labels.values() if all(word in _haystack(label) for word in words)]
    return LabelList(
        run=run.name,
        labels=sorted(found, key=lambda label: parse_key(label.key)),
        total=len(labels),
        earlier=len(workshop.database.labels.earlier(run.name, run.digest)),
        seconds=watch.seconds,
    )


def get(workshop: Workshop, run: Run, key: str) -> LabelDetail:
    watch = Stopwatch()
    return _detail(run, workshop.database.labels.history(run.name, run.digest, component(run, key)), watch)


def save(workshop: Workshop, run: Run, key: str, change: LabelChange) -> LabelDetail:
    """Raises a 409 where the label was changed since the version that was read."""
    watch = Stopwatch()
    content = stored.LabelContent(change.name, change.text, change.rating)
    history = workshop.database.labels.save(
        run.name,
        run.digest,
        component(run, key),
        change.version,
        content,
        change.author,
        new_step=change.new_step,
    )
    return _detail(run, history, watch)


def undo(workshop: Workshop, run: Run, request: LabelUndo, *, redo: bool = False) -> LabelDetail:
    watch = Stopwatch()
    store = workshop.database.labels
    history = (store.redo if redo else store.undo)(
        run.name, run.digest, component(run, request.key), request.version, request.author
    )
    return _detail(run, history, watch)


def imports(workshop: Workshop, run: Run) -> PastImportList:
    watch = Stopwatch()
    return PastImportList(
        run=run.name,
        imports=[
            PastImport(**record.__dict__) for record in workshop.database.labels.imports(run.name, run.digest)
        ],
        seconds=watch.seconds,
    )


def undo_import(workshop: Workshop, run: Run, step: int, author: str, *, redo: bool = False) -> ImportUndone:
    watch = Stopwatch()
    store = workshop.database.labels
    changed, kept = (store.redo_file if redo else store.undo_file)(run.name, run.digest, step, author)
    return ImportUndone(
        run=run.name,
        step=step,
        changed=len(changed),
        kept=kept[:MAX_REPORTED],
        n_kept=len(kept),
        seconds=watch.seconds,
    )


def component(run: Run, text: str) -> str:
    """A key that can have a label, as it is written everywhere; raises a 404, or a 422 for a token."""
    key = run.key(text)
    if not key.address.is_site:
        raise ServiceError(
            422,
            "bad_input",
            f"{key} is no part of a decomposed matrix",
            "Components, deltas and biases can have a label; tokens have their text.",
        )
    return str(key)


# ---- wire models --------------------------------------------------------------------------------


def _haystack(label: Label) -> str:
    return "\n".join((label.key, label.name, label.text, label.author)).casefold()


def _content(content: stored.LabelContent) -> LabelContent:
    return LabelContent(name=content.name, text=content.text, rating=content.rating)


def _label(record: stored.LabelRecord) -> Label:
    return Label(
        key=record.key,
        name=record.content.name,
        text=record.content.text,
        rating=record.content.rating,
        author=record.author,
        created=record.created,
        updated=record.updated,
        source="person",
        version=record.version,
    )


def _given(key: str, label: GivenLabel) -> Label:
    return Label(
        key=key,
        name=label.label,
        text="",
        rating=None,
        author="",
        created=label.created,
        updated=label.created,
        source=f"auto:{label.set_name}",
        version=0,
    )


def _step(record: stored.StepRecord | None) -> LabelStep | None:
    if record is None:
        return None
    kind: StepKind = "import" if record.kind == "import" else "edit"
    return LabelStep(
        step=record.step,
        kind=kind,
        state=record.state,
        before=_content(record.before),
        after=_content(record.after),
        author=record.author,
        changed=record.changed,
    )


def _detail(run: Run, history: stored.LabelHistory, watch: Stopwatch) -> LabelDetail:
    steps = [_step(step) for step in history.steps[: -_STEPS_SHOWN - 1 : -1]]
    return LabelDetail(
        run=run.name,
        key=history.label.key,
        label=None if history.label.content.empty else _label(history.label),
        version=history.label.version,
        undo=_step(history.undo),
        redo=_step(history.redo),
        steps=[step for step in steps if step is not None],
        n_steps=len(history.steps),
        seconds=watch.seconds,
    )
