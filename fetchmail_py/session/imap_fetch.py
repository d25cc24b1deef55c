"""Fetching message bodies and what recognises a message, by UID, with the next command always queued behind the one being read.

What a server leaves out of an OK answer is asked for again, then set aside: silence is neither a message nor a deletion.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple

from fetchmail_py.errors import ProtocolError, ServerRefused, cut
from fetchmail_py.identity import FIELDS, header_end
from fetchmail_py.model import Delivered, Flags, MailboxName, Uid, UidSet
from fetchmail_py.session.imap import ImapSession, Ticket, refusal
from fetchmail_py.session.imap_look import pipelined, read_select, select_command
from fetchmail_py.wire.imap_response import STREAMED, BodyChunk, BodyEnd, BodyStart, Event, Expunge, Fetch, Vanished

if TYPE_CHECKING:
    from fetchmail_py.session.sink import MessageSink, MessageWriter

SUBSTITUTE_MAX = 64 * 1024
"""Octets that a substitute for an unreadable message has at most."""
MAX_UNASKED = 100
"""Messages that may come without having been asked for, or once more: each may be large, and nobody wants it."""
AHEAD = 4
"""FETCH commands under way: while one is read, the next is already at the server."""

_HEADER = f"HEADER.FIELDS ({' '.join(FIELDS)})"


class FetchRequest(NamedTuple):
    """Messages of one mailbox to fetch with one command; all must be of this UIDVALIDITY."""

    mailbox: MailboxName
    uidvalidity: int
    uids: tuple[Uid, ...]
    with_size: bool = False
    """Ask for RFC822.SIZE too: only that tells an empty message from a body the server could not give."""


class Fetched(NamedTuple):
    """A message that lies in `tmp/`."""

    mailbox: MailboxName
    uid: Uid
    flags: Flags | None
    """None where the answer did not tell them."""
    internaldate: int | None
    delivered: Delivered


class NotFetched(NamedTuple):
    """A message that did not come. `gone`: the server says it was expunged meanwhile."""

    mailbox: MailboxName
    uid: Uid
    reason: str
    gone: bool = False


class MailboxFailed(NamedTuple):
    """A mailbox that cannot be fetched from now; its messages stay wanted."""

    mailbox: MailboxName
    error: ServerRefused | None
    """None where its UIDVALIDITY has changed since it was looked at."""


class Identified(NamedTuple):
    """What recognises a message at the server."""

    uid: Uid
    size: int
    header: bytes
    internaldate: int | None = None


class _Sent:
    """A FETCH under way, and what of it has not come."""

    __slots__ = ("empty", "expunged", "fetch", "gone", "left", "request", "select", "unread")

    def __init__(self, request: FetchRequest, select: Ticket | None, fetch: Ticket) -> None:
        self.request = request
        self.select = select
        self.fetch = fetch
        self.left = set(request.uids)
        self.empty: set[Uid] = set()
        self.unread: dict[Uid, str] = {}
        self.gone: list[UidSet] = []
        self.expunged = False


class Fetcher:
    """Fetches bodies over one session into sinks. One use, one thread."""

    def __init__(
        self,
        session: ImapSession,
        sink_of: Callable[[MailboxName], MessageSink],
        wanted: Callable[[], bool] = lambda: True,
    ) -> None:
        """`sink_of` gives the sink of a mailbox. `wanted` is asked before each further command: False ends the work after
        those under way."""
        self._session = session
        self._sink_of = sink_of
        self._sink: MessageSink
        self._wanted = wanted
        self._waiting: deque[_Sent] = deque()
        self._retry: deque[FetchRequest] = deque()
        self._failed: set[MailboxName] = set()
        self._will_select: MailboxName | None = session.selected
        self._unasked = 0
        self._writer: MessageWriter | None = None
        self._streamed: Delivered | None = None

    def run(self, requests: Iterable[FetchRequest]) -> Iterator[Fetched | NotFetched | MailboxFailed]:
        """Yields each message as soon as it lies complete in the sink, in the order the server sends."""
        source = iter(requests)
        exhausted = False
        waiting = self._waiting
        try:
            while True:
                while not exhausted and len(waiting) < AHEAD and self._wanted():
                    request = self._retry.popleft() if self._retry else next(source, None)
                    if request is None:
                        break
                    if request.mailbox not in self._failed:
                        waiting.append(self._send(request))
                exhausted = exhausted or not self._wanted()
                if not waiting:
                    return
                yield from self._read(waiting[0])
                waiting.popleft()
        finally:
            if self._writer is not None:
                self._writer.discard()
                self._writer = None
            if self._streamed is not None:
                self._sink.discard(self._streamed)
                self._streamed = None

    def _send(self, request: FetchRequest) -> _Sent:
        select = None
        if self._will_select != request.mailbox:
            select = select_command(self._session, request.mailbox, read_only=True)
            self._will_select = request.mailbox
        size = " RFC822.SIZE" if request.with_size else ""
        command = f"UID FETCH {UidSet.of(request.uids)} (FLAGS INTERNALDATE{size} BODY.PEEK[])"
        return _Sent(request, select, self._session.send(command.encode(), name="UID FETCH"))

    def _read(self, sent: _Sent) -> Iterator[Fetched | NotFetched | MailboxFailed]:
        session, request = self._session, sent.request
        self._sink = self._sink_of(request.mailbox)
        if sent.select is not None:
            opened = read_select(session, sent.select, request.mailbox)
            if isinstance(opened, ServerRefused) or opened.uidvalidity != request.uidvalidity:
                self._will_select = None if self._will_select == request.mailbox else self._will_select
                if request.mailbox not in self._failed:
                    self._failed.add(request.mailbox)
                    yield MailboxFailed(request.mailbox, opened if isinstance(opened, ServerRefused) else None)
        if request.mailbox in self._failed or session.selected != request.mailbox:
            # Asked for before it was known that the mailbox could not be opened: whatever comes is not from there.
            for event in session.events(sent.fetch):
                self._drop(event)
            session.answer(sent.fetch)
            return
        for event in session.events(sent.fetch):
            kind = type(event)
            if kind is Fetch:
                assert isinstance(event, Fetch)
                fetched = self._take(event)
                if fetched is not None:
                    yield fetched
                if self._streamed is not None:
                    self._drop(event)
            elif kind in _STREAM:
                self._stream(event)
            elif isinstance(event, Vanished):
                for open_one in self._in_mailbox():
                    open_one.gone.append(event.uids)
            elif kind is Expunge:
                for open_one in self._in_mailbox():
                    open_one.expunged = True
        status = session.answer(sent.fetch)
        if sent.left:
            yield from self._left(sent, ok=status.status == "OK", text=status.text)

    def _in_mailbox(self) -> Iterator[_Sent]:
        """The commands under way in the mailbox that is selected now.

        A server may run two FETCHes at the same time (Dovecot does, when the first has to wait for the network), so that
        what one asked for comes before the answer to another.
        """
        for number, sent in enumerate(self._waiting):
            if number and sent.select is not None:
                return
            yield sent

    def _take(self, event: Fetch) -> Fetched | None:
        """The message that a FETCH response brings, if it is one that was asked for and has not come yet."""
        if "" not in event.sections:
            return None
        body, uid = event.sections[""], event.uid
        sent = next((sent for sent in self._in_mailbox() if uid in sent.left), None)
        if sent is None or uid is None:
            # Not asked for, without a UID, or there already: whose it is cannot be known.
            self._drop(event)
            self._count_unasked()
            return None
        if body is None:
            sent.unread[uid] = "the server answered with NIL in place of the message"
            return None
        if body is STREAMED:
            assert self._streamed is not None
            delivered, self._streamed = self._streamed, None
            self._sink.date(delivered, event.internaldate)
        elif body or event.size == 0:
            assert isinstance(body, bytes)
            if quirk_substitute(body):
                sent.unread[uid] = "the server cannot read it, and sends a message that says so in its place"
                return None
            delivered = self._sink.deliver(body, event.internaldate)
        else:
            sent.empty.add(uid)
            return None
        sent.left.discard(uid)
        return Fetched(sent.request.mailbox, uid, event.flags, event.internaldate, delivered)

    def _count_unasked(self) -> None:
        self._unasked += 1
        if self._unasked > MAX_UNASKED:
            raise ProtocolError(f"the server sent {self._unasked} messages that were not asked for, or were there already")

    def _left(self, sent: _Sent, *, ok: bool, text: str) -> Iterator[NotFetched]:
        """What to do about messages that did not come: gone, asked for again in smaller lots, or given up."""
        request = sent.request
        vanished = {uid for uid in sent.left if any(uid in uids for uids in sent.gone)}
        for uid in sorted(vanished):
            yield NotFetched(request.mailbox, uid, "expunged meanwhile", gone=True)
        left = sent.left - vanished
        if len(request.uids) > 1:
            # Some servers refuse, or leave out, a whole set for one bad message: halves find it.
            order = [uid for uid in request.uids if uid in left]
            step = 1 if ok or len(order) <= 8 else (len(order) + 1) // 2
            for start in range(0, len(order), step):
                lot = tuple(order[start : start + step])
                self._retry.append(request._replace(uids=lot, with_size=len(lot) == 1))
            return
        for uid in left:
            if uid in sent.empty and not request.with_size:
                self._retry.append(request._replace(with_size=True))
            elif uid in sent.empty:
                yield NotFetched(request.mailbox, uid, "the server gave an empty body for a message that is not empty")
            elif not ok:
                yield NotFetched(request.mailbox, uid, f"the server refused it: {cut(text)}")
            elif uid in sent.unread:
                yield NotFetched(request.mailbox, uid, sent.unread[uid])
            else:
                # EXPUNGE tells a number, not a UID: the next listing will say whether it was this one.
                yield NotFetched(request.mailbox, uid, "the server answered OK without the message", gone=sent.expunged)

    def _stream(self, event: Event) -> None:
        if isinstance(event, BodyChunk):
            if self._writer is not None:
                self._writer.write(event.data)
        elif isinstance(event, BodyStart):
            if self._streamed is not None:  # one answer has brought two
                self._sink.discard(self._streamed)
                self._streamed = None
                self._count_unasked()
            if event.section == "":
                self._writer = self._sink.start(None)
        elif self._writer is not None:
            writer, self._writer = self._writer, None
            self._streamed = writer.finish()

    def _drop(self, event: Event) -> None:
        """Takes an answer that is not wanted, and leaves nothing of it behind."""
        if type(event) in _STREAM:
            self._stream(event)
        if self._streamed is not None:
            self._sink.discard(self._streamed)
            self._streamed = None


_STREAM = {BodyStart, BodyChunk, BodyEnd}

_SUBSTITUTE = re.compile(rb"(?im)^subject: *Retrieval using the (?:IMAP4|POP3) protocol failed for the following message")
_SUBSTITUTE_SAYS = b"protocol failed for the following message"
"""Looked for first: a hundred times as fast as the regular expression, for every message that comes."""


def quirk_substitute(message: bytes) -> bool:
    """Exchange answers OK with a message of its own ("Retrieval using the IMAP4 protocol failed …") where it cannot read one.

    Taken for the message, it would be all that is left once the original is deleted.
    """
    return (
        len(message) < SUBSTITUTE_MAX
        and _SUBSTITUTE_SAYS in message
        and _SUBSTITUTE.search(message, 0, header_end(message)) is not None
    )


def identify(
    session: ImapSession, mailbox: MailboxName, uidvalidity: int, uids: UidSet
) -> Iterator[Identified] | None:
    """Size, date and identifying header of messages, without their bodies; None where the mailbox is not what it was.

    The header is as HEADER.FIELDS gives it. A message the server leaves out is simply missing.
    """
    if session.selected != mailbox:
        opened = read_select(session, select_command(session, mailbox, read_only=True), mailbox)
        if isinstance(opened, ServerRefused):
            raise opened
        if opened.uidvalidity != uidvalidity:
            return None
    return _identify(session, uids)


def _identify(session: ImapSession, uids: UidSet) -> Iterator[Identified]:
    def ask(chunk: str) -> Ticket:
        return session.send(f"UID FETCH {chunk} (RFC822.SIZE INTERNALDATE BODY.PEEK[{_HEADER}])".encode(), name="UID FETCH")

    for _, ticket in pipelined(uids.chunks(), ask, AHEAD):
        for event in session.events(ticket):
            if isinstance(event, Fetch) and event.uid is not None and event.uid in uids and event.size is not None:
                header = next((part for name, part in event.sections.items() if name.startswith("HEADER.FIELDS")), None)
                if isinstance(header, bytes):
                    yield Identified(event.uid, event.size, header, event.internaldate)
        status = session.answer(ticket)
        if status.status != "OK":
            raise refusal("UID FETCH", status, session.selected)
