"""Label sets taken away: as files, or for good."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response

from backend.dependencies import IdParam, OwnerDep, RunDep, WorkshopDep
from backend.errors import responses
from backend.label_set_schemas import LabelSetFile
from backend.service import label_set_files
from backend.service.label_sets import of_run
from backend.service.labelling import check_deleting

router = APIRouter(prefix="/runs/{run}/label-sets/{id}", tags=["label_sets"])
_ERRORS = responses(404, 409, 422, 503)


@router.get(
    "/export",
    response_class=Response,
    responses=_ERRORS
    | {
        200: {
            "description": "The labels of a set as JSON or CSV",
            "content": {
                "application/json": {"schema": {"$ref": "#/components/schemas/LabelSetFile"}},
                "text/csv": {"schema": {"type": "string"}},
            },
        }
    },
)
def export(
    run: RunDep,
    workshop: WorkshopDep,
    id: IdParam,  # noqa: A002 (the path's name)
    format: Annotated[label_set_files.Format, Query()] = "json",  # noqa: A002
) -> Response:
    """All labels of a set with their scores, who gave them and when, as a file."""
    store = workshop.database.label_sets
    name, media_type, content = label_set_files.export(store, run, of_run(store, run, id), format)
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return Response(content, media_type=media_type, headers=headers)


@router.delete("", status_code=204, responses=_ERRORS)
def delete(
    run: RunDep,
    workshop: WorkshopDep,
    id: IdParam,  # noqa: A002
    owner: OwnerDep,
) -> None:
    """Delete a set with all its answers, which were paid for. Only for the owner, and for good."""
    check_deleting(workshop.treasury, owner)
    store = workshop.database.label_sets
    store.delete(of_run(store, run, id).id)


#: Models that no route names as its parameter; the OpenAPI document needs them all the same.
EXTRA_MODELS = (LabelSetFile,)
