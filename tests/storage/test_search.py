"""Searching text: what is found is what a scan of every document finds, in tokens of the corpus."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from compute.progress import Cancelled
from storage import search as searching
from storage.corpus import Document, TokenCorpus, tokenize, train_tokenizer
from storage.errors import InvalidValueError, StoreDamagedError, UnknownRecordError
from storage.files import subruns
from storage.search import MAX_HITS, Reader, Search, Span
from storage.search_index import PART, SearchIndex, build_index, token_bytes
from storage.search_text import GAP, NEAR, Mode, fold, is_word, parse

#: Texts in which small mistakes show: cases that change length, two sigmas, combining marks, rows of signs.
WORDS = (  # noqa: SIM905 (a list of many short texts)
    "the river Rivers RIVER sea Sea seaside of a I don't don’t well-known naïve nai\u0308ve STRASSE straße "
    "Straße İstanbul istanbul ΣΟΦΟΣ σοφός σοφοσ 日本語 日本 😀 K kelvin Kelvin x_1 _ 42 § aa aaa aaaa"
).split(" ")
SIGNS = [
    " ",
    " ",
    " ",
    " ",
    ", ",
    ". ",
    "\n",
    "\n\n  ",
    " — ",
    "“",
    "” ",
    "-",
    "." * 40,
    " " * GAP,
    " " * (GAP + 1),
]


def made_up_documents(n: int, length: int, seed: int) -> list[Document]:
    rng = np.random.default_rng(seed)
    return [
        Document(
            f"document {i}",
            "",
            "".join(str(rng.choice(WORDS)) + str(rng.choice(SIGNS)) for _ in range(length * (1 + i % 3))),
        )
        for i in range(n)
    ]


class Indexed:
    """A corpus with its index, and the plain text of each document as the oracle reads it."""

    def __init__(self, documents: list[Document], folder: Path, vocab_size: int = 330) -> None:
        tokenizer = train_tokenizer([Document("", "", d.text[:20_000]) for d in documents], vocab_size)
        self.documents = documents
        self.corpus = tokenize(documents, tokenizer)
        self.table = token_bytes(tokenizer, tokenizer.get_vocab_size())
        self.index = build_index(self.corpus, self.table, "t" * 64, folder, {"made_by": "tests"})
        self.reader = Reader(self.index, self.corpus, self.table)
        #: For each byte of a document, the number of the character that begins there.
        self.characters = [
            dict(zip(np.cumsum([0, *(len(c.encode()) for c in document.text)]).tolist(), itertools.count()))
            for document in documents
        ]

    def find(self, query: str, mode: Mode, *, match_case: bool, document: int | None = None) -> Search:
        search = Search(self.index, parse(query, mode, match_case=match_case), document)
        assert search.advance(60.0) == ("many" if len(search) == MAX_HITS else "complete")
        return search


def bytewise(text: str, folder: Path) -> SearchIndex:
    """The index of one document whose tokens are its bytes."""
    tokens = np.frombuffer(b"\xff" + text.encode(), np.uint8).astype(np.int32)
    corpus = TokenCorpus(tokens, np.array([0, len(tokens)]), ("long",), 20)
    return build_index(corpus, [bytes([byte]) for byte in range(256)], "t" * 64, folder, {})


@pytest.fixture(scope="module")
def indexed(tmp_path_factory: pytest.TempPathFactory) -> Indexed:
    # About 40 KB: some ten blocks.
    return Indexed(made_up_documents(9, 250, 1), tmp_path_factory.mktemp("search"))


# ---- the oracle ---------------------------------------------------------------------------------


def scan(texts: list[str], query: str, mode: Mode, *, match_case: bool) -> list[tuple[int, int, int]]:
    """Document, first and last character (exclusive) of every match, by looking at every place."""
    fold_it = str if match_case else _fold_slowly
    found: list[tuple[int, int, int]] = []
    for number, original in enumerate(texts):
        text = fold_it(original)
        if mode == "exact":
            wanted = fold_it(query)
            found += [
                (number, i, i + len(wanted)) for i in range(len(text)) if text[i : i + len(wanted)] == wanted
            ]
        else:
            parsed = parse(query, "words", match_case=True).terms
            terms = [([fold_it(word) for word in term.words], term.open_end) for term in parsed]
            places = [list(_rows(text, words, open_end)) for words, open_end in terms]
            found += [
                (number, first, end)
                for first, end in places[0]
                if all(any(abs(other - first) <= NEAR for other, _ in more) for more in places[1:])
            ]
    return found


def _fold_slowly(text: str) -> str:
    lowered = [c.lower() if len(c.lower()) == 1 and c != "\u212a" else c for c in text]
    return "".join("σ" if c == "ς" else c for c in lowered)


def _rows(text: str, words: list[str], open_end: bool) -> Iterator[tuple[int, int]]:
    """Where words stand in a row in a text."""
    spans: list[tuple[int, int]] = []
    start = None
    for i, character in enumerate(text + " "):
        if is_word(character):
            start = i if start is None else start
        elif start is not None:
            spans.append((start, i))
            start = None
    for i in range(len(spans) - len(words) + 1):
        row = spans[i : i + len(words)]
        gaps = [b[0] - a[1] for a, b in itertools.pairwise(row)]
        there = [text[a:b] for a, b in row]
        last_fits = there[-1].startswith(words[-1]) if open_end else there[-1] == words[-1]
        if there[:-1] == words[:-1] and last_fits and all(gap <= GAP for gap in gaps):
            yield row[0][0], row[-1][1]


def found_characters(indexed: Indexed, search: Search) -> list[tuple[int, int, int]]:
    """Matches as the oracle gives them."""
    edges = indexed.index.documents
    found: list[tuple[int, int, int]] = []
    for i in range(len(search)):
        first, end = search.match(i)
        document = int(np.searchsorted(edges, first, side="right")) - 1
        start = int(edges[document]) + 1  # after the end-of-text byte
        characters = indexed.characters[document]
        found.append((document, characters[first - start], characters[end - start]))
    return found


def check(indexed: Indexed, query: str, mode: Mode, *, match_case: bool) -> int:
    search = indexed.find(query, mode, match_case=match_case)
    texts = [document.text for document in indexed.documents]
    assert found_characters(indexed, search) == scan(texts, query, mode, match_case=match_case)[:MAX_HITS]
    return len(search)


# ---- finding ------------------------------------------------------------------------------------


@pytest.mark.parametrize("match_case", [True, False])
@pytest.mark.parametrize(
    "query",
    ["river", "I", "of a", '"of a"', "sea*", "sea riv*", "don't", "don’t", "well-known", "naïve", "straße", "σοφοσ",
     "İstanbul", "istanbul", "日本*", "kelvin", '"river sea"', "x_1 42 river", "nothing", '"the', 'the"of', "a a"],
)  # fmt: skip
def test_words_are_what_a_scan_finds(indexed: Indexed, query: str, match_case: bool) -> None:
    found = check(indexed, query, "words", match_case=match_case)
    assert (found > 0) == (query != "nothing")


@pytest.mark.parametrize("match_case", [True, False])
@pytest.mark.parametrize(
    "query",
    ["river", "iv", "v", ", ", "\n\n  ", "aa", "a. s", "n't", "’", "本", "😀", "ΣΟΦΟΣ", " of ", "...........", "—", "zz",
     "<|endoftext|>", "%_*\\'\"", "\x00"],
)  # fmt: skip
def test_exact_text_is_what_a_scan_finds(indexed: Indexed, query: str, match_case: bool) -> None:
    check(indexed, query, "exact", match_case=match_case)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_query_is_what_a_scan_finds(indexed: Indexed, data: st.DataObject) -> None:
    mode: Mode = data.draw(st.sampled_from(["words", "exact"]))  # pyright: ignore[reportAssignmentType]
    text = indexed.documents[data.draw(st.integers(0, 8))].text
    start = data.draw(st.integers(0, len(text) - 1))
    cut = text[start : start + data.draw(st.integers(1, 60))]
    query = data.draw(
        st.sampled_from([cut, cut.upper(), cut.swapcase(), f'"{cut}"', cut + "*"])
        | st.text(st.sampled_from("river seaI'\"*-,. \nσΣß"), min_size=1, max_size=12)
        | st.text(min_size=1, max_size=6)
    )
    try:
        parsed = parse(query, mode, match_case=False)
    except InvalidValueError:
        return  # nothing in it, or half a character: both are said
    # Signs alone are searched as they stand.
    check(
        indexed,
        query if parsed.mode == mode else query.strip(),
        parsed.mode,
        match_case=data.draw(st.booleans()),
    )


def test_a_match_is_found_wherever_blocks_and_parts_end(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = [f"{number:09} " for number in rng.integers(0, 10**9, 440_000).tolist()]
    places = rng.choice(len(rows), 400, replace=False).tolist()
    for place in places:
        rows[place] = " Needle in hay, "
    index = bytewise("".join(rows), tmp_path)
    assert len(index.blocks) > PART + 2
    queries: list[tuple[str, Mode, int]] = [
        ("needle", "words", 400),
        ('"in hay"', "words", 400),
        ("le in h", "exact", 400),
        ('"hay, needle"', "words", sum(rows[i] == rows[i + 1] for i in places)),
    ]
    for query, mode, count in queries:
        search = Search(index, parse(query, mode, match_case=False))
        assert search.advance(60.0) == "complete"
        assert len(search) == count


def test_blocks_that_cannot_hold_a_match_are_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    index = bytewise(" ".join(map(str, rng.integers(0, 10**9, 60_000).tolist())) + " rare", tmp_path)
    read: list[int] = []
    text = SearchIndex.text

    def counted(index: SearchIndex, first: int, end: int) -> bytes:
        read.append(end - first)
        return text(index, first, end)

    monkeypatch.setattr(SearchIndex, "text", counted)
    for query, count in (("rare", 1), ("are and", 0), ("rarer", 0)):
        search = Search(index, parse(query, "words", match_case=False))
        assert search.advance(60.0) == "complete"
        assert len(search) == count
    assert sum(read) < 0.03 * index.n_bytes


def test_a_document_can_be_searched_alone(indexed: Indexed) -> None:
    everywhere = found_characters(indexed, indexed.find("river", "words", match_case=False))
    for number in (0, 4, 8):
        alone = indexed.find("river", "words", match_case=False, document=number)
        assert found_characters(indexed, alone) == [match for match in everywhere if match[0] == number] != []
    with pytest.raises(UnknownRecordError):
        indexed.find("river", "words", match_case=False, document=9)


def test_matches_do_not_cross_documents(tmp_path: Path) -> None:
    indexed = Indexed([Document("a", "", "the end"), Document("b", "", "of all")], tmp_path)
    assert len(indexed.find('"end of"', "words", match_case=False)) == 0
    assert len(indexed.find("end of", "words", match_case=False)) == 0
    assert len(indexed.find("the end", "words", match_case=False)) == 1
    assert len(indexed.find("dof", "exact", match_case=False)) == 0
    assert len(indexed.find("end", "words", match_case=False)) == 1
    assert len(indexed.find("all", "words", match_case=False)) == 1


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("old man", [(("old",), False), (("man",), False)]),
        ('"old man" sea', [(("old", "man"), False), (("sea",), False)]),
        ('"old man', [(("old", "man"), False)]),
        ("sea* (the) sea, sea", [(("sea",), True), (("the",), False), (("sea",), False)]),
        ("don't", [(("don", "t"), False)]),
        ('* - "" AND', [(("and",), False)]),
    ],
)
def test_what_is_typed_is_read_as(text: str, terms: list[tuple[tuple[str, ...], bool]]) -> None:
    assert [(term.words, term.open_end) for term in parse(text, "words", match_case=False).terms] == terms


def test_signs_alone_are_exact_text() -> None:
    assert parse(" —?! ", "words", match_case=False).literal == "—?!"
    assert parse(" —?! ", "exact", match_case=False).literal == " —?! "


# ---- tokens -------------------------------------------------------------------------------------


def test_a_hit_is_tokens_of_the_corpus(indexed: Indexed) -> None:
    search = indexed.find("iver", "exact", match_case=False)
    corpus = indexed.corpus
    for i in range(0, len(search), 7):
        hit = indexed.reader.hit(search.match(i), 5, 3)
        assert fold(hit.match) == "iver"
        first, end = hit.first, hit.first + len(hit.tokens)
        assert corpus.tokens[first:end].tolist() == list(hit.tokens)
        assert corpus.offsets[hit.document] <= first
        assert end <= corpus.offsets[hit.document + 1]
        assert hit.position == first + hit.match_first
        whole = b"".join(indexed.table[token] for token in hit.tokens).replace(b"\xff", b"")
        assert hit.left + hit.match + hit.right == whole.decode("utf-8", "replace")
        inside = hit.tokens[hit.match_first : hit.match_last + 1]
        # No smaller row of tokens has the whole match.
        assert "iver" in fold(b"".join(indexed.table[t] for t in inside).decode("utf-8", "replace"))
        for fewer in (inside[1:], inside[:-1]):
            assert "iver" not in fold(b"".join(indexed.table[t] for t in fewer).decode("utf-8", "replace"))


@pytest.mark.parametrize(
    "query", ["river sea*", "naïve istanbul", '"of a" RIVER', "aa a aaa", "river", "日本 😀", "sea sea*"]
)
@pytest.mark.parametrize("match_case", [True, False])
def test_every_term_near_a_match_is_told(indexed: Indexed, query: str, match_case: bool) -> None:
    search = indexed.find(query, "words", match_case=match_case)
    for i in range(0, len(search), 1 + len(search) // 15):
        hit = indexed.reader.hit(search.match(i), 360, 360, search.others(i))
        text, place = hit.left + hit.match + hit.right, len(hit.left)
        expected = [(0, place, place + len(hit.match))]
        # These tokens are more than any term near the match needs, and begin and end with no piece of one.
        for number, term in enumerate(parse(query, "words", match_case=match_case).terms[1:], 1):
            folded = text if match_case else _fold_slowly(text)
            rows = _rows(folded, list(term.words), term.open_end)
            expected += [(number, a, b) for a, b in rows if abs(a - place) <= NEAR]
        assert [(s.term, s.start, s.end) for s in hit.spans] == sorted(expected, key=lambda s: (s[1], s[0]))
        assert {span.term for span in hit.spans} == set(range(len(search.query.terms)))
        for span in hit.spans:
            inside = hit.tokens[span.first : span.last + 1]
            shown = b"".join(indexed.table[t] for t in inside).decode("utf-8", "replace")
            assert text[span.start : span.end] in shown
            few = indexed.reader.hit(search.match(i), 3, 3, search.others(i))
            whole = few.left + few.match + few.right
            # What is farther off is left out, what reaches beyond the tokens is cut.
            assert all(whole[s.start : s.end] and s.last < len(few.tokens) for s in few.spans)
            assert [s for s in few.spans if s.term == 0] == [
                Span(0, len(few.left), len(few.left) + len(few.match), few.match_first, few.match_last)
            ]


def test_terms_of_other_documents_are_not_near(tmp_path: Path) -> None:
    indexed = Indexed([Document("a", "", "sea sea"), Document("b", "", "sky sea wine-dark sky")], tmp_path)
    search = indexed.find("wine sea sky", "words", match_case=False)
    assert len(search) == 1
    hit = indexed.reader.hit(search.match(0), 99, 99, search.others(0))
    assert hit.left + hit.match + hit.right == "sky sea wine-dark sky"
    assert [(s.term, s.start, s.end) for s in hit.spans] == [(2, 0, 3), (1, 4, 7), (0, 8, 12), (2, 18, 21)]


# ---- limits -------------------------------------------------------------------------------------


def test_more_matches_than_are_kept(indexed: Indexed, monkeypatch: pytest.MonkeyPatch) -> None:
    everything = indexed.find("river", "words", match_case=False)
    monkeypatch.setattr(searching, "MAX_HITS", 40)
    monkeypatch.setattr(searching, "_PIECE", 4096)
    search = Search(indexed.index, parse("river", "words", match_case=False))
    assert search.advance(60.0) == "many"
    assert [search.match(i) for i in range(len(search))] == [everything.match(i) for i in range(40)]
    assert 0 < search.searched < 1


def test_a_search_that_takes_too_long_goes_on_where_it_stopped(
    indexed: Indexed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(searching, "_PIECE", 4096)
    everything = indexed.find("a", "exact", match_case=False)
    search = Search(indexed.index, parse("a", "exact", match_case=False))
    shares = []
    while search.advance(0.0) == "time":
        shares.append(search.searched)
        assert len(search) < len(everything)
    assert len(shares) > 5
    assert shares == sorted(set(shares))
    assert [search.match(i) for i in range(len(search))] == [
        everything.match(i) for i in range(len(everything))
    ]


@pytest.mark.parametrize(
    ("query", "words"),
    [("", "nothing to search"), ("  ", "nothing"), ("x" * 501, "500"), ("\ud800", "half"), ("a b c d e f g h i j k l m", "12")],
)  # fmt: skip
def test_queries_that_are_none(query: str, words: str) -> None:
    with pytest.raises(InvalidValueError, match=words):
        parse(query, "words", match_case=False)


# ---- files --------------------------------------------------------------------------------------


@pytest.mark.parametrize("file", ["text.bin", "grams.bin", "blocks.npy", "documents.npy", "manifest.json"])
def test_a_changed_byte_is_found(tmp_path: Path, file: str) -> None:
    indexed = Indexed(made_up_documents(2, 60, 2), tmp_path)
    path = indexed.index.path / file
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(StoreDamagedError, match=file):
        SearchIndex.open(indexed.index.path).verify()
    # A search never answers from a part that is damaged.
    with pytest.raises(StoreDamagedError, match=file):
        Search(SearchIndex.open(indexed.index.path), parse("sea", "words", match_case=False)).advance(60.0)


@pytest.mark.parametrize("file", ["text.bin", "grams.bin", "blocks.npy", "manifest.json"])
def test_a_missing_or_shortened_file_is_found(tmp_path: Path, file: str) -> None:
    path = Indexed(made_up_documents(2, 60, 2), tmp_path).index.path
    content = (path / file).read_bytes()
    (path / file).write_bytes(content[:-2])
    with pytest.raises(StoreDamagedError, match=file):
        SearchIndex.open(path)
    (path / file).unlink()
    with pytest.raises(StoreDamagedError, match=file):
        SearchIndex.open(path)


def test_what_is_stopped_leaves_nothing(indexed: Indexed, tmp_path: Path) -> None:
    seen: list[str] = []

    def stop(phase: str, done: int, total: int) -> None:
        seen.append(phase)
        if phase == "indexing text":
            raise Cancelled

    with pytest.raises(Cancelled):
        build_index(indexed.corpus, indexed.table, "t" * 64, tmp_path, {}, stop)
    assert "writing text" in seen
    assert list(tmp_path.iterdir()) == []


def test_an_index_is_of_one_corpus(indexed: Indexed) -> None:
    assert indexed.index.belongs_to(indexed.corpus.sha256, "t" * 64)
    assert not indexed.index.belongs_to(indexed.corpus.sha256, "u" * 64)
    other = TokenCorpus(
        indexed.corpus.tokens[::-1],
        indexed.corpus.offsets,
        indexed.corpus.titles,
        indexed.corpus.validation_every,
    )
    assert not indexed.index.belongs_to(other.sha256, "t" * 64)
    assert subruns(indexed.index.path.parent) == [indexed.index.subrun]
