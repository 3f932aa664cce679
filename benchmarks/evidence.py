"""How quickly a server answers what cards, tooltips and the table ask of a harvest.

    python benchmarks/evidence.py [--run demo] [--requests 300]

Serves the run on a free port of loopback and asks, over real HTTP and one request after another, for
random components that fire. *Clock* is what the asker waits; *server* the seconds that the answer
itself states; *processor* the processor time of both ends together, which on a busy machine says more.
The first request of each kind opens files and is left out of the rest.
"""

from __future__ import annotations

import argparse
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np

from backend.app import create_app
from backend.cli.serve import listen, make_server
from backend.settings import Settings

Ask = Callable[[str], httpx.Response]
#: Of a column of times.
WIDTH = 12


def measure(name: str, ask: Ask, keys: list[str]) -> None:
    """Ask once for each key and print one line."""
    clock: list[float] = []
    server: list[float] = []
    processor: list[float] = []
    for key in keys:
        begin, busy = time.perf_counter(), time.process_time()
        # What takes long is answered with 503 until it is there; waiting for it is what the asker does.
        while (answer := ask(key)).status_code == 503:
            time.sleep(0.1)
        clock.append((time.perf_counter() - begin) * 1e3)
        processor.append((time.process_time() - busy) * 1e3)
        answer.raise_for_status()
        server.append(answer.json()["seconds"] * 1e3)
    columns = [f"{clock[0]:{WIDTH}.1f}"]
    for times in (clock, server, processor):
        columns += [f"{np.quantile(times[1:], q):{WIDTH}.2f}" for q in (0.5, 0.99)]
    print(f"{name:36s}{''.join(columns)}{len(answer.content) / 1e3:{WIDTH}.0f}")  # pyright: ignore[reportPossiblyUnboundVariable]


def print_header() -> None:
    """The line above those of :func:`measure`."""
    names = ("first", "clock p50", "p99", "server p50", "p99", "proc. p50", "p99", "kB")
    print(f"{'ms':36s}{''.join(f'{name:>{WIDTH}s}' for name in names)}")


@contextmanager
def serving(run: str) -> Generator[httpx.Client]:
    """A server of one run on a free port of loopback, and who asks it for runs."""
    listener = listen("127.0.0.1", 0)
    server = make_server(create_app(Settings(only=(run,))))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}/api/runs"
    try:
        with httpx.Client(base_url=url, timeout=600) as client:
            yield client
    finally:
        server.should_exit = True
        thread.join(10)
        listener.close()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--run", default="demo", help="name or path of a run")
    parser.add_argument("--requests", type=int, default=300)
    options = parser.parse_args()
    with serving(options.run) as client:
        measure_run(client, Path(options.run).name, options.requests)


def measure_run(client: httpx.Client, run: str, requests: int) -> None:
    page = client.get(f"/{run}/components", params={"min_density": 1e-5, "limit": 2000}).json()
    alive = [row["key"] for row in page["components"]]
    vocabulary = client.get(f"/{run}/tokens", params={"limit": 10_000}).json()["total"]
    rng = np.random.default_rng(0)
    harvest = client.get(f"/{run}/components/{alive[0]}/evidence")
    over = f"harvest of {harvest.json()['tokens']:,} tokens" if harvest.is_success else "no harvest"
    print(f"{run}: {page['total']:,} components that are alive, {over}")
    print_header()

    def drawn(count: int) -> list[str]:
        return [alive[int(i)] for i in rng.integers(len(alive), size=count + 1)]

    def get(name: str, path: str, count: int = requests) -> None:
        measure(name, lambda key: client.get(f"/{run}/{path}".replace("KEY", key)), drawn(count))

    def batch(name: str, count: int, *, evidence: bool) -> None:
        def ask(key: str) -> httpx.Response:
            body = {"keys": [key, *drawn(count - 2)] if count > 1 else [key], "evidence": evidence}
            return client.post(f"/{run}/components:batch", json=body)

        measure(name, ask, drawn(requests // count))

    def fire(name: str, length: int) -> None:
        def ask(key: str) -> httpx.Response:
            ids = rng.integers(vocabulary, size=length).tolist()
            return client.post(f"/{run}/firings", json={"token_ids": ids, "keys": [key]})

        measure(name, ask, drawn(min(requests, 30)))

    if harvest.is_success:
        get("evidence", "components/KEY/evidence")
        get("10 random examples", "components/KEY/examples")
        get("10 strongest examples", "components/KEY/examples?kind=strongest")
        batch("one small card with evidence", 1, evidence=True)
        batch("20 small cards with evidence", 20, evidence=True)
        get("table by what fires on a token", "components?fires_on=the&sort=-fires_on&limit=100", 30)
    else:
        print(f"no harvest: run tributary harvest {run}")
    batch("one small card without", 1, evidence=False)
    get("table by strongest source", "components?sort=-strongest_source&limit=100", 30)
    get("table by density", "components?sort=-density&limit=100", 30)
    get("512 tokens of a document", "documents/1?length=512", 30)
    get("the same, a component at each", "documents/1?length=512&key=KEY", 30)
    fire("all components on 20 tokens", 20)


if __name__ == "__main__":
    main()
