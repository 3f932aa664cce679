"""A run of the server, with everything that can be asked about it."""

from __future__ import annotations

from backend.client.components import ComponentsOfRun
from backend.client.evidence import EvidenceOfRun
from backend.client.label_sets import LabelSetsOfRun
from backend.client.labels import LabelsOfRun
from backend.client.prompts import PromptsOfRun
from backend.client.toys import ToysOfRun
from backend.run_schemas import RunDetail


class Run(ComponentsOfRun, EvidenceOfRun, LabelsOfRun, LabelSetsOfRun, PromptsOfRun, ToysOfRun):
    """A run of the server: its components, what is known of them, prompts and graphs."""

    def detail(self) -> RunDetail:
        return self._client.read(RunDetail, self._path)
