"""What people call components."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from backend.client.part import RunPart
from backend.label_schemas import ImportUndone, Label, LabelDetail, LabelImport, LabelList


class LabelsOfRun(RunPart):
    """Labels and notes of people."""

    def labels(self, q: str | None = None) -> dict[str, Label]:
        """Key → what the component is called; with ``q`` only those with all its words in them."""
        found = self._client.read(LabelList, f"{self._path}/labels", q=q)
        return {label.key: label for label in found.labels}

    def label_history(self, key: str) -> LabelDetail:
        """A label with every step that led to it."""
        return self._client.read(LabelDetail, f"{self._path}/labels/{key}")

    def label(
        self,
        key: str,
        *,
        name: str | None = None,
        text: str | None = None,
        rating: int | None = None,
        author: str = "",
    ) -> Label:
        """Say something of a component; what is not given stays.

        Raises an :class:`ApiError` of status 409 where somebody else did at the same moment.
        """
        now = self.label_history(key)
        body: dict[str, Any] = {} if now.label is None else now.label.model_dump()
        body = {field: body.get(field) for field in ("name", "text", "rating") if body.get(field) is not None}
        given = {"name": name, "text": text, "rating": rating}
        body |= {field: value for field, value in given.items() if value is not None}
        body |= {"version": now.version, "author": author}
        saved = self._client.send(LabelDetail, "PUT", f"{self._path}/labels/{key}", body).label
        if saved is None:
            raise ValueError("a label has a name, a text or a rating; delete_label takes one away")
        return saved

    def delete_label(self, key: str, *, author: str = "") -> None:
        """Say nothing of it any more; :meth:`undo_label` brings it back."""
        parameters = {"version": self.label_history(key).version, "author": author}
        self._client.request("DELETE", f"{self._path}/labels/{key}", params=parameters)

    def undo_label(self, key: str, *, author: str = "", redo: bool = False) -> Label | None:
        """Take the last step on a component back, whoever made it; ``None`` where nothing is said then."""
        body = {"key": key, "version": self.label_history(key).version, "author": author}
        verb = "redo" if redo else "undo"
        return self._client.send(LabelDetail, "POST", f"{self._path}/labels:{verb}", body).label

    def export_labels(self, path: Path | str) -> Path:
        """Write all labels to a file: CSV where its name ends so, else JSON."""
        target = Path(path)
        kind = "csv" if target.suffix.lower() == ".csv" else "json"
        parameters = {"format": kind}
        content = self._client.request("GET", f"{self._path}/labels:export", params=parameters).content
        target.write_bytes(content)
        return target

    def import_labels(
        self, file: Path | str | bytes, *, author: str = "", existing: Literal["keep", "replace"] = "keep"
    ) -> LabelImport:
        """Read labels from a file, or its content; the report says what became of every line."""
        content = file if isinstance(file, bytes) else Path(file).read_bytes()
        parameters = {"author": author, "existing": existing}
        path = f"{self._path}/labels:import"
        answer = self._client.request("POST", path, content=content, params=parameters)
        return LabelImport.model_validate_json(answer.content)

    def undo_import(self, report: LabelImport | int, *, author: str = "", redo: bool = False) -> ImportUndone:
        """Take an import back wherever nobody changed the label since; by its report or its step."""
        step = report if isinstance(report, int) else report.step
        if step is None:
            raise ValueError("this import changed nothing")
        path = f"{self._path}/label-imports/{step}/{'redo' if redo else 'undo'}"
        return self._client.send(ImportUndone, "POST", path, {"author": author})
