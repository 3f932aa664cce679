"""Toy runs: decomposed models of features instead of tokens."""

from __future__ import annotations

from collections.abc import Sequence

from backend.client.part import RunPart
from backend.toy_schemas import (
    ToyAnswer,
    ToyComponent,
    ToyDescription,
    ToyEvaluation,
    ToyOrder,
    ToyRequest,
    ToyResponse,
)


class ToysOfRun(RunPart):
    """What a toy run has instead of prompts and attributions; other runs refuse."""

    def toy(self) -> ToyDescription:
        """Its sizes, its matrices, and what it was trained for."""
        return self._client.read(ToyDescription, f"{self._path}/toy")

    def toy_response(
        self,
        site: str,
        *,
        value: float | None = None,
        order: ToyOrder = "expected",
        first_feature: int = 0,
        features: int = 500,
        components: int = 1000,
    ) -> ToyResponse:
        """Importances and activations of a matrix's components to one feature at a time, set to ``value``."""
        return self._client.read(
            ToyResponse,
            f"{self._path}/toy/matrices/{site}",
            value=value,
            order=order,
            first_feature=first_feature,
            features=features,
            components=components,
        )

    def toy_component(self, key: str, *, value: float | None = None, k: int = 10) -> ToyComponent:
        """What a component reads and writes, and which features it answers to."""
        return self._client.read(ToyComponent, f"{self._path}/toy/components/{key}", value=value, k=k)

    def toy_evaluation(self, *, value: float | None = None) -> ToyEvaluation:
        """Errors of its outputs and weights, and its distance from the known solution."""
        return self._client.read(ToyEvaluation, f"{self._path}/toy/evaluation", value=value)

    def toy_answer(self, inputs: Sequence[Sequence[float]]) -> ToyAnswer:
        """Outputs, importances and activations for any ``inputs`` [inputs, features]."""
        body = ToyRequest(inputs=[list(row) for row in inputs])
        return self._client.send(ToyAnswer, "POST", f"{self._path}/toy/answers", body)
