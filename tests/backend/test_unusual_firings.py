"""What fires on a text more than it usually does, over HTTP."""

from __future__ import annotations

import httpx
import numpy as np
import pytest

from storage.run_directory import RunDirectory


def _fire(client: httpx.Client, run: str, **options: object) -> dict[str, object]:
    body = {"text": "the quick brown fox", "k": 5, "per_token": 2, **options}
    answer = client.post(f"/api/runs/{run}/firings", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_excess_is_over_the_mean_of_the_corpus(client: httpx.Client, llama: RunDirectory) -> None:
    statistics = llama.statistics()
    everything = _fire(client, "llama", k=200)
    found = _fire(client, "llama", order="excess")
    assert (everything["order"], found["order"]) == ("sum", "excess")
    n = len(everything["tokens"])  # pyright: ignore[reportArgumentType]

    def excess(row: dict[str, float]) -> float:
        return row["ci_sum"] - n * row["mean_ci"]

    rows: list[dict[str, float]] = everything["strongest"]  # pyright: ignore[reportAssignmentType]
    for row in rows[:20]:
        address, index = str(row["key"]).rsplit(":", 1)
        mean = statistics.arrays[f"ci_sum/{address}"][int(index)] / statistics.tokens
        assert row["mean_ci"] == pytest.approx(float(mean))
    expected = sorted((excess(row) for row in rows), reverse=True)
    shown: list[dict[str, float]] = found["strongest"]  # pyright: ignore[reportAssignmentType]
    np.testing.assert_allclose(
        [excess(row) for row in shown], [value for value in expected if value > 0][:5], rtol=1e-6
    )


def test_a_run_without_statistics_says_that_it_could_not(client: httpx.Client) -> None:
    found = _fire(client, "bare", order="excess")
    assert found["order"] == "sum"
    rows: list[dict[str, float]] = found["strongest"]  # pyright: ignore[reportAssignmentType]
    assert {row["mean_ci"] for row in rows} == {None}
