"""Serve the bundled run, or a toy run where there is none, on a given port: ``serve.py PORT FOLDER [KIND]``.

KIND ``clustered`` is a toy run whose components are clustered, ``evidence`` one that was harvested.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))


def main(port: str, folder: Path, kind: str = "") -> None:
    """Replace this process by the real command, as a user would start it."""
    if kind == "clustered":
        run = make_clustered(folder)
    elif kind == "evidence":
        run = make_harvested(folder)
    elif (ROOT / "demo" / "run" / "run.json").exists():
        run = "demo"
    else:
        from tests.support.tiny_run import make_tiny_run

        run = "tiny"
        if not (folder / run / "run.json").exists():
            make_tiny_run(folder / run, n_blocks=2, n_components=40)
    os.chdir(ROOT)
    command = [sys.executable, "-m", "backend.cli", "serve", run, "--runs", str(folder), "--port", port]
    os.execv(sys.executable, command)


def make_harvested(folder: Path) -> str:
    """A toy run with a harvest, made once; its name."""
    from tests.support.tiny_run import make_tiny_run

    path = folder / "tiny-evidence"
    if not (path / "run.json").exists():
        make_tiny_run(path, n_blocks=1, n_components=8, harvest=True)
    return path.name


def make_clustered(folder: Path) -> str:
    """A toy run with clusters, made once; its name."""
    from backend.pipelines import cluster
    from storage.run_directory import RunDirectory
    from tests.support.tiny_run import make_tiny_run

    path = folder / "clustered"
    if not (path / "run.json").exists():
        make_tiny_run(path, n_blocks=2, n_components=20)
    if not RunDirectory.open(path).clustering_subruns():
        # Components that are rarely active are left out, so that some are unknown.
        cluster.command(str(path), positions=1500, threshold=0.2, least=300)
    return path.name


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), *sys.argv[3:])
