"""Fetching message bodies and what recognises a message, by UID, with the next command always queued behind the one being read.

What a server leaves out of an OK answer is asked for again, then set aside: silence is neither a message nor a deletion.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from fetchmail_py.errors import ServerRefused
from fetchmail_py.identity import FIELDS
from fetchmail_py.model import NO_FLAGS, Delivered, Flags, MailboxName, Uid, UidSet
from fetchmail_py.session.imap import ImapSession, Ticket, refusal
from fetchmail_py.session.imap_look import pipelined, read_select, select_command
from fetchmail_py.session.sink import MessageSink, MessageWriter
from fetchmail_py.wire.imap_response import STREAMED, BodyChunk, BodyEnd, BodyStart, Event, Expunge, Fetch, Vanished

AHEAD = 2
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
    flags: Flags
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


class _Sent(NamedTuple):
    request: FetchRequest
    select: Ticket | None
    fetch: Ticket


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
        self._retry: deque[FetchRequest] = deque()
        self._failed: set[MailboxName] = set()
        self._will_select: MailboxName | None = session.selected
        self._writer: MessageWriter | None = None
        self._streamed: Delivered | None = None

    def run(self, requests: Iterable[FetchRequest]) -> Iterator[Fetched | NotFetched | MailboxFailed]:
        """Yields each message as soon as it lies complete in the sink, in the order the server sends."""
        waiting: deque[_Sent] = deque()
        source = iter(requests)
        exhausted = False
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
                yield from self._read(waiting.popleft())
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
        if sent.select is not None:
            opened = read_select(session, sent.select, request.mailbox)
            if isinstance(opened, ServerRefused) or opened.uidvalidity != request.uidvalidity:
                self._sink = self._sink_of(request.mailbox)
                for event in session.events(sent.fetch):
                    self._drop(event)
                session.answer(sent.fetch)
                self._will_select = None if self._will_select == request.mailbox else self._will_select
                if request.mailbox not in self._failed:
                    self._failed.add(request.mailbox)
                    yield MailboxFailed(request.mailbox, opened if isinstance(opened, ServerRefused) else None)
                return
        self._sink = self._sink_of(request.mailbox)
        left = set(request.uids)
        empty: set[Uid] = set()
        unread: dict[Uid, str] = {}
        gone: list[UidSet] = []
        expunged = False
        for event in session.events(sent.fetch):
            kind = type(event)
            if kind is Fetch:
                assert isinstance(event, Fetch)
                uid = event.uid
                if "" not in event.sections:
                    continue
                body = event.sections[""]
                if uid is None or uid not in left:
                    # Not asked for, without a UID, or there already: whose it is cannot be known.
                    self._drop(event)
                    continue
                if body is None:
                    unread[uid] = "the server answered with NIL in place of the message"
                    continue
                if body is STREAMED:
                    assert self._streamed is not None
                    delivered, self._streamed = self._streamed, None
                    self._sink.date(delivered, event.internaldate)
                elif body or event.size == 0:
                    assert isinstance(body, bytes)
                    delivered = self._sink.deliver(body, event.internaldate)
                else:
                    empty.add(uid)
                    continue
                left.discard(uid)
                yield Fetched(request.mailbox, uid, event.flags or NO_FLAGS, event.internaldate, delivered)
            elif kind in _STREAM:
                self._stream(event)
            elif isinstance(event, Vanished):
                gone.append(event.uids)
            elif kind is Expunge:
                expunged = True
        status = session.answer(sent.fetch)
        if left:
            yield from self._left(request, left, empty, unread, gone, status.status == "OK", expunged, status.text)

    def _left(
        self,
        request: FetchRequest,
        left: set[Uid],
        empty: set[Uid],
        unread: dict[Uid, str],
        gone: list[UidSet],
        ok: bool,
        expunged: bool,
        text: str,
    ) -> Iterator[NotFetched]:
        """What to do about messages that did not come: gone, asked for again in smaller lots, or given up."""
        vanished = {uid for uid in left if any(uid in uids for uids in gone)}
        for uid in sorted(vanished):
            yield NotFetched(request.mailbox, uid, "expunged meanwhile", gone=True)
        left = left - vanished
        if len(request.uids) > 1:
            # Some servers refuse, or leave out, a whole set for one bad message: halves find it.
            order = [uid for uid in request.uids if uid in left]
            step = 1 if ok or len(order) <= 8 else (len(order) + 1) // 2
            for start in range(0, len(order), step):
                lot = tuple(order[start : start + step])
                self._retry.append(request._replace(uids=lot, with_size=len(lot) == 1))
            return
        for uid in left:
            if uid in empty and not request.with_size:
                self._retry.append(request._replace(with_size=True))
            elif uid in empty:
                yield NotFetched(request.mailbox, uid, "the server gave an empty body for a message that is not empty")
            elif not ok:
                yield NotFetched(request.mailbox, uid, f"the server refused it: {text}")
            elif uid in unread:
                yield NotFetched(request.mailbox, uid, unread[uid])
            else:
                # EXPUNGE tells a number, not a UID: the next listing will say whether it was this one.
                yield NotFetched(request.mailbox, uid, "the server answered OK without the message", gone=expunged)

    def _stream(self, event: Event) -> None:
        if isinstance(event, BodyChunk):
            if self._writer is not None:
                self._writer.write(event.data)
        elif isinstance(event, BodyStart):
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


def identify(
    session: ImapSession, mailbox: MailboxName, uidvalidity: int, uids: UidSet
) -> Iterator[Identified] | None:
    """Size and identifying header of messages, without their bodies; None where the mailbox is not what it was.

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
        return session.send(f"UID FETCH {chunk} (RFC822.SIZE BODY.PEEK[{_HEADER}])".encode(), name="UID FETCH")

    for _, ticket in pipelined(uids.chunks(), ask, AHEAD):
        for event in session.events(ticket):
            if isinstance(event, Fetch) and event.uid is not None and event.uid in uids and event.size is not None:
                header = next((part for name, part in event.sections.items() if name.startswith("HEADER.FIELDS")), None)
                if isinstance(header, bytes):
                    yield Identified(event.uid, event.size, header)
        status = session.answer(ticket)
        if status.status != "OK":
            raise refusal("UID FETCH", status, session.selected)
