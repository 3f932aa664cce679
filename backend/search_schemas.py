"""Wire models of searching the run's text."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from backend.schemas import Schema, Token

SearchMode = Literal["words", "exact"]
#: Tokens of context that may be asked for on each side, and hits on a page.
MAX_CONTEXT = 512
MAX_HITS_PAGE = 200


class SearchSpan(Schema):
    """Where a term stands in a hit's text."""

    term: int = Field(description="Which of terms it is; 0 in exact mode")
    start: int = Field(description="First character in left + match + right, counted in Unicode code points")
    end: int = Field(description="The character after its last")
    first: int = Field(description="Index in tokens of the first that it touches")
    last: int = Field(description="Index in tokens of the last that it touches")


class SearchHit(Schema):
    """One match, as tokens of the corpus: what is opened from it is what the model was given."""

    number: int = Field(description="Its place among the hits, from 0, in the order of the corpus")
    document: int
    title: str
    document_position: int = Field(description="Position of the first matched token in its document")
    position: int = Field(description="Position of the first matched token in the corpus")
    tokens: list[Token] = Field(description="The matched tokens with those around them, of one document")
    match_first: int = Field(description="Index in tokens of the first that the match touches")
    match_last: int = Field(description="Index in tokens of the last that the match touches")
    left: str = Field(description="The text of tokens before the match; a match may begin within a token")
    match: str
    right: str
    spans: list[SearchSpan] = Field(
        description="The match, and every place of the other terms near it that these tokens hold, in the order of "
        "the text. A term without a place here stands farther off: ask for more tokens"
    )


class SearchPage(Schema):
    run: str
    query: str
    mode: SearchMode = Field(
        description="As it was searched: signs alone, without a word, are searched as exact text"
    )
    match_case: bool
    document: int | None
    terms: list[str] = Field(description="What was understood; empty in exact mode")
    hits: list[SearchHit]
    total: int = Field(description="Hits found so far")
    ended: Literal["complete", "many", "time"] = Field(
        description="complete: total is exact. many: there are more than total, which is the most that is "
        "listed. time: the search stopped after seconds_limit; asking again goes on from there"
    )
    searched: float = Field(description="Share of the text that was searched")
    seconds_limit: float = Field(description="The longest that one request searches")
    next_cursor: int | None = Field(description="Number of the first hit of the next page")
    subrun: str = Field(description="The index that answered")
    tokens: int = Field(description="Tokens in the corpus")
    documents: int
    seconds: float


class SearchIndexInfo(Schema):
    """Whether the run's text can be searched already, and what it takes where it cannot."""

    run: str
    state: Literal["ready", "absent"]
    subrun: str | None
    tokens: int
    documents: int
    text_bytes: int | None = Field(description="Size of the text; null before it is indexed")
    disk_bytes: int | None = Field(description="Size of the index on disk, with its copy of the text")
    in_run: bool | None = Field(description="False where the run cannot be written to: beside the database")
    buildable: bool = Field(description="Whether the server builds it itself; else command does")
    command: str
    seconds: float
