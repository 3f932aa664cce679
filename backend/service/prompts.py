"""Prompts as wire models."""

from __future__ import annotations

from backend.graph_schemas import PromptDetail
from backend.prompt_schemas import Prompt, PromptList, PromptOfText, PromptOfTokens
from backend.service import graphs
from backend.service.run import Run
from backend.service.text import token_ids, token_texts
from backend.service.timing import Stopwatch
from backend.service.workshop import Workshop
from storage.graph_records import PromptRecord


def _prompt(run: Run, record: PromptRecord, watch: Stopwatch) -> Prompt:
    return Prompt(
        id=record.id,
        run=run.name,
        text=record.text,
        token_ids=list(record.token_ids),
        tokens=token_texts(run, record.token_ids),
        title=record.title,
        created=record.created,
        graphs=record.graphs,
        seconds=watch.seconds,
    )


def add(workshop: Workshop, run: Run, request: PromptOfText | PromptOfTokens) -> tuple[Prompt, bool]:
    """The prompt of these tokens, and whether it is new; one that is there keeps its text and title."""
    watch = Stopwatch()
    ids, text = token_ids(run, request)
    record, created = workshop.database.add_prompt(run.name, run.digest, ids, text, request.title)
    return _prompt(run, record, watch), created


def list_prompts(workshop: Workshop, run: Run) -> PromptList:
    watch = Stopwatch()
    records = workshop.database.prompts(run.name, run.digest)
    return PromptList(
        run=run.name, prompts=[_prompt(run, record, watch) for record in records], seconds=watch.seconds
    )


def get(workshop: Workshop, run: Run, prompt_id: int) -> PromptDetail:
    watch = Stopwatch()
    record = workshop.prompt(run, prompt_id)
    return PromptDetail(
        id=record.id,
        run=run.name,
        text=record.text,
        token_ids=list(record.token_ids),
        tokens=token_texts(run, record.token_ids),
        title=record.title,
        created=record.created,
        graphs=[graphs.summary(graph) for graph in workshop.database.graphs(record.id)],
        seconds=watch.seconds,
    )


def rename(workshop: Workshop, run: Run, prompt_id: int, title: str) -> Prompt:
    watch = Stopwatch()
    workshop.prompt(run, prompt_id)
    return _prompt(run, workshop.database.rename_prompt(prompt_id, title), watch)


def delete(workshop: Workshop, run: Run, prompt_id: int) -> None:
    workshop.prompt(run, prompt_id)
    workshop.database.delete_prompt(prompt_id)
