"""Searching the run's text: indexes that are open, searches that go on, and hits as wire models."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from backend.errors import ServiceError
from backend.job_schemas import Job, JobResult
from backend.jobs import Priority, Progress
from backend.search_schemas import SearchHit, SearchIndexInfo, SearchMode, SearchPage, SearchSpan
from backend.service.run import Run
from backend.service.text import tokens
from backend.service.timing import Stopwatch
from storage.corpus import TokenCorpus
from storage.errors import StoreDamagedError
from storage.search import Reader, Search
from storage.search_index import Report, SearchIndex, find_index, token_bytes
from storage.search_text import Query, parse

if TYPE_CHECKING:
    from backend.service.workshop import Workshop

#: The longest that one request searches.
SECONDS = 3.0
#: Tokens of the largest corpus that the server indexes itself: about ten seconds on one core.
SERVED_TOKENS = 30_000_000
#: Searches whose hits are remembered; one has at most ten thousand.
_REMEMBERED = 24
#: Runs whose text is open.
_OPENED = 8

_Key = TypeVar("_Key")
_Value = TypeVar("_Value")


@dataclass(frozen=True)
class Source:
    """A run's corpus and what its tokens are as bytes."""

    corpus: TokenCorpus
    table: list[bytes]


class Searches:
    """What is open for searching; threads share one. ``beside`` holds indexes of runs that are read-only."""

    def __init__(self, beside: Path) -> None:
        self.beside = beside
        self._lock = threading.Lock()
        self._sources: OrderedDict[str, Source] = OrderedDict()
        self._readers: OrderedDict[str, Reader] = OrderedDict()
        self._searches: OrderedDict[Hashable, Search] = OrderedDict()

    def source(self, run: Run) -> Source:
        """Raises a 409 for a run that came without its text, and the storage room's errors."""
        with self._lock:
            found = self._sources.get(run.digest)
            if found is None:
                folder = run.directory.path / "corpus"
                if not folder.is_dir():
                    raise run.without_text()
                corpus = TokenCorpus.load(folder, mapped=True)
                found = Source(corpus, token_bytes(run.directory.tokenizer(), run.vocab_size))
            _keep(self._sources, run.digest, found, _OPENED)
            return found

    def reader(self, run: Run) -> Reader | None:
        """The newest index of the run's text, or ``None``; looked for on disk until there is one."""
        source = self.source(run)
        with self._lock:
            found = self._readers.get(run.digest)
            if found is None or not found.index.path.is_dir():
                index = find_index(run.directory, source.corpus, self.beside)
                if index is None:
                    return None
                found = Reader(index, source.corpus, source.table)
            _keep(self._readers, run.digest, found, _OPENED)
            return found

    def search(self, index: SearchIndex, query: Query, document: int | None) -> Search:
        """The search of a query, with what was found of it before."""
        key = (index.path, query, document)
        with self._lock:
            found = self._searches.get(key) or Search(index, query, document)
            _keep(self._searches, key, found, _REMEMBERED)
            return found

    def build(self, run: Run, report: Report) -> SearchIndex:
        """Index the run's text now; what was open of another index of it is let go."""
        from backend.pipelines.search_index import make_index

        index = make_index(run.directory, self.source(run).corpus, self.beside, report)
        with self._lock:
            self._readers.pop(run.digest, None)
        return index

    def sound(self, run: Run) -> Reader | None:
        """The same as :meth:`reader`, but ``None`` also where the index is known to be damaged."""
        try:
            found = self.reader(run)
        except StoreDamagedError:
            return None
        return None if found is None or found.index.damage is not None else found


def _keep(kept: OrderedDict[_Key, _Value], key: _Key, value: _Value, most: int) -> None:
    kept[key] = value
    kept.move_to_end(key)
    while len(kept) > most:
        kept.popitem(last=False)


def _command(run: Run) -> str:
    return f"tributary search-index {run.name}"


def index_info(searches: Searches, run: Run) -> SearchIndexInfo:
    """Whether the run's text can be searched."""
    watch = Stopwatch()
    corpus = searches.source(run).corpus
    reader = searches.reader(run)
    index = None if reader is None else reader.index
    return SearchIndexInfo(
        run=run.name,
        state="absent" if index is None else "ready",
        subrun=None if index is None else index.subrun,
        tokens=len(corpus.tokens),
        documents=corpus.n_documents,
        text_bytes=None if index is None else index.n_bytes,
        disk_bytes=None if index is None else index.size,
        in_run=None if index is None else index.path.is_relative_to(run.directory.path),
        buildable=len(corpus.tokens) <= SERVED_TOKENS,
        command=_command(run),
        seconds=watch.seconds,
    )


def request_index(workshop: Workshop, run: Run) -> Job:
    """A job that indexes the run's text; one that is done where there is an index already.

    An index can be made again at any time, so one that is damaged is replaced.
    """
    searches = workshop.searches
    reader = searches.sound(run)
    if reader is not None:
        return workshop.jobs.finished("search_index", run.name, JobResult(search_subrun=reader.index.subrun))
    count = len(searches.source(run).corpus.tokens)
    if count > SERVED_TOKENS:
        raise ServiceError(
            409,
            "not_computed",
            f"The text of {run.name} has {count:,} tokens, too many to be indexed by the server",
            f"Run: {_command(run)}",
        )

    def work(progress: Progress) -> JobResult:
        return JobResult(search_subrun=searches.build(run, progress.report).subrun)

    return workshop.jobs.submit("search_index", run.name, ("search_index", run.digest), Priority.GRAPH, work)


def search(
    searches: Searches,
    run: Run,
    q: str,
    *,
    mode: SearchMode,
    match_case: bool,
    document: int | None,
    cursor: int,
    limit: int,
    context: tuple[int, int],
    seconds: float | None = None,
) -> SearchPage:
    """The hits of a query from the one numbered ``cursor``, in the order of the corpus.

    It is searched for ``seconds`` at most, :data:`SECONDS` by default.
    """
    watch = Stopwatch()
    limit_s = SECONDS if seconds is None else seconds
    query = parse(q, mode, match_case=match_case)
    reader = searches.reader(run)
    if reader is None:
        raise ServiceError(
            409,
            "not_indexed",
            f"The text of {run.name} is not indexed yet",
            f"Run: {_command(run)}",
        )
    found = searches.search(reader.index, query, document)
    ended = found.advance(limit_s)
    total = len(found)
    end = min(cursor + limit, total)
    return SearchPage(
        run=run.name,
        query=q,
        mode=query.mode,
        match_case=match_case,
        document=document,
        terms=[" ".join(term.words) + "*" * term.open_end for term in query.terms],
        hits=[_hit(run, reader, found, number, context) for number in range(cursor, end)],
        total=total,
        ended=ended,
        searched=found.searched,
        seconds_limit=limit_s,
        next_cursor=end if cursor < end < total else None,
        subrun=reader.index.subrun,
        tokens=reader.index.tokens,
        documents=reader.index.n_documents,
        seconds=watch.seconds,
    )


def _hit(run: Run, reader: Reader, found: Search, number: int, context: tuple[int, int]) -> SearchHit:
    hit = reader.hit(found.match(number), *context, found.others(number))
    return SearchHit(
        number=number,
        document=hit.document,
        title=reader.corpus.titles[hit.document],
        document_position=hit.position - int(reader.corpus.offsets[hit.document]),
        position=hit.position,
        tokens=tokens(run, hit.tokens),
        match_first=hit.match_first,
        match_last=hit.match_last,
        left=hit.left,
        match=hit.match,
        right=hit.right,
        spans=[SearchSpan.model_validate(asdict(span)) for span in hit.spans],
    )
