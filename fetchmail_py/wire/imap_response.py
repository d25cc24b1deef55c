"""IMAP responses: octets in, typed events out (RFC 9051, 7 and 9; RFC 3501; 7162; 4731; 5258; 5464 left alone).

Two steps. Framing cuts the stream into responses: lines, and the literals they announce, so that the octets of a literal can
never be read as a response. Parsing then reads one whole response; one it does not know is ignored (RFC 9051, 2.2.2). The
body of a large message is not held: it comes as BodyStart, BodyChunk … BodyEnd, before the Fetch it belongs to.

The decoder consumes and returns an event, or returns None for want of octets, or raises ProtocolError, after which it is of
no use. Every size has a limit.
"""

from __future__ import annotations

import re
from typing import Final, TypeAlias

from fetchmail_py.errors import ProtocolError
from fetchmail_py.model import Uid, flags_of
from fetchmail_py.wire.imap_grammar import parse_date, parse_response
from fetchmail_py.wire.imap_types import (
    STREAMED,
    BodyChunk,
    BodyEnd,
    BodyStart,
    Capability,
    Code,
    Continuation,
    Enabled,
    Esearch,
    Exists,
    Expunge,
    Fetch,
    FlagsData,
    Fragment,
    ListEntry,
    Namespace,
    Rights,
    Search,
    Status,
    StatusData,
    Vanished,
    number_in,
)

__all__ = [
    "STREAMED", "BodyChunk", "BodyEnd", "BodyStart", "Capability", "Code", "Continuation", "Enabled", "Esearch", "Event",
    "Exists", "Expunge", "Fetch", "FlagsData", "ListEntry", "Namespace", "ResponseDecoder", "Rights", "Search", "Status",
    "StatusData", "Vanished",
]  # fmt: skip

MAX_LINE: Final = 16 * 1024 * 1024
"""Octets of one line, and of all that is held of one response: an answer to SEARCH over two million messages fits."""
MAX_LITERAL: Final = 2**32 - 1
"""Octets of a message; what is not a message must fit into `MAX_LINE`."""
MAX_STATUS_LINE: Final = 4 * 1024 * 1024
"""Octets of OK, NO and BAD: a COPYUID of many thousand messages fits."""
STREAM_FROM: Final = 256 * 1024
"""A message body from this size on is handed out in pieces."""
MAX_FRAGMENTS: Final = 10_000
"""Lines and literals of one response."""

Event: TypeAlias = (
    Status | Continuation | Capability | Enabled | Exists | Expunge | Fetch | FlagsData | ListEntry | StatusData | Namespace
    | Rights | Search | Esearch | Vanished | BodyStart | BodyChunk | BodyEnd
)  # fmt: skip

_LITERAL = re.compile(rb"~?\{([+-]?\d*+)\+?\}$")
_BODY = re.compile(rb"(?i)[ (](?:BODY\[\](?:<0>)?|RFC822|BINARY\[\]) ~?$")
_FETCH = re.compile(rb"(?i)\* +\d+ +FETCH ")
# Status responses end in free text, which may end in what looks like a literal but is none.
_TEXT = re.compile(rb"(?i)(?:\+|\* (?:OK|NO|BAD|BYE|PREAUTH)\b|[^ *+]+ (?:OK|NO|BAD)\b)")
# The two answers that come by the thousand, as the common servers write them; all others take the long way, which knows
# limits: here nothing can be as long as to need one.
_LISTED = re.compile(
    rb"\* ([1-9]\d{0,9}) FETCH \((?:UID (\d{1,10})|FLAGS \(([^()\r\n]{0,256})\)|MODSEQ \((\d{1,18})\)|[ ](?=[UFM])){1,12}\)\r\n"
)
_WITH_BODY = re.compile(
    rb"\* ([1-9]\d{0,9}) FETCH \((?:UID (\d{1,10})|FLAGS \(([^()\r\n]{0,256})\)|MODSEQ \((\d{1,18})\)|"
    rb"INTERNALDATE \"([^\"\r\n]*)\"|RFC822\.SIZE (\d{1,18})|[ ](?=[UFMIRB])){1,12}BODY\[\] \{(\d{1,6})\}\r\n"
)


class ResponseDecoder:
    """Decodes one server's stream."""

    def __init__(self) -> None:
        self._data = b""
        self._at = 0
        self._searched = 0
        self._more: list[bytes] = []
        """What has come since, and is joined to `_data` when it can make a difference."""
        self._have = 0
        """Octets in `_data` from `_at` on and in `_more`."""
        self._need = 0
        """Octets that must be there before there is anything to decode."""
        self._unfinished = False
        """No line end has come since the last look: until one does, nothing can be decoded, nor need it be tried."""
        self._fragments: list[Fragment] = []
        self._held = 0
        """Octets in `_fragments`, with the literal that is awaited."""
        self.ignored = 0
        """How many responses were none that we know."""
        self._received = 0
        self._collecting: int | None = None
        self._streaming: int | None = None

    # -- octets ------------------------------------------------------------------------------------------------------

    def receive_data(self, data: bytes) -> None:
        """More of the stream, in pieces of any size."""
        self._more.append(data)
        self._have += len(data)
        self._received += len(data)
        if self._unfinished and b"\n" in data:
            self._unfinished = False

    @property
    def buffered(self) -> int:
        """How many octets have come and are part of no event yet."""
        return self._have

    @property
    def consumed(self) -> int:
        """How many octets have become events, or were ignored."""
        return self._received - self._have

    def take_buffered(self) -> bytes:
        """Gives these octets away, for whoever reads the stream from here on."""
        self._join()
        rest = self._data[self._at :]
        self._data, self._at, self._searched, self._have, self._unfinished = b"", 0, 0, 0, False
        return rest

    def _join(self) -> None:
        if self._more:
            rest = self._data[self._at :] if self._at else self._data
            self._data = b"".join((rest, *self._more)) if rest or len(self._more) > 1 else self._more[0]
            self._searched -= self._at
            self._at = 0
            self._more.clear()

    # -- framing -----------------------------------------------------------------------------------------------------

    def next_event(self) -> Event | None:
        """The next event, or None until more has come. Raises ProtocolError."""
        if self._have < self._need:
            return None
        if self._unfinished:
            self._limit_line()
            return None
        self._join()
        while True:
            if self._streaming is not None:
                return self._stream(self._streaming)
            if self._collecting is not None:
                if self._have < self._collecting:
                    self._need = self._collecting
                    return None
                self._fragments.append(self._take(self._collecting))
                self._collecting, self._need = None, 0
            if not self._fragments:
                event = self._quickly()
                if event is not None:
                    return event
                if self._need:
                    return None
            line = self._line()
            if line is None:
                return None
            started = self._literal(line) if line.endswith(b"}") else False
            if isinstance(started, BodyStart):
                return started
            if started:
                continue
            self._fragments.append(line)
            fragments, self._fragments = self._fragments, []
            self._held = 0
            if len(line) > MAX_STATUS_LINE and _TEXT.match(line):
                raise ProtocolError(f"an answer of more than {MAX_STATUS_LINE} octets", data=line)
            parsed = parse_response(fragments)
            if parsed is not None:
                return parsed
            self.ignored += 1

    def _take(self, count: int) -> bytes:
        start = self._at
        self._at = end = start + count
        self._searched = end
        self._have -= count
        return self._data[start:end]

    def _line(self) -> bytes | None:
        """The next line without its end. A bare LF ends a line too: some servers send it."""
        end = self._data.find(b"\n", max(self._searched, self._at))
        if end < 0:
            self._searched = len(self._data)
            self._unfinished = True
            self._limit_line()
            return None
        line = self._data[self._at : end]
        self._have -= end + 1 - self._at
        self._at = self._searched = end + 1
        return line[:-1] if line.endswith(b"\r") else line

    def _hold(self, octets: int, line: bytes) -> None:
        """So many octets more of this response are to be kept until its end."""
        self._held += octets
        if self._held > MAX_LINE:
            raise ProtocolError(f"a response of more than {MAX_LINE} octets", data=line[-200:])

    def _limit_line(self) -> None:
        if self._have > MAX_LINE:
            raise ProtocolError(f"a line of more than {MAX_LINE} octets", data=self._data[self._at : self._at + 200])

    def _literal(self, line: bytes) -> BodyStart | bool:
        """Begins the literal that a line announces; False where it announces none."""
        found = _LITERAL.search(line)
        if found is None or (not self._fragments and _TEXT.match(line)):
            return False
        size = number_in(found[1], MAX_LITERAL)
        if size is None:
            raise ProtocolError("not the size of a literal", data=line[-200:])
        if self._data[self._at - 2] != 0x0D:
            # Whether its octets begin behind this line feed, or are none at all, would be a guess (RFC 9051, 4.3).
            raise ProtocolError("a literal behind a bare line feed", data=line[-200:])
        if len(self._fragments) >= MAX_FRAGMENTS:
            raise ProtocolError(f"a response of more than {MAX_FRAGMENTS} parts", data=line)
        before = line[: found.start()]
        first = self._fragments[0] if self._fragments else before
        assert isinstance(first, bytes)
        body = _BODY.search(before) is not None and _FETCH.match(first) is not None
        streamed = body and size >= STREAM_FROM
        self._hold(len(before) + (0 if streamed else size), line)
        self._fragments.append(before)
        if streamed:
            self._streaming = size
            return BodyStart("")
        self._collecting = size
        return True

    def _stream(self, left: int) -> Event | None:
        if left == 0:
            self._streaming = None
            self._fragments.append(STREAMED)
            return BodyEnd()
        if not self._have:
            return None
        chunk = self._take(min(left, self._have))
        self._streaming = left - len(chunk)
        return BodyChunk(chunk)

    def _quickly(self) -> Fetch | None:
        """A FETCH answer in its common form. None: not that, or not all there, when `_need` may say how much is needed."""
        data, at = self._data, self._at
        found = _WITH_BODY.match(data, at)
        if found is not None:
            size = int(found[7])
            if size < STREAM_FROM:
                end = found.end() + size + 3
                if len(data) < end:
                    self._need = end - at
                    return None
                self._need = 0
                if data.startswith(b")\r\n", end - 3):
                    body = data[found.end() : end - 3]
                    self._at = self._searched = end
                    self._have -= end - at
                    date = found[5]
                    size_item = found[6]
                    return Fetch(
                        int(found[1]),
                        _uid(found[2]),
                        None if found[3] is None else flags_of(found[3].decode("ascii", "backslashreplace")),
                        None if found[4] is None else int(found[4]),
                        None if size_item is None else int(size_item),
                        None if date is None else parse_date(date),
                        {"": body},
                    )
            return None
        found = _LISTED.match(data, at)
        if found is None:
            return None
        self._have -= found.end() - at
        self._at = self._searched = found.end()
        return Fetch(
            int(found[1]),
            _uid(found[2]),
            None if found[3] is None else flags_of(found[3].decode("ascii", "backslashreplace")),
            None if found[4] is None else int(found[4]),
            None,
            None,
            {},
        )


def _uid(digits: bytes | None) -> Uid | None:
    if digits is None:
        return None
    number = int(digits)
    if not 0 < number <= 2**32 - 1:
        raise ProtocolError("a UID out of range", data=digits)
    return Uid(number)
