"""Durable files: what is written here survives a crash, and becomes visible by one rename."""

from __future__ import annotations

import hashlib
import json
import os
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

from storage.errors import StoreDamagedError

SUBRUN_PATTERN = re.compile(r"\d{8}-\d{6}", re.ASCII)
_HASH_CHUNK = 1 << 20


def canonical_json(value: object) -> bytes:
    """The one spelling of a JSON value that checksums are taken of."""
    return json.dumps(
        value, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False
    ).encode()


def write_signed_json(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON object with one more field, ``sha256``, the checksum of all the others."""
    signed = content | {"sha256": hashlib.sha256(canonical_json(content)).hexdigest()}
    write_durably(path, (json.dumps(signed, indent=1, ensure_ascii=False) + "\n").encode())


def read_signed_json(path: Path) -> dict[str, Any]:
    """Read what :func:`write_signed_json` wrote; raises :class:`StoreDamagedError` for anything else."""
    try:
        parsed: Any = json.loads(path.read_bytes())
        if not isinstance(parsed, dict):
            raise StoreDamagedError(path, "is not a manifest")
        content = cast("dict[str, Any]", parsed)
        expected = content.pop("sha256", None)
        actual = hashlib.sha256(canonical_json(content)).hexdigest()
    except FileNotFoundError:
        raise StoreDamagedError(path, "is missing") from None
    except OSError as error:
        raise StoreDamagedError(path, f"cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise StoreDamagedError(path, f"is not JSON ({error})") from error
    if actual != expected:
        raise StoreDamagedError(path, "was altered: it does not match its own checksum")
    return content


def sha256_file(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_HASH_CHUNK):
            digest.update(block)
    return digest.hexdigest()


def sync_file(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


sync_directory = sync_file  # fsync of a directory makes renames inside it durable


def write_durably(path: Path, content: bytes) -> None:
    """Replace ``path`` as a whole: after a crash it holds either the old bytes or the new ones."""
    temporary = path.with_name(f".{path.name}.writing")
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    sync_directory(path.parent)


def subruns(folder: Path) -> list[str]:
    """Names of the subruns in ``folder``, newest first. What is incomplete has no such name yet."""
    if not folder.is_dir():
        return []
    names = [
        entry.name for entry in folder.iterdir() if SUBRUN_PATTERN.fullmatch(entry.name) and entry.is_dir()
    ]
    return sorted(names, reverse=True)


def publish(work: Path, folder: Path) -> str:
    """Sync ``work`` and everything in it, then rename it to a new subrun of ``folder``; the name."""
    for path in work.rglob("*"):
        sync_file(path)
    sync_directory(work)
    moment = datetime.now(UTC)
    while (folder / (name := moment.strftime("%Y%m%d-%H%M%S"))).exists():
        moment += timedelta(seconds=1)
    work.rename(folder / name)
    sync_directory(folder)
    return name
