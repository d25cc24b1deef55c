"""The state of one account in one SQLite file: facts about it, its mailboxes, and what was set aside.

Which UID lies in which file is in `state_pairs`, which UIDL in `state_maildrop`; both are reached through `StateDb` too.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from fetchmail_py.model import MailboxName, MessageKey
from fetchmail_py.store.state_base import blob_of, text_of, translated, words_of
from fetchmail_py.store.state_maildrop import MaildropTable
from fetchmail_py.store.state_pairs import PairTable

FILE_NAME = ".fetchmail-py.sqlite3"


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


class DeferredRow(NamedTuple):
    """A message set aside, to be tried again. `ident` is the UID in decimal, or the UIDL."""

    mailbox: int
    ident: str
    reason: str
    since: float
    tries: int


class StateDb(PairTable, MaildropTable):
    """One account's open state."""

    # -- facts about the account -------------------------------------------------------------------------------------

    def get(self, key: str) -> str | None:
        """A fact kept under `key`."""
        with translated(self.path):
            row = self._db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return None if row is None else str(row[0])

    def put(self, key: str, value: str | None) -> None:
        """Keeps a fact; None forgets it."""
        if value is None:
            self._run("DELETE FROM meta WHERE key = ?", (key,))
        else:
            self._run("INSERT OR REPLACE INTO meta(key, value) VALUES(?, ?)", (key, words_of(value)))

    def number(self, key: str) -> int:
        """A fact that is a whole number; 0 where there is none."""
        with translated(self.path):
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
        with translated(self.path):
            found = self._db.execute(f"SELECT {self._MAILBOX} FROM mailbox ORDER BY id").fetchall()  # noqa: S608 our own words
        rows = (
            MailboxRow(
                id=row[0],
                name=MailboxName(text_of(row[1])),
                delimiter=row[2],
                path=text_of(row[3]),
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
        with translated(self.path):
            return {row.name: row for row in rows}

    def add_mailbox(self, name: MailboxName, delimiter: str | None, path: str) -> MailboxRow:
        """A new mailbox of which nothing is known yet."""
        cursor = self._run("INSERT INTO mailbox(name, delimiter, path) VALUES(?, ?, ?)", (blob_of(name), delimiter, blob_of(path)))
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
                blob_of(row.name), row.delimiter, blob_of(row.path), row.uidvalidity, row.uidnext, row.highestmodseq,
                row.messages, row.settled, row.mailbox_id, new_mtime, cur_mtime, looked_at, row.last_sync,
                words_of(row.last_error), row.listed, words_of(row.permanent_flags), row.read_only, row.inode, row.born, row.id,
            ),
        )  # fmt: skip

    def remove_mailbox(self, mailbox: int) -> None:
        """Forgets a mailbox and all its messages, also those that are set aside."""
        for table, column in (("message", "mailbox"), ("deferred", "mailbox"), ("mailbox", "id")):
            self._run(f"DELETE FROM {table} WHERE {column} = ?", (mailbox,))  # noqa: S608 our own words
    # -- messages set aside ------------------------------------------------------------------------------------------

    def deferred(self) -> list[DeferredRow]:
        """Every message that is set aside."""
        with translated(self.path):
            found = self._db.execute("SELECT mailbox, ident, reason, since, tries FROM deferred ORDER BY mailbox, since, ident")
            return [DeferredRow(*row) for row in found]

    def defer(self, mailbox: int, ident: str, reason: str, now: float) -> None:
        """Sets a message aside, or counts another try."""
        self._run(
            "INSERT INTO deferred(mailbox, ident, reason, since, tries) VALUES(?,?,?,?,1) "
            "ON CONFLICT(mailbox, ident) DO UPDATE SET reason=excluded.reason, tries=tries+1",
            (mailbox, words_of(ident), words_of(reason), now),
        )

    def undefer(self, mailbox: int, idents: Iterable[str]) -> None:
        """They came in, or are gone."""
        self._run_many("DELETE FROM deferred WHERE mailbox=? AND ident=?", ((mailbox, words_of(ident)) for ident in idents))

    def line_ends(self) -> dict[MessageKey, int]:
        """How the line ends of every message relate to the wire (`model.LineEnds`)."""
        found = self._rows("SELECT key, line_ends FROM message UNION ALL SELECT key, line_ends FROM maildrop")
        with translated(self.path):
            return {MessageKey(text_of(key)): _int(ends) for key, ends in found}

    # -- sums --------------------------------------------------------------------------------------------------------

    def count_messages(self) -> int:
        """Messages in all mailboxes, the maildrop left out."""
        return int(self._run("SELECT count(*) FROM message").fetchone()[0])

    def totals(self) -> dict[int, tuple[int, int]]:
        """Messages and stored octets by mailbox; 0 is the maildrop's."""
        found = self._rows("SELECT mailbox, count(*), sum(size) FROM message GROUP BY mailbox")
        drop = self._rows("SELECT count(*), coalesce(sum(size), 0) FROM maildrop")[0]
        with translated(self.path):
            totals = {_int(mailbox): (_int(count), _int(size or 0)) for mailbox, count, size in found}
            if drop[0]:
                totals[0] = (_int(drop[0]), _int(drop[1]))
        return totals


def _int(value: object) -> int:
    if not isinstance(value, int):
        raise sqlite3.DataError("a number is none")
    return value
