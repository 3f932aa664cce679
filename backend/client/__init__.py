"""A client for notebooks: everything that the page does, with results as wire models and numpy.

    from backend.client import Client

    client = Client()                        # http://127.0.0.1:8642
    run = client.run("demo")
    graph = run.prompt("Once upon a time").graph(max_edges=20_000, progress=print)
    graph.edges.strongest(10).to_pandas()

Answers are the models of backend/schemas.py and the other *_schemas.py; columns are numpy arrays.
Raises :class:`ApiError` with the server's code, message and hint, :class:`JobFailedError` where a
computation ended without a result, and httpx's errors where there is no server. Ctrl-C while a
computation is waited for cancels it.
"""

from __future__ import annotations

from backend.client.bodies import logit_difference
from backend.client.columns import Edges, NodeColumns, read_edges
from backend.client.connection import Connection
from backend.client.errors import ApiError, JobFailedError
from backend.client.graph import Graph
from backend.client.label_sets import LabelSet
from backend.client.prompts import Prompt
from backend.client.run import Run
from backend.graph_schemas import Delta, GraphSettings
from backend.run_schemas import RunList
from backend.schemas import Health


class Client(Connection):
    """A connection to a server. Threads should not share one."""

    def health(self) -> Health:
        return self.read(Health, "/health")

    def runs(self) -> RunList:
        return self.read(RunList, "/runs")

    def run(self, name: str) -> Run:
        return Run(self, name)

    def graph(self, graph_id: int) -> Graph:
        """A graph by the number in its address."""
        return Graph.open(self, graph_id)


__all__ = [
    "ApiError",
    "Client",
    "Delta",
    "Edges",
    "Graph",
    "GraphSettings",
    "JobFailedError",
    "LabelSet",
    "NodeColumns",
    "Prompt",
    "Run",
    "logit_difference",
    "read_edges",
]
