"""The application factory: routers, errors, security and the page. Nothing is opened here."""

from __future__ import annotations

from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute

from backend.errors import install_error_handlers
from backend.page import mount_page
from backend.routers import attribution, components, health, runs, tokens
from backend.security import SecurityMiddleware
from backend.service.library import Library
from backend.settings import Settings
from backend.version import version


def _operation_id(route: APIRoute) -> str:
    """``tag_name``: generated clients get ``components_sources`` and not a path in words."""
    return f"{route.tags[0]}_{route.name}"


def create_app(settings: Settings) -> FastAPI:
    """An application that serves the runs of ``settings``; cheap, so that the specification is too."""
    app = FastAPI(
        title="Tributary",
        version=version(),
        description="Dataset attributions between the components of a decomposed language model.",
        openapi_url="/api/openapi.json",
        docs_url=None,  # the framework's documentation pages load scripts from another host
        redoc_url=None,
        generate_unique_id_function=_operation_id,
    )
    app.state.library = Library(settings.runs, settings.only)
    install_error_handlers(app)
    api = APIRouter(prefix="/api")
    for noun in (health, runs, components, attribution, tokens):
        api.include_router(noun.router)
    app.include_router(api)
    mount_page(app, settings.page)
    app.add_middleware(SecurityMiddleware, settings=settings)
    return app
