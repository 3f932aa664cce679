"""A server that speaks the protocol of language models, for the browser tests: ``model.py SECONDS``.

It prints its address. Each answer takes so many seconds; every fourth request for a label is refused.
"""

from __future__ import annotations

import sys
import threading
from dataclasses import replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests.support.model_server import Reply, Request, complains, label, model_server, willing  # noqa: E402


def main(seconds: float) -> None:
    asked = 0

    def answer(request: Request) -> Reply:
        nonlocal asked
        if not request.is_label:
            return replace(willing(request), delay=seconds)
        asked += 1
        if asked % 4 == 0:
            return complains(400, "this one is too long for me", delay=seconds)
        return label(f"words of kind {asked}", delay=seconds)

    with model_server(answer) as server:
        print(server.url, flush=True)  # noqa: T201 (whoever started it reads it)
        threading.Event().wait()


if __name__ == "__main__":
    main(float(sys.argv[1]))
