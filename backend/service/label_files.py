"""Labels as files: JSON and CSV, both of which can be read back.

A spreadsheet takes a cell that begins with = + - or @ for a formula, so in CSV such a text begins with
an apostrophe; reading takes it away again, and every text comes back as it was. What is read is checked
line by line: a line that cannot be taken is reported with the reason, and the others are taken.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from backend.errors import ServiceError
from backend.label_schemas import (
    MAX_REPORTED,
    Author,
    FileLine,
    LabelEntry,
    LabelFile,
    LabelImport,
    Name,
    NoteText,
    Rating,
)
from backend.service.labels import component
from backend.service.run import Run
from backend.service.timing import Stopwatch
from backend.service.workshop import Workshop
from compute.address import AddressError, parse_key
from storage.errors import UnknownKeyError
from storage.label_records import ImportedLabel, LabelContent, LabelRecord

Format = Literal["json", "csv"]
Existing = Literal["keep", "replace"]
COLUMNS = ("key", "name", "rating", "text", "author", "created", "updated", "source")
#: Other words for a column that people use.
_ALSO = {"component": "key", "label": "name", "note": "text", "notes": "text"}
#: What makes a spreadsheet calculate, and its full-width forms, which some take for the same.
_FORMULA = "=+-@\t\r\n＝＋－＠"


# ---- export -------------------------------------------------------------------------------------


def export(workshop: Workshop, run: Run, format: Format, *, earlier: bool) -> tuple[str, str, bytes]:  # noqa: A002
    """File name, media type and content; with ``earlier`` of the labels from before the run was made again."""
    store = workshop.database.labels
    records = (store.earlier if earlier else store.labels)(run.name, run.digest)
    entries = [_entry(record) for record in sorted(records, key=lambda record: parse_key(record.key))]
    which = "earlier-labels" if earlier else "labels"
    name = f"{re.sub(r'[^A-Za-z0-9._-]', '_', run.name)[:80]}-{which}.{format}"
    if format == "csv":
        return name, "text/csv; charset=utf-8", _csv(entries)
    file = LabelFile(
        format="tributary-labels",
        version=1,
        run=run.name,
        # Of which making the earlier ones are is not one digest; the file must not claim this one.
        run_digest="" if earlier else run.digest,
        exported=datetime.now(UTC).isoformat(timespec="seconds"),
        labels=entries,
    )
    return name, "application/json", (file.model_dump_json(indent=1) + "\n").encode()


def _entry(record: LabelRecord) -> LabelEntry:
    return LabelEntry(
        key=record.key,
        name=record.content.name,
        rating=record.content.rating,
        text=record.content.text,
        author=record.author,
        created=record.created,
        updated=record.updated,
        source="person",
    )


def _csv(entries: list[LabelEntry]) -> bytes:
    file = io.StringIO(newline="")
    writer = csv.writer(file, quoting=csv.QUOTE_ALL)
    writer.writerow(COLUMNS)
    for entry in entries:
        cells = (getattr(entry, column) for column in COLUMNS)
        writer.writerow(["" if cell is None else to_cell(str(cell)) for cell in cells])
    # Spreadsheets know by the mark at its beginning that the file is UTF-8.
    return file.getvalue().encode("utf-8-sig")


def to_cell(text: str) -> str:
    """A text that no spreadsheet calculates; :func:`from_cell` gives it back."""
    return f"'{text}" if text.startswith(tuple(_FORMULA)) or from_cell(text) != text else text


def from_cell(cell: str) -> str:
    return cell[1:] if cell[:1] == "'" and cell[1:].startswith((*_FORMULA, "'")) else cell


# ---- import -------------------------------------------------------------------------------------


class _Entry(BaseModel):
    """A label as a file has it. Fields that are not known are nobody's harm."""

    model_config = ConfigDict(extra="ignore")

    key: Annotated[str, Field(max_length=200)]
    name: Name = ""
    text: NoteText = ""
    rating: Rating | None = None
    author: Author = ""
    created: Annotated[str, Field(max_length=80)] = ""
    updated: Annotated[str, Field(max_length=80)] = ""
    source: Annotated[str, Field(max_length=200)] = "person"


@dataclass
class _Read:
    """What a file holds, as far as it can be taken."""

    labels: list[ImportedLabel] = field(default_factory=list[ImportedLabel])
    unmatched: list[FileLine] = field(default_factory=list[FileLine])
    remarks: list[FileLine] = field(default_factory=list[FileLine])
    lines: int = 0
    other_run: str | None = None


def import_labels(
    workshop: Workshop, run: Run, content: bytes, author: str, existing: Existing
) -> LabelImport:
    """Add what :func:`export` wrote, or what a person made in a spreadsheet, as one step."""
    watch = Stopwatch()
    read = _read(run, content)
    result = workshop.database.labels.add_file(
        run.name, run.digest, read.labels, author, replace=existing == "replace"
    )
    return LabelImport(
        run=run.name,
        step=result.step or None,
        read=read.lines,
        added=len(result.added),
        replaced=len(result.replaced),
        same=len(result.same),
        kept=list(result.kept[:MAX_REPORTED]),
        n_kept=len(result.kept),
        unmatched=read.unmatched[:MAX_REPORTED],
        n_unmatched=len(read.unmatched),
        remarks=read.remarks[:MAX_REPORTED],
        other_run=read.other_run,
        seconds=watch.seconds,
    )


def _read(run: Run, content: bytes) -> _Read:
    text = _text(content)
    if not text.strip():
        raise _bad("The file is empty", "Choose a file of labels, JSON or CSV.")
    read = _Read()
    entries = _json(run, text, read) if text.lstrip()[:1] in ("{", "[") else _csv_entries(text)
    moment = datetime.now(UTC).isoformat(timespec="milliseconds")
    first: dict[str, int] = {}
    for line, given in entries:
        read.lines += 1
        shown = str(given.get("key") or "")[:200] if isinstance(given, Mapping) else ""
        try:
            entry = _checked(given)
            key = component(run, entry.key.strip())
            if key in first:
                raise _Refused(f"is in the file before, on line {first[key]}")
        except _Refused as refusal:
            read.unmatched.append(FileLine(line=line, key=shown, reason=str(refusal)))
            continue
        except AddressError:
            reason = "is no key of a component" if shown else "no key"
            read.unmatched.append(FileLine(line=line, key=shown, reason=reason))
            continue
        except UnknownKeyError as error:
            read.unmatched.append(FileLine(line=line, key=shown, reason=error.message))
            continue
        except ServiceError as error:
            read.unmatched.append(FileLine(line=line, key=shown, reason=error.body.message))
            continue
        first[key] = line
        times = [_time(text) for text in (entry.created, entry.updated)]
        for name, given_time, time in zip(
            ("created", "updated"), (entry.created, entry.updated), times, strict=True
        ):
            if given_time.strip() and time is None:
                reason = f"{name} is no date ({given_time[:40]!r}); the time of the import stands for it"
                read.remarks.append(FileLine(line=line, key=shown, reason=reason))
        created, updated = (time or moment for time in times)
        said = LabelContent(entry.name, entry.text, entry.rating)
        read.labels.append(ImportedLabel(key, said, entry.author, min(created, updated), updated))
    return read


class _Refused(Exception):  # noqa: N818 (no error: a line that is left out)
    pass


def _checked(given: object) -> _Entry:
    if not isinstance(given, Mapping):
        raise _Refused("is no label: an object with a key and a name is expected")
    try:
        entry = _Entry.model_validate(given)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise _Refused(f"{where}: {first['msg']}") from None
    if entry.source.startswith("auto:"):
        raise _Refused(f"was given by a model ({entry.source[:60]}); labels of people are imported here")
    if LabelContent(entry.name, entry.text, entry.rating).empty:
        raise _Refused("has neither a name nor a note nor a rating")
    return entry


def _time(text: str) -> str | None:
    """A time as it is stored, in UTC; one that names no zone is taken for UTC."""
    try:
        time = datetime.fromisoformat(text.strip())
        time = time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return time.isoformat(timespec="milliseconds")


def _bad(message: str, hint: str) -> ServiceError:
    return ServiceError(422, "bad_input", message, hint)


def _text(content: bytes) -> str:
    try:
        return content.decode("utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    except UnicodeDecodeError:
        raise _bad("The file is not UTF-8", "Save it as CSV UTF-8 or as JSON.") from None


def _json(run: Run, text: str, read: _Read) -> Iterator[tuple[int, object]]:
    try:
        document: Any = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _bad(f"The file is no JSON: {error}"[:300], "Export labels as JSON to see the form.") from None
    labels = document
    if isinstance(document, dict):
        if document.get("format") == "tributary-label-set":
            raise _bad("The file is a label set, which a model gave", "Labels of people are imported here.")
        if document.get("format") != "tributary-labels" or document.get("version") != 1:
            raise _bad(
                "The file is not of the format tributary-labels, version 1",
                "Export labels as JSON to see the form.",
            )
        labels = document.get("labels")
        if document.get("run_digest") != run.digest:
            read.other_run = str(document.get("run") or "another run")[:200]
    if not isinstance(labels, list):
        raise _bad("The file holds no list of labels", "Export labels as JSON to see the form.")
    return enumerate(labels, 1)


def _csv_entries(text: str) -> Iterator[tuple[int, object]]:
    if "\0" in text:
        raise _bad("The file is no text", "Save it as CSV UTF-8 or as JSON.")
    head = text.split("\n", 1)[0]
    # Spreadsheets write what the language of the machine separates lists with.
    delimiter = max(",;\t", key=head.count)
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        names = [name.strip().casefold() for name in next(rows, [])]
        names = [_ALSO.get(name, name) for name in names]
        if "key" not in names:
            raise _bad(
                "The first line names no column key",
                f"Columns are {', '.join(COLUMNS)}; key and one of name, rating and text are needed.",
            )
        found, line = list[tuple[int, object]](), rows.line_num + 1
        for row in rows:
            if any(cell.strip() for cell in row):
                found.append((line, _row(names, row)))
            line = rows.line_num + 1
    except csv.Error as error:
        raise _bad(f"The file is no CSV: line {rows.line_num}: {error}", "Is a quote left open?") from None
    return iter(found)


def _row(names: list[str], row: list[str]) -> dict[str, Any]:
    cells = {name: from_cell(cell) for name, cell in zip(names, row, strict=False) if name in COLUMNS}
    rating = cells.pop("rating", "").strip()
    if not cells.get("source", "").strip():
        cells.pop("source", None)
    # A spreadsheet may have made 4.0 of a 4; what is no number is reported as it stands.
    return cells | ({"rating": rating.removesuffix(".0")} if rating else {})
