"""One logged-in POP3 connection: the listing, and messages fetched or deleted in a bounded window (RFC 1939; 2449, PIPELINING)."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple, cast

from fetchmail_py.errors import FetchmailError, ProtocolError, ServerRefused, cut
from fetchmail_py.model import Delivered, MaildropEntry
from fetchmail_py.session.pop3_connection import BUSY_CODES, Pop3Connection, refusal
from fetchmail_py.session.pop3_window import WINDOW, Fence, Window
from fetchmail_py.wire import pop3
from fetchmail_py.wire.pop3 import Capabilities, Reply

if TYPE_CHECKING:
    from fetchmail_py.session.sink import MessageSink

__all__ = ["Capabilities", "NotRetrieved", "Pop3Session", "Retrieved"]

HEADER_OCTETS: Final = 256 * 1024
"""So much of an answer to TOP is kept; servers without a working TOP send the whole message."""

_STATUS_LINE: Final = re.compile(rb"(?:\+OK|-ERR)(?:[ \t][^\n]*)?\r?\n")


class Retrieved(NamedTuple):
    """A message that lies complete in the sink, and is the one that was asked for."""

    entry: MaildropEntry
    delivered: Delivered


class NotRetrieved(NamedTuple):
    """A message that the server refused to give, in its own words, or one whose answer cannot be believed."""

    entry: MaildropEntry
    reason: str


def _always() -> bool:
    return True


class Pop3Session(Pop3Connection):
    """A connection in the transaction state (RFC 1939, 5). Not for use by two threads, but for `abort`.

    Any method may raise ConnectionLost, ProtocolError and ServerRefused. What is iterated over must be read to its end before
    another command, or the session is given up.
    """

    # -- the listing -------------------------------------------------------------------------------------------------

    def listing(self) -> list[MaildropEntry]:
        """The messages of the maildrop, by STAT, LIST and UIDL, in the order of their numbers.

        Where LIST and UIDL disagree about which messages there are, those in both. Raises ProtocolError where they make no sense,
        or where fewer messages are listed than STAT counts: what is missing would be taken for deleted.
        """
        with self._redactor:
            self._require_step()
            pipelining = self.capabilities.pipelining
            if pipelining:
                self._send(b"STAT\r\nLIST\r\nUIDL\r\n")
            else:
                self._send(b"STAT\r\n")
            count, _ = pop3.parse_stat(self._expect("STAT").text)
            sizes: dict[int, int] = {}
            if not pipelining:
                if count == 0:
                    self._in_step = True
                    return []
                self._send(b"LIST\r\n")
            # A maildrop without messages may have no LIST either: RFC 1939 shows both answers.
            if self._expect("LIST", or_refused=count == 0).ok:
                for lines in self._lines():
                    pop3.add_sizes(lines, sizes)
            if not pipelining:
                self._send(b"UIDL\r\n")
            unique_ids: dict[int, bytes] | None = None
            # Asked for whatever CAPA says: UIDL is older than CAPA, and some announce what they have not.
            reply = self._expect("UIDL", or_refused=True)
            if reply.ok:
                unique_ids = {}
                for lines in self._lines():
                    pop3.add_unique_ids(lines, unique_ids)
            elif reply.code in BUSY_CODES:
                # Not "no UIDL": that would make every message an unknown one.
                raise refusal("UIDL", reply)
            self._in_step = True
            return _join(count, sizes, unique_ids)

    def _expect(self, command: str, *, or_refused: bool = False) -> Reply:
        reply = self._reply(more=True)
        if not reply.ok and not or_refused:
            raise refusal(command, reply)
        return reply

    # -- messages ----------------------------------------------------------------------------------------------------

    def retrieve(
        self, entries: Iterable[MaildropEntry], sink: MessageSink, wanted: Callable[[], bool] = _always
    ) -> Iterator[Retrieved | NotRetrieved]:
        """Fetches messages into `sink`, in their order, each yielded once the fence behind it proves that it is itself.

        A server that does not stuff (RFC 1939, 3) ends a message at a line "." within it, and goes on with the rest; one that
        says a line too many gives each message under the name of another. So what has come since the last fence is held back.
        Where the session breaks first, those are yielded whose size is the announced one, up to the first that is not; the
        others are discarded, and yielded as not retrieved where the protocol was broken.

        `wanted` is asked before more is asked for: False ends the work after what is under way.
        """
        self._require_step()
        window = self._window(b"RETR %d\r\n", entries, wanted, fence=True)
        held: deque[Retrieved | NotRetrieved] = deque()
        try:
            while (front := window.next()) is not None:
                if isinstance(front, Fence):
                    self._pass_fence(window)
                    while held:
                        yield held.popleft()
                else:
                    self._retrieve_one(front, window, sink, held)
        except FetchmailError as error:
            self._redactor.clean(error)
            while held and _is_exact(held[0]):
                yield held.popleft()
            if isinstance(error, ProtocolError):
                for entry in [outcome.entry for outcome in held] or ([window.front] if window.front is not None else []):
                    yield NotRetrieved(entry, f"what the server sent for it cannot be believed: {error.detail}")
            raise
        finally:
            for outcome in held:
                if isinstance(outcome, Retrieved):
                    sink.discard(outcome.delivered)

    def _retrieve_one(
        self, entry: MaildropEntry, window: Window, sink: MessageSink, held: deque[Retrieved | NotRetrieved]
    ) -> None:
        answer = self._answer(entry.size)
        if isinstance(answer, Reply):
            reason = self._redactor.hide(_reason(answer))
            self._in_step = window.answered()
            held.append(NotRetrieved(entry, reason))
        else:
            if isinstance(answer, bytes):
                self._in_step = window.answered()
                head, delivered = answer, sink.deliver(answer, None)
            else:
                head, delivered = self._stream(entry, sink)
                self._in_step = window.answered()
            held.append(Retrieved(entry, delivered))
            if delivered.wire_size != entry.size and (line := _STATUS_LINE.match(head)) is not None:
                raise ProtocolError("a message that begins with an answer", data=line[0])
        if self._in_step:
            self._refuse_unasked()

    def _pass_fence(self, window: Window) -> None:
        reply = self._reply(more=True)
        self._in_step = window.answered()
        if not reply.ok:
            if reply.code in BUSY_CODES:
                raise refusal("STAT", reply)
            # It was not refused before (`listing`): this is another command's answer, or part of a message.
            raise ProtocolError("a refusal of STAT between messages", data=reply.text.encode("utf-8"))
        pop3.parse_stat(reply.text)
        if self._in_step:
            self._refuse_unasked()

    def _answer(self, size: int) -> pop3.Answer:
        """The answer to RETR or TOP."""
        # mypy joins the members of the union to object.
        return cast("pop3.Answer", self._await(partial(self._decoder.next_message, size)))

    def _stream(self, entry: MaildropEntry, sink: MessageSink) -> tuple[bytes, Delivered]:
        """A message too large for memory, and how it begins."""
        writer = sink.start(None)
        head = b""
        try:
            for data in self._chunks(entry):
                head = head or data
                writer.write(data)
            return head, writer.finish()
        except BaseException:
            writer.discard()
            raise

    def _chunks(self, entry: MaildropEntry) -> Iterator[bytes]:
        pull = partial(self._decoder.next_chunk, entry.size)
        last = False
        while not last:
            data, last = self._await(pull)
            yield data

    def top(self, entries: Iterable[MaildropEntry]) -> Iterator[tuple[MaildropEntry, bytes | None]]:
        """The header of each message by TOP, with the empty line behind it; None where the server refuses.

        Whatever a server sends beyond that is part of the answer too, up to `HEADER_OCTETS`. To be believed once all have
        come: a fence behind them that is not met raises ProtocolError.
        """
        self._require_step()
        with self._redactor:
            window = self._window(b"TOP %d 0\r\n", entries, _always, fence=True)
            while (entry := window.next()) is not None:
                if isinstance(entry, Fence):
                    self._pass_fence(window)
                    continue
                answer = self._answer(0)
                if isinstance(answer, Reply):
                    _reason(answer)
                    header = None
                elif isinstance(answer, bytes):
                    header = answer
                else:
                    kept = bytearray()
                    for data in self._chunks(entry):
                        kept += data[: HEADER_OCTETS - len(kept)]
                    header = bytes(kept)
                self._in_step = window.answered()
                yield entry, header

    def delete(self, entries: Iterable[MaildropEntry]) -> Iterator[tuple[MaildropEntry, ServerRefused | None]]:
        """Marks messages as deleted; what `quit` then removes. With each the server's refusal, or None."""
        self._require_step()
        with self._redactor:
            window = self._window(b"DELE %d\r\n", entries, _always)
            while (entry := window.next()) is not None:
                assert not isinstance(entry, Fence)
                reply = self._reply(more=True)
                self._in_step = window.answered()
                refused = None if reply.ok else refusal("DELE", reply)
                if refused is not None:
                    self._redactor.clean(refused)
                yield entry, refused

    def _window(
        self, command: bytes, entries: Iterable[MaildropEntry], wanted: Callable[[], bool], *, fence: bool = False
    ) -> Window:
        size = WINDOW if self.capabilities.pipelining else 1
        # The answer to STAT is a count and a size, which no other single line of a server is.
        return Window(self._send_more, command, entries, wanted, size, b"STAT\r\n" if fence else b"")

    def _send_more(self, data: bytes, under_way: bool) -> None:
        """Sends commands of a window, behind others if some are `under_way`."""
        if under_way:
            self.transport.send(data)
        else:
            self._send(data)

    # -- the end -----------------------------------------------------------------------------------------------------

    def noop(self) -> None:
        """Keeps the server from closing."""
        self._require("NOOP")

    def reset(self) -> None:
        """Takes back every deletion of this session."""
        self._require("RSET")

    def quit(self) -> None:
        """Ends the session; only now does the server delete. Raises ServerRefused where it could not, and closes anyway."""
        try:
            self._require("QUIT")
        finally:
            self.close()

    def _require(self, word: str) -> None:
        with self._redactor:
            reply = self._run(word)
            if not reply.ok:
                raise refusal(word, reply)


def _is_exact(outcome: Retrieved | NotRetrieved) -> bool:
    """Whether as much came as the server had announced: no other message, and no part of one, but by chance."""
    return isinstance(outcome, Retrieved) and outcome.delivered.wire_size == outcome.entry.size


def _reason(reply: Reply) -> str:
    """The server's words for its refusal of one message."""
    if reply.status != "-ERR":
        raise ProtocolError("a challenge that nothing asked for", data=reply.text.encode("utf-8"))
    words = f"[{reply.code}] {reply.text}" if reply.code else reply.text
    return cut(words.strip()) or "the server gave no reason"


def _join(count: int, sizes: dict[int, int], unique_ids: dict[int, bytes] | None) -> list[MaildropEntry]:
    """LIST and UIDL, by message number. `count` is STAT's."""
    if unique_ids is None:
        entries = [MaildropEntry(number, None, size) for number, size in sorted(sizes.items())]
    else:
        entries = [
            MaildropEntry(number, unique_ids[number] or None, size)
            for number, size in sorted(sizes.items())
            if number in unique_ids
        ]
    if len(entries) < count:
        raise ProtocolError(f"the server lists {len(entries)} of the {count} messages that it counts")
    return entries
