"""Errors as the API returns them: every failed request has an :class:`ErrorBody`, whoever refused it."""

from __future__ import annotations

import logging
import re
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from backend.schemas import ErrorBody
from storage.errors import (
    ConflictError,
    DatabaseBusyError,
    DatabaseDamagedError,
    DatabaseError,
    InvalidValueError,
    NoModelError,
    NotComputedError,
    NoTokenizerError,
    RunError,
    StorageError,
    StoreDamagedError,
    UnknownKeyError,
    UnknownRecordError,
)

log = logging.getLogger("tributary")


class ServiceError(Exception):
    """A request that cannot be answered, for a reason that its sender can act on."""

    def __init__(self, status: int, code: str, message: str, hint: str) -> None:
        super().__init__(message)
        self.status = status
        self.body = ErrorBody(code=code, message=message, hint=hint)


class NothingMore(Exception):  # noqa: N818 (no error)
    """A stream of events has ended for its reader: 204 tells a browser not to connect again."""


#: What each error of the storage room is over HTTP: the first that fits.
_CODES: tuple[tuple[type[StorageError], int, str], ...] = (
    (UnknownKeyError, 404, "unknown_key"),
    (UnknownRecordError, 404, "unknown_record"),
    (NotComputedError, 409, "not_computed"),
    (NoModelError, 409, "no_model"),
    (NoTokenizerError, 409, "no_tokenizer"),
    (RunError, 409, "run_damaged"),
    (StoreDamagedError, 409, "store_damaged"),
    (ConflictError, 409, "changed_meanwhile"),
    (InvalidValueError, 422, "bad_input"),
    (DatabaseBusyError, 503, "busy"),
    (DatabaseDamagedError, 409, "store_damaged"),
    (DatabaseError, 503, "database_unavailable"),
    (StorageError, 409, "not_possible"),
)
_HINTS = {
    "not_computed": "Ask for another metric, direction or subrun.",
    "busy": "Ask again in a moment.",
    "database_unavailable": "Give another place for it with TRIBUTARY_DATABASE.",
    "unknown_record": "It may have been deleted; look at the list.",
    "changed_meanwhile": "Read it again and repeat the change.",
    "bad_input": "Correct the value.",
}


def _status_and_code(error: StorageError) -> tuple[int, str]:
    return next((status, code) for kind, status, code in _CODES if isinstance(error, kind))


def error_body(error: StorageError) -> ErrorBody:
    """An error of the storage room as it is sent."""
    code = _status_and_code(error)[1]
    verify = "Run `tributary verify` on this run to see what it has."
    return ErrorBody(code=code, message=error.message, hint=error.hint or _HINTS.get(code, verify))


def error_response(status: int, body: ErrorBody, headers: dict[str, str] | None = None) -> JSONResponse:
    return JSONResponse(body.model_dump(), status, headers)


def responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The error responses of a route, for the OpenAPI document: those named, and what any can have."""
    words = {
        400: "Malformed request",
        401: "Token missing or wrong",
        403: "Request from a foreign page",
        404: "Unknown run, subrun, key, site, cursor, record or job",
        405: "No such method here",
        409: "Not computed yet, damaged, or changed meanwhile",
        413: "Too large",
        422: "Bad input",
        500: "A fault of the server",
        503: "Busy",
    }
    return {
        status: {"model": ErrorBody, "description": words[status]}
        for status in sorted({400, 401, 403, 500, *statuses})
    }


def _validation_message(error: RequestValidationError) -> str:
    parts = []
    for item in error.errors()[:3]:
        where = ".".join(str(part) for part in item["loc"] if part not in ("query", "path", "body"))
        message = str(item["msg"]).removeprefix("Value error, ")
        parts.append(f"{where}: {message}" if where else message)
    return "; ".join(parts)


def _methods(app: FastAPI, path: str) -> list[str]:
    """The methods of all routes of the API at a path."""
    paths: dict[str, dict[str, Any]] = app.openapi()["paths"]
    return sorted(
        method.upper()
        for template, methods in paths.items()
        if re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", template), path)
        for method in methods
    )


def install_error_handlers(app: FastAPI) -> None:
    """Give every refusal of this application the same shape, those of the framework included."""

    @app.exception_handler(ServiceError)
    def _service_error(_: Request, error: ServiceError) -> JSONResponse:
        return error_response(error.status, error.body)

    @app.exception_handler(NothingMore)
    def _nothing_more(_: Request, __: NothingMore) -> Response:
        return Response(status_code=204)

    @app.exception_handler(StorageError)
    def _storage_error(_: Request, error: StorageError) -> JSONResponse:
        return error_response(_status_and_code(error)[0], error_body(error))

    @app.exception_handler(RequestValidationError)
    def _invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        body = ErrorBody(
            code="bad_input",
            message=_validation_message(error),
            hint="Correct the named value; /api/openapi.json lists what is accepted.",
        )
        return error_response(422, body)

    @app.exception_handler(HTTPException)
    def _http(request: Request, error: HTTPException) -> JSONResponse:
        headers = dict(error.headers or {})
        if error.status_code == 404:
            body = ErrorBody(
                code="unknown_route",
                message=f"There is nothing at {request.url.path[:200]}",
                hint="Look at /api/openapi.json for the routes there are.",
            )
        elif error.status_code == 405:
            # The framework names the methods of one of a path's routes only.
            methods = _methods(app, request.url.path)
            headers |= {"Allow": ", ".join(methods)} if methods else {}
            body = ErrorBody(
                code="method_not_allowed",
                message=f"{request.method} is not possible at {request.url.path[:200]}",
                hint="Use a method named in the Allow header.",
            )
        else:
            body = ErrorBody(code="bad_request", message=str(error.detail), hint="Correct the request.")
        return error_response(error.status_code, body, headers)

    @app.exception_handler(Exception)
    def _fault(request: Request, error: Exception) -> JSONResponse:
        log.error("%s %s failed", request.method, request.url.path, exc_info=error)
        body = ErrorBody(
            code="internal_error",
            message="The server failed on this request; this is a fault in Tributary.",
            hint="The server's log has the details; please report them.",
        )
        return error_response(500, body)
