"""Searching text: making the index, and queries of several kinds, on the bundled run and on a made-up corpus.

    python benchmarks/search.py [--megabytes 200] [--queries 240] [--folder DIR] [--fts5 16]

The made-up corpus has words of syllables whose frequencies fall as those of a language do (60,000 of
them, rank to the power of −1.05), sentences, paragraphs and documents of about 2,000 tokens; a token is
a word with the space before it. Indexing and searching are processes of their own, so that the peak
memory of each is its own; mapped pages of the index count in it. Every query is asked for its first 50
hits with 32 tokens on both sides, as the page asks; a search ends at 10,000 hits or after 3 s. *Cold*:
before a query the system is told to drop the index from its cache (posix_fadvise DONTNEED).

--fts5 N also puts the first N MB of the text into SQLite's full-text index, by words and by three
characters, for comparison; 0 leaves that out.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from backend.service.search import SECONDS
from storage.corpus import TokenCorpus
from storage.run_directory import DEMO_RUN, RunDirectory
from storage.search import Reader, Search
from storage.search_index import SearchIndex, build_index, token_bytes
from storage.search_text import Mode, parse

WORDS = 60_000
#: Tokens that are no words: special, full stop, comma, end of a paragraph.
OTHERS = (b"\xff", b".", b",", b".\n\n")
_CHUNK = 2_000_000
MEGABYTE = 1_000_000


def words(n: int = WORDS) -> list[str]:
    """Distinct words of syllables, the short ones first."""
    rng = np.random.default_rng(0)
    starts = np.array(
        [
            "b",
            "c",
            "d",
            "f",
            "g",
            "h",
            "l",
            "m",
            "n",
            "p",
            "r",
            "s",
            "t",
            "v",
            "w",
            "br",
            "cr",
            "dr",
            "st",
            "tr",
            "ch",
            "sh",
            "th",
        ]
    )
    ends = np.array(["", "", "n", "r", "s", "l", "m", "nd", "st", "ck"])
    found: dict[str, None] = {}
    for syllables in (1, 2, 3, 4):
        size = (3 * n, syllables)
        parts = [rng.choice(letters, size) for letters in (starts, np.array(list("aeiou")), ends)]
        made = np.char.add(np.char.add(parts[0], parts[1]), parts[2])
        share = n * syllables // 8 if syllables < 4 else n
        for row in made.tolist():
            if len(found) >= share:
                break
            found["".join(row)] = None
    return list(found)[:n]


def table() -> list[bytes]:
    return [*OTHERS, *(f" {word}".encode() for word in words())]


def write_corpus(folder: Path, megabytes: int) -> None:
    """Write the corpus of a made-up run, a chunk at a time."""
    texts = table()
    lengths = np.array([len(text) for text in texts])
    weights = (np.arange(WORDS) + 2.0) ** -1.05
    cumulative = np.cumsum(weights / weights.sum())
    rng = np.random.default_rng(1)
    sample = 4 + np.searchsorted(cumulative, rng.random(200_000))
    n = int(megabytes * MEGABYTE / (0.86 * lengths[sample].mean() + 0.2))
    folder.mkdir(parents=True, exist_ok=True)
    tokens = np.lib.format.open_memmap(folder / "tokens.npy", "w+", np.uint16, (n,))
    offsets = [0]
    for first in range(0, n, _CHUNK):
        count = min(_CHUNK, n - first)
        ids = 4 + np.minimum(np.searchsorted(cumulative, rng.random(count)), WORDS - 1)
        kind = rng.random(count)
        ids[kind < 0.06], ids[kind > 0.93], ids[kind > 0.99] = 1, 2, 3
        starts = np.arange(0, count, 2_000)
        ids[starts] = 0
        offsets += (starts + first).tolist()
        tokens[first : first + count] = ids
    tokens.flush()
    offsets = [*sorted(set(offsets)), n]
    titles = [f"document {i}" for i in range(len(offsets) - 1)]
    corpus = TokenCorpus(tokens, np.array(offsets), tuple(titles), 20)
    description = {"titles": titles, "offsets": offsets, "validation_every": 20, "sha256": corpus.sha256}
    (folder / "documents.json").write_text(json.dumps(description), encoding="utf-8")


def opened(folder: str) -> tuple[TokenCorpus, list[bytes]]:
    """The corpus of the bundled run (``demo``), or of the made-up one in a folder."""
    if folder == "demo":
        run = RunDirectory.open(DEMO_RUN)
        tokenizer = run.tokenizer()
        return TokenCorpus.load(DEMO_RUN / "corpus", mapped=True), token_bytes(
            tokenizer, tokenizer.get_vocab_size()
        )
    return TokenCorpus.load(Path(folder), mapped=True), table()


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / MEGABYTE


# ---- the processes that are measured ------------------------------------------------------------


def measure_index(folder: str, out: Path) -> dict[str, object]:
    corpus, texts = opened(folder)
    before = peak_mb()
    started, processor = time.monotonic(), time.process_time()
    index = build_index(corpus, texts, "t" * 64, out, {"made_by": "benchmarks/search.py"})
    return {
        "path": str(index.path),
        "seconds": time.monotonic() - started,
        "processor": time.process_time() - processor,
        "text": index.n_bytes / MEGABYTE,
        "tokens": index.tokens,
        "disk": index.size / MEGABYTE,
        "before": before,
        "peak": peak_mb(),
    }


def queries(index: SearchIndex, n: int) -> list[tuple[str, str, Mode, bool]]:
    """Kind, text, mode and case of ``n`` queries, made of places of the text itself."""
    rng = np.random.default_rng(2)
    found: list[tuple[str, str, Mode, bool]] = []
    while len(found) < n:
        place = int(rng.integers(0, max(1, index.n_bytes - 400)))
        text = index.text(place, place + 400).replace(b"\xff", b" ").decode("utf-8", "ignore")
        near = [word for word in text.replace(".", " ").replace(",", " ").split() if word.isalpha()][1:-1]
        if len(near) < 20:
            continue
        longest = max(near, key=len)
        case = bool(rng.integers(2))
        cut = int(rng.integers(1, 200))
        made: list[tuple[str, str, Mode]] = [
            ("a word of the text", near[3], "words"),
            ("a long word", longest, "words"),
            ("two words in a row", f'"{near[5]} {near[6]}"', "words"),
            ("two words near", f"{near[5]} {near[15]}", "words"),
            ("beginning of a word", longest[:4] + "*", "words"),
            ("exact, 12 characters", text[cut : cut + 12], "exact"),
            ("exact, 3 characters", text[cut : cut + 3], "exact"),
            ("exact, 2 that are nowhere", "q" + chr(int(rng.integers(0x400, 0x450))), "exact"),
            ("a word that is nowhere", longest[:3] + "xq" + longest[3:], "words"),
        ]
        for kind, query, mode in made:
            if query.strip():
                found.append((kind, query, mode, case))
    return found[:n]


def measure_queries(folder: str, path: Path, n: int) -> list[dict[str, object]]:
    corpus, texts = opened(folder)
    index = SearchIndex.open(path)
    index.verify()  # what a server does once: every part is compared with its checksum when first read
    reader = Reader(index, corpus, texts)
    found: list[dict[str, object]] = []
    asked = queries(index, n)
    for state in ("cold", "warm"):
        for kind, query, mode, case in asked[: 45 if state == "cold" else n]:
            if state == "cold":
                _forget(path)
            started, processor = time.perf_counter(), time.process_time()
            search = Search(index, parse(query, mode, match_case=case))
            ended = search.advance(SECONDS)
            for i in range(min(50, len(search))):
                reader.hit(search.match(i), 32, 48)
            found.append(
                {
                    "state": state,
                    "kind": kind,
                    "ms": 1e3 * (time.perf_counter() - started),
                    "processor": 1e3 * (time.process_time() - processor),
                    "ended": ended,
                    "hits": len(search),
                }
            )
    found.append({"peak": peak_mb()})
    return found


def _forget(path: Path) -> None:
    for name in ("text.bin", "grams.bin"):
        descriptor = os.open(path / name, os.O_RDONLY)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def measure_fts5(folder: str, out: Path, megabytes: int) -> dict[str, object]:
    """The same text in SQLite's index; documents of the corpus are its rows."""
    corpus, texts = opened(folder)
    answer: dict[str, object] = {}
    for name in ("unicode61", "trigram"):
        file = out / f"{name}.sqlite3"
        file.unlink(missing_ok=True)
        database = sqlite3.connect(file)
        started = time.monotonic()
        database.execute(f"CREATE VIRTUAL TABLE t USING fts5(text, tokenize='{name}')")
        size = 0
        for i in range(corpus.n_documents):
            text = b"".join(texts[token] for token in corpus.document(i)[1:].tolist())
            size += len(text)
            database.execute("INSERT INTO t VALUES (?)", (text.decode("utf-8", "replace"),))
            if size > megabytes * MEGABYTE:
                break
        database.commit()
        answer[name] = {
            "seconds": time.monotonic() - started,
            "text": size / MEGABYTE,
            "disk": file.stat().st_size / MEGABYTE,
        }
        database.close()
        file.unlink()
    return answer


# ---- the report ---------------------------------------------------------------------------------


def child(*arguments: object) -> object:
    done = subprocess.run(
        [sys.executable, __file__, "--child", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


def report(name: str, folder: str, work: Path, n: int) -> None:
    made = child("index", folder, work / "index")
    assert isinstance(made, dict)
    rate = made["text"] / made["seconds"]
    print(f"\n{name}: {made['tokens']:,} tokens, {made['text']:,.0f} MB of text")
    print(
        f"  index      {made['seconds']:.1f} s ({made['processor']:.1f} s of processor), {rate:.0f} MB/s; "
        f"{made['disk']:,.0f} MB on disk with the text; peak memory {made['peak']:.0f} MB ({made['before']:.0f} before)"
    )
    *rows, memory = child("queries", folder, made["path"], n)  # pyright: ignore[reportGeneralTypeIssues]
    print(
        f"  {'milliseconds':31}{'p50':>9}{'p99':>9}   processor p50      p99   exact / more than 10,000 / out of time"
    )
    kinds = ["all", *sorted({row["kind"] for row in rows})]
    for state in ("warm", "cold"):
        for kind in kinds if state == "warm" else kinds[:1]:
            chosen = [row for row in rows if row["state"] == state and kind in ("all", row["kind"])]
            ms, processor = (np.array([row[name] for row in chosen]) for name in ("ms", "processor"))
            ended = [sum(row["ended"] == way for row in chosen) for way in ("complete", "many", "time")]
            print(
                f"  {state:5}{kind:26}{np.percentile(ms, 50):9.1f}{np.percentile(ms, 99):9.1f}"
                f"{np.percentile(processor, 50):16.1f}{np.percentile(processor, 99):9.1f}   "
                f"{ended[0]} / {ended[1]} / {ended[2]}"
            )
    print(f"  peak memory of the searching process, mapped pages included: {memory['peak']:,.0f} MB")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--megabytes", type=int, default=200, help="text of the made-up corpus; 0: none")
    parser.add_argument("--queries", type=int, default=240)
    parser.add_argument("--folder", type=Path, help="where to work; default a temporary folder")
    parser.add_argument("--fts5", type=int, default=16, help="MB of text for the comparison; 0: none")
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        what, folder, *rest = arguments.child
        if what == "index":
            answer: object = measure_index(folder, Path(rest[0]))
        elif what == "queries":
            answer = measure_queries(folder, Path(rest[0]), int(rest[1]))
        else:
            answer = measure_fts5(folder, Path(rest[0]), int(rest[1]))
        print(json.dumps(answer))
        return
    with tempfile.TemporaryDirectory(dir=arguments.folder) as temporary:
        work = Path(temporary)
        if (DEMO_RUN / "run.json").is_file():
            report("the bundled run", "demo", work / "demo", arguments.queries)
        if arguments.megabytes:
            folder = work / "corpus"
            write_corpus(folder, arguments.megabytes)
            report("a made-up corpus", str(folder), work / "made-up", arguments.queries)
            if arguments.fts5:
                found = child("fts5", folder, work, min(arguments.fts5, arguments.megabytes))
                assert isinstance(found, dict)
                print("\nSQLite FTS5 on the beginning of the same text, for comparison")
                for name, one in found.items():
                    print(
                        f"  {name:10} {one['text']:.0f} MB in {one['seconds']:.1f} s, {one['text'] / one['seconds']:.1f} MB/s; "
                        f"{one['disk'] / one['text']:.1f} times the text on disk"
                    )


if __name__ == "__main__":
    main()
