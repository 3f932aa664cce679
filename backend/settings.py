"""Settings of the service: arguments of the command line, else ``TRIBUTARY_*`` variables, else defaults."""

from __future__ import annotations

import ipaddress
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

_ROOT = Path(__file__).resolve().parents[1]


class Settings(BaseSettings):
    """Where the runs are, what the server binds to, and who may ask."""

    model_config = SettingsConfigDict(env_prefix="TRIBUTARY_", env_ignore_empty=True, frozen=True)

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8642
    #: Folder that holds runs, each in its own directory.
    runs: Path = Path("runs")
    #: Names or paths of the runs to serve; empty: all in ``runs``, and the bundled one.
    only: Annotated[tuple[str, ...], NoDecode] = ()
    #: Required of every request to the API where set. Always set where the server is not on loopback.
    token: Annotated[str | None, Field(min_length=16, max_length=200)] = None
    #: Names under which the server is reached beside its own, e.g. behind a reverse proxy.
    allowed_hosts: Annotated[tuple[str, ...], NoDecode] = ()
    #: The built page.
    page: Path = _ROOT / "frontend" / "dist"
    #: The SQLite file of prompts, graphs and what hangs on them; default ``tributary.sqlite3`` in ``runs``.
    database: Path | None = None
    #: SQLite's journal: ``wal`` where the file system allows it, else ``delete``; ``auto`` finds out by trying.
    journal: Literal["auto", "wal", "delete"] = "auto"
    #: What computations run on: ``cpu``, ``cuda``, ``cuda:1`` …; ``auto`` takes a GPU where there is one.
    device: Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:\d{1,2})?)$")] = "auto"
    #: What the page may let label components; docs/labelling.md. Only with an endpoint can it at all.
    label_endpoint: Annotated[str | None, Field(max_length=2000)] = None
    label_model: Annotated[str, Field(max_length=200)] = ""
    #: Name of the variable that holds the key; the key itself is never a setting.
    label_key_env: Annotated[str | None, Field(max_length=200)] = None
    #: Of a million tokens.
    label_price_in: Annotated[float | None, Field(ge=0, allow_inf_nan=False)] = None
    label_price_out: Annotated[float | None, Field(ge=0, allow_inf_nan=False)] = None
    #: All that is started from the page together must not cost more, until the server is stopped.
    label_cap: Annotated[float | None, Field(ge=0, allow_inf_nan=False)] = None
    label_cap_tokens: Annotated[int | None, Field(ge=0)] = None
    #: The pace: questions at the same time, requests a minute, seconds and tokens of one answer.
    label_concurrency: Annotated[int, Field(ge=1, le=256)] = 8
    label_requests_per_minute: Annotated[float | None, Field(gt=0, allow_inf_nan=False)] = None
    label_timeout: Annotated[float, Field(gt=0, le=3600)] = 120.0
    label_max_output: Annotated[int, Field(ge=16, le=2**20)] = 800
    #: Bytes that one computation may take; default half of the memory of the machine (or its container).
    memory_limit: Annotated[int | None, Field(ge=2**20)] = None

    @field_validator("only", "allowed_hosts", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        """A variable holds names with commas between them."""
        return tuple(filter(None, map(str.strip, value.split(",")))) if isinstance(value, str) else value

    @property
    def database_path(self) -> Path:
        return self.runs / "tributary.sqlite3" if self.database is None else self.database

    @cached_property
    def on_loopback(self) -> bool:
        return is_loopback(self.host)


def is_loopback(host: str) -> bool:
    """Whether a server bound to ``host`` is reachable from this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
