"""Labels: what people call components, with undo, and as files."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Path, Query, Request, Response
from fastapi.concurrency import run_in_threadpool

from backend.dependencies import KeyParam, RunDep, WorkshopDep
from backend.errors import responses
from backend.label_schemas import (
    Author,
    ImportUndo,
    ImportUndone,
    LabelChange,
    LabelDetail,
    LabelFile,
    LabelImport,
    LabelList,
    LabelUndo,
    PastImportList,
    Version,
)
from backend.service import label_files, labels

router = APIRouter(prefix="/runs/{run}", tags=["labels"])
_ERRORS = responses(404, 409, 422, 503)
_CHANGES = responses(404, 409, 413, 422, 503)
_StepParam = Annotated[int, Path(ge=1, lt=2**63, description="As the answer to an import names it")]
_AuthorParam = Annotated[Author, Query()]


@router.get("/labels", name="list", response_model=LabelList, responses=_ERRORS)
def list_all(
    run: RunDep,
    workshop: WorkshopDep,
    request: Request,
    response: Response,
    q: Annotated[
        str | None, Query(max_length=200, description="Only labels with all these words in them")
    ] = None,
) -> LabelList | Response:
    """All labels of the run as it is now: what a page needs to call components by their names.

    With an ETag: who sends it back as If-None-Match gets a 304 where nothing was changed.
    """
    tag = f'"{labels.revision(workshop, run)}"'
    # A browser may keep it and must ask whether it is still so; then nothing is sent again.
    headers = {"ETag": tag, "Cache-Control": "no-cache"}
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=headers)
    response.headers.update(headers)
    return labels.list_labels(workshop, run, q)


@router.get("/label-imports", responses=_ERRORS)
def imports(run: RunDep, workshop: WorkshopDep) -> PastImportList:
    """The last imports of files, and whether they can be undone."""
    return labels.imports(workshop, run)


@router.post("/label-imports/{step}/undo", responses=_CHANGES)
def undo_import(run: RunDep, workshop: WorkshopDep, step: _StepParam, request: ImportUndo) -> ImportUndone:
    """Take an import back wherever nobody changed the label since."""
    return labels.undo_import(workshop, run, step, request.author)


@router.post("/label-imports/{step}/redo", responses=_CHANGES)
def redo_import(run: RunDep, workshop: WorkshopDep, step: _StepParam, request: ImportUndo) -> ImportUndone:
    """Bring an import back that was undone."""
    return labels.undo_import(workshop, run, step, request.author, redo=True)


@router.get("/labels/{key}", responses=_ERRORS)
def get(run: RunDep, workshop: WorkshopDep, key: KeyParam) -> LabelDetail:
    """What people said of one component, with its history; version 0 where that is nothing yet."""
    return labels.get(workshop, run, key)


@router.put("/labels/{key}", responses=_CHANGES)
def save(run: RunDep, workshop: WorkshopDep, key: KeyParam, request: LabelChange) -> LabelDetail:
    """Say something else of a component; a 409 where somebody did since the version that was read."""
    return labels.save(workshop, run, key, request)


@router.delete("/labels/{key}", responses=_ERRORS)
def delete(
    run: RunDep,
    workshop: WorkshopDep,
    key: KeyParam,
    version: Annotated[Version, Query()],
    author: _AuthorParam = "",
) -> LabelDetail:
    """Say nothing any more. What was said stays in the history, and undo brings it back."""
    return labels.save(workshop, run, key, LabelChange(version=version, author=author))


@router.post("/labels:undo", responses=_CHANGES)
def undo(run: RunDep, workshop: WorkshopDep, request: LabelUndo) -> LabelDetail:
    """Take the last step on a component back, whoever made it."""
    return labels.undo(workshop, run, request)


@router.post("/labels:redo", responses=_CHANGES)
def redo(run: RunDep, workshop: WorkshopDep, request: LabelUndo) -> LabelDetail:
    """Bring the step back that was undone last."""
    return labels.undo(workshop, run, request, redo=True)


@router.get(
    "/labels:export",
    response_class=Response,
    responses=_ERRORS
    | {
        200: {
            "description": "The labels of people as JSON or CSV",
            "content": {
                "application/json": {"schema": {"$ref": "#/components/schemas/LabelFile"}},
                "text/csv": {"schema": {"type": "string"}},
            },
        }
    },
)
def export(
    run: RunDep,
    workshop: WorkshopDep,
    format: Annotated[label_files.Format, Query(description="Both can be imported again")] = "json",  # noqa: A002
    earlier: Annotated[
        bool, Query(description="Instead those from before the run was made again, which nothing shows")
    ] = False,
) -> Response:
    """The labels of people as a file, with who and when."""
    name, media_type, content = label_files.export(workshop, run, format, earlier=earlier)
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return Response(content, media_type=media_type, headers=headers)


@router.post(
    "/labels:import",
    name="import",
    responses=_CHANGES,
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {
                # Whatever is in a file is taken line by line as far as it can be.
                "application/json": {"schema": {}},
                "text/csv": {"schema": {}},
            },
        }
    },
)
async def import_labels(
    run: RunDep,
    workshop: WorkshopDep,
    request: Request,
    author: _AuthorParam = "",
    existing: Annotated[
        Literal["keep", "replace"], Query(description="Where a component has another label already")
    ] = "keep",
) -> LabelImport:
    """Read labels from a file as one step: a LabelFile, a list of its labels, or CSV.

    What cannot be taken is reported line by line.
    """
    content = await request.body()
    return await run_in_threadpool(label_files.import_labels, workshop, run, content, author, existing)


#: Models that no route names as its parameter; the OpenAPI document needs them all the same.
EXTRA_MODELS = (LabelFile,)
