"""The application factory: routers, errors, security and the page. Nothing is opened here."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from backend.errors import install_error_handlers
from backend.page import mount_page
from backend.routers import (
    attribution,
    circuits,
    clusters,
    components,
    evidence,
    graphs,
    health,
    interventions,
    jobs,
    label_set_files,
    label_sets,
    labelling,
    labels,
    openings,
    predictions,
    prompts,
    runs,
    search,
    tokens,
    toys,
)
from backend.security import SecurityMiddleware
from backend.service.library import Library
from backend.service.workshop import Workshop
from backend.settings import Settings
from backend.version import version


def _operation_id(route: APIRoute) -> str:
    """``tag_name``: generated clients get ``components_sources`` and not a path in words."""
    return f"{route.tags[0]}_{route.name}"


class _Application(FastAPI):
    """The framework's, whose document also has the models of streams and files."""

    def openapi(self) -> dict[str, Any]:
        if self.openapi_schema is None:
            document = super().openapi()
            extra: tuple[type[BaseModel], ...] = (
                *graphs.EXTRA_MODELS,
                *jobs.EXTRA_MODELS,
                *labels.EXTRA_MODELS,
                *label_set_files.EXTRA_MODELS,
            )
            _, found = models_json_schema(
                [(model, "validation") for model in extra], ref_template="#/components/schemas/{model}"
            )
            document["components"]["schemas"] = dict(
                sorted((found["$defs"] | document["components"]["schemas"]).items())
            )
            # The framework describes only its own streams by their events.
            stream = document["paths"]["/api/jobs/{id}/events"]["get"]["responses"]["200"]
            stream["content"] = {"text/event-stream": {"itemSchema": jobs.EVENT_SCHEMA}}
            self.openapi_schema = document
        return self.openapi_schema


def create_app(settings: Settings) -> FastAPI:
    """An application that serves the runs of ``settings``; cheap, so that the specification is too."""
    app = _Application(
        title="Tributary",
        version=version(),
        description="Attributions between the components of a decomposed language model: over a corpus, and live for one prompt.",
        openapi_url="/api/openapi.json",
        docs_url=None,  # the framework's documentation pages load scripts from another host
        redoc_url=None,
        generate_unique_id_function=_operation_id,
    )
    app.state.library = Library(settings.runs, settings.only)
    app.state.workshop = Workshop(settings, app.state.library)
    install_error_handlers(app)
    api = APIRouter(prefix="/api")
    nouns = (health, runs, components, evidence, clusters, attribution, tokens, search, toys)
    people = (labels, label_sets, label_set_files, labelling)
    computing = (predictions, graphs, interventions, circuits, jobs)
    for noun in (*nouns, prompts, openings, *computing, *people):
        api.include_router(noun.router)
    app.include_router(api)
    mount_page(app, settings.page)
    app.add_middleware(SecurityMiddleware, settings=settings)
    return app
