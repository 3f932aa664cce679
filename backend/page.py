"""The built page: its files from a list made on disk, and index.html for every address of the page.

A request's path is only ever looked up in that list, so it cannot name another file. Files under
``/assets`` carry a hash of their content in their name and may be kept for ever; index.html, which
names them, is asked for anew each time.
"""

from __future__ import annotations

import mimetypes
from pathlib import Path

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import FileResponse, Response

from backend.errors import ServiceError

_FOREVER = "public, max-age=31536000, immutable"


class Page:
    """The files of one build; read again when the page has been built anew."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._built: float | None = None
        self._files: dict[str, Path] = {}

    def _refresh(self) -> None:
        index = self._folder / "index.html"
        built = index.stat().st_mtime if index.is_file() else None
        if built != self._built or built is None:
            self._built = built
            found = sorted(self._folder.rglob("*")) if built is not None else []
            root = self._folder.resolve()
            self._files = {
                "/" + file.relative_to(self._folder).as_posix(): file
                for file in found
                if file.is_file() and file.resolve().is_relative_to(root)
            }

    def find(self, path: str) -> Path | None:
        """The file for a path; index.html for addresses of the page; ``None`` where there is none."""
        self._refresh()
        if path in self._files:
            return self._files[path]
        if path.startswith("/assets/") or "." in path.removeprefix("/").partition("/")[0]:
            return None
        return self._files.get("/index.html")


def mount_page(app: FastAPI, folder: Path) -> None:
    """Serve the page at every path that is not the API's."""
    page = Page(folder)

    def serve(request: Request) -> Response:
        path = request.url.path
        if path == "/api" or path.startswith("/api/"):
            raise ServiceError(
                404,
                "unknown_route",
                f"There is nothing at {path[:200]}",
                "Look at /api/openapi.json for the routes there are.",
            )
        file = page.find(path)
        if file is None:
            built = page.find("/") is not None
            raise ServiceError(
                404,
                "unknown_file" if built else "page_not_built",
                f"There is no {path[:200]} on this page" if built else "The page has not been built",
                "Start at /." if built else "Run `make setup`; the API answers under /api all the same.",
            )
        kind = mimetypes.guess_type(file.name)[0] or "application/octet-stream"
        cache = _FOREVER if path.startswith("/assets/") else "no-cache"
        return FileResponse(file, media_type=kind, headers={"Cache-Control": cache})

    app.add_route("/{path:path}", serve, methods=["GET", "HEAD"], include_in_schema=False)
