"""Serve the bundled run, or a toy run where there is none, on a given port: ``serve.py PORT FOLDER``."""

from __future__ import annotations

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))


def main(port: str, folder: Path) -> None:
    """Replace this process by the real command, as a user would start it."""
    if (ROOT / "demo" / "run" / "run.json").exists():
        run = "demo"
    else:
        from tests.support.tiny_run import make_tiny_run

        run = "tiny"
        if not (folder / run / "run.json").exists():
            make_tiny_run(folder / run, n_blocks=2, n_components=40)
    os.chdir(ROOT)
    command = [sys.executable, "-m", "backend.cli", "serve", run, "--runs", str(folder), "--port", port]
    os.execv(sys.executable, command)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
