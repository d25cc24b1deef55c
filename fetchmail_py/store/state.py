"""The state of one account in one SQLite file: which UID or UIDL lies in which file, and what both sides agreed on.

Write-ahead log, `synchronous=FULL`: a commit that returned is on stable storage. Nothing is committed but by `commit`, and
only the account's own thread comes here. The schema is in `state_schema`.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

from fetchmail_py.errors import StoreError
from fetchmail_py.model import Delivered, Flags, MailboxName, MessageKey, Pair, Stage, StoredMessage, Uid, UidSet, flags_of
from fetchmail_py.store import state_schema

FILE_NAME = ".fetchmail-py.sqlite3"


class StateDamaged(StoreError):
    """The database cannot be read: it must be set aside and rebuilt."""

    kind = "state"


@dataclass(slots=True)
class MailboxRow:
    """What we know of one mailbox. Numbers are 0 where nothing is known."""

    id: int
    name: MailboxName
    delimiter: str | None
    path: str
    """Relative to the account's `maildir`."""
    uidvalidity: int = 0
    uidnext: int = 0
    highestmodseq: int = 0
    messages: int = 0
    """EXISTS at the last look that added up."""
    settled: bool = False
    """All that this look showed has been carried out: the same STATUS means there is nothing to do."""
    mailbox_id: str | None = None
    signature: tuple[int, int, int] | None = None
    """`new/` and `cur/` as last scanned (`store.maildir.Signature`)."""
    last_sync: float | None = None
    last_error: str | None = None
    listed: bool = True
    """False once the server no longer lists it."""
    permanent_flags: str | None = None
    """What the server can store (RFC 9051, 7.1, PERMANENTFLAGS), as it said it; None: not known."""
    read_only: bool = False
    """The server lets us change nothing there."""
    inode: int | None = None
    """Of its directory `cur/` here: a directory that is renamed keeps it."""
    born: int | None = None
    """When that directory was made, in nanoseconds (POSIX), where the file system tells: an inode is given out again."""


class KnownMessage(NamedTuple):
    """What recognises one stored message wherever it turns up again."""

    mailbox: int
    uid: Uid
    key: MessageKey
    size: int
    wire_size: int
    identity: bytes
    sha256: bytes
    stage: int
    internaldate: int | None = None


class DeferredRow(NamedTuple):
    """A message set aside, to be tried again. `ident` is the UID in decimal, or the UIDL."""

    mailbox: int
    ident: str
    reason: str
    since: float
    tries: int


def _blob(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _text(blob: object) -> str:
    """What `_blob` made; sqlite3.DataError where damage has left something else."""
    if not isinstance(blob, bytes):
        raise sqlite3.DataError("a name is no blob")
    try:
        return blob.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError as error:
        raise sqlite3.DataError("a name is no UTF-8") from error


def _words(text: str | None) -> str | None:
    """Text for people, which may name a file or a mailbox that is no UTF-8, as a column of text can hold it."""
    return None if text is None else text.encode("utf-8", "backslashreplace").decode("utf-8")


@contextmanager
def _translated(path: str) -> Iterator[None]:
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


class StateDb:
    """One account's open state. Changes become lasting with `commit`, and only then."""

    def __init__(self, path: str, connection: sqlite3.Connection) -> None:
        self.path = path
        self._db = connection

    @classmethod
    def open(cls, path: str) -> StateDb:
        """Opens or creates the database.

        Raises StateTooNew (untouched), StateDamaged (to be set aside), StoreError (disk full, read-only, locked for 60 s).
        """
        with _translated(path):
            # A log with something in it was left by a run that was cut. One without is what a mere reader leaves.
            unclean = os.path.exists(path + "-wal") and os.path.getsize(path + "-wal") > 0
            if not os.path.exists(path):
                # Created by us and not by SQLite, so that it is private from the first moment.
                os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
            connection = sqlite3.connect(path, timeout=60, isolation_level=None)
            try:
                connection.execute("PRAGMA journal_mode=WAL")
                connection.execute("PRAGMA synchronous=FULL")
                connection.execute("PRAGMA foreign_keys=ON")
                if unclean:
                    verdict = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
                    if verdict != "ok":
                        raise StateDamaged(f"the state database is damaged: {verdict}: {path}", path=path)
                state_schema.bring_up_to_date(connection, path)
                connection.execute("BEGIN")
            except BaseException:
                connection.close()
                raise
            return cls(path, connection)

    @classmethod
    def open_copy(cls, path: str) -> StateDb:
        """A copy in memory, for a dry run: whatever becomes of it, the file stays as it is. Empty where there is no file."""
        with _translated(path):
            connection = sqlite3.connect(":memory:", isolation_level=None)
            try:
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
                connection.execute("BEGIN")
            except BaseException:
                connection.close()
                raise
            return cls(path, connection)

    @classmethod
    def open_to_read(cls, path: str) -> StateDb:
        """The file as it is, for `status`: nothing is migrated or written. StoreError, StateTooNew as `open`."""
        from urllib.parse import quote  # noqa: PLC0415

        with _translated(path):
            connection = sqlite3.connect(f"file:{quote(path)}?mode=ro", uri=True, timeout=60, isolation_level=None)
            try:
                state_schema.refuse_newer(connection, path)
                connection.execute("BEGIN")
            except BaseException:
                connection.close()
                raise
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
        with _translated(self.path):
            if self._db.in_transaction:
                self._db.execute("COMMIT")
            self._db.execute("BEGIN")

    def rollback(self) -> None:
        """Forgets everything since the last commit."""
        with _translated(self.path):
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            self._db.execute("BEGIN")

    def close(self) -> None:
        """Closes without committing."""
        with _translated(self.path):
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            self._db.close()

    def _run(self, sql: str, values: Sequence[object] = ()) -> sqlite3.Cursor:
        with _translated(self.path):
            return self._db.execute(sql, values)

    def _run_many(self, sql: str, rows: Iterable[Sequence[object]]) -> None:
        with _translated(self.path):
            self._db.executemany(sql, rows)

    def _rows(self, sql: str, values: Sequence[object] = ()) -> list[tuple[object, ...]]:
        with _translated(self.path):
            return self._db.execute(sql, values).fetchall()

    # -- facts about the account -------------------------------------------------------------------------------------

    def get(self, key: str) -> str | None:
        """A fact kept under `key`."""
        with _translated(self.path):
            row = self._db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return None if row is None else str(row[0])

    def put(self, key: str, value: str | None) -> None:
        """Keeps a fact; None forgets it."""
        if value is None:
            self._run("DELETE FROM meta WHERE key = ?", (key,))
        else:
            self._run("INSERT OR REPLACE INTO meta(key, value) VALUES(?, ?)", (key, _words(value)))

    def number(self, key: str) -> int:
        """A fact that is a whole number; 0 where there is none."""
        with _translated(self.path):
            try:
                return int(self.get(key) or 0)
            except ValueError as error:
                raise sqlite3.DataError(f"{key} is no number") from error

    # -- mailboxes ---------------------------------------------------------------------------------------------------

    _MAILBOX = (
        "id, name, delimiter, path, uidvalidity, uidnext, highestmodseq, messages, settled, mailbox_id, "
        "new_mtime, cur_mtime, looked_at, last_sync, last_error, listed, permanent_flags, read_only, inode, born"
    )

    def mailboxes(self) -> dict[MailboxName, MailboxRow]:
        """Every mailbox we know, by name."""
        with _translated(self.path):
            found = self._db.execute(f"SELECT {self._MAILBOX} FROM mailbox ORDER BY id").fetchall()  # noqa: S608 our own words
        rows = (
            MailboxRow(
                id=row[0],
                name=MailboxName(_text(row[1])),
                delimiter=row[2],
                path=_text(row[3]),
                uidvalidity=row[4],
                uidnext=row[5],
                highestmodseq=row[6],
                messages=row[7],
                settled=bool(row[8]),
                mailbox_id=row[9],
                signature=None if row[12] is None else (row[10], row[11], row[12]),
                last_sync=row[13],
                last_error=row[14],
                listed=bool(row[15]),
                permanent_flags=row[16],
                read_only=bool(row[17]),
                inode=row[18],
                born=row[19],
            )
            for row in found
        )
        with _translated(self.path):
            return {row.name: row for row in rows}

    def add_mailbox(self, name: MailboxName, delimiter: str | None, path: str) -> MailboxRow:
        """A new mailbox of which nothing is known yet."""
        cursor = self._run("INSERT INTO mailbox(name, delimiter, path) VALUES(?, ?, ?)", (_blob(name), delimiter, _blob(path)))
        assert cursor.lastrowid is not None
        return MailboxRow(id=cursor.lastrowid, name=name, delimiter=delimiter, path=path)

    def save_mailbox(self, row: MailboxRow) -> None:
        """Writes back every field of a row."""
        new_mtime, cur_mtime, looked_at = row.signature or (None, None, None)
        self._run(
            "UPDATE mailbox SET name=?, delimiter=?, path=?, uidvalidity=?, uidnext=?, highestmodseq=?, messages=?, settled=?, "
            "mailbox_id=?, new_mtime=?, cur_mtime=?, looked_at=?, last_sync=?, last_error=?, listed=?, permanent_flags=?, "
            "read_only=?, inode=?, born=? WHERE id=?",
            (
                _blob(row.name), row.delimiter, _blob(row.path), row.uidvalidity, row.uidnext, row.highestmodseq,
                row.messages, row.settled, row.mailbox_id, new_mtime, cur_mtime, looked_at, row.last_sync,
                _words(row.last_error), row.listed, _words(row.permanent_flags), row.read_only, row.inode, row.born, row.id,
            ),
        )  # fmt: skip

    def remove_mailbox(self, mailbox: int) -> None:
        """Forgets a mailbox and all its messages, also those that are set aside."""
        for table, column in (("message", "mailbox"), ("deferred", "mailbox"), ("mailbox", "id")):
            self._run(f"DELETE FROM {table} WHERE {column} = ?", (mailbox,))  # noqa: S608 our own words

    # -- pairs -------------------------------------------------------------------------------------------------------

    def pairs(self, mailbox: int) -> dict[Uid, Pair]:
        """Every pair of a mailbox by UID, in UID order: work per message."""
        with _translated(self.path):
            cursor = self._db.execute("SELECT uid, key, flags, stage FROM message WHERE mailbox = ? ORDER BY uid", (mailbox,))
            return {uid: Pair(uid, MessageKey(_text(key)), flags_of(flags), stage) for uid, key, flags, stage in cursor}

    def rows(self, mailbox: int) -> Iterator[tuple[Uid, bytes, str, int]]:
        """Every row of a mailbox as it is stored, (uid, key, flags, stage), newest first: for who looks at a million.

        One at a time: nothing may be changed meanwhile.
        """
        with _translated(self.path):
            yield from self._db.execute(
                "SELECT uid, key, flags, stage FROM message WHERE mailbox = ? ORDER BY uid DESC", (mailbox,)
            )

    def pairs_at(self, mailbox: int, stage: int) -> dict[Uid, Pair]:
        """The pairs of a mailbox that are at a stage."""
        with _translated(self.path):
            cursor = self._db.execute(
                "SELECT uid, key, flags, stage FROM message WHERE mailbox = ? AND stage = ?", (mailbox, stage)
            )
            return {uid: Pair(uid, MessageKey(_text(key)), flags_of(flags), at) for uid, key, flags, at in cursor}

    def pairs_of(self, mailbox: int, uids: Iterable[int]) -> dict[Uid, Pair]:
        """The pairs of some UIDs: work per UID asked for."""
        found: dict[Uid, Pair] = {}
        with _translated(self.path):
            for uid in uids:
                row = self._db.execute(
                    "SELECT uid, key, flags, stage FROM message WHERE mailbox = ? AND uid = ?", (mailbox, uid)
                ).fetchone()
                if row is not None:
                    found[row[0]] = Pair(row[0], MessageKey(_text(row[1])), flags_of(row[2]), row[3])
        return found

    def known_within(self, mailbox: int, uids: UidSet) -> frozenset[Uid]:
        """The UIDs of present pairs that lie in `uids`, without expanding it."""
        found: set[Uid] = set()
        with _translated(self.path):
            for low, high in uids.ranges:
                cursor = self._db.execute(
                    "SELECT uid FROM message WHERE mailbox = ? AND uid BETWEEN ? AND ? AND stage IN (?, ?)",
                    (mailbox, low, high, Stage.PAIRED, Stage.DELETING),
                )
                found.update(uid for (uid,) in cursor)
        return frozenset(found)

    def count_present(self, mailbox: int) -> int:
        """How many of a mailbox's pairs are at the server too, as far as we know."""
        with _translated(self.path):
            row = self._db.execute(
                "SELECT count(*) FROM message WHERE mailbox = ? AND stage IN (?, ?)", (mailbox, Stage.PAIRED, Stage.DELETING)
            ).fetchone()
        return int(row[0])

    def count_at(self, mailbox: int, stage: int) -> int:
        """How many messages of a mailbox are at a stage."""
        row = self._run("SELECT count(*) FROM message WHERE mailbox = ? AND stage = ?", (mailbox, stage)).fetchone()
        return int(row[0])

    def add_arriving(
        self, mailbox: int, arrivals: Iterable[tuple[Uid, Flags, int | None, Delivered]], stage: int = Stage.ARRIVING
    ) -> None:
        """The intent to publish files that are durable in `tmp/`: (uid, flags, INTERNALDATE, delivered)."""
        self._run_many(
            "INSERT OR REPLACE INTO message(mailbox, uid, key, flags, wire_size, size, sha256, identity, line_ends, "
            "internaldate, stage) VALUES(?,?,?,?,?,?,?,?,?,?,?)",
            (
                (
                    mailbox, uid, d.key.encode("utf-8", "surrogatepass"), " ".join(sorted(flags)) if flags else "",
                    d.wire_size, d.size, d.sha256, d.identity, d.line_ends, internaldate, stage,
                )
                for uid, flags, internaldate, d in arrivals
            ),
        )  # fmt: skip

    def arrived(self, stage: int = Stage.PAIRED) -> None:
        """Every arriving message has arrived: to be called when their directories are durable."""
        self._run("UPDATE message SET stage = ? WHERE stage = ?", (stage, Stage.ARRIVING))

    def arriving(self) -> list[tuple[int, Uid, MessageKey, Flags]]:
        """Intents left open by a run that was cut: (mailbox, uid, key, flags)."""
        with _translated(self.path):
            cursor = self._db.execute("SELECT mailbox, uid, key, flags FROM message WHERE stage = ?", (Stage.ARRIVING,))
            return [(mailbox, uid, MessageKey(_text(key)), flags_of(flags)) for mailbox, uid, key, flags in cursor]

    def set_stage(self, mailbox: int, uids: Iterable[int], stage: int) -> None:
        """Moves some messages to another stage."""
        self._run_many("UPDATE message SET stage=? WHERE mailbox=? AND uid=?", ((stage, mailbox, uid) for uid in uids))

    def set_flags(self, mailbox: int, flags: Iterable[tuple[Uid, Flags]]) -> None:
        """The flags both sides now agree on."""
        self._run_many(
            "UPDATE message SET flags=? WHERE mailbox=? AND uid=?",
            ((" ".join(sorted(value)), mailbox, uid) for uid, value in flags),
        )

    def forget(self, mailbox: int, uids: Iterable[int]) -> None:
        """Drops pairs."""
        self._run_many("DELETE FROM message WHERE mailbox=? AND uid=?", ((mailbox, uid) for uid in uids))

    def rebind(self, mailbox: int, old_uid: Uid, to_mailbox: int, new_uid: Uid, flags: Flags) -> None:
        """The same message under another UID: after a changed UIDVALIDITY or a move. `flags` are those agreed on."""
        self._run(
            "UPDATE OR REPLACE message SET mailbox=?, uid=?, stage=?, flags=? WHERE mailbox=? AND uid=?",
            (to_mailbox, new_uid, Stage.PAIRED, " ".join(sorted(flags)), mailbox, old_uid),
        )

    def move(self, mailbox: int, uid: Uid, to_mailbox: int, to_uid: Uid, flags: Flags) -> None:
        """The intent to move a message's file to another mailbox: its row is there from now on, arriving."""
        self._run(
            "UPDATE OR REPLACE message SET mailbox=?, uid=?, stage=?, flags=? WHERE mailbox=? AND uid=?",
            (to_mailbox, to_uid, Stage.ARRIVING, " ".join(sorted(flags)), mailbox, uid),
        )

    def set_wire(self, mailbox: int, uid: Uid, wire_size: int, line_ends: int) -> None:
        """How many octets a message has on the wire, once that is known for sure, and how its line ends were stored."""
        self._run("UPDATE message SET wire_size=?, line_ends=? WHERE mailbox=? AND uid=?", (wire_size, line_ends, mailbox, uid))

    def set_internaldate(self, mailbox: int, uid: Uid, internaldate: int) -> None:
        """When a message arrived at the server, POSIX seconds."""
        self._run("UPDATE message SET internaldate=? WHERE mailbox=? AND uid=?", (internaldate, mailbox, uid))

    def renumber(self, mailbox: int) -> None:
        """Turns a mailbox's UIDs negative, so that they are out of the way of new ones: its UIDVALIDITY has changed.

        Such rows are unpaired: candidates for matching. Those already unpaired stay as they are.
        """
        low = self._run("SELECT min(0, min(uid)) FROM message WHERE mailbox=?", (mailbox,)).fetchone()[0] or 0
        self._run("UPDATE message SET uid = ? - uid, stage = ? WHERE mailbox=? AND uid > 0", (low, Stage.KEPT, mailbox))

    _KNOWN = "mailbox, uid, key, size, wire_size, identity, sha256, stage, internaldate"

    def known_messages(self, mailbox: int, *, unpaired: bool = False) -> list[KnownMessage]:
        """What recognises the messages of a mailbox; only those without a valid UID where `unpaired`."""
        condition = " AND uid < 0" if unpaired else ""
        with _translated(self.path):
            cursor = self._db.execute(f"SELECT {self._KNOWN} FROM message WHERE mailbox = ?{condition}", (mailbox,))  # noqa: S608
            return [KnownMessage(m, u, MessageKey(_text(k)), *rest) for m, u, k, *rest in cursor]

    def with_digests(self, digests: Collection[bytes]) -> list[KnownMessage]:
        """Pairs of any mailbox whose stored octets have one of these digests: one pass over everything there is."""
        with _translated(self.path):
            cursor = self._db.execute(
                f"SELECT {self._KNOWN} FROM message WHERE uid > 0 AND stage = ?", (Stage.PAIRED,)  # noqa: S608
            )
            return [KnownMessage(m, u, MessageKey(_text(k)), *rest) for m, u, k, *rest in cursor if rest[3] in digests]

    def upload_facts(self, mailbox: int, uids: Iterable[int]) -> list[tuple[Uid, MessageKey, int, int, bytes, int, int | None]]:
        """What an upload needs: (uid, key, octets on the wire, octets stored, digest, line ends, INTERNALDATE)."""
        found = []
        with _translated(self.path):
            for uid in uids:
                row = self._db.execute(
                    "SELECT uid, key, wire_size, size, sha256, line_ends, internaldate FROM message WHERE mailbox=? AND uid=?",
                    (mailbox, uid),
                ).fetchone()
                if row is not None:
                    found.append((row[0], MessageKey(_text(row[1])), *row[2:]))
        return found

    def set_key(self, mailbox: int, uid: int, key: MessageKey) -> None:
        """The message's file has another name."""
        self._run("UPDATE message SET key=? WHERE mailbox=? AND uid=?", (_blob(key), mailbox, uid))

    def send_over(self, mailbox: int, uid: Uid, to_mailbox: int, key: MessageKey, flags: Flags) -> None:
        """A message was moved at the server to where its UID is not known: its row waits there for being recognised."""
        self._run(
            "UPDATE message SET mailbox=?, uid=?, key=?, stage=?, flags=? WHERE mailbox=? AND uid=?",
            (
                to_mailbox, self.next_unpaired_uid(to_mailbox), _blob(key), Stage.SENT, " ".join(sorted(flags)), mailbox, uid,
            ),
        )  # fmt: skip

    def unpair(self, mailbox: int, uids: Iterable[int], stage: int) -> dict[Uid, Uid]:
        """Pairs that have lost their counterpart get numbers below zero, and this stage: old to new."""
        free = self.next_unpaired_uid(mailbox)
        numbers = {Uid(uid): Uid(free - count) for count, uid in enumerate(uids)}
        self._run_many(
            "UPDATE message SET uid=?, stage=? WHERE mailbox=? AND uid=?",
            ((new, stage, mailbox, old) for old, new in numbers.items()),
        )
        return numbers

    def known_message(self, mailbox: int, uid: int) -> KnownMessage | None:
        """The same for one message."""
        with _translated(self.path):
            row = self._db.execute(
                f"SELECT {self._KNOWN} FROM message WHERE mailbox=? AND uid=?", (mailbox, uid)  # noqa: S608
            ).fetchone()
            return None if row is None else KnownMessage(row[0], row[1], MessageKey(_text(row[2])), *row[3:])

    def next_unpaired_uid(self, mailbox: int) -> Uid:
        """A free negative number for a file that has no UID; those below it are free too."""
        row = self._run("SELECT min(0, min(uid)) FROM message WHERE mailbox=?", (mailbox,)).fetchone()
        return Uid((row[0] or 0) - 1)

    # -- POP3 --------------------------------------------------------------------------------------------------------

    _MAILDROP = "id, uidl, key, listed_size, wire_size, sha256, identity, stored_at, stage"

    def maildrop(self) -> list[StoredMessage]:
        """Every message of the maildrop that was stored and not yet seen to be gone."""
        with _translated(self.path):
            found = self._db.execute(f"SELECT {self._MAILDROP} FROM maildrop ORDER BY id").fetchall()  # noqa: S608 our own words
            return [StoredMessage(i, u, MessageKey(_text(k)), n, w, s, d, t, g) for i, u, k, n, w, s, d, t, g in found]

    def add_maildrop(self, rows: Iterable[tuple[bytes | None, int, float, Delivered]], stage: int = Stage.ARRIVING) -> None:
        """The intent to publish: (UIDL, LISTed size, POSIX time, delivered)."""
        self._run_many(
            "INSERT INTO maildrop(uidl, key, listed_size, wire_size, size, sha256, identity, line_ends, stored_at, stage) "
            "VALUES(?,?,?,?,?,?,?,?,?,?)",
            (
                (u, _blob(d.key), listed, d.wire_size, d.size, d.sha256, d.identity, d.line_ends, at, stage)
                for u, listed, at, d in rows
            ),
        )

    def maildrop_arrived(self) -> None:
        """Every arriving message of the maildrop has arrived."""
        self._run("UPDATE maildrop SET stage = ? WHERE stage = ?", (Stage.PAIRED, Stage.ARRIVING))

    def set_maildrop_stage(self, ids: Iterable[int], stage: int) -> None:
        """Moves some messages to another stage."""
        self._run_many("UPDATE maildrop SET stage=? WHERE id=?", ((stage, row_id) for row_id in ids))

    def stored_by(self, now: float) -> None:
        """Messages of the maildrop that are said to have been stored later (POSIX time) were stored now."""
        self._run("UPDATE maildrop SET stored_at=? WHERE stored_at>?", (now, now))

    def set_uidl(self, changes: Iterable[tuple[int, bytes | None]]) -> None:
        """The server gave known messages other UIDLs: (row, UIDL)."""
        self._run_many("UPDATE maildrop SET uidl=? WHERE id=?", ((uidl, row_id) for row_id, uidl in changes))

    def forget_maildrop(self, ids: Iterable[int]) -> None:
        """A later listing no longer shows them."""
        self._run_many("DELETE FROM maildrop WHERE id=?", ((row_id,) for row_id in ids))

    # -- messages set aside ------------------------------------------------------------------------------------------

    def deferred(self) -> list[DeferredRow]:
        """Every message that is set aside."""
        with _translated(self.path):
            found = self._db.execute("SELECT mailbox, ident, reason, since, tries FROM deferred ORDER BY mailbox, since, ident")
            return [DeferredRow(*row) for row in found]

    def defer(self, mailbox: int, ident: str, reason: str, now: float) -> None:
        """Sets a message aside, or counts another try."""
        self._run(
            "INSERT INTO deferred(mailbox, ident, reason, since, tries) VALUES(?,?,?,?,1) "
            "ON CONFLICT(mailbox, ident) DO UPDATE SET reason=excluded.reason, tries=tries+1",
            (mailbox, _words(ident), _words(reason), now),
        )

    def undefer(self, mailbox: int, idents: Iterable[str]) -> None:
        """They came in, or are gone."""
        self._run_many("DELETE FROM deferred WHERE mailbox=? AND ident=?", ((mailbox, _words(ident)) for ident in idents))

    def line_ends(self) -> dict[MessageKey, int]:
        """How the line ends of every message relate to the wire (`model.LineEnds`)."""
        found = self._rows("SELECT key, line_ends FROM message UNION ALL SELECT key, line_ends FROM maildrop")
        with _translated(self.path):
            return {MessageKey(_text(key)): _int(ends) for key, ends in found}

    # -- sums --------------------------------------------------------------------------------------------------------

    def count_messages(self) -> int:
        """Messages in all mailboxes, the maildrop left out."""
        return int(self._run("SELECT count(*) FROM message").fetchone()[0])

    def totals(self) -> dict[int, tuple[int, int]]:
        """Messages and stored octets by mailbox; 0 is the maildrop's."""
        found = self._rows("SELECT mailbox, count(*), sum(size) FROM message GROUP BY mailbox")
        drop = self._rows("SELECT count(*), coalesce(sum(size), 0) FROM maildrop")[0]
        with _translated(self.path):
            totals = {_int(mailbox): (_int(count), _int(size or 0)) for mailbox, count, size in found}
            if drop[0]:
                totals[0] = (_int(drop[0]), _int(drop[1]))
        return totals


def _int(value: object) -> int:
    if not isinstance(value, int):
        raise sqlite3.DataError("a number is none")
    return value
