"""``tributary demo``: the bundled run in the browser."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from backend.cli.options import RUNS, RunsFolder
from backend.cli.serve import HOST, PORT, Host, Port, listen, make_settings, start


def demo(
    host: Host = HOST,
    port: Port = PORT,
    folder: RunsFolder = RUNS,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open the browser")] = True,
) -> None:
    """Serve the bundled run and open the browser. Where the port is taken, the next free one is used."""
    from storage.errors import RunError
    from storage.run_directory import DEMO_NAME, DEMO_RUN

    if not (DEMO_RUN / "run.json").is_file():
        raise RunError(
            f"the bundled run is not at {DEMO_RUN}", "use a complete checkout, or serve a run of your own"
        )
    settings = make_settings(host, port, folder, (DEMO_NAME,))
    listener = listen(host, port, tries=20 if port else 1)
    start(settings, listener, open_browser=browser and _has_browser(), path=f"/runs/{DEMO_NAME}")


def _has_browser() -> bool:
    """Whether a window can be opened: without a display a text browser would take over the terminal."""
    if sys.platform in ("darwin", "win32"):
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
