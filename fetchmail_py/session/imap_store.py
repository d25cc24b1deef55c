"""Changing an IMAP account: flags, moves, copies, uploads, deletions, mailboxes. Messages are named by UID only.

RFC 9051, RFC 4315 (UIDPLUS), RFC 6851 (MOVE), RFC 3502 (MULTIAPPEND), RFC 4314 (ACL). What a server lacks is replaced where that
is safe, and left undone with a reason where it is not.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import NamedTuple

from fetchmail_py.errors import ServerBusy, ServerRefused
from fetchmail_py.model import DELETED, UID_MAX, Flags, Look, MailboxName, Uid, UidSet
from fetchmail_py.session.imap import ImapSession, Ticket, refusal
from fetchmail_py.session.imap_look import mailbox_argument, pipelined, read_select, select_command
from fetchmail_py.wire import imap_command
from fetchmail_py.wire.imap_grammar import parse_uid_list
from fetchmail_py.wire.imap_response import Code, Esearch, Event, Rights, Search, Status
from fetchmail_py.wire.imap_types import Expunge, Vanished, number_in

AT_ONCE_MESSAGES = 100
AT_ONCE_OCTETS = 1024 * 1024
"""One APPEND takes so many messages (RFC 3502): it is all or nothing, and what a cut undoes is sent again."""
AHEAD = 4
"""APPEND commands under way."""
SHOWN = 5
"""UIDs that are named to the user."""
NOTHING_DONE = "the server says OK, and does not remove them, as it does where a right is missing: have the right to delete granted"

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


class Deleted(NamedTuple):
    """What became of a deletion: `uids` are gone from the mailbox, what is `left` is still there, whatever the server said."""

    uids: tuple[Uid, ...]
    left: tuple[Uid, ...]
    reason: str | None
    read_only: bool = False


class Opened(NamedTuple):
    """A mailbox selected for changes; `reason` says why nothing may be changed there now."""

    look: Look | None
    reason: str | None
    read_only: bool = False


class FlagStore(NamedTuple):
    """Messages that get and lose the same flags."""

    uids: tuple[Uid, ...]
    add: Flags
    remove: Flags


class Copied(NamedTuple):
    """What became of a COPY or MOVE. `uids`: old to new, empty where the server does not tell (no UIDPLUS)."""

    uids: dict[Uid, Uid]
    uidvalidity: int
    """The target's, 0 where it was not told."""
    left: tuple[Uid, ...] = ()
    """Of a MOVE: these have been copied only, and are still where they were."""
    reason: str | None = None


class Upload(NamedTuple):
    """One message to APPEND: `size` octets on the wire."""

    flags: Flags
    internaldate: int
    """POSIX seconds."""
    size: int
    chunks: Callable[[], Iterable[bytes]]


class Appended(NamedTuple):
    """What became of an upload: `uid` is None where the server did not tell it, or refused (then there is a `refused`)."""

    uid: Uid | None
    uidvalidity: int
    refused: ServerRefused | None


def open_for_changes(session: ImapSession, mailbox: MailboxName, uidvalidity: int) -> Opened:
    """SELECT, unless the mailbox is selected already. Raises ServerRefused."""
    if session.selected == mailbox and not session.selected_read_only:
        return Opened(None, None)
    opened = read_select(session, select_command(session, mailbox, read_only=False), mailbox)
    if isinstance(opened, ServerRefused):
        raise opened
    if opened.uidvalidity != uidvalidity or not uidvalidity:
        session.selected = None
        what = "its UIDVALIDITY has changed during the run" if uidvalidity else "the server gives it no UIDVALIDITY"
        return Opened(opened, what)
    if opened.read_only:
        return Opened(opened, "the mailbox is read-only", read_only=True)
    return Opened(opened, None)


def open_to_read(session: ImapSession, mailbox: MailboxName, uidvalidity: int) -> bool:
    """EXAMINE, unless the mailbox is selected already; False where it is not what it was. Raises ServerRefused."""
    if session.selected == mailbox:
        return True
    opened = read_select(session, select_command(session, mailbox, read_only=True), mailbox)
    if isinstance(opened, ServerRefused):
        raise opened
    if opened.uidvalidity != uidvalidity:
        session.selected = None
        return False
    return True


def has_uidplus(session: ImapSession) -> bool:
    """Whether UID EXPUNGE, APPENDUID and COPYUID are there."""
    return bool(session.capabilities & {"UIDPLUS", "IMAP4REV2"})


def may_delete(rights: str) -> bool:
    """Whether these rights are enough to mark \\Deleted and to expunge (RFC 4314, 2.1); before it, one letter stood for both."""
    return {"e", "t"} <= set(rights) or ("d" in rights and not set("ektx") & set(rights))


def delete(
    session: ImapSession, mailbox: MailboxName, uidvalidity: int, uids: tuple[Uid, ...], marked: Collection[Uid] = ()
) -> Deleted:
    """Marks messages \\Deleted, but for those that are `marked` already, and expunges exactly these.

    Without UIDPLUS, EXPUNGE would also remove what other clients have marked: it is sent only where the server says that no
    other message is marked; else the marks stay. A server may say OK and remove nothing, as for want of a right (RFC 4314, 4):
    what it does not tell as gone is looked for. A mailbox that is read-only, or of another UIDVALIDITY than when it was looked
    at, is left alone. Raises ServerRefused.
    """
    opened = open_for_changes(session, mailbox, uidvalidity)
    if opened.read_only:
        return Deleted((), uids, "the mailbox is read-only: nothing can be deleted there", read_only=True)
    if opened.reason is not None:
        return Deleted((), uids, opened.reason)
    wanted = UidSet.of(uids)
    unmarked = UidSet.of(uid for uid in uids if uid not in marked)
    with_uid = has_uidplus(session)
    gone = _Gone()
    reason = NOTHING_DONE
    change = f"+FLAGS.SILENT ({DELETED})"
    tickets = [session.send(f"UID STORE {chunk} {change}".encode(), name="UID STORE") for chunk in unmarked.chunks()]
    if with_uid:
        # Sent right behind: an EXPUNGE of what could not be marked removes nothing.
        tickets += [session.send(f"UID EXPUNGE {chunk}".encode(), name="UID EXPUNGE") for chunk in wanted.chunks()]
    try:
        _finish_all(session, tickets, mailbox, gone)
        if not with_uid:
            found = _marked(session)
            others = list(islice((uid for uid in found if uid not in wanted), SHOWN + 1))
            if others:
                return Deleted((), uids, _held_by(others))
            if found:  # no answer is no leave: EXPUNGE would take whatever is marked
                _finish_all(session, [session.send(b"EXPUNGE")], mailbox, gone)
            else:
                reason = "the server does not list what was marked \\Deleted just now"
    except ServerRefused as refused:
        if refused.code != "NOPERM":
            raise
        reason = f"the server does not allow it: {refused.detail}"
    left = gone.remaining(session, mailbox, uidvalidity, wanted)
    went, stayed = tuple(uid for uid in uids if uid not in left), tuple(uid for uid in uids if uid in left)
    return Deleted(went, stayed, reason if stayed else None)


def _held_by(others: Sequence[int]) -> str:
    shown = ", ".join(map(str, others[:SHOWN])) + (" and more" if len(others) > SHOWN else "")
    verb = "is" if len(others) == 1 else "are"
    return (
        f"UID {shown} {verb} marked \\Deleted too, and this server (no UIDPLUS) removes all that is marked or nothing: "
        "unmark or expunge those first"
    )


class _Gone:
    """What the server has told of messages that went, while it was to remove some."""

    def __init__(self) -> None:
        self._uids: list[tuple[int, int]] = []
        self._count = 0

    def take(self, event: Event) -> None:
        """Looks at one response."""
        if isinstance(event, Expunge):
            self._count += 1
        elif isinstance(event, Vanished) and not event.earlier:
            self._uids += event.uids.ranges

    def remaining(self, session: ImapSession, mailbox: MailboxName, uidvalidity: int, asked: UidSet) -> UidSet:
        """Which of those that were to go are there still: asked for only where the responses do not account for all of them."""
        told = UidSet(self._uids)
        if self._count == len(asked) or all(uid in told for uid in asked):
            return UidSet()
        found = _search(session, mailbox, uidvalidity, asked)
        return asked if found is None else found


def _finish_all(session: ImapSession, tickets: Iterable[Ticket], mailbox: MailboxName, gone: _Gone) -> None:
    """Reads every answer, then raises the first refusal."""
    first: ServerRefused | None = None
    for ticket in tickets:
        for event in session.events(ticket):
            gone.take(event)
        status = session.answer(ticket)
        if status.status != "OK" and first is None:
            first = refusal(ticket.name, status, mailbox)
    if first is not None:
        raise first


def _marked(session: ImapSession) -> UidSet:
    ticket = session.send(b"UID SEARCH DELETED", name="UID SEARCH")
    found = _found(session, ticket)
    session.finish(ticket)
    return found


def present(session: ImapSession, mailbox: MailboxName, uidvalidity: int, uids: Iterable[Uid]) -> UidSet:
    """Which of these UIDs the mailbox has now, in one exchange; none where it cannot be told."""
    return _search(session, mailbox, uidvalidity, UidSet.of(uids)) or UidSet()


def _search(session: ImapSession, mailbox: MailboxName, uidvalidity: int, uids: UidSet) -> UidSet | None:
    """The same; None where it cannot be told."""
    extended = bool(session.capabilities & {"ESEARCH", "IMAP4REV2"})
    opening = None
    if session.selected == mailbox:
        current = session.send(b"NOOP")  # what was done to it just now is to be seen in it
    else:
        current = opening = select_command(session, mailbox, read_only=True)
    returning = "RETURN (ALL) " if extended else ""
    asked = [session.send(f"UID SEARCH {returning}UID {chunk}".encode(), name="UID SEARCH") for chunk in uids.chunks()]
    valid = True
    if opening is not None:
        opened = read_select(session, opening, mailbox)
        valid = not isinstance(opened, ServerRefused) and opened.uidvalidity == uidvalidity
    else:
        asked.insert(0, current)
    found: list[tuple[int, int]] = []
    for ticket in asked:
        # Servers work on several commands at a time: what a search has found may come before the answer to the one ahead of it.
        found += _found(session, ticket).ranges
        valid = session.answer(ticket).status == "OK" and valid
    return UidSet(found) if valid else None


def _found(session: ImapSession, ticket: Ticket) -> UidSet:
    """What a UID SEARCH has found."""
    found: list[tuple[int, int]] = []
    for event in session.events(ticket):
        if isinstance(event, Search):
            found += UidSet.of(event.uids).ranges
        elif isinstance(event, Esearch) and event.all is not None:
            found += event.all.ranges
    return UidSet(found)


def store_flags(
    session: ImapSession, mailbox: MailboxName, changes: Sequence[FlagStore]
) -> Iterator[tuple[FlagStore, ServerRefused | None]]:
    """Adds and removes flags in the mailbox selected for changes, pipelined; adding and removing commutes with what others do.

    A message that is gone meanwhile is no error (RFC 9051, 6.4.9). What is refused is reported with its refusal.
    """
    commands = [
        (change, f"UID STORE {chunk} {sign}FLAGS.SILENT ({' '.join(sorted(flags))})".encode())
        for change in changes
        for sign, flags in (("+", change.add), ("-", change.remove))
        if flags
        for chunk in UidSet.of(change.uids).chunks()
    ]
    refused: dict[int, ServerRefused] = {}
    for (change, _), ticket in pipelined(commands, lambda command: session.send(command[1], name="UID STORE")):
        for _ in session.events(ticket):
            pass
        status = session.answer(ticket)
        if status.status != "OK":
            refused.setdefault(id(change), refusal("UID STORE", status, mailbox))
    for change in changes:
        yield change, refused.get(id(change))


def copy(session: ImapSession, uids: Iterable[Uid], target: MailboxName) -> Copied:
    """UID COPY out of the selected mailbox. Raises ServerRefused; [TRYCREATE] is its code where there is no target."""
    return _transfer(session, b"UID COPY ", UidSet.of(uids), target, _Gone())


def move(
    session: ImapSession,
    mailbox: MailboxName,
    uidvalidity: int,
    uids: Sequence[Uid],
    target: MailboxName,
    there: Collection[Uid] = (),
) -> Copied:
    """UID MOVE out of the mailbox selected for changes; without MOVE (RFC 6851) a COPY, then a deletion by UID.

    What is `there` already, copied before a connection was lost, is only deleted where a COPY would be made.
    A message that is gone already is left out of the answer; what could be copied and not removed is `left`. Raises
    ServerRefused: then nothing has been made, or the server is about to go, and nobody knows.
    """
    asked = UidSet.of(uids)
    if session.capabilities & {"MOVE", "IMAP4REV2"}:
        gone = _Gone()
        copied = _transfer(session, b"UID MOVE ", asked, target, gone)
        if quirk_gmail_keeps(session):
            return copied
        left = gone.remaining(session, mailbox, uidvalidity, asked)
        if not left:
            return copied
        return copied._replace(left=tuple(uid for uid in uids if uid in left), reason=NOTHING_DONE)
    missing = [uid for uid in uids if uid not in there]
    copied = copy(session, missing, target) if missing else Copied({}, 0)
    try:
        deleted = delete(session, mailbox, uidvalidity, tuple(uids))
    except ServerRefused as refused:
        if isinstance(refused, ServerBusy) or refused.status == "BYE":
            raise
        # The copies are made: as a refusal of all, it would make them be made again.
        return copied._replace(left=tuple(uids), reason=refused.detail)
    return copied._replace(left=deleted.left, reason=deleted.reason)


def quirk_gmail_keeps(session: ImapSession) -> bool:
    """Gmail (X-GM-EXT-1) has every message in "All Mail" too, and moves none out of there but to the trash: a MOVE adds a label.

    That the original stays is right, and deleting it would delete the message in all places.
    """
    return "X-GM-EXT-1" in session.capabilities


def _transfer(session: ImapSession, verb: bytes, uids: UidSet, target: MailboxName, gone: _Gone) -> Copied:
    found: dict[Uid, Uid] = {}
    uidvalidity = 0
    known = True
    name = verb.decode().strip()

    def ask(chunk: str) -> Ticket:
        return session.send(verb + chunk.encode() + b" ", mailbox_argument(session, target), name=name)

    for _, ticket in pipelined(uids.chunks(), ask):
        # MOVE tells it in an untagged OK, before the messages vanish (RFC 6851, 4.3).
        codes = []
        for event in session.events(ticket):
            gone.take(event)
            if isinstance(event, Status) and event.code is not None:
                codes.append(event.code)
        status = session.finish(ticket, target)
        if status.code is not None:
            codes.append(status.code)
        told = next((_copied(code, uids) for code in codes if code.name == "COPYUID"), None)
        if told is None:
            known = False
        else:
            uidvalidity, pairs = told
            found |= pairs
    return Copied(found if known else {}, uidvalidity if known else 0)


def _copied(code: Code, asked: UidSet) -> tuple[int, dict[Uid, Uid]] | None:
    """COPYUID (RFC 4315, 3): UIDVALIDITY of the target, and old UID to new; None where it cannot be about what was asked."""
    words = code.arg.split()
    if len(words) != 3:
        return None
    validity = number_in(words[0].encode(), UID_MAX)
    old, new = (parse_uid_list(word.encode(), len(asked)) for word in words[1:])
    if not validity or old is None or new is None or len(old) != len(new) or any(uid not in asked for uid in old):
        return None
    return validity, dict(zip(old, new, strict=True))


# -- uploads -------------------------------------------------------------------------------------------------------------


def append(session: ImapSession, mailbox: MailboxName, uploads: Iterable[Upload]) -> Iterator[list[tuple[Upload, Appended]]]:
    """APPENDs messages, several with one command where the server has MULTIAPPEND, and the next command queued behind it.

    Yields what became of each command's messages in the order given. One that is refused with others is sent again alone, to
    find the one that was meant. Raises ConnectionLost.
    """
    multi = "MULTIAPPEND" in session.capabilities
    # Without non-synchronising literals every literal waits for the server's word: then nothing can be queued.
    ahead = AHEAD if "LITERAL+" in session.capabilities else 1
    again: deque[list[Upload]] = deque()
    lots = _lots(uploads) if multi else ([upload] for upload in uploads)
    waiting: deque[tuple[list[Upload], Ticket | ServerRefused]] = deque()
    exhausted = False
    while True:
        while not exhausted and len(waiting) < ahead:
            lot = again.popleft() if again else next(lots, None)
            if lot is None:
                exhausted = True
                break
            waiting.append((lot, _send(session, mailbox, lot)))
        if not waiting:
            if not again:
                return
            exhausted = False
            continue
        lot, ticket = waiting.popleft()
        outcome = _outcome(session, lot, ticket, mailbox)
        if len(lot) > 1 and outcome[0][1].refused is not None:
            again.extend([upload] for upload in lot)
            exhausted = False
        else:
            yield outcome


def _lots(uploads: Iterable[Upload]) -> Iterator[list[Upload]]:
    lot: list[Upload] = []
    octets = 0
    for upload in uploads:
        if lot and (len(lot) >= AT_ONCE_MESSAGES or octets + upload.size > AT_ONCE_OCTETS):
            yield lot
            lot, octets = [], 0
        lot.append(upload)
        octets += upload.size
    if lot:
        yield lot


def _send(session: ImapSession, mailbox: MailboxName, lot: Sequence[Upload]) -> Ticket | ServerRefused:
    name = mailbox_argument(session, mailbox)
    parts: list[bytes | imap_command.Stream] = [b"APPEND "]
    if isinstance(name, imap_command.Literal):
        data = name.data
        parts.append(imap_command.Stream(len(data), lambda: (data,)))
    else:
        parts.append(name)
    for upload in lot:
        flags = " ".join(sorted(upload.flags))
        parts.append(f' ({flags}) "{date_time(upload.internaldate)}" '.encode())
        parts.append(imap_command.Stream(upload.size, upload.chunks))
    try:
        return session.send_streamed(*parts, name="APPEND")
    except ServerRefused as refused:
        if refused.status == "BYE":
            raise
        return refused


def _outcome(
    session: ImapSession, lot: Sequence[Upload], ticket: Ticket | ServerRefused, mailbox: MailboxName
) -> list[tuple[Upload, Appended]]:
    if isinstance(ticket, ServerRefused):
        return [(upload, Appended(None, 0, ticket)) for upload in lot]
    for _ in session.events(ticket):
        pass
    status = session.answer(ticket)
    if status.status != "OK":
        refused = refusal("APPEND", status, mailbox)
        return [(upload, Appended(None, 0, refused)) for upload in lot]
    uidvalidity, uids = _appended(status.code, len(lot))
    return [(upload, Appended(uid, uidvalidity, None)) for upload, uid in zip(lot, uids, strict=True)]


def _appended(code: Code | None, count: int) -> tuple[int, Sequence[Uid | None]]:
    """APPENDUID (RFC 4315, 3; RFC 3502): one UID for each message, in their order. What does not add up tells nothing."""
    nothing: tuple[int, Sequence[Uid | None]] = (0, [None] * count)
    if code is None or code.name != "APPENDUID":
        return nothing
    words, _, rest = code.arg.partition(" ")
    validity = number_in(words.encode(), UID_MAX)
    uids = parse_uid_list(rest.strip().encode(), count)
    return (validity, uids) if validity and uids is not None and len(set(uids)) == count else nothing


def date_time(seconds: int) -> str:
    """POSIX seconds as a date-time (RFC 9051, 9), in UTC; what no calendar of four-digit years has is brought into it."""
    when = time.gmtime(min(max(seconds, 0), 253402300799))
    day = f"{when.tm_mday:2d}-{_MONTHS[when.tm_mon - 1]}-{when.tm_year:04d}"
    return f"{day} {when.tm_hour:02d}:{when.tm_min:02d}:{when.tm_sec:02d} +0000"


# -- mailboxes -----------------------------------------------------------------------------------------------------------


def create(session: ImapSession, name: MailboxName) -> None:
    """CREATE and SUBSCRIBE; a mailbox that is there already is no error (RFC 5530, ALREADYEXISTS). Raises ServerRefused."""
    try:
        session.run(b"CREATE ", mailbox_argument(session, name), mailbox=name)
    except ServerRefused as refused:
        if refused.code != "ALREADYEXISTS":
            raise
    _subscribe(session, b"SUBSCRIBE ", name)


def rename(session: ImapSession, old: MailboxName, new: MailboxName) -> None:
    """RENAME, with what is below it; the subscription follows. Raises ServerRefused."""
    session.run(b"RENAME ", mailbox_argument(session, old), b" ", mailbox_argument(session, new), mailbox=old)
    session.selected = None  # its name may mean another mailbox now
    _subscribe(session, b"SUBSCRIBE ", new)
    _subscribe(session, b"UNSUBSCRIBE ", old)


def _subscribe(session: ImapSession, verb: bytes, name: MailboxName) -> None:
    """Not every server lets its user choose: a refusal changes nothing that matters here."""
    ticket = session.send(verb, mailbox_argument(session, name), name=verb.decode().strip())
    for _ in session.events(ticket):
        pass
    session.answer(ticket)


def my_rights(session: ImapSession, names: Iterable[MailboxName]) -> Mapping[MailboxName, str]:
    """What may be done in mailboxes, where the server has ACL (RFC 4314, 3.5): letters by mailbox. Nothing without."""
    rights: dict[MailboxName, str] = {}
    if "ACL" not in session.capabilities:
        return rights

    def ask(name: MailboxName) -> Ticket:
        return session.send(b"MYRIGHTS ", mailbox_argument(session, name), name="MYRIGHTS")

    for name, ticket in pipelined(names, ask):
        events: list[Event] = list(session.events(ticket))
        session.answer(ticket)
        for event in events:
            if isinstance(event, Rights):
                rights[name] = event.rights
    return rights


__all__ = [
    "Appended", "Copied", "Deleted", "FlagStore", "Opened", "Upload", "append", "copy", "create", "date_time", "delete",
    "has_uidplus", "may_delete", "move", "my_rights", "open_for_changes", "open_to_read", "present",
    "quirk_gmail_keeps", "rename", "store_flags",
]  # fmt: skip
