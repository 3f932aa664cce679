"""How long script holds up a frame of the graph view, at 10,000 nodes and 100,000 edges.

    python benchmarks/graph_view.py [--json]

A real browser without a screen shows a made-up graph in the page's own components, served by Vite from
the sources; real mouse events hover, pan and zoom, and the browser's own trace says what each frame
cost. The work is done by frontend/bench/measure.mjs; this file finds the browser and Node.js. It needs
what the browser tests need, and says so where that is missing.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FRONTEND = ROOT / "frontend"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON document")
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
    command = [node, "bench/measure.mjs", *(["--json"] if arguments.json else [])]
    environment = {**os.environ, "CHROMIUM": found.stdout.strip()}
    return subprocess.run(command, cwd=FRONTEND, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
