"""A SQLite file that several threads and processes use at once: opening, migrating, transactions, errors.

Durability: every commit is synced before it is confirmed (``synchronous=EXTRA``: FULL, and the folder
too after the rollback journal is removed). Writing transactions begin with ``BEGIN IMMEDIATE``, so that
they wait at their beginning and never fail in their middle; within a process they queue for a lock,
which is fairer than SQLite's waiting. Not to be carried through ``os.fork``.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Generator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Literal
from urllib.parse import quote

from sqlalchemy import Connection, Engine, QueuePool, create_engine, event
from sqlalchemy.exc import DBAPIError, MultipleResultsFound, NoResultFound

from storage.errors import (
    DatabaseBusyError,
    DatabaseDamagedError,
    DatabaseError,
    DatabaseVersionError,
    InvalidValueError,
    StorageError,
    UnknownRecordError,
)
from storage.files import sync_directory
from storage.graph_schema import APPLICATION_ID, HEAD, VERSIONS
from storage.journal import Mode, choose_journal

Journal = Literal["auto", "wal", "delete"]

MIGRATIONS = Path(__file__).resolve().parent / "migrations"
#: alembic keeps the migration that runs in a variable of the process.
_MIGRATING = threading.Lock()
_BUSY = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL}
_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT}
_RESTORE = "restore it from a copy, or use another file; it was not changed"


class Database:
    """``journal`` as configured: "auto" tries what the file system allows; the choice is ``mode``."""

    def __init__(self, path: Path, journal: Journal = "auto", busy_timeout: float = 30.0) -> None:
        # SQLite names its other files after the real one.
        self.path = path.expanduser().resolve()
        self._timeout = busy_timeout
        self._writing = threading.Lock()
        self.mode: Mode
        with self._named_errors():
            self.mode, self.mode_reason = self._prepare(journal)
        found = self.path.stat()
        self._file = (found.st_dev, found.st_ino)
        self._engine = self._make_engine(foreign_keys=True)

    # ---- opening --------------------------------------------------------------------------------

    def _prepare(self, journal: Journal) -> tuple[Mode, str]:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DatabaseError(f"{self.path.parent} cannot be made ({error.strerror})") from error
        new = not self.path.exists()
        with closing(self._connect(create=True)) as connection:
            version = self._version(connection)
            chosen = self._set_journal(connection, journal)
        if version != HEAD:
            self._migrate()
        if new:
            sync_directory(self.path.parent)
        return chosen

    def _version(self, connection: sqlite3.Connection) -> str | None:
        """The version of the tables, None where there are none yet. Only reads."""
        connection.execute("BEGIN")  # all of one moment: another process may be making the tables
        try:
            application = connection.execute("PRAGMA application_id").fetchone()[0]
            tables = {str(row[0]) for row in connection.execute("SELECT name FROM sqlite_master")}
            if application != APPLICATION_ID:
                if application == 0 and not tables:
                    return None
                raise DatabaseDamagedError(
                    f"{self.path} is a database of another program", "use another file; it was not changed"
                )
            if "alembic_version" not in tables:
                raise DatabaseDamagedError(f"{self.path} does not say of which version it is", _RESTORE)
            versions = [str(row[0]) for row in connection.execute("SELECT version_num FROM alembic_version")]
        finally:
            connection.execute("ROLLBACK")
        if len(versions) != 1:
            raise DatabaseDamagedError(f"{self.path} does not say of which version it is", _RESTORE)
        if versions[0] not in VERSIONS:
            raise DatabaseVersionError(
                f"{self.path} was written by a newer Tributary (tables of version {versions[0][:40]}, "
                f"this program knows up to {HEAD})",
                "update Tributary, or use another file; it was not changed",
            )
        return versions[0]

    def _set_journal(self, connection: sqlite3.Connection, journal: Journal) -> tuple[Mode, str]:
        mode, reason = choose_journal(self.path) if journal == "auto" else (journal, "it was asked for")
        deadline = time.monotonic() + self._timeout
        while True:
            try:
                actual = connection.execute(f"PRAGMA journal_mode={mode}").fetchone()[0]
                break
            except sqlite3.OperationalError as error:
                # SQLite does not wait by itself for others to let go of the journal.
                if (error.sqlite_errorcode & 0xFF) not in _BUSY or time.monotonic() > deadline:
                    raise
                time.sleep(0.02)
        if actual != mode:
            raise DatabaseError(
                f"{self.path} cannot have a journal of mode {mode} here", "let it be chosen: journal auto"
            )
        return mode, reason

    def _migrate(self) -> None:
        """Bring the tables up to date in one transaction; whoever comes second finds nothing to do."""
        from alembic import command  # slow to import, and needed once in the life of a file
        from alembic.config import Config

        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
        # Tables that are made anew and renamed must not take their rows' dependants with them.
        engine = self._make_engine(foreign_keys=False)
        try:
            with (
                _MIGRATING,
                engine.connect().execution_options(immediate=True) as connection,
                connection.begin(),
            ):
                config.attributes["connection"] = connection
                command.upgrade(config, "head")
                connection.exec_driver_sql(f"PRAGMA application_id={APPLICATION_ID}")
                if connection.exec_driver_sql("PRAGMA foreign_key_check").first() is not None:
                    raise DatabaseDamagedError(
                        f"{self.path} holds rows that hang on nothing; it was not brought up to date",
                        "restore it from a copy",
                    )
        finally:
            engine.dispose()

    # ---- connections ----------------------------------------------------------------------------

    def _connect(self, *, create: bool = False, foreign_keys: bool = True) -> sqlite3.Connection:
        connection = sqlite3.connect(
            f"file:{quote(str(self.path))}?mode={'rwc' if create else 'rw'}",
            uri=True,
            timeout=self._timeout,
            isolation_level=None,  # transactions begin where we say so
            check_same_thread=False,  # the pool lends a connection to one thread at a time
        )
        try:
            for pragma in (
                f"foreign_keys={'ON' if foreign_keys else 'OFF'}",
                "synchronous=EXTRA",
                "cell_size_check=ON",
                "trusted_schema=OFF",
                f"journal_size_limit={64 << 20}",
            ):
                connection.execute(f"PRAGMA {pragma}")
        except BaseException:
            connection.close()
            raise
        return connection

    def _make_engine(self, *, foreign_keys: bool) -> Engine:
        engine = create_engine(
            "sqlite+pysqlite://",
            creator=lambda: self._connect(foreign_keys=foreign_keys),
            poolclass=QueuePool,
            pool_size=4,
            max_overflow=-1,  # as many as there are threads; four are kept open
        )

        @event.listens_for(engine, "begin")
        def _begin(connection: Connection) -> None:  # pyright: ignore[reportUnusedFunction]
            immediate = connection.get_execution_options().get("immediate", False)
            connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")

        return engine

    @contextmanager
    def read(self) -> Generator[Connection]:
        """A transaction that sees one state of the file throughout."""
        with self._named_errors():
            self._check_file()
            with self._engine.connect() as connection, connection.begin():
                yield connection

    @contextmanager
    def write(self) -> Generator[Connection]:
        """A transaction that is on disk when this ends, or has not happened."""
        if not self._writing.acquire(timeout=self._timeout):
            raise self._busy()
        try:
            with self._named_errors():
                self._check_file()
                with (
                    self._engine.connect().execution_options(immediate=True) as connection,
                    connection.begin(),
                ):
                    yield connection
        finally:
            self._writing.release()

    def close(self) -> None:
        self._engine.dispose()

    # ---- errors ---------------------------------------------------------------------------------

    def _check_file(self) -> None:
        """What is written to a file that was removed while open is confirmed and lost."""
        try:
            found = self.path.stat()
        except OSError as error:
            raise DatabaseError(
                f"{self.path} cannot be found any more ({error.strerror})", "put it back, then restart"
            ) from error
        if (found.st_dev, found.st_ino) != self._file:
            raise DatabaseError(f"{self.path} was replaced while in use", "restart the program")

    def _busy(self) -> DatabaseBusyError:
        return DatabaseBusyError(
            f"{self.path} was kept locked by others for more than {self._timeout:g} s; nothing was changed",
            "try again in a moment",
        )

    @contextmanager
    def _named_errors(self) -> Generator[None]:
        try:
            yield
        except DBAPIError as error:
            named = self._named(error.orig)
            if named is None:
                raise
            raise named from error
        except sqlite3.Error as error:
            named = self._named(error)
            if named is None:
                raise
            raise named from error
        except (NoResultFound, MultipleResultsFound) as error:  # a table and its index disagree
            raise DatabaseDamagedError(f"{self.path} is damaged ({error})", _RESTORE) from error
        except UnicodeDecodeError as error:  # an error of SQLite that quotes a damaged text
            raise DatabaseDamagedError(f"{self.path} is damaged ({error.object!r})", _RESTORE) from error
        except MemoryError as error:
            raise DatabaseError(
                f"{self.path} needs more memory than there is", "it may be damaged: check it, or make room"
            ) from error
        except OverflowError:
            raise UnknownRecordError("there is nothing with so large an id") from None
        except UnicodeEncodeError as error:
            raise InvalidValueError(f"a text that cannot be stored ({error.reason})") from None

    def _named(self, error: BaseException | None) -> StorageError | None:
        """An error of SQLite in our words; None for one that only a fault of ours can cause."""
        code = getattr(error, "sqlite_errorcode", None)
        primary = code & 0xFF if isinstance(code, int) else None
        if primary in _BUSY:
            return self._busy()
        if primary in _DAMAGED:
            return DatabaseDamagedError(f"{self.path} is damaged or no database ({error})", _RESTORE)
        # No code: a text that is not UTF-8. The others: tables or rows that contradict what was written.
        if primary in (None, sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CONSTRAINT):
            return DatabaseDamagedError(f"{self.path} is damaged ({error})", _RESTORE)
        if primary == sqlite3.SQLITE_MISUSE:
            return None
        return DatabaseError(
            f"{self.path} cannot be used: {error}", "check that there is space and permission to write"
        )
