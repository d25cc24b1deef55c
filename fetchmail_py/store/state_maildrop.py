"""The messages of a POP3 account's maildrop: which UIDL lies in which file, until the server no longer lists it."""

from __future__ import annotations

from collections.abc import Iterable

from fetchmail_py.model import Delivered, MessageKey, Stage, StoredMessage
from fetchmail_py.store.state_base import StateBase, blob_of, text_of, translated


class MaildropTable(StateBase):
    """What was stored of the maildrop."""

    _MAILDROP = "id, uidl, key, listed_size, wire_size, sha256, identity, stored_at, stage"

    def maildrop(self) -> list[StoredMessage]:
        """Every message of the maildrop that was stored and not yet seen to be gone."""
        with translated(self.path):
            found = self._db.execute(f"SELECT {self._MAILDROP} FROM maildrop ORDER BY id").fetchall()  # noqa: S608 our own words
            return [StoredMessage(i, u, MessageKey(text_of(k)), n, w, s, d, t, g) for i, u, k, n, w, s, d, t, g in found]

    def add_maildrop(self, rows: Iterable[tuple[bytes | None, int, float, Delivered]], stage: int = Stage.ARRIVING) -> None:
        """The intent to publish: (UIDL, LISTed size, POSIX time, delivered)."""
        self._run_many(
            "INSERT INTO maildrop(uidl, key, listed_size, wire_size, size, sha256, identity, line_ends, stored_at, stage) "
            "VALUES(?,?,?,?,?,?,?,?,?,?)",
            (
                (u, blob_of(d.key), listed, d.wire_size, d.size, d.sha256, d.identity, d.line_ends, at, stage)
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
