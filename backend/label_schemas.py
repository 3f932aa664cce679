"""Wire models of what people call components. As in schemas.py; bodies as in request_schemas.py.

A :class:`Label` is what is shown wherever the component appears. :class:`LabelDetail` is for whoever
edits it: its ``version`` goes back with every change, and its steps are what undo walks along.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from backend.keys import KeyText
from backend.request_schemas import Body
from backend.schemas import Schema

#: What a file's rows are read into, and what a person sends, have the same limits.
MAX_NAME, MAX_NOTE, MAX_AUTHOR = 200, 20_000, 80
#: Lines of a file that are reported one by one.
MAX_REPORTED = 1000

_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def _one_line(text: str) -> str:
    return " ".join(_CONTROLS.sub(" ", text).split())


def _note(text: str) -> str:
    return _CONTROLS.sub("", text.replace("\r\n", "\n").replace("\r", "\n")).strip()


Name = Annotated[str, Field(max_length=MAX_NAME, description="One line"), AfterValidator(_one_line)]
NoteText = Annotated[str, Field(max_length=MAX_NOTE), AfterValidator(_note)]
Rating = Annotated[int, Field(ge=1, le=5)]
Author = Annotated[
    str,
    Field(max_length=MAX_AUTHOR, description="Who does this, as they want to be called; may be empty"),
    AfterValidator(_one_line),
]
Version = Annotated[
    int, Field(ge=0, lt=2**63, description="The version that was read; 0 where there was none")
]
StepNumber = Annotated[int, Field(ge=1, lt=2**63)]
StepKind = Literal["edit", "import"]
StepState = Literal["done", "undone", "passed"]


class LabelContent(Schema):
    name: str
    text: str = Field(description="A note of any length")
    rating: int | None = Field(description="1 to 5: how well the name says what the component is about")


class Label(LabelContent):
    """What a component is called, by whom, since when."""

    key: str
    author: str = Field(description="Who gave it its present form; may be empty")
    created: str
    updated: str
    source: str = Field(description='"person", or "auto:<set>" for a label that a model gave')
    version: int = Field(description="0 for a label that a model gave")


class LabelList(Schema):
    run: str
    labels: list[Label] = Field(description="Ordered as components are")
    total: int = Field(description="How many there are, whatever q says")
    earlier: int = Field(description="Labels of people from before the run was made again; none is shown")
    seconds: float


class LabelStep(Schema):
    """A step of a label's history: one person's typing in one field, or an imported file."""

    step: int
    kind: StepKind
    state: StepState = Field(description="undone: can be redone; passed: undone, then something else came")
    before: LabelContent
    after: LabelContent
    author: str
    changed: str


class LabelDetail(Schema):
    """What people said of one component. ``label`` is null where that is nothing now."""

    run: str
    key: str
    label: Label | None
    version: int
    undo: LabelStep | None = Field(description="What undo would take back, whoever did it")
    redo: LabelStep | None
    steps: list[LabelStep] = Field(description="The last 100, newest first")
    n_steps: int
    seconds: float


class LabelChange(Body):
    """What is said of the component from now on; all empty says nothing any more."""

    version: Version
    name: Name = ""
    text: NoteText = ""
    rating: Rating | None = None
    author: Author = ""
    new_step: bool = Field(
        default=False,
        description="Undo takes this back on its own, however soon it followed on the last change",
    )


class LabelUndo(Body):
    key: KeyText
    version: Version
    author: Author = ""


# ---- files --------------------------------------------------------------------------------------


class LabelEntry(LabelContent):
    """A label in a file."""

    key: str
    author: str
    created: str
    updated: str
    source: str


class LabelFile(Schema):
    """An exported file of labels; the CSV file has the fields of ``labels`` as its columns."""

    format: Literal["tributary-labels"]
    version: Literal[1]
    run: str
    run_digest: str
    exported: str
    labels: list[LabelEntry]


class FileLine(Schema):
    line: int = Field(description="Line of a CSV file, or number of the entry in a JSON file, from 1")
    key: str = Field(description="As the file has it")
    reason: str


class LabelImport(Schema):
    """What became of every line of a file."""

    run: str
    step: int | None = Field(description="What undoes the import as a whole; null where nothing was changed")
    read: int = Field(description="Lines with a label")
    added: int
    replaced: int
    same: int = Field(description="Were here already, just so")
    kept: list[str] = Field(description="Components with another label here, which was kept; up to 1000")
    n_kept: int
    unmatched: list[FileLine] = Field(description="Lines that were left out, and why; up to 1000")
    n_unmatched: int
    remarks: list[FileLine] = Field(description="Lines that were taken but for a part; up to 1000")
    other_run: str | None = Field(
        description="The run that the file names, where that is another one or this one before it was made again"
    )
    seconds: float


class PastImport(Schema):
    step: int
    author: str
    changed: str
    labels: int
    in_force: int = Field(description="Its labels that nobody changed since: what undo would take back")
    undone: int = Field(description="Its labels that were taken back: what redo would bring again")


class PastImportList(Schema):
    run: str
    imports: list[PastImport] = Field(description="The last ten, newest first")
    seconds: float


class ImportUndo(Body):
    author: Author = ""


class ImportUndone(Schema):
    """What became of the labels of an import."""

    run: str
    step: int
    changed: int
    kept: list[str] = Field(description="Components whose label was changed since, which stays; up to 1000")
    n_kept: int
    seconds: float
