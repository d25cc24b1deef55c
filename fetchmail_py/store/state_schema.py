"""The tables of the state database, and how an older file is brought up to date: one named step after the other."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable

from fetchmail_py.errors import StateTooNew, StoreError
from fetchmail_py.store import durable

APPLICATION_ID = 0x666D7079  # "fmpy", in the file's header: `file` and `sqlite3` can tell it from any other database


def _first_tables(db: sqlite3.Connection) -> None:
    """Accounts, mailboxes, pairs, the maildrop, messages set aside."""
    for statement in (
        "CREATE TABLE meta(key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
        # Names and keys are blobs: they may hold bytes that are no UTF-8.
        """CREATE TABLE mailbox(
            id INTEGER PRIMARY KEY,
            name BLOB NOT NULL UNIQUE,
            delimiter TEXT,
            path BLOB NOT NULL UNIQUE,
            uidvalidity INTEGER NOT NULL DEFAULT 0,
            uidnext INTEGER NOT NULL DEFAULT 0,
            highestmodseq INTEGER NOT NULL DEFAULT 0,
            messages INTEGER NOT NULL DEFAULT 0,
            settled INTEGER NOT NULL DEFAULT 0,
            mailbox_id TEXT,
            new_mtime INTEGER, cur_mtime INTEGER, looked_at INTEGER,
            last_sync REAL,
            last_error TEXT,
            listed INTEGER NOT NULL DEFAULT 1)""",
        """CREATE TABLE message(
            mailbox INTEGER NOT NULL REFERENCES mailbox(id) ON DELETE CASCADE,
            uid INTEGER NOT NULL,
            key BLOB NOT NULL,
            flags TEXT NOT NULL,
            wire_size INTEGER NOT NULL,
            size INTEGER NOT NULL,
            sha256 BLOB NOT NULL,
            identity BLOB NOT NULL,
            line_ends INTEGER NOT NULL,
            internaldate INTEGER,
            stage INTEGER NOT NULL,
            PRIMARY KEY(mailbox, uid)) WITHOUT ROWID""",
        # Only the few open intents are in this index: settling them must not look at every message.
        "CREATE INDEX message_arriving ON message(stage) WHERE stage = 0",
        """CREATE TABLE maildrop(
            id INTEGER PRIMARY KEY,
            uidl BLOB,
            key BLOB NOT NULL,
            listed_size INTEGER NOT NULL,
            wire_size INTEGER NOT NULL,
            size INTEGER NOT NULL,
            sha256 BLOB NOT NULL,
            identity BLOB NOT NULL,
            line_ends INTEGER NOT NULL,
            stored_at REAL NOT NULL,
            stage INTEGER NOT NULL)""",
        "CREATE INDEX maildrop_arriving ON maildrop(stage) WHERE stage = 0",
        """CREATE TABLE deferred(
            mailbox INTEGER NOT NULL,
            ident TEXT NOT NULL,
            reason TEXT NOT NULL,
            since REAL NOT NULL,
            tries INTEGER NOT NULL,
            PRIMARY KEY(mailbox, ident)) WITHOUT ROWID""",
    ):
        db.execute(statement)


def _two_way(db: sqlite3.Connection) -> None:
    """What a mailbox lets us change at the server, and which directory it is here."""
    for statement in (
        "ALTER TABLE mailbox ADD COLUMN permanent_flags TEXT",
        "ALTER TABLE mailbox ADD COLUMN read_only INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE mailbox ADD COLUMN inode INTEGER",
    ):
        db.execute(statement)


def _counts_and_births(db: sqlite3.Connection) -> None:
    """What tells a directory from one made anew. And how many messages there are is asked in every run: without an index, each
    of a hundred thousand rows is read for it."""
    db.execute("ALTER TABLE mailbox ADD COLUMN born INTEGER")
    db.execute("CREATE INDEX message_stage ON message(mailbox, stage)")


Migration = Callable[[sqlite3.Connection], None]

MIGRATIONS: tuple[Migration, ...] = (_first_tables, _two_way, _counts_and_births)
"""In order; the schema version (`PRAGMA user_version`) is how many of them a file has seen. Never changed, only added to."""


def bring_up_to_date(db: sqlite3.Connection, path: str, migrations: tuple[Migration, ...] = MIGRATIONS) -> None:
    """Runs the steps a file has not seen, each in one transaction with the version that records it.

    A file of an older version is copied to `PATH.before-vN` first. Raises StateTooNew for one of a newer version, StoreError
    for a database that is not ours.
    """
    version = refuse_newer(db, path, migrations)
    if version == len(migrations):
        return
    if version == 0 and db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
        raise StoreError(f"this is not a state database of fetchmail-py: {path}", path=path, hint="move the file away")
    if version > 0 and path != ":memory:":
        _back_up(db, f"{path}.before-v{len(migrations)}")
    for number, migrate in enumerate(migrations[version:], start=version + 1):
        db.execute("BEGIN IMMEDIATE")
        try:
            migrate(db)
            db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            db.execute(f"PRAGMA user_version = {number}")
            db.execute("COMMIT")
        except BaseException:
            db.execute("ROLLBACK")
            raise


def refuse_newer(db: sqlite3.Connection, path: str, migrations: tuple[Migration, ...] = MIGRATIONS) -> int:
    """The file's schema version; StateTooNew for one we do not know."""
    version = int(db.execute("PRAGMA user_version").fetchone()[0])
    if version > len(migrations):
        raise StateTooNew(
            f"the state was written by a newer fetchmail-py (schema {version}, this one knows {len(migrations)}): {path}",
            path=path,
            hint="use that version, or a newer one; nothing was changed",
        )
    return version


def _back_up(db: sqlite3.Connection, to: str) -> None:
    if os.path.exists(to):
        return
    partial = to + ".partial"
    os.close(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
    copy = sqlite3.connect(partial)
    try:
        db.backup(copy)
    finally:
        copy.close()
    durable.replace_file(partial, to)
