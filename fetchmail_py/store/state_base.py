"""The connection to one account's SQLite file, and its transactions: what every table of the state is reached through.

Write-ahead log, `synchronous=FULL`: a commit that returned is on stable storage. Nothing is committed but by `commit`, and
only the account's own thread comes here. The schema is in `state_schema`.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Self

from fetchmail_py.errors import StoreError
from fetchmail_py.store import state_schema


class StateDamaged(StoreError):
    """The database cannot be read: it must be set aside and rebuilt."""

    kind = "state"


def blob_of(text: str) -> bytes:
    """A name as it is stored: it may hold bytes that are no UTF-8."""
    return text.encode("utf-8", "surrogatepass")


def text_of(blob: object) -> str:
    """What `blob_of` made; sqlite3.DataError where damage has left something else."""
    if not isinstance(blob, bytes):
        raise sqlite3.DataError("a name is no blob")
    try:
        return blob.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError as error:
        raise sqlite3.DataError("a name is no UTF-8") from error


def words_of(text: str | None) -> str | None:
    """Text for people, which may name a file or a mailbox that is no UTF-8, as a column of text can hold it."""
    return None if text is None else text.encode("utf-8", "backslashreplace").decode("utf-8")


@contextmanager
def translated(path: str) -> Iterator[None]:
    """Turns what sqlite3 raises into our errors: damage is one thing, a full or read-only disk another."""
    try:
        yield
    except sqlite3.OperationalError as error:
        name = getattr(error, "sqlite_errorname", "") or ""
        if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")) or str(error).startswith(("no such", "Could not decode")):
            raise StateDamaged(f"the state database is damaged: {error}: {path}", path=path) from error
        raise StoreError(f"the state database: {error}: {path}", path=path) from error
    except (sqlite3.ProgrammingError, sqlite3.IntegrityError):
        raise  # ours, as when the database is closed already: a sound file must not be set aside for it
    except sqlite3.DatabaseError as error:
        raise StateDamaged(f"the state database is damaged: {error}: {path}", path=path) from error
    except OSError as error:
        raise StoreError.from_os_error(error, "opening the state database", path) from error


@contextmanager
def _prepared(connection: sqlite3.Connection) -> Iterator[None]:
    """What comes before the first transaction; where it, or that, fails the connection is closed."""
    try:
        yield
        connection.execute("BEGIN")
    except BaseException:
        connection.close()
        raise


class StateBase:
    """An open state. Changes become lasting with `commit`, and only then."""

    def __init__(self, path: str, connection: sqlite3.Connection) -> None:
        self.path = path
        self._db = connection

    @classmethod
    def open(cls, path: str) -> Self:
        """Opens or creates the database.

        Raises StateTooNew (untouched), StateDamaged (to be set aside), StoreError (disk full, read-only, locked for 60 s).
        """
        with translated(path):
            # A log with something in it was left by a run that was cut. One without is what a mere reader leaves.
            unclean = os.path.exists(path + "-wal") and os.path.getsize(path + "-wal") > 0
            if not os.path.exists(path):
                # Created by us and not by SQLite, so that it is private from the first moment.
                os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
            connection = sqlite3.connect(path, timeout=60, isolation_level=None)
            with _prepared(connection):
                connection.execute("PRAGMA journal_mode=WAL")
                connection.execute("PRAGMA synchronous=FULL")
                connection.execute("PRAGMA foreign_keys=ON")
                if unclean:
                    verdict = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
                    if verdict != "ok":
                        raise StateDamaged(f"the state database is damaged: {verdict}: {path}", path=path)
                state_schema.bring_up_to_date(connection, path)
            return cls(path, connection)

    @classmethod
    def open_copy(cls, path: str) -> Self:
        """A copy in memory, for a dry run: whatever becomes of it, the file stays as it is. Empty where there is no file."""
        with translated(path):
            connection = sqlite3.connect(":memory:", isolation_level=None)
            with _prepared(connection):
                if os.path.exists(path):
                    from urllib.parse import quote  # noqa: PLC0415 - only a dry run needs it

                    # Nobody else is at work here, and without a log the file is all there is: then a reader leaves no trace.
                    how = "mode=ro" if os.path.exists(path + "-wal") else "immutable=1"
                    source = sqlite3.connect(f"file:{quote(path)}?{how}", uri=True, timeout=60)
                    try:
                        source.backup(connection)
                    finally:
                        source.close()
                state_schema.bring_up_to_date(connection, ":memory:")
            return cls(path, connection)

    @classmethod
    def open_to_read(cls, path: str) -> Self:
        """The file as it is, for `status`: nothing is migrated or written. StoreError, StateTooNew as `open`."""
        from urllib.parse import quote  # noqa: PLC0415

        with translated(path):
            connection = sqlite3.connect(f"file:{quote(path)}?mode=ro", uri=True, timeout=60, isolation_level=None)
            with _prepared(connection):
                state_schema.refuse_newer(connection, path)
            return cls(path, connection)

    @classmethod
    def set_aside(cls, path: str) -> str:
        """Renames a damaged database, with its log, out of the way, and says where to."""
        stamp = time.strftime("%Y%m%dT%H%M%S")
        aside = f"{path}.damaged-{stamp}"
        number = 1
        while os.path.lexists(aside):
            number += 1
            aside = f"{path}.damaged-{stamp}-{number}"
        try:
            os.rename(path, aside)
            for suffix in ("-wal", "-shm"):
                if os.path.lexists(path + suffix):
                    os.rename(path + suffix, aside + suffix)
        except OSError as error:
            raise StoreError.from_os_error(error, "setting the damaged state database aside", path) from error
        return aside

    def commit(self) -> None:
        """Makes everything since the last commit lasting, all or nothing."""
        with translated(self.path):
            if self._db.in_transaction:
                self._db.execute("COMMIT")
            self._db.execute("BEGIN")

    def rollback(self) -> None:
        """Forgets everything since the last commit."""
        with translated(self.path):
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            self._db.execute("BEGIN")

    def close(self) -> None:
        """Closes without committing."""
        with translated(self.path):
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            self._db.close()

    def _run(self, sql: str, values: Sequence[object] = ()) -> sqlite3.Cursor:
        with translated(self.path):
            return self._db.execute(sql, values)

    def _run_many(self, sql: str, rows: Iterable[Sequence[object]]) -> None:
        with translated(self.path):
            self._db.executemany(sql, rows)

    def _rows(self, sql: str, values: Sequence[object] = ()) -> list[tuple[object, ...]]:
        with translated(self.path):
            return self._db.execute(sql, values).fetchall()
