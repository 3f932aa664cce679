"""Which journal a SQLite file can safely have in a folder.

In WAL mode readers and a writer do not wait for each other, but all processes must share memory by
mapping one file. A network file system gives two machines each its own copy of that memory: both write
and the file is lost. There, and wherever WAL fails when it is tried, the rollback journal is used.
"""

from __future__ import annotations

import contextlib
import re
import secrets
import sqlite3
from pathlib import Path
from typing import Literal

Mode = Literal["wal", "delete"]
#: File systems that another machine may be writing to at the same time, as /proc/self/mountinfo calls them.
NETWORK = re.compile(
    r"nfs\d?|cifs|smb\w*|9p|afs|ceph|lustre|gpfs|beegfs\w*|glusterfs|ocfs2|gfs2|orangefs|pvfs2|panfs|wekafs"
    r"|ncpfs|coda|davfs\d?|virtiofs|vboxsf|prl_fs|vmhgfs|fuse(blk)?|fuse\..*"
)


def file_system(folder: Path, mounts: Path = Path("/proc/self/mountinfo")) -> str | None:
    """The type of the file system that ``folder`` is on, or None where the system does not say."""
    folder = folder.resolve()
    best: tuple[int, str] | None = None
    try:
        lines = mounts.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return None
    for line in lines:
        before, _, after = line.partition(" - ")
        fields = before.split(" ")
        if len(fields) < 5 or not after:
            continue
        point = Path(re.sub(r"\\(\d{3})", lambda code: chr(int(code[1], 8)), fields[4]))
        # Of two mounts on one folder the later one hides the earlier.
        if folder.is_relative_to(point) and (best is None or len(point.parts) >= best[0]):
            best = (len(point.parts), after.split(" ")[0])
    return best[1] if best else None


def choose_journal(path: Path, mounts: Path = Path("/proc/self/mountinfo")) -> tuple[Mode, str]:
    """The journal for a database at ``path``, and why; tries WAL on a file of its own beside it."""
    kind = file_system(path.parent, mounts)
    if kind is not None and NETWORK.fullmatch(kind):
        return "delete", f"{path.parent} is on a network or user-space file system ({kind})"
    failure = _try_wal(path.parent)
    if failure is not None:
        return "delete", f"WAL was tried in {path.parent} and failed ({failure})"
    return "wal", f"WAL was tried in {path.parent} and works" + (f" ({kind})" if kind else "")


def _try_wal(folder: Path) -> str | None:
    """Write by one connection what another is reading; what went wrong, or None."""
    probe = folder / f".journal-test-{secrets.token_hex(8)}"
    try:
        with (
            contextlib.closing(sqlite3.connect(probe, isolation_level=None)) as writer,
            contextlib.closing(sqlite3.connect(probe, isolation_level=None)) as reader,
        ):
            writer.execute("PRAGMA synchronous=OFF")
            mode = writer.execute("PRAGMA journal_mode=WAL").fetchone()[0]
            if mode != "wal":
                return f"the journal stays in mode {mode}"
            writer.execute("CREATE TABLE t (n)")
            reader.execute("BEGIN")
            before = reader.execute("SELECT count(*) FROM t").fetchone()[0]
            writer.execute("INSERT INTO t VALUES (1)")
            during = reader.execute("SELECT count(*) FROM t").fetchone()[0]
            reader.execute("COMMIT")
            after = reader.execute("SELECT count(*) FROM t").fetchone()[0]
            if (before, during, after) != (0, 0, 1):
                return f"a reader saw {before}, {during} and {after} rows instead of 0, 0 and 1"
    except sqlite3.Error as error:
        return str(error)
    finally:
        for suffix in ("", "-wal", "-shm", "-journal"):
            probe.with_name(probe.name + suffix).unlink(missing_ok=True)
    return None
