"""Looking at an IMAP account: LIST and STATUS, EXAMINE and SELECT, and listings of what a mailbox holds.

One pipelined exchange each: the next command is on its way while the answer to the one before is read.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple, TypeVar

from fetchmail_py.errors import ProtocolError, ServerRefused
from fetchmail_py.model import (
    MODSEQ_MAX,
    UID_MAX,
    Coverage,
    Look,
    MailboxName,
    RemoteMailbox,
    RemoteMessage,
    Uid,
    UidSet,
    UidValidity,
)
from fetchmail_py.session.imap import ImapSession, Ticket, refusal
from fetchmail_py.wire import imap_command
from fetchmail_py.wire.imap_response import (
    Code,
    Esearch,
    Exists,
    Fetch,
    FlagsData,
    ListEntry,
    Namespace,
    Search,
    Status,
    StatusData,
    Vanished,
)
from fetchmail_py.wire.utf7 import decode_mailbox, encode_mailbox

WINDOW = 24
"""Commands under way at a time: enough to hide a round trip, few enough that neither side blocks on a full buffer."""

MAX_MAILBOXES = 200_000
"""Entries of one answer to LIST, and STATUS beside them."""
MAX_MESSAGES = 2_000_000
"""Messages of one listing, and ranges of what is gone."""
MAX_NAME = 8192
"""Octets of a mailbox name; what is longer no server takes back in a command."""
MAX_NAMES = 32 * 1024 * 1024
"""Octets of the names in one answer to LIST."""

T = TypeVar("T")


class Known(NamedTuple):
    """What we know of a mailbox before we look: the server is asked for what differs from that."""

    name: MailboxName
    uidvalidity: int = 0
    modseq: int = 0
    everything: bool = False
    """Ask for every message whatever is known."""


def mailbox_argument(session: ImapSession, name: MailboxName) -> bytes | imap_command.Literal:
    """A mailbox name as a command wants it."""
    return imap_command.astring(encode_mailbox(name, utf8=session.utf8), utf8=session.utf8)


def status_items(session: ImapSession) -> bytes:
    """What STATUS can tell at this server."""
    items = b"MESSAGES UIDNEXT UIDVALIDITY"
    if session.capabilities & {"CONDSTORE", "QRESYNC"}:
        items += b" HIGHESTMODSEQ"
    if "OBJECTID" in session.capabilities:
        items += b" MAILBOXID"
    return items


def introduce(session: ImapSession) -> list[Ticket]:
    """ID and ENABLE, not waited for: they travel in front of the first LIST.

    Some servers (NetEase) serve a client only after ID. QRESYNC implies CONDSTORE (RFC 7162, 3.2.3).
    """
    tickets: list[Ticket] = []
    if session.introduced:
        return tickets
    session.introduced = True
    if "ID" in session.capabilities:
        tickets.append(session.send(b'ID ("name" "fetchmail-py")'))
    if "ENABLE" in session.capabilities or "IMAP4REV2" in session.capabilities:
        wanted = [b"UTF8=ACCEPT"] if session.capabilities & {"UTF8=ACCEPT", "UTF8=ONLY"} else []
        if "QRESYNC" in session.capabilities:
            wanted.append(b"QRESYNC")
        elif "CONDSTORE" in session.capabilities:
            wanted.append(b"CONDSTORE")
        if wanted:
            tickets.append(session.send(b"ENABLE " + b" ".join(wanted)))
    return tickets


def settle(session: ImapSession, tickets: Iterable[Ticket]) -> None:
    """Reads the answers of commands whose refusal changes nothing (ID, ENABLE)."""
    for ticket in tickets:
        for _ in session.events(ticket):
            pass
        session.answer(ticket)


def list_mailboxes(session: ImapSession) -> list[RemoteMailbox]:
    """Every mailbox with its STATUS, in the order in which the server lists them; see `survey`."""
    return survey(session).mailboxes


class Survey(NamedTuple):
    """An account's mailboxes, and one of them looked at in the same exchange; None where that told nothing of use."""

    mailboxes: list[RemoteMailbox]
    ahead: Look | None


def survey(session: ImapSession, ahead: Known | None = None, *, compress: bool = False) -> Survey:
    """Every mailbox with its STATUS, and a look at the changes in the one that is likeliest to have some (`ahead`).

    With LIST-STATUS one exchange, else a LIST and one pipelined STATUS for each. A mailbox whose STATUS is refused has None
    for its numbers. `compress`: COMPRESS travels behind all this, and costs no round trip. Raises ServerRefused if LIST is.
    """
    greeting = introduce(session)
    extended = "LIST-STATUS" in session.capabilities or "IMAP4REV2" in session.capabilities
    returns = b""
    if extended:
        returns = b" RETURN (SUBSCRIBED STATUS (" + status_items(session) + b"))"
        if "SPECIAL-USE" in session.capabilities:
            returns = returns.replace(b"(SUBSCRIBED", b"(SUBSCRIBED SPECIAL-USE", 1)
    elif {"LIST-EXTENDED", "SPECIAL-USE"} <= session.capabilities:
        returns = b" RETURN (SUBSCRIBED SPECIAL-USE)"
    spaces = session.send(b"NAMESPACE") if "NAMESPACE" in session.capabilities else None
    listing = session.send(b'LIST "" "*"' + returns, name="LIST")
    # ENABLE is yet to be answered: a server that refuses it refuses the parameter too, and nothing is lost.
    early = None if ahead is None else _ask(session, ahead, qresync="QRESYNC" in session.capabilities)
    compression = session.ask_compress() if compress else None
    settle(session, greeting)
    namespace: Namespace | None = None
    if spaces is not None:
        for event in session.events(spaces):
            if isinstance(event, Namespace):
                namespace = event
        session.answer(spaces)
    try:
        found, numbers = _read_list(session, listing)
    finally:
        seen = None if early is None else _read(session, early)
        if compression is not None:
            session.settle_compress(compression)
    if not isinstance(seen, Look) or ahead is None or seen.uidvalidity != ahead.uidvalidity:
        seen = None
    for prefix in _unseen_prefixes(namespace, found):
        pattern = imap_command.astring(prefix + b"*")
        more = session.send(b'LIST "" ', pattern, returns, name="LIST")
        others, other_numbers = _read_list(session, more)
        found |= others
        numbers |= other_numbers
    if not extended:
        numbers = _status_each(session, [name for name, entry in found.items() if "\\noselect" not in entry.attributes])
    return Survey([_mailbox(session, name, entry, numbers.get(name, {})) for name, entry in found.items()], seen)


def _read_list(
    session: ImapSession, ticket: Ticket
) -> tuple[dict[bytes, ListEntry], dict[bytes, dict[str, int | str]]]:
    """A name with NUL, which no command can hold (RFC 9051, 9, CHAR8), or of more than `MAX_NAME`, is left out: it could only be
    listed."""
    found: dict[bytes, ListEntry] = {}
    numbers: dict[bytes, dict[str, int | str]] = {}
    octets = 0
    for event in session.events(ticket):
        if isinstance(event, ListEntry):
            if len(event.name) <= MAX_NAME and b"\0" not in event.name:
                found[event.name] = event
                octets += len(event.name)
        elif isinstance(event, StatusData):
            numbers[event.name] = event.items
            octets += len(event.name)
        if len(found) + len(numbers) > 2 * MAX_MAILBOXES or octets > MAX_NAMES:
            raise ProtocolError(f"the server lists more than {MAX_MAILBOXES} mailboxes, or {MAX_NAMES} octets of names")
    session.finish(ticket)
    return found, numbers


def _unseen_prefixes(namespace: Namespace | None, found: Iterable[bytes]) -> list[bytes]:
    """Namespaces of other users and shared ones of which LIST "*" showed nothing: some servers want to be asked."""
    if namespace is None:
        return []
    names = tuple(found)
    prefixes = [prefix for prefix, _ in (*namespace.others, *namespace.shared) if prefix and b"\0" not in prefix]
    return [prefix for prefix in prefixes if not any(name.startswith(prefix) for name in names)]


def _status_each(session: ImapSession, names: Sequence[bytes]) -> dict[bytes, dict[str, int | str]]:
    numbers: dict[bytes, dict[str, int | str]] = {}
    items = status_items(session)

    def ask(name: bytes) -> Ticket:
        return session.send(b"STATUS ", imap_command.astring(name, utf8=session.utf8), b" (" + items + b")", name="STATUS")

    for name, ticket in pipelined(names, ask):
        for event in session.events(ticket):
            if isinstance(event, StatusData):
                numbers[name] = event.items
        session.answer(ticket)
    return numbers


def pipelined(items: Iterable[T], ask: Callable[[T], Ticket], window: int = WINDOW) -> Iterator[tuple[T, Ticket]]:
    """Sends a command for each item, at most `window` ahead; yields them in order.

    The caller reads each one's events and its answer before it takes the next.
    """
    waiting: deque[tuple[T, Ticket]] = deque()
    for item in items:
        waiting.append((item, ask(item)))
        if len(waiting) >= window:
            yield waiting.popleft()
    while waiting:
        yield waiting.popleft()


def _mailbox(session: ImapSession, wire: bytes, entry: ListEntry, numbers: dict[str, int | str]) -> RemoteMailbox:
    def number(item: str, limit: int = UID_MAX) -> int | None:
        value = numbers.get(item)
        return value if isinstance(value, int) and value <= limit else None

    uidvalidity = number("UIDVALIDITY")
    mailbox_id = numbers.get("MAILBOXID")
    return RemoteMailbox(
        name=decode_mailbox(wire, utf8=session.utf8),
        delimiter=entry.delimiter,
        attributes=entry.attributes,
        uidvalidity=None if uidvalidity is None else UidValidity(uidvalidity),
        uidnext=number("UIDNEXT"),
        messages=number("MESSAGES"),
        highestmodseq=number("HIGHESTMODSEQ", MODSEQ_MAX),
        mailbox_id=mailbox_id if isinstance(mailbox_id, str) else None,
    )


class _Exchange(NamedTuple):
    """The commands of one look."""

    known: Known
    coverage: Coverage
    select: Ticket
    search: Ticket | None
    listing: Ticket | None


def look(session: ImapSession, wanted: Iterable[Known]) -> Iterator[tuple[Known, Look | ServerRefused]]:
    """Looks at mailboxes one after the other, read-only, each in one pipelined exchange: EXAMINE with what is to be listed.

    Asks for changes since what is known (QRESYNC, else CONDSTORE), or for the flags of everything. A mailbox whose
    UIDVALIDITY is not the known one is looked at in full. A refused mailbox gives its ServerRefused; the others go on.
    """
    again: list[Known] = []

    def run(batch: Iterable[Known]) -> Iterator[tuple[Known, Look | ServerRefused]]:
        waiting: deque[_Exchange] = deque()
        for known in batch:
            waiting.append(_ask(session, known))
            if len(waiting) >= WINDOW:
                yield from one(waiting.popleft())
        while waiting:
            yield from one(waiting.popleft())

    def one(exchange: _Exchange) -> Iterator[tuple[Known, Look | ServerRefused]]:
        result = _read(session, exchange)
        known = exchange.known
        if isinstance(result, Look) and exchange.coverage is Coverage.CHANGES and result.uidvalidity != known.uidvalidity:
            again.append(Known(known.name, everything=True))
        else:
            yield known, result

    yield from run(wanted)
    yield from run(list(again))


def select_command(session: ImapSession, name: MailboxName, *, read_only: bool, parameters: bytes = b"") -> Ticket:
    """EXAMINE or SELECT."""
    verb = b"EXAMINE " if read_only else b"SELECT "
    return session.send(verb, mailbox_argument(session, name), parameters, name=verb.decode().strip())


def _ask(session: ImapSession, known: Known, *, qresync: bool | None = None) -> _Exchange:
    """Sends what looks at a mailbox. `qresync`: whether it is, or is about to be, enabled."""
    if qresync is None:
        qresync = "QRESYNC" in session.enabled
    tracks = "CONDSTORE" in session.capabilities or "QRESYNC" in session.capabilities
    changes = tracks and known.uidvalidity > 0 and known.modseq > 0 and not known.everything
    search = listing = None
    if changes and qresync:
        parameters = f" (QRESYNC ({known.uidvalidity} {known.modseq}))".encode()
        select = select_command(session, known.name, read_only=True, parameters=parameters)
        return _Exchange(known, Coverage.CHANGES, select, None, None)
    select = select_command(session, known.name, read_only=True, parameters=b" (CONDSTORE)" if tracks else b"")
    if changes:
        if "ESEARCH" in session.capabilities:
            search = session.send(b"UID SEARCH RETURN (ALL) ALL", name="UID SEARCH")
        listing = session.send(f"UID FETCH 1:* (FLAGS) (CHANGEDSINCE {known.modseq})".encode(), name="UID FETCH")
        return _Exchange(known, Coverage.CHANGES, select, search, listing)
    listing = session.send(b"UID FETCH 1:* (FLAGS)", name="UID FETCH")
    return _Exchange(known, Coverage.ALL, select, search, listing)


def _read(session: ImapSession, exchange: _Exchange) -> Look | ServerRefused:
    name = exchange.known.name
    found = read_select(session, exchange.select, name)
    present: UidSet | None = None
    refused: ServerRefused | None = None
    for ticket in (exchange.search, exchange.listing):
        if ticket is None:
            continue
        for event in session.events(ticket):
            if isinstance(found, ServerRefused):
                continue
            if isinstance(event, Esearch) and event.uid:
                present = event.all if event.all is not None else UidSet()
            elif isinstance(event, Search):
                present = UidSet.of(event.uids)
            else:
                _take(found, event)
        status = session.answer(ticket)
        if status.status != "OK" and session.exists:
            # On an empty mailbox some servers refuse 1:*.
            refused = refusal(ticket.name, status, name)
    if isinstance(found, ServerRefused):
        return found
    if refused is not None:
        return refused
    found.coverage = exchange.coverage
    found.exists = session.exists
    found.present = present
    if not found.uidnext and found.messages:
        found.uidnext = max(found.messages) + 1
    return found


def read_select(session: ImapSession, ticket: Ticket, name: MailboxName) -> Look | ServerRefused:
    """The answer to SELECT or EXAMINE, with the changes that QRESYNC adds to it."""
    session.selected = None
    counted = begun = False
    found = Look(name, UidValidity(0), 0, 0, 0, Coverage.CHANGES)
    for event in session.events(ticket):
        if isinstance(event, Status) and event.code is not None:
            if event.code.name == "CLOSED":
                # All before this was about the mailbox selected before (RFC 7162, 3.2.11).
                found = Look(name, UidValidity(0), 0, 0, 0, Coverage.CHANGES)
                session.exists = 0
                counted = False
                begun = True
            else:
                _take_code(found, event.code)
                begun = begun or event.code.name == "UIDVALIDITY"
        elif isinstance(event, Exists):
            counted = True
        elif isinstance(event, FlagsData):
            continue
        elif begun:
            # Before CLOSED, or without QRESYNC before the UIDVALIDITY, it is late news of the mailbox before: what QRESYNC
            # adds comes behind all that (RFC 7162, 3.2.5.2), and a server without it has nothing to add here.
            _take(found, event)
    status = session.answer(ticket)
    if not counted:
        session.exists = 0  # what was counted was the mailbox before
    if status.status != "OK":
        return refusal(ticket.name, status, name)
    if status.code is not None:
        _take_code(found, status.code)
    found.exists = session.exists
    session.selected = name
    session.selected_read_only = found.read_only
    return found


def _take_code(found: Look, code: Code) -> None:
    """What a response code tells. A number out of its range (RFC 9051, 9; RFC 7162, 7) counts as not told.

    Without HIGHESTMODSEQ and UIDNEXT a mailbox is looked at in full, without UIDVALIDITY it alone is left out: to break off
    would keep all the others from being synchronised.
    """
    match code.name:
        case "UIDVALIDITY":
            found.uidvalidity = UidValidity(code.number(UID_MAX) or 0)
        case "UIDNEXT":
            found.uidnext = code.number(UID_MAX) or 0
        case "HIGHESTMODSEQ":
            found.highestmodseq = code.number(MODSEQ_MAX) or 0
        case "NOMODSEQ":
            found.highestmodseq = 0
        case "READ-ONLY":
            found.read_only = True
        case "PERMANENTFLAGS":
            found.permanent_flags = code.words()


def _take(found: Look, event: object) -> None:
    if isinstance(event, Fetch):
        if event.uid is not None and event.flags is not None:
            found.messages[event.uid] = RemoteMessage(event.uid, event.flags, event.modseq or 0)
            if len(found.messages) > MAX_MESSAGES:
                raise ProtocolError(f"the server lists more than {MAX_MESSAGES} messages in a mailbox")
    elif isinstance(event, Vanished):
        if event.earlier:
            found.vanished = UidSet((*found.vanished.ranges, *event.uids.ranges))
            if len(found.vanished.ranges) > MAX_MESSAGES:
                raise ProtocolError(f"the server lists more than {MAX_MESSAGES} gaps in a mailbox")
        elif len(event.uids) < len(found.messages):
            for number in event.uids:
                found.messages.pop(Uid(number), None)
        else:
            for uid in [uid for uid in found.messages if uid in event.uids]:
                del found.messages[uid]
