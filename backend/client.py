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

import importlib
import json
import struct
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, TypeVar

import httpx
import numpy as np
from pydantic import BaseModel
from pydantic_core import to_json

from backend.circuit_schemas import Circuit, CircuitList, CircuitRequest, CircuitSnapshot
from backend.cluster_schemas import ClusteringDetail, ClusteringList
from backend.evidence_schemas import (
    DocumentPage,
    Evidence,
    ExampleKind,
    ExamplePage,
    FiringOrder,
    Firings,
)
from backend.graph_schemas import (
    CustomTarget,
    Delta,
    GraphDetail,
    GraphEstimate,
    GraphList,
    GraphMetric,
    GraphSettings,
    GraphSummary,
    Group,
    NodeEdges,
    NodeNote,
    PromptDetail,
    Workspace,
)
from backend.intervention_schemas import (
    Adversary,
    EdgeCheck,
    EdgeCheckRequest,
    Intervention,
    InterventionList,
    InterventionRequest,
    NodeChange,
    Regime,
)
from backend.job_schemas import Job, JobList, JobResult
from backend.label_schemas import ImportUndone, Label, LabelDetail, LabelImport, LabelList
from backend.prompt_schemas import Predictions, PromptList
from backend.prompt_schemas import Prompt as PromptModel
from backend.schemas import (
    AttributionValue,
    BatchResponse,
    ComponentCard,
    ComponentPage,
    ComponentSort,
    EntryList,
    ErrorBody,
    Health,
    Metric,
    OpeningList,
    RunDetail,
    RunList,
    Sign,
    TokenPage,
)
from backend.search_schemas import SearchIndexInfo, SearchMode, SearchPage

M = TypeVar("M", bound=BaseModel)
#: Seconds before a stream that was cut is taken up again.
_RECONNECT = 0.5
#: A prompt's text, or its token ids exactly.
TextOrIds = str | Sequence[int]
OnProgress = Callable[[Job], object]
OnSnapshot = Callable[[CircuitSnapshot], object]


class ApiError(Exception):
    """A request that the server refused."""

    def __init__(self, status: int, body: ErrorBody) -> None:
        super().__init__(f"{body.message} ({body.code}). {body.hint}")
        self.status = status
        self.body = body

    @property
    def code(self) -> str:
        return self.body.code


class JobFailedError(Exception):
    """A computation that failed or was cancelled; ``job`` says why."""

    def __init__(self, job: Job) -> None:
        reason = job.error.message if job.error else f"it was {job.state}"
        super().__init__(f"the {job.kind} was not computed: {reason}")
        self.job = job


class Client:
    """A connection to a server. Threads should not share one."""

    def __init__(
        self, url: str = "http://127.0.0.1:8642", *, token: str | None = None, timeout: float = 60.0
    ) -> None:
        """``token`` where the server asks for one (it is bound to more than loopback)."""
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        self.http = httpx.Client(base_url=f"{url.rstrip('/')}/api", headers=headers, timeout=timeout)

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self.http.close()

    # ---- requests ----

    def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Any request below /api; raises :class:`ApiError`."""
        answer = self.http.request(method, path, **options)
        _raise_refusal(answer)
        return answer

    def read(self, model: type[M], path: str, **parameters: Any) -> M:
        """GET as a wire model; parameters that are None are left out."""
        given = {name: value for name, value in parameters.items() if value is not None}
        return model.model_validate_json(self.request("GET", path, params=given).content)

    def send(self, model: type[M], method: str, path: str, body: BaseModel | Mapping[str, Any]) -> M:
        content = body.model_dump(mode="json") if isinstance(body, BaseModel) else dict(body)
        return model.model_validate_json(self.request(method, path, json=content).content)

    # ---- runs ----

    def health(self) -> Health:
        return self.read(Health, "/health")

    def runs(self) -> RunList:
        return self.read(RunList, "/runs")

    def run(self, name: str) -> Run:
        return Run(self, name)

    def graph(self, graph_id: int) -> Graph:
        """A graph by the number in its address."""
        return Graph(self, self.read(GraphDetail, f"/graphs/{graph_id}"))

    # ---- jobs ----

    def jobs(self) -> list[Job]:
        """Newest first."""
        return self.read(JobList, "/jobs").jobs

    def job(self, job_id: str) -> Job:
        return self.read(Job, f"/jobs/{job_id}")

    def cancel(self, job_id: str) -> Job:
        """Stop the computation itself."""
        return Job.model_validate_json(self.request("DELETE", f"/jobs/{job_id}").content)

    def wait(
        self, job: Job, progress: OnProgress | None = None, snapshot: OnSnapshot | None = None
    ) -> JobResult:
        """The result of a job, watched until its end; a stream that is cut is taken up where it was.

        Whatever ``progress`` or ``snapshot`` raises, and Ctrl-C, cancels the computation.
        """
        try:
            while job.state in ("queued", "running"):
                for event in self.events(job.id):
                    if isinstance(event, Job):
                        job = event
                        if progress is not None:
                            progress(job)
                    elif snapshot is not None:
                        snapshot(event)
        except BaseException:
            if job.state in ("queued", "running"):
                self.cancel(job.id)
            raise
        if job.result is None:
            raise JobFailedError(job)
        return job.result

    def events(self, job_id: str) -> Iterator[Job | CircuitSnapshot]:
        """What the server tells of a job, until its end."""
        last = ""
        while True:
            headers = {"Last-Event-ID": last} if last else {}
            try:
                with self.http.stream("GET", f"/jobs/{job_id}/events", headers=headers) as answer:
                    if not answer.is_success:
                        answer.read()
                    _raise_refusal(answer)
                    if answer.status_code == 204:
                        return
                    for number, name, data in _server_sent(answer.iter_lines()):
                        last = number
                        yield (CircuitSnapshot if name == "snapshot" else Job).model_validate_json(data)
                        if name == "end":
                            return
            except (httpx.RemoteProtocolError, httpx.ReadError, httpx.ReadTimeout):
                pass
            time.sleep(_RECONNECT)  # the next request shows whether the server is still there


def _raise_refusal(answer: httpx.Response) -> None:
    if answer.is_success:
        return
    try:
        body = ErrorBody.model_validate_json(answer.content)
    except ValueError:
        body = ErrorBody(code="not_tributary", message=f"{answer.url} answered {answer.status_code}", hint="")
    raise ApiError(answer.status_code, body)


def _server_sent(lines: Iterator[str]) -> Iterator[tuple[str, str, str]]:
    """(id, name, data) of server-sent events."""
    fields: dict[str, str] = {}
    for line in lines:
        if line.startswith(":"):
            continue
        if line:
            name, _, value = line.partition(":")
            fields[name] = value.removeprefix(" ")
        elif fields:
            yield fields.get("id", ""), fields.get("event", "message"), fields.get("data", "")
            fields = {}


class Run:
    """A run of the server: its components, tokens, prompts and graphs."""

    def __init__(self, client: Client, name: str) -> None:
        self._client = client
        self.name = name
        self._path = f"/runs/{name}"

    def detail(self) -> RunDetail:
        return self._client.read(RunDetail, self._path)

    # ---- over the corpus ----

    def components(
        self,
        *,
        site: str | None = None,
        q: str | None = None,
        fires_on: str | None = None,
        min_density: float | None = None,
        max_density: float | None = None,
        cluster: str | None = None,
        clustering: str | None = None,
        iteration: int | None = None,
        sort: ComponentSort = "key",
        cursor: str | None = None,
        limit: int = 200,
    ) -> ComponentPage:
        """One page of the table of components; ``next_cursor`` of a page asks for the next."""
        return self._client.read(
            ComponentPage,
            f"{self._path}/components",
            site=site,
            q=q,
            fires_on=fires_on,
            min_density=min_density,
            max_density=max_density,
            cluster=cluster,
            clustering=clustering,
            iteration=iteration,
            sort=sort,
            cursor=cursor,
            limit=limit,
        )

    def card(
        self, key: str, *, metric: Metric = "attr", k: int = 10, raw: bool = False, subrun: str | None = None
    ) -> ComponentCard:
        return self._client.read(
            ComponentCard, f"{self._path}/components/{key}", metric=metric, k=k, raw=raw, subrun=subrun
        )

    def cards(self, keys: Sequence[str], *, metric: Metric = "attr", k: int = 5) -> BatchResponse:
        """Up to 100 cards in one request."""
        body = {"keys": list(keys), "metric": metric, "k": k}
        return self._client.send(BatchResponse, "POST", f"{self._path}/components:batch", body)

    def clusterings(self) -> ClusteringList:
        """The clusterings of the run's components, newest first."""
        return self._client.read(ClusteringList, f"{self._path}/clusters")

    def clusters(self, iteration: int | None = None, *, clustering: str = "newest") -> ClusteringDetail:
        """Clusters with their members after so many merges, by default as they are shown on the page."""
        return self._client.read(ClusteringDetail, f"{self._path}/clusters/{clustering}", iteration=iteration)

    def evidence(self, key: str, *, k: int = 10, subrun: str | None = None) -> Evidence:
        """How often and how strongly it fires, on and before which tokens, and with which others."""
        return self._client.read(Evidence, f"{self._path}/components/{key}/evidence", k=k, subrun=subrun)

    def examples(
        self,
        key: str,
        kind: ExampleKind = "random",
        *,
        token: int | None = None,
        cursor: str | None = None,
        limit: int = 10,
        subrun: str | None = None,
    ) -> ExamplePage:
        """Places where it fires: drawn uniformly, or the strongest; ``next_cursor`` asks for the next page."""
        return self._client.read(
            ExamplePage,
            f"{self._path}/components/{key}/examples",
            kind=kind,
            token=token,
            cursor=cursor,
            limit=limit,
            subrun=subrun,
        )

    def document(
        self, number: int, *, start: int = 0, length: int = 512, key: str | None = None
    ) -> DocumentPage:
        """A part of a document of the corpus, with what the component ``key`` does at each token."""
        path = f"{self._path}/documents/{number}"
        return self._client.read(DocumentPage, path, start=start, length=length, key=key)

    def fire(
        self,
        text: TextOrIds,
        keys: Sequence[str] = (),
        *,
        k: int = 10,
        per_token: int = 3,
        order: FiringOrder = "sum",
    ) -> Firings:
        """What components do on any text: those asked for, and the ``k`` that fire most."""
        body = _source(text) | {"keys": list(keys), "k": k, "per_token": per_token, "order": order}
        return self._client.send(Firings, "POST", f"{self._path}/firings", body)

    def sources(self, key: str, **options: Any) -> EntryList:
        """Strongest sources over the corpus; options: metric, sign, k, raw, subrun."""
        return self._entries(key, "sources", **options)

    def targets(self, key: str, **options: Any) -> EntryList:
        return self._entries(key, "targets", **options)

    def _entries(
        self,
        key: str,
        direction: Literal["sources", "targets"],
        *,
        metric: Metric = "attr",
        sign: Sign = "positive",
        k: int = 10,
        raw: bool = False,
        subrun: str | None = None,
    ) -> EntryList:
        path = f"{self._path}/components/{key}/{direction}"
        return self._client.read(EntryList, path, metric=metric, sign=sign, k=k, raw=raw, subrun=subrun)

    def attribution(
        self, source: str, target: str, *, metric: Metric = "attr", raw: bool = False
    ) -> AttributionValue:
        """One edge over the corpus."""
        path = f"{self._path}/attribution"
        return self._client.read(AttributionValue, path, source=source, target=target, metric=metric, raw=raw)

    def tokens(self, q: str = "", limit: int = 50) -> TokenPage:
        return self._client.read(TokenPage, f"{self._path}/tokens", q=q, limit=limit)

    # ---- the run's text ----

    def search(
        self,
        q: str,
        *,
        mode: SearchMode = "words",
        case: bool = False,
        document: int | None = None,
        cursor: int = 0,
        limit: int = 50,
        left: int = 24,
        right: int = 24,
        progress: OnProgress | None = None,
    ) -> SearchPage:
        """Matches in the corpus, with the tokens around each; a small corpus is indexed on the way."""
        if self._client.read(SearchIndexInfo, f"{self._path}/search-index").state == "absent":
            self._client.wait(self._client.send(Job, "POST", f"{self._path}/search-index", {}), progress)
        return self._client.read(
            SearchPage,
            f"{self._path}/search",
            q=q,
            mode=mode,
            case=case,
            document=document,
            cursor=cursor,
            limit=limit,
            left=left,
            right=right,
        )

    # ---- prompts ----

    def openings(self, n: int = 4) -> OpeningList:
        """How some of the run's own documents begin."""
        return self._client.read(OpeningList, f"{self._path}/openings", n=n)

    def prompts(self) -> list[Prompt]:
        """Newest first."""
        found = self._client.read(PromptList, f"{self._path}/prompts").prompts
        return [Prompt(self._client, prompt) for prompt in found]

    def prompt(self, text: TextOrIds, title: str = "") -> Prompt:
        """Keep a prompt; the one of the same tokens where it is there already."""
        body = _source(text) | {"title": title}
        return Prompt(self._client, self._client.send(PromptModel, "POST", f"{self._path}/prompts", body))

    def predict(
        self,
        text: TextOrIds,
        *,
        k: int = 10,
        positions: Literal["last", "all"] = "last",
        q: str | None = None,
    ) -> Predictions:
        """Most probable next tokens; with ``q`` only those whose text contains it."""
        body = _source(text) | {"k": k, "positions": positions, "q": q}
        return self._client.send(Predictions, "POST", f"{self._path}/predictions", body)

    # ---- graphs ----

    def graphs(self) -> list[GraphSummary]:
        """Newest first; ``client.graph(id)`` opens one."""
        return self._client.read(GraphList, f"{self._path}/graphs").graphs

    def import_graph(self, document: Path | bytes | Mapping[str, Any]) -> Graph:
        """Read back what :meth:`Graph.export` wrote."""
        if isinstance(document, Path):
            content = document.read_bytes()
        else:
            content = document if isinstance(document, bytes) else json.dumps(document).encode()
        answer = self._client.request(
            "POST",
            f"{self._path}/graphs:import",
            content=content,
            headers={"Content-Type": "application/json"},
        )
        return self._client.graph(GraphSummary.model_validate_json(answer.content).id)

    # ---- labels ----

    def labels(self, q: str | None = None) -> dict[str, Label]:
        """Key → what the component is called; with ``q`` only those with all its words in them."""
        found = self._client.read(LabelList, f"{self._path}/labels", q=q)
        return {label.key: label for label in found.labels}

    def label_history(self, key: str) -> LabelDetail:
        """A label with every step that led to it."""
        return self._client.read(LabelDetail, f"{self._path}/labels/{key}")

    def label(
        self,
        key: str,
        *,
        name: str | None = None,
        text: str | None = None,
        rating: int | None = None,
        author: str = "",
    ) -> Label:
        """Say something of a component; what is not given stays.

        Raises an :class:`ApiError` of status 409 where somebody else did at the same moment.
        """
        now = self.label_history(key)
        body: dict[str, Any] = {} if now.label is None else now.label.model_dump()
        body = {field: body.get(field) for field in ("name", "text", "rating") if body.get(field) is not None}
        given = {"name": name, "text": text, "rating": rating}
        body |= {field: value for field, value in given.items() if value is not None}
        body |= {"version": now.version, "author": author}
        saved = self._client.send(LabelDetail, "PUT", f"{self._path}/labels/{key}", body).label
        if saved is None:
            raise ValueError("a label has a name, a text or a rating; delete_label takes one away")
        return saved

    def delete_label(self, key: str, *, author: str = "") -> None:
        """Say nothing of it any more; :meth:`undo_label` brings it back."""
        parameters = {"version": self.label_history(key).version, "author": author}
        self._client.request("DELETE", f"{self._path}/labels/{key}", params=parameters)

    def undo_label(self, key: str, *, author: str = "", redo: bool = False) -> Label | None:
        """Take the last step on a component back, whoever made it; ``None`` where nothing is said then."""
        body = {"key": key, "version": self.label_history(key).version, "author": author}
        verb = "redo" if redo else "undo"
        return self._client.send(LabelDetail, "POST", f"{self._path}/labels:{verb}", body).label

    def export_labels(self, path: Path | str) -> Path:
        """Write all labels to a file: CSV where its name ends so, else JSON."""
        target = Path(path)
        kind = "csv" if target.suffix.lower() == ".csv" else "json"
        parameters = {"format": kind}
        content = self._client.request("GET", f"{self._path}/labels:export", params=parameters).content
        target.write_bytes(content)
        return target

    def import_labels(
        self, file: Path | str | bytes, *, author: str = "", existing: Literal["keep", "replace"] = "keep"
    ) -> LabelImport:
        """Read labels from a file, or its content; the report says what became of every line."""
        content = file if isinstance(file, bytes) else Path(file).read_bytes()
        parameters = {"author": author, "existing": existing}
        path = f"{self._path}/labels:import"
        answer = self._client.request("POST", path, content=content, params=parameters)
        return LabelImport.model_validate_json(answer.content)

    def undo_import(self, report: LabelImport | int, *, author: str = "", redo: bool = False) -> ImportUndone:
        """Take an import back wherever nobody changed the label since; by its report or its step."""
        step = report if isinstance(report, int) else report.step
        if step is None:
            raise ValueError("this import changed nothing")
        path = f"{self._path}/label-imports/{step}/{'redo' if redo else 'undo'}"
        return self._client.send(ImportUndone, "POST", path, {"author": author})


def _source(text: TextOrIds) -> dict[str, Any]:
    return {"text": text} if isinstance(text, str) else {"token_ids": [int(token) for token in text]}


@dataclass
class Prompt:
    """A prompt that is kept. ``model`` is what the server says of it."""

    _client: Client = field(repr=False)
    model: PromptModel

    @property
    def id(self) -> int:
        return self.model.id

    @property
    def tokens(self) -> list[str]:
        return self.model.tokens

    @property
    def token_ids(self) -> list[int]:
        return self.model.token_ids

    @property
    def _run(self) -> str:
        return f"/runs/{self.model.run}"

    def rename(self, title: str) -> None:
        path = f"{self._run}/prompts/{self.id}"
        self.model = self._client.send(PromptModel, "PATCH", path, {"title": title})

    def delete(self) -> None:
        """With its graphs, circuits, interventions, pins and notes."""
        self._client.request("DELETE", f"{self._run}/prompts/{self.id}")

    def predict(
        self, *, k: int = 10, positions: Literal["last", "all"] = "last", q: str | None = None
    ) -> Predictions:
        return Run(self._client, self.model.run).predict(self.token_ids, k=k, positions=positions, q=q)

    def graphs(self) -> list[GraphSummary]:
        """Newest first."""
        return self._client.read(PromptDetail, f"{self._run}/prompts/{self.id}").graphs

    def estimate(self, settings: GraphSettings | None = None, **options: Any) -> GraphEstimate:
        """How large a graph would be; settings as in :meth:`graph`."""
        body = {"prompt_id": self.id, "settings": _settings(settings, options)}
        return self._client.send(GraphEstimate, "POST", f"{self._run}/graphs:estimate", body)

    def graph(
        self,
        settings: GraphSettings | None = None,
        *,
        circuit_id: int | None = None,
        title: str = "",
        progress: OnProgress | None = None,
        **options: Any,
    ) -> Graph:
        """Compute a graph and wait for it, or take the stored one of the same settings.

        Settings as a :class:`GraphSettings` or by name: ``delta``, ``alive_above``, ``max_edges`` …
        """
        job = self.start_graph(settings, circuit_id=circuit_id, title=title, **options)
        result = self._client.wait(job, progress)
        assert result.graph_id is not None
        return self._client.graph(result.graph_id)

    def start_graph(
        self,
        settings: GraphSettings | None = None,
        *,
        circuit_id: int | None = None,
        title: str = "",
        **options: Any,
    ) -> Job:
        """As :meth:`graph` without waiting; ``client.wait`` and ``client.cancel`` take the job."""
        body = {
            "prompt_id": self.id,
            "settings": _settings(settings, options),
            "circuit_id": circuit_id,
            "title": title,
        }
        return self._client.send(Job, "POST", f"{self._run}/graphs", body)


def _settings(settings: GraphSettings | None, options: Mapping[str, Any]) -> dict[str, Any]:
    base = {} if settings is None else settings.model_dump(mode="json")
    return _strictly(GraphSettings, base | dict(options)).model_dump(mode="json")


def _strictly(model: type[M], values: Mapping[str, Any]) -> M:
    """What the server would read: tuples count as lists, models as their fields."""
    return model.model_validate_json(to_json(dict(values)))


def logit_difference(name: str, position: int, token_id: int, other_id: int) -> CustomTarget:
    """A target: the logit of one token minus that of another at the same position."""
    return CustomTarget.model_validate(
        {
            "name": name,
            "terms": [
                {"position": position, "token_id": token_id, "weight": 1.0},
                {"position": position, "token_id": other_id, "weight": -1.0},
            ],
        }
    )


def _pandas() -> Any:
    """pandas, which is not among the dependencies."""
    try:
        return importlib.import_module("pandas")
    except ModuleNotFoundError:
        raise ModuleNotFoundError("data frames need pandas: pip install pandas", name="pandas") from None


@dataclass(frozen=True)
class NodeColumns:
    """The nodes of a graph, n of them, as columns; numbers of nodes count from 0."""

    keys: list[str]
    columns: dict[str, np.ndarray]
    labels: dict[int, str]

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, name: str) -> np.ndarray:
        """``site``, ``position``, ``index``, ``ci``, ``activation``, ``scale``, ``probability``, ``logit``,
        ``ci_probability`` or ``ci_logit``; NaN where a node has none."""
        return self.columns[name]

    @cached_property
    def number(self) -> dict[str, int]:
        """Key → number."""
        return {key: number for number, key in enumerate(self.keys)}

    def to_pandas(self) -> Any:
        """A data frame with one row for each node; needs pandas."""
        labels = [self.labels.get(number) for number in range(len(self))]
        return _pandas().DataFrame({"key": self.keys, "label": labels, **self.columns})


@dataclass(frozen=True)
class Edges:
    """Edges as columns, m of them, in the order of targets, then sources.

    ``source`` and ``target`` are numbers of nodes, ``attr`` and ``attr_abs`` raw values; ``total`` is
    how many edges the graph has and ``left_out`` the share of their summed strength that is not here.
    """

    source: np.ndarray
    target: np.ndarray
    attr: np.ndarray
    attr_abs: np.ndarray
    total: int
    left_out: float
    nodes: NodeColumns = field(repr=False)

    def __len__(self) -> int:
        return len(self.source)

    def strength(self, metric: GraphMetric = "attr") -> np.ndarray:
        """Values in units of the target's shown activation (logits for outputs), as the page shows them."""
        values = self.attr if metric == "attr" else self.attr_abs
        return values.astype(np.float64) * self.nodes["scale"][self.target]

    def strongest(self, k: int, metric: GraphMetric = "attr") -> Edges:
        """The k strongest, strongest first."""
        strength = np.abs(self.strength(metric))
        order = np.argsort(-strength, kind="stable")[:k]
        whole = float(strength.sum())
        kept = float(strength[order].sum()) / whole if whole else 1.0
        return Edges(
            self.source[order],
            self.target[order],
            self.attr[order],
            self.attr_abs[order],
            self.total,
            1 - kept * (1 - self.left_out),
            self.nodes,
        )

    def to_pandas(self) -> Any:
        """A data frame with one row for each edge and the keys of its ends; needs pandas."""
        keys = np.asarray(self.nodes.keys, dtype=object)
        return _pandas().DataFrame(
            {
                "source": keys[self.source],
                "target": keys[self.target],
                "attr": self.attr,
                "attr_abs": self.attr_abs,
                "strength": self.strength(),
            }
        )


def read_edges(content: bytes, nodes: NodeColumns) -> Edges:
    """The binary columns of docs/graph-format.md."""
    if content[:8] != b"TRIBGRF1" or len(content) < 24:
        raise ValueError("these are no edges of a Tributary graph")
    n, total, left_out = struct.unpack("<IId", content[8:24])
    if len(content) != 24 + 16 * n:
        raise ValueError("the edges are not complete")
    source, target, attr, attr_abs = (
        np.frombuffer(content, kind, n, 24 + 4 * n * i) for i, kind in enumerate(("<u4", "<u4", "<f4", "<f4"))
    )
    return Edges(source, target, attr, attr_abs, total, left_out, nodes)


class Graph:
    """A graph that is stored, and what can be done with it. ``detail`` is what the server says of it."""

    def __init__(self, client: Client, detail: GraphDetail) -> None:
        self._client = client
        self.detail = detail
        self._path = f"/graphs/{detail.id}"

    def __repr__(self) -> str:
        tokens = "|".join(token.text for token in self.detail.tokens)
        return f"<graph {self.id} of {tokens!r}: {len(self.nodes):,} nodes, {self.detail.n_edges:,} edges>"

    @property
    def id(self) -> int:
        return self.detail.id

    @cached_property
    def nodes(self) -> NodeColumns:
        nodes, names = self.detail.nodes, {-1: "delta", -2: "bias"}
        keys = [
            f"{self.detail.addresses[site]}:{position}:{names.get(index, index)}"
            for site, position, index in zip(nodes.site, nodes.position, nodes.index, strict=True)
        ]
        columns = {
            name: np.array(getattr(nodes, name), dtype=np.int64)
            if name in ("site", "position", "index")
            else np.array(getattr(nodes, name), dtype=np.float64)
            for name in type(nodes).model_fields
        }
        return NodeColumns(keys, columns, {int(n): text for n, text in self.detail.labels.items()})

    @cached_property
    def edges(self) -> Edges:
        """All stored edges."""
        return self.top_edges(None)

    def top_edges(self, top: int | None, metric: GraphMetric = "attr") -> Edges:
        """Only the strongest, for which the server sends no more."""
        parameters = {"metric": metric} | ({} if top is None else {"top": top})
        return read_edges(
            self._client.request("GET", f"{self._path}/edges", params=parameters).content, self.nodes
        )

    def node_edges(self, key: str, *, metric: GraphMetric = "attr", k: int = 10) -> NodeEdges:
        """The strongest sources and targets of a node."""
        number = self.nodes.number[key]
        return self._client.read(NodeEdges, f"{self._path}/nodes/{number}/edges", metric=metric, k=k)

    def update(self, *, title: str | None = None, note: str | None = None) -> None:
        self._client.send(GraphSummary, "PATCH", self._path, {"title": title, "note": note})
        self.detail = self._client.read(GraphDetail, self._path)

    def delete(self) -> None:
        self._client.request("DELETE", self._path)

    # ---- workspace ----

    def workspace(self) -> Workspace:
        return self._client.read(Workspace, f"{self._path}/workspace")

    def save_workspace(
        self,
        *,
        pins: Sequence[str] | None = None,
        groups: Mapping[str, Sequence[str]] | None = None,
        notes: Mapping[str, str] | None = None,
    ) -> Workspace:
        """Replace pins, groups (name → keys) or notes (key → text); what is not given stays.

        Raises an :class:`ApiError` of status 409 where somebody else saved at the same moment.
        """
        now = self.workspace()
        ids = {group.name: group.id for group in now.groups}
        wanted = Workspace(
            version=now.version,
            pins=now.pins if pins is None else list(pins),
            groups=now.groups
            if groups is None
            else [
                Group(id=ids.get(name, f"group-{i}-{now.version}"), name=name, members=list(members))
                for i, (name, members) in enumerate(groups.items())
            ],
            notes=now.notes if notes is None else [NodeNote(key=k, text=text) for k, text in notes.items()],
        )
        return self._client.send(Workspace, "PUT", f"{self._path}/workspace", wanted)

    # ---- files ----

    def export(self, path: Path | str, format: Literal["json", "csv"] = "json") -> Path:  # noqa: A002
        """Write the graph to a file: everything as JSON, or its edges as CSV."""
        target = Path(path)
        with (
            self._client.http.stream("GET", f"{self._path}/export", params={"format": format}) as answer,  # pyright: ignore[reportPrivateUsage]
        ):
            if not answer.is_success:
                answer.read()
            _raise_refusal(answer)
            with target.open("wb") as file:
                for chunk in answer.iter_bytes():
                    file.write(chunk)
        return target

    # ---- interventions ----

    def intervene(
        self,
        selected: Sequence[str] = (),
        *,
        regimes: Sequence[Regime] = ("ci", "stochastic", "adversarial", "target_sans"),
        changes: Mapping[str, float] | None = None,
        seed: int = 0,
        adversary_steps: int = 4,
        adversary_step_size: float = 1.0,
        progress: OnProgress | None = None,
    ) -> Intervention:
        """Predictions with the selected nodes in each regime, and with single nodes scaled (key → factor)."""
        request = InterventionRequest(
            selected=list(selected),
            regimes=list(regimes),
            changes=[NodeChange(key=key, factor=factor) for key, factor in (changes or {}).items()],
            seed=seed,
            adversary=Adversary(steps=adversary_steps, step_size=adversary_step_size),
        )
        job = self._client.send(Job, "POST", f"{self._path}/interventions", request)
        result = self._client.wait(job, progress)
        return self._client.read(Intervention, f"/interventions/{result.intervention_id}")

    def ablate(self, *keys: str) -> Intervention:
        """What the target model predicts without these nodes."""
        return self.intervene(regimes=(), changes=dict.fromkeys(keys, 0.0))

    def interventions(self) -> list[Intervention]:
        """Newest first."""
        return self._client.read(InterventionList, f"{self._path}/interventions").interventions

    def delete_intervention(self, intervention_id: int) -> None:
        self._client.request("DELETE", f"/interventions/{intervention_id}")

    def check_edge(self, source: str, target: str, epsilon: float = 0.01) -> EdgeCheck:
        """Perturb the source; compare what the edge predicts with what the target does."""
        request = EdgeCheckRequest(source=source, target=target, epsilon=epsilon)
        return self._client.send(EdgeCheck, "POST", f"{self._path}/edges:check", request)

    # ---- circuits ----

    def find_circuits(
        self,
        coefficients: Sequence[float] | None = None,
        *,
        progress: OnProgress | None = None,
        snapshot: OnSnapshot | None = None,
        **options: Any,
    ) -> list[Circuit]:
        """Optimise one sparse circuit for each coefficient; options as in ``CircuitRequest``."""
        given = options if coefficients is None else options | {"coefficients": list(coefficients)}
        request = _strictly(CircuitRequest, given)
        job = self._client.send(Job, "POST", f"{self._path}/circuits", request)
        ids = self._client.wait(job, progress, snapshot).circuit_ids or []
        return [self.circuit(circuit_id) for circuit_id in ids]

    def circuits(self) -> list[Circuit]:
        """Newest first."""
        return self._client.read(CircuitList, f"{self._path}/circuits").circuits

    def circuit(self, circuit_id: int) -> Circuit:
        return self._client.read(Circuit, f"/circuits/{circuit_id}")

    def delete_circuit(self, circuit_id: int) -> None:
        """With the graphs that were computed from it."""
        self._client.request("DELETE", f"/circuits/{circuit_id}")

    def open_circuit(self, circuit_id: int, progress: OnProgress | None = None) -> Graph:
        """The graph of a circuit: same prompt and settings, importance from the circuit."""
        body = {
            "prompt_id": self.detail.prompt_id,
            "circuit_id": circuit_id,
            "settings": self.detail.settings.model_dump(mode="json"),
        }
        job = self._client.send(Job, "POST", f"/runs/{self.detail.run}/graphs", body)
        result = self._client.wait(job, progress)
        assert result.graph_id is not None
        return self._client.graph(result.graph_id)


__all__ = [
    "ApiError",
    "Client",
    "Delta",
    "Edges",
    "Graph",
    "GraphSettings",
    "JobFailedError",
    "NodeColumns",
    "Prompt",
    "Run",
    "logit_difference",
    "read_edges",
]
