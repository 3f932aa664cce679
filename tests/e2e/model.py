"""A server that speaks the protocol of language models, for the browser tests. It prints its address.

Every fourth request for a label is refused. After a ``GET`` of ``/v1/quick/3`` three requests are answered
at once, and all later ones only after a minute.
"""

from __future__ import annotations

import sys
import threading
from dataclasses import replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests.support.model_server import Reply, Request, complains, label, model_server, willing  # noqa: E402

SLOW = 60.0


def main() -> None:
    quick, asked = 1_000_000, 0

    def answer(request: Request) -> Reply:
        nonlocal quick, asked
        if "/quick/" in request.path:
            quick = int(request.path.rpartition("/")[2])
            return Reply({})
        quick -= 1
        delay = 0.0 if quick >= 0 else SLOW
        if not request.is_label:
            return replace(willing(request), delay=delay)
        asked += 1
        if asked % 4 == 0:
            return complains(400, "this one is too long for me", delay=delay)
        return label(f"words of kind {asked}", delay=delay)

    with model_server(answer) as server:
        print(server.url, flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main()
