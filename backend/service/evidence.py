"""Evidence of components, as wire models, from a harvest."""

from __future__ import annotations

from backend.errors import ServiceError
from backend.evidence_schemas import Evidence, ExampleKind, ExamplePage
from backend.service.run import Run


def evidence(run: Run, key_text: str, *, k: int, subrun: str | None) -> Evidence:
    """Raises a 404 for what is no component, and a 409 without a harvest."""
    run.component(key_text)
    raise not_harvested(run)


def examples(
    run: Run,
    key_text: str,
    *,
    kind: ExampleKind,
    token: int | None,
    cursor: str | None,
    limit: int,
    subrun: str | None,
) -> ExamplePage:
    """A page of the examples kept; raises a 404 for a cursor of other examples, a 409 without a harvest."""
    run.component(key_text)
    raise not_harvested(run)


def not_harvested(run: Run) -> ServiceError:
    return ServiceError(
        409,
        "not_computed",
        f"The run {run.name} has no harvest yet",
        f"Run: tributary harvest {run.name}",
    )
