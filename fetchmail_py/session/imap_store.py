"""Changing an IMAP mailbox: deletions, by UID only (RFC 4315; RFC 9051, 6.4.9)."""

from __future__ import annotations

from typing import NamedTuple

from fetchmail_py.errors import ServerRefused
from fetchmail_py.model import DELETED, MailboxName, Uid, UidSet
from fetchmail_py.session.imap import ImapSession
from fetchmail_py.session.imap_look import read_select, select_command
from fetchmail_py.wire.imap_response import Esearch, Search


class Deleted(NamedTuple):
    """What became of a deletion. What is `left` is marked \\Deleted and still there."""

    uids: tuple[Uid, ...]
    left: tuple[Uid, ...]
    reason: str | None
    read_only: bool = False


def delete(session: ImapSession, mailbox: MailboxName, uidvalidity: int, uids: tuple[Uid, ...]) -> Deleted:
    """Marks messages \\Deleted and expunges exactly these.

    Without UIDPLUS, EXPUNGE would also remove what other clients have marked: it is sent only where the server says that no
    other message is marked; else the marks stay. A mailbox that is read-only, or of another UIDVALIDITY than when it was looked
    at, is left alone. Raises ServerRefused.
    """
    if session.selected != mailbox or session.selected_read_only:
        opened = read_select(session, select_command(session, mailbox, read_only=False), mailbox)
        if isinstance(opened, ServerRefused):
            raise opened
        if opened.uidvalidity != uidvalidity:
            return Deleted((), uids, "its UIDVALIDITY has changed during the run")
        if opened.read_only:
            return Deleted((), uids, "the mailbox is read-only: nothing can be deleted there", read_only=True)
    wanted = UidSet.of(uids)
    uidplus = "UIDPLUS" in session.capabilities or "IMAP4REV2" in session.capabilities
    for chunk in wanted.chunks():
        session.run(f"UID STORE {chunk} +FLAGS.SILENT ({DELETED})".encode(), mailbox=mailbox)
    if uidplus:
        for chunk in wanted.chunks():
            session.run(f"UID EXPUNGE {chunk}".encode(), mailbox=mailbox)
        return Deleted(uids, (), None)
    marked = _marked(session)
    if not marked:
        # No answer is no leave: EXPUNGE would take whatever is marked.
        return Deleted((), uids, "the server does not list what was marked \\Deleted just now: the marks were left")
    if any(uid not in wanted for uid in marked):
        return Deleted((), uids, "other messages are marked \\Deleted and the server has no UIDPLUS: the marks were left")
    session.run(b"EXPUNGE", mailbox=mailbox)
    return Deleted(uids, (), None)


def _marked(session: ImapSession) -> UidSet:
    found = UidSet()
    ticket = session.send(b"UID SEARCH DELETED", name="UID SEARCH")
    for event in session.events(ticket):
        if isinstance(event, Search):
            found = UidSet.of(event.uids)
        elif isinstance(event, Esearch) and event.all is not None:
            found = event.all
    session.finish(ticket)
    return found
