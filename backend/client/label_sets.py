"""Labels that a language model gave: sets, how each label came to be, two side by side, files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from backend.client.connection import Connection
from backend.client.part import RunPart
from backend.label_set_schemas import (
    MAX_LABELS,
    LabelComparison,
    LabelOrigin,
    LabelSetList,
    LabelSetPage,
    LabelSetSummary,
    SetLabel,
)


@dataclass
class LabelSet:
    """A label set of a run. ``model`` is what the server says of it."""

    _client: Connection = field(repr=False)
    _run: str = field(repr=False)
    model: LabelSetSummary

    @property
    def id(self) -> int:
        return self.model.id

    @property
    def name(self) -> str:
        return self.model.name

    @property
    def _path(self) -> str:
        return f"/runs/{self._run}/label-sets/{self.id}"

    def page(self, q: str | None = None, *, start: int = 0, limit: int = 100) -> LabelSetPage:
        """Labels with all words of ``q`` in the key or the label; ``total`` says how many there are."""
        return self._client.read(LabelSetPage, self._path, q=q, start=start, limit=limit)

    def labels(self, q: str | None = None) -> Iterator[SetLabel]:
        """All of them, page after page."""
        start = 0
        while True:
            page = self.page(q, start=start, limit=MAX_LABELS)
            yield from page.labels
            start += len(page.labels)
            if not page.labels or start >= page.total:
                return

    def origin(self, key: str) -> LabelOrigin:
        """How one label came to be: what was asked, word for word, and what came back."""
        return self._client.read(LabelOrigin, f"{self._path}/components/{key}")

    def compare(self, other: LabelSet | int, *, start: int = 0, limit: int = 100) -> LabelComparison:
        """Beside another set of the run; mind ``same_judge``."""
        ident = other if isinstance(other, int) else other.id
        return self._client.read(
            LabelComparison, f"{self._path}/compare", other=ident, start=start, limit=limit
        )

    def export(self, path: Path | str) -> Path:
        """Write labels, scores, who and when to a file: CSV where its name ends so, else JSON."""
        target = Path(path)
        parameters = {"format": "csv" if target.suffix.lower() == ".csv" else "json"}
        target.write_bytes(self._client.request("GET", f"{self._path}/export", params=parameters).content)
        return target

    def delete(self, owner: str) -> None:
        """For good; ``owner`` is the secret of the link that the server printed when it was started."""
        self._client.request("DELETE", self._path, headers={"X-Tributary-Owner": owner})


class LabelSetsOfRun(RunPart):
    """Labels of language models."""

    def label_sets(self) -> list[LabelSet]:
        """Newest first."""
        found = self._client.read(LabelSetList, f"{self._path}/label-sets").sets
        return [LabelSet(self._client, self.name, model) for model in found]

    def label_set(self, name: str) -> LabelSet:
        """The set of this name; raises a ``KeyError`` that names those that there are."""
        sets = {found.name: found for found in self.label_sets()}
        if name not in sets:
            raise KeyError(f"{self.name} has no label set {name!r}, only {sorted(sets)}")
        return sets[name]
