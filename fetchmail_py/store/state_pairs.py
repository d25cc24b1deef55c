"""The pairs of an account's mailboxes: which UID lies in which file, and what both sides agreed on last time."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import NamedTuple

from fetchmail_py.model import Delivered, Flags, MessageKey, Pair, Stage, Uid, UidSet, flags_of
from fetchmail_py.store.state_base import StateBase, blob_of, text_of, translated


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


class PairTable(StateBase):
    """The messages of every mailbox, by mailbox and UID. One without a UID has a number below zero."""

    def pairs(self, mailbox: int) -> dict[Uid, Pair]:
        """Every pair of a mailbox by UID, in UID order: work per message."""
        with translated(self.path):
            cursor = self._db.execute("SELECT uid, key, flags, stage FROM message WHERE mailbox = ? ORDER BY uid", (mailbox,))
            return {uid: Pair(uid, MessageKey(text_of(key)), flags_of(flags), stage) for uid, key, flags, stage in cursor}

    def rows(self, mailbox: int) -> Iterator[tuple[Uid, bytes, str, int]]:
        """Every row of a mailbox as it is stored, (uid, key, flags, stage), newest first: for who looks at a million.

        One at a time: nothing may be changed meanwhile.
        """
        with translated(self.path):
            yield from self._db.execute(
                "SELECT uid, key, flags, stage FROM message WHERE mailbox = ? ORDER BY uid DESC", (mailbox,)
            )

    def pairs_at(self, mailbox: int, stage: int) -> dict[Uid, Pair]:
        """The pairs of a mailbox that are at a stage."""
        with translated(self.path):
            cursor = self._db.execute(
                "SELECT uid, key, flags, stage FROM message WHERE mailbox = ? AND stage = ?", (mailbox, stage)
            )
            return {uid: Pair(uid, MessageKey(text_of(key)), flags_of(flags), at) for uid, key, flags, at in cursor}

    def pairs_of(self, mailbox: int, uids: Iterable[int]) -> dict[Uid, Pair]:
        """The pairs of some UIDs: work per UID asked for."""
        found: dict[Uid, Pair] = {}
        with translated(self.path):
            for uid in uids:
                row = self._db.execute(
                    "SELECT uid, key, flags, stage FROM message WHERE mailbox = ? AND uid = ?", (mailbox, uid)
                ).fetchone()
                if row is not None:
                    found[row[0]] = Pair(row[0], MessageKey(text_of(row[1])), flags_of(row[2]), row[3])
        return found

    def known_within(self, mailbox: int, uids: UidSet) -> frozenset[Uid]:
        """The UIDs of present pairs that lie in `uids`, without expanding it."""
        found: set[Uid] = set()
        with translated(self.path):
            for low, high in uids.ranges:
                cursor = self._db.execute(
                    "SELECT uid FROM message WHERE mailbox = ? AND uid BETWEEN ? AND ? AND stage IN (?, ?)",
                    (mailbox, low, high, Stage.PAIRED, Stage.DELETING),
                )
                found.update(uid for (uid,) in cursor)
        return frozenset(found)

    def count_present(self, mailbox: int) -> int:
        """How many of a mailbox's pairs are at the server too, as far as we know."""
        with translated(self.path):
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
        with translated(self.path):
            cursor = self._db.execute("SELECT mailbox, uid, key, flags FROM message WHERE stage = ?", (Stage.ARRIVING,))
            return [(mailbox, uid, MessageKey(text_of(key)), flags_of(flags)) for mailbox, uid, key, flags in cursor]

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
        with translated(self.path):
            cursor = self._db.execute(f"SELECT {self._KNOWN} FROM message WHERE mailbox = ?{condition}", (mailbox,))  # noqa: S608
            return [KnownMessage(m, u, MessageKey(text_of(k)), *rest) for m, u, k, *rest in cursor]

    def with_digests(self, digests: Collection[bytes]) -> list[KnownMessage]:
        """Pairs of any mailbox whose stored octets have one of these digests: one pass over everything there is."""
        with translated(self.path):
            cursor = self._db.execute(
                f"SELECT {self._KNOWN} FROM message WHERE uid > 0 AND stage = ?", (Stage.PAIRED,)  # noqa: S608
            )
            return [KnownMessage(m, u, MessageKey(text_of(k)), *rest) for m, u, k, *rest in cursor if rest[3] in digests]

    def upload_facts(self, mailbox: int, uids: Iterable[int]) -> list[tuple[Uid, MessageKey, int, int, bytes, int, int | None]]:
        """What an upload needs: (uid, key, octets on the wire, octets stored, digest, line ends, INTERNALDATE)."""
        found = []
        with translated(self.path):
            for uid in uids:
                row = self._db.execute(
                    "SELECT uid, key, wire_size, size, sha256, line_ends, internaldate FROM message WHERE mailbox=? AND uid=?",
                    (mailbox, uid),
                ).fetchone()
                if row is not None:
                    found.append((row[0], MessageKey(text_of(row[1])), *row[2:]))
        return found

    def set_key(self, mailbox: int, uid: int, key: MessageKey) -> None:
        """The message's file has another name."""
        self._run("UPDATE message SET key=? WHERE mailbox=? AND uid=?", (blob_of(key), mailbox, uid))

    def send_over(self, mailbox: int, uid: Uid, to_mailbox: int, key: MessageKey, flags: Flags) -> None:
        """A message was moved at the server to where its UID is not known: its row waits there for being recognised."""
        self._run(
            "UPDATE message SET mailbox=?, uid=?, key=?, stage=?, flags=? WHERE mailbox=? AND uid=?",
            (
                to_mailbox, self.next_unpaired_uid(to_mailbox), blob_of(key), Stage.SENT, " ".join(sorted(flags)), mailbox, uid,
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
        with translated(self.path):
            row = self._db.execute(
                f"SELECT {self._KNOWN} FROM message WHERE mailbox=? AND uid=?", (mailbox, uid)  # noqa: S608
            ).fetchone()
            return None if row is None else KnownMessage(row[0], row[1], MessageKey(text_of(row[2])), *row[3:])

    def next_unpaired_uid(self, mailbox: int) -> Uid:
        """A free negative number for a file that has no UID; those below it are free too."""
        row = self._run("SELECT min(0, min(uid)) FROM message WHERE mailbox=?", (mailbox,)).fetchone()
        return Uid((row[0] or 0) - 1)
