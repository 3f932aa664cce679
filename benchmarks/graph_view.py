"""How long the graph view keeps one waiting: from the click to the drawn graph, and in every frame.

    python benchmarks/graph_view.py [--run demo] [--json]

*From the click to the drawn graph*: a real browser without a screen, the real server with an empty
database, prompts of 16, 32 and 64 tokens (frontend/bench/click.mjs).

*A frame*: the page's own components show a made-up graph of 10,000 nodes and 100,000 edges, served by
Vite from the sources; real mouse events hover, pan and zoom, and the browser's own trace says what each
frame cost (frontend/bench/measure.mjs).

It needs what the browser tests need, and says so where that is missing.
"""

from __future__ import annotations

import argparse
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import httpx

ROOT = Path(__file__).resolve().parents[1]
FRONTEND = ROOT / "frontend"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--run", default="demo", help="name or path of a run (default: demo)")
    parser.add_argument("--json", action="store_true", help="print a JSON document for each part")
    arguments = parser.parse_args()
    node = shutil.which("node")
    if node is None or not (FRONTEND / "node_modules" / "vite").is_dir():
        print("not measured: Node.js and the page's tools are needed (make setup)")
        return 0
    found = subprocess.run(
        ["sh", str(ROOT / "scripts" / "find-browser.sh")], capture_output=True, text=True, check=False
    )
    if found.returncode != 0:
        print(f"not measured: {found.stderr.strip().splitlines()[-1]}")
        return 0
    environment = {**os.environ, "CHROMIUM": found.stdout.strip()}
    flags = ["--json"] if arguments.json else []
    with serving(arguments.run) as url:
        clicks = subprocess.run(
            [node, "bench/click.mjs", url, Path(arguments.run).name, *flags],
            cwd=FRONTEND,
            env=environment,
            check=False,
        )
    frames = subprocess.run([node, "bench/measure.mjs", *flags], cwd=FRONTEND, env=environment, check=False)
    return clicks.returncode or frames.returncode


@contextmanager
def serving(run: str) -> Generator[str]:
    """The address of a server of ``run`` with a database of its own, stopped and forgotten afterwards."""
    with tempfile.TemporaryDirectory() as folder, socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        server = subprocess.Popen(
            [sys.executable, "-m", "backend.cli", "serve", run, "--port", str(port)],
            cwd=ROOT,
            env={**os.environ, "TRIBUTARY_DATABASE": str(Path(folder) / "graphs.sqlite3")},
            stdout=subprocess.DEVNULL,
        )
        try:
            url = f"http://127.0.0.1:{port}"
            wait_for(f"{url}/api/health", server)
            yield url
        finally:
            server.terminate()
            server.wait()


def wait_for(url: str, server: subprocess.Popen[bytes]) -> None:
    for _ in range(600):
        try:
            httpx.get(url, timeout=5).raise_for_status()
        except httpx.HTTPError:
            if server.poll() is not None:
                raise SystemExit("The server did not start; its message stands above.") from None
            time.sleep(0.1)
        else:
            return
    raise SystemExit("The server did not answer within a minute.")


if __name__ == "__main__":
    sys.exit(main())
