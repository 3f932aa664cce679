"""``tributary serve``: the API and the page."""

from __future__ import annotations

import asyncio
import secrets
import socket
import sys
import threading
import time
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from backend.cli.options import RUNS, RunsFolder

if TYPE_CHECKING:
    import uvicorn
    from fastapi import FastAPI

    from backend.settings import Settings

Host = Annotated[
    str, typer.Option(envvar="TRIBUTARY_HOST", help="Address to bind to; any but loopback asks for a token")
]
Port = Annotated[
    int, typer.Option(envvar="TRIBUTARY_PORT", min=0, max=65535, help="Port; 0 takes a free one")
]
HOST, PORT = "127.0.0.1", 8642


def _label_option(help_line: str, *, least: float | None = None) -> Any:
    return typer.Option(min=least, help=help_line, show_default=False, rich_help_panel="Labels")


def serve(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[RUN]...", help="Names or paths; default: every run in the folder", show_default=False
        ),
    ] = None,
    host: Host = HOST,
    port: Port = PORT,
    folder: RunsFolder = RUNS,
    browser: Annotated[bool, typer.Option("--browser", help="Open the browser")] = False,
    label_endpoint: Annotated[
        str | None,
        _label_option("Server of a language model that labels components, as tributary label has it"),
    ] = None,
    label_model: Annotated[str | None, _label_option("The model's name at that server")] = None,
    label_key_env: Annotated[
        str | None, _label_option("Environment variable that holds the key of the server")
    ] = None,
    label_price_in: Annotated[
        float | None, _label_option("Price of a million tokens of prompts", least=0)
    ] = None,
    label_price_out: Annotated[
        float | None, _label_option("Price of a million tokens of answers", least=0)
    ] = None,
    label_cap: Annotated[
        float | None, _label_option("All labels made from the page must not cost more", least=0)
    ] = None,
    label_cap_tokens: Annotated[
        int | None, _label_option("All labels made from the page must not take more tokens", least=0)
    ] = None,
) -> None:
    """Serve runs: the explorer at / and the API under /api.

    With --label-endpoint, whoever has the link that is printed can let a language model label components.
    """
    settings = make_settings(
        host,
        port,
        folder,
        tuple(names or ()),
        label_endpoint=label_endpoint,
        label_model=label_model,
        label_key_env=label_key_env,
        label_price_in=label_price_in,
        label_price_out=label_price_out,
        label_cap=label_cap,
        label_cap_tokens=label_cap_tokens,
    )
    start(settings, listen(host, port), open_browser=browser)


def make_settings(
    host: str, port: int, folder: Path, only: tuple[str, ...], **more: str | float | None
) -> Settings:
    """Settings from options and the environment, with a token wherever one is needed.

    ``more`` settings that are None are left to the environment.
    """
    from pydantic import ValidationError

    from backend.settings import Settings
    from storage.errors import RunError

    try:
        given: dict[str, Any] = {name: value for name, value in more.items() if value is not None}
        settings = Settings(host=host, port=port, runs=folder, only=only, **given)
    except ValidationError as error:
        first = error.errors()[0]
        name = f"TRIBUTARY_{first['loc'][0]}".upper()
        raise RunError(f"{name} is not valid: {first['msg']}", "correct or unset that variable") from error
    if settings.token is None and not settings.on_loopback:
        return settings.model_copy(update={"token": secrets.token_urlsafe(24)})
    return settings


def listen(host: str, port: int, *, tries: int = 1) -> socket.socket:
    """A listening socket; where the port is taken, the next ones are tried. A user's error if none is free."""
    from storage.errors import RunError

    reason = None
    for candidate in range(port, port + tries):
        try:
            family, kind, protocol, _, address = socket.getaddrinfo(host, candidate, type=socket.SOCK_STREAM)[
                0
            ]
            listener = socket.socket(family, kind, protocol)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
        except socket.gaierror:
            raise RunError(f"{host!r} is not an address of this machine", "give --host 127.0.0.1") from None
        except OSError as error:
            reason = error.strerror
            continue
        listener.listen(128)
        return listener
    raise RunError(
        f"{host}:{port} cannot be used ({reason})", "choose another with --port, or --port 0 for a free one"
    )


def start(settings: Settings, listener: socket.socket, *, open_browser: bool, path: str = "/") -> None:
    """Serve until stopped; prints the address first, so that it is there when the server answers."""
    from backend.app import create_app

    app = create_app(settings)
    secret = app.state.workshop.treasury.secret
    port = listener.getsockname()[1]
    url = f"http://{_reachable(settings.host)}:{port}{path}"
    if settings.token:
        url += f"?token={settings.token}"
    if not (settings.page / "index.html").is_file():
        sys.stderr.write("The page has not been built; run make setup. The API answers all the same.\n")
    typer.echo(f"Tributary serves {', '.join(app.state.library.names()) or 'no runs yet'} at {url}")
    if secret is not None:
        # What follows # is not sent by browsers, so that no log and no proxy has it.
        typer.echo(
            f"Labels by {settings.label_model} can be started with this link, by nobody else: {url}#owner={secret}"
        )
    typer.echo("Stop it with Ctrl-C.")
    sys.stdout.flush()
    server = make_server(app)
    if open_browser:
        threading.Thread(target=_open_when_started, args=(server, url), daemon=True).start()
    server.run(sockets=[listener])


def make_server(app: FastAPI) -> uvicorn.Server:
    """A server that stops computing before it waits for its connections, some of which watch jobs."""
    import uvicorn

    class Server(uvicorn.Server):
        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            await asyncio.to_thread(app.state.workshop.close)
            await super().shutdown(sockets)

    return Server(
        uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            server_header=False,
            lifespan="off",
            proxy_headers=False,
            timeout_graceful_shutdown=1,
        )
    )


def _reachable(host: str) -> str:
    """A name for the address: what to type where the server is bound to all of them."""
    if host in ("0.0.0.0", "::"):  # noqa: S104 (only compared)
        return socket.gethostname()
    return f"[{host}]" if ":" in host else host


def _open_when_started(server: object, url: str) -> None:
    for _ in range(200):
        if getattr(server, "started", False):
            webbrowser.open(url)
            return
        time.sleep(0.05)
