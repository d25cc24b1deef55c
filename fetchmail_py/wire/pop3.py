"""POP3: replies as octets in, typed values out, and commands as octets (RFC 1939, 2449, 5034, 6856).

A POP3 answer does not say which shape it has: that follows from the command. So whoever reads asks the decoder for what has to
come next: `next_reply` for a status line, `next_lines` for what follows it in an answer to CAPA, LIST or UIDL, `next_message`
for the answer to RETR or TOP as a whole. Each takes what it returns out of the stream, or returns None for want of octets,
or raises ProtocolError, after which the decoder is of no use. Every size has a limit.

Where a message ends (RFC 1939, 3): at CRLF "." CRLF and nowhere else, because LF "." CRLF can be part of a message. Two
exceptions, of which no server that keeps to the RFC can become the victim: a server that ended the status line itself with a
bare LF ends messages so too; and LF "." CRLF ends a message if exactly the announced octets stand before it, for then the
message is complete.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final, NamedTuple, TypeAlias

from fetchmail_py.errors import ProtocolError

MAX_LINE: Final = 128 * 1024
"""Octets of a status line, a SASL challenge or a line of a listing; lines of messages have no limit."""
MAX_LISTING: Final = 256 * 1024 * 1024
"""Octets of an answer to LIST or UIDL."""
MAX_LINES: Final = 2_000_000
"""Lines of an answer to LIST or UIDL."""
MAX_MESSAGE: Final = 2**32 - 1
"""Octets of a message."""
MAX_NUMBER: Final = 2**31
"""The largest message number that makes sense."""
MAX_AUTH_LINE: Final = 255
"""Octets of a command with its CRLF (RFC 2449, 4; RFC 5034, 4)."""
STREAM_FROM: Final = 256 * 1024
"""A message whose end has not come after so many octets is handed out in pieces."""
CHUNK: Final = 64 * 1024
"""The least octets of such a piece, but for the last."""

# One pass over a message finds its end and tells whether anything in it is stuffed.
_DOT = re.compile(rb"\n\.(?:\.|\r\n)")
_END = re.compile(rb"\n\.\r\n")
_BARE_DOT = re.compile(rb"\n\.(?:\.|\r?\n)")
_BARE_END = re.compile(rb"\n\.\r?\n")
_LINES_END = re.compile(rb"(?:\A|\n)\.\r?\n")
_CODE = re.compile(r"\[([A-Za-z0-9/_.-]++)(?: [^\]]*+)?\] ?")
_TWO_NUMBERS = re.compile(r"([0-9]{1,10})[ \t]+([0-9]{1,18})(?:\s|$)")
_SCAN = re.compile(rb"[ \t]*([1-9]\d{0,9})[ \t]+(\d{1,18})(?:[ \t]|$)")
_UNIQUE = re.compile(rb"[ \t]*([1-9]\d{0,9})(?:[ \t]+(.*))?$", re.DOTALL)
# A msg-id of RFC 822 in printable ASCII. Anything looser lets a server choose what is hashed (CVE-2007-1558).
_TIMESTAMP = re.compile(r"<[!-;=?A-~]+@[!-;=?A-~]+>")


class Reply(NamedTuple):
    """A status line, or a server's challenge in a SASL exchange."""

    status: str
    """"+OK", "-ERR", or "+" for a challenge."""
    code: str | None
    """The response code in upper case, such as "SYS/TEMP" (RFC 2449, 8; RFC 3206)."""
    text: str
    """What stands behind that; of a challenge the base64."""

    @property
    def ok(self) -> bool:
        """Whether it is +OK."""
        return self.status == "+OK"


class Lines(NamedTuple):
    """Some lines of a multi-line answer, without their ends, and whether they were the last."""

    lines: list[bytes]
    last: bool


class Chunk(NamedTuple):
    """Octets of a large message, and whether they were the last."""

    data: bytes
    last: bool


class _Large:
    """Stands for a message that has to be taken in pieces."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "LARGE"


LARGE: Final = _Large()

Answer: TypeAlias = bytes | Reply | _Large
"""What RETR or TOP brings: the message, a refusal, or LARGE."""


class Capabilities(NamedTuple):
    """What a server announces by CAPA (RFC 2449, 6). All False and empty where it has no CAPA."""

    offered: bool = False
    """Whether the server understood CAPA at all."""
    pipelining: bool = False
    uidl: bool = False
    top: bool = False
    user: bool = False
    stls: bool = False
    utf8: bool = False
    sasl: frozenset[str] = frozenset()
    """Mechanisms, upper case."""
    expire: str | None = None
    """The arguments of EXPIRE: "NEVER", "0", "60 USER"."""
    login_delay: int | None = None
    """Seconds."""
    implementation: str | None = None
    lines: tuple[bytes, ...] = ()
    """As received."""


class ReplyDecoder:
    """Decodes one server's stream."""

    def __init__(self, *, stream_from: int = STREAM_FROM, chunk: int = CHUNK) -> None:
        self._stream_from = stream_from
        self._chunk = chunk
        self._buffer = bytearray()
        self._at = 0
        """Where the octets begin that are part of nothing yet. In a message: at the end of the status line, whose CRLF
        begins the pattern that ends an empty message, or stuffs a first line."""
        self._searched = 0
        """Up to here there is nothing of what is looked for."""
        self._lines = 0
        self._octets = 0
        """Of the listing or the message that is being read, as far as it was given out."""
        self._in_message = False
        self._lead = 0
        """How many octets at `_at` belong to the status line."""
        self._bare = False
        """The status line ended with a bare LF."""
        self._stuffed = False
        """A line between `_at` and `_searched` begins with two dots."""

    def receive_data(self, data: bytes) -> None:
        """More of the stream, in pieces of any size."""
        if self._at:
            del self._buffer[: self._at]
            self._searched -= self._at
            self._at = 0
        self._buffer += data

    @property
    def buffered(self) -> int:
        """How many octets have come and are part of nothing yet."""
        return len(self._buffer) - self._at

    def peek(self) -> bytes:
        """The first of these octets, as many as help to see what they are."""
        return bytes(self._buffer[self._at : self._at + 1024])

    # -- lines -------------------------------------------------------------------------------------------------------

    def next_reply(self) -> Reply | None:
        """The next status line or challenge."""
        end = self._buffer.find(b"\n", max(self._searched, self._at))
        if end < 0:
            self._searched = len(self._buffer)
            self._limit_line(self.buffered)
            return None
        self._limit_line(end - self._at)
        line = bytes(self._buffer[self._at : end])
        self._at = self._searched = end + 1
        return parse_reply(line.removesuffix(b"\r"))

    def _limit_line(self, octets: int) -> None:
        if octets > MAX_LINE:
            start = bytes(self._buffer[self._at : self._at + 200])
            raise ProtocolError(f"a line of more than {MAX_LINE} octets", data=start)

    def next_lines(self) -> Lines | None:
        """Those lines of a multi-line answer that are there, unstuffed; to be asked for until its `last`."""
        buffer, at = self._buffer, self._at
        have = buffer.rfind(b"\n", at) + 1
        if not have:
            self._limit_line(self.buffered)
            return None
        block = bytes(buffer[at:have])
        end = _LINES_END.search(block)
        if end is not None:
            have = at + end.end()
            block = block[: end.start() + 1] if block[end.start()] == 0x0A else b""
        lines = block.replace(b"\r\n", b"\n").split(b"\n")
        lines.pop()
        if b"\n.." in block or block.startswith(b".."):
            lines = [line[1:] if line.startswith(b"..") else line for line in lines]
        self._at = self._searched = have
        self._lines += len(lines)
        self._octets += len(block)
        if self._lines > MAX_LINES or self._octets > MAX_LISTING:
            raise ProtocolError(f"a listing of more than {MAX_LINES} lines or {MAX_LISTING} octets", data=lines[-1])
        if end is not None:
            self._lines = self._octets = 0
        return Lines(lines, end is not None)

    # -- messages ----------------------------------------------------------------------------------------------------

    def next_message(self, size: int) -> Answer | None:
        """The answer to RETR or TOP: the message, unstuffed, with the CRLF that ends its last line.

        A Reply where the server refused. LARGE where the end has not come after `STREAM_FROM` octets: then `next_chunk` gives
        the message. `size` is what LIST announced, in octets; it may be wrong.
        """
        if not self._in_message:
            refused = self._begin_message()
            if refused is not None or not self._in_message:
                return refused
        end = self._find_end(size)
        if end is None:
            if self.buffered > self._stream_from:
                return LARGE
            return None
        data = self._take(end[0])
        self._end_message(end[1])
        return data

    def next_chunk(self, size: int) -> Chunk | None:
        """The next piece of a message for which `next_message` gave LARGE."""
        end = self._find_end(size)
        if end is not None:
            data = self._take(end[0])
            self._end_message(end[1])
            return Chunk(data, last=True)
        cut = self._safe_cut()
        if cut - self._at < self._chunk:
            return None
        data = self._take(cut)
        self._octets += len(data)
        if self._octets > MAX_MESSAGE:
            raise ProtocolError(f"a message of more than {MAX_MESSAGE} octets")
        self._at, self._lead = cut, 0
        self._searched = max(self._searched, cut)
        return Chunk(data, last=False)

    def _begin_message(self) -> Reply | None:
        """Reads the status line. Returns what is not +OK; None also while the line is not there yet."""
        buffer, at = self._buffer, self._at
        end = buffer.find(b"\n", max(self._searched, at))
        if end < 0 or end - at > MAX_LINE or not buffer.startswith((b"+OK ", b"+OK\r\n"), at):
            reply = self.next_reply()
            if reply is None or not reply.ok:
                return reply
        self._bare = buffer[end - 1] != 0x0D
        self._lead = 1 if self._bare else 2
        self._at, self._searched = end + 1 - self._lead, end
        self._in_message = True
        return None

    def _end_message(self, position: int) -> None:
        self._at = self._searched = position
        self._octets = 0
        self._in_message = False

    def _find_end(self, size: int) -> tuple[int, int] | None:
        """Where the message ends, and where the octets behind its terminator begin; None: not in what has come."""
        buffer, at, searched = self._buffer, self._at, self._searched
        dot, only_end = (_BARE_DOT, _BARE_END) if self._bare else (_DOT, _END)
        pattern = only_end if self._stuffed else dot
        while (found := pattern.search(buffer, searched)) is not None:
            line, end = found.span()
            if end - line == 3 and buffer[end - 1] == 0x2E:
                self._stuffed = True
                searched, pattern = end, only_end
            elif self._bare or (line > at and buffer[line - 1] == 0x0D) or self._is_complete(line + 1, size):
                return line + 1, end
            else:
                searched = end - 1
        self._searched = max(searched, len(buffer) - 3)
        return None

    def _is_complete(self, end: int, size: int) -> bool:
        """Whether the message up to `end` has the announced octets, so that LF "." CRLF behind it is no part of it."""
        here, missing = end - self._at, size - self._octets + self._lead
        # Unstuffing takes at most one octet of four; to count is only worth it where that can make it even.
        return missing <= here <= 2 * missing and here - self._buffer.count(b"\r\n..", self._at, end) == missing

    def _safe_cut(self) -> int:
        """The end of what is here, without the octets that may turn out to begin a terminator or a stuffed line."""
        end = len(self._buffer)
        line = self._buffer.rfind(b"\n", max(self._at, end - 3))
        if line >= 0 and bytes(self._buffer[line + 1 :]) in {b"", b".", b".\r"}:
            end = line
        if end > self._at and self._buffer[end - 1] == 0x0D:
            end -= 1
        return end

    def _take(self, end: int) -> bytes:
        """The octets of the message up to `end`, unstuffed."""
        if not self._stuffed:
            return bytes(memoryview(self._buffer)[self._at + self._lead : end])
        self._stuffed = False
        # Only a doubled dot: a server that does not stuff at all would lose the dots it sends alone.
        line_end = b"\n" if self._bare else b"\r\n"
        return bytes(self._buffer[self._at : end].replace(line_end + b"..", line_end + b".")[self._lead :])


# -- replies ---------------------------------------------------------------------------------------------------------


def parse_reply(line: bytes) -> Reply:
    """A status line or challenge without its line end. Raises ProtocolError for what is neither."""
    word = line[:4].upper().rstrip(b" \t")
    text = line.decode("utf-8", "replace")
    if word == b"-ERR" and line[4:5] in {b"", b" ", b"\t"}:
        status, text = "-ERR", text[4:].strip()
    elif word == b"+OK":
        status, text = "+OK", text[3:].strip()
    elif line == b"+" or line.startswith(b"+ "):
        return Reply("+", None, text[2:].strip())
    else:
        raise ProtocolError("an answer that is neither +OK nor -ERR", data=line)
    code = _CODE.match(text)
    if code is None:
        return Reply(status, None, text)
    return Reply(status, code[1].upper(), text[code.end() :])


def timestamp(greeting: str) -> str | None:
    """The timestamp for APOP in a greeting's text (RFC 1939, 7): a msg-id in angle brackets, or None."""
    found = _TIMESTAMP.search(greeting)
    return found[0] if found is not None else None


def parse_capabilities(lines: Iterable[bytes]) -> Capabilities:
    """The answer to CAPA; unknown capabilities are left alone."""
    raw = tuple(lines)
    known: dict[str, list[str]] = {}
    for line in raw:
        words = line.decode("utf-8", "replace").split()
        if words:
            known[words[0].upper()] = words[1:]
    delay = known.get("LOGIN-DELAY", [""])[:1]
    return Capabilities(
        offered=True,
        pipelining="PIPELINING" in known,
        uidl="UIDL" in known,
        top="TOP" in known,
        user="USER" in known,
        stls="STLS" in known,
        utf8="UTF8" in known,
        sasl=frozenset(name.upper() for name in known.get("SASL", [])),
        expire=" ".join(known["EXPIRE"]).upper() if "EXPIRE" in known else None,
        login_delay=int(delay[0]) if delay and re.fullmatch(r"[0-9]{1,9}", delay[0]) else None,
        implementation=" ".join(known["IMPLEMENTATION"]) if "IMPLEMENTATION" in known else None,
        lines=raw,
    )


def parse_stat(text: str) -> tuple[int, int]:
    """Messages and octets of the maildrop, from the text of the answer to STAT."""
    found = _TWO_NUMBERS.match(text)
    if found is None or int(found[1]) > MAX_NUMBER:
        raise ProtocolError("an answer to STAT without a count and a size", data=text.encode())
    return int(found[1]), int(found[2])


def add_sizes(lines: Iterable[bytes], sizes: dict[int, int]) -> None:
    """Puts scan listings (RFC 1939, LIST) into `sizes`: octets by message number."""
    for line in lines:
        found = _SCAN.match(line)
        if found is None:
            raise ProtocolError("a line of LIST without a message number and a size", data=line)
        number = _number(found[1], sizes, line)
        sizes[number] = int(found[2])


def add_unique_ids(lines: Iterable[bytes], unique_ids: dict[int, bytes]) -> None:
    """Puts unique-id listings (RFC 1939, UIDL) into `unique_ids`, by message number.

    They are taken as they are, whatever their length and characters; an empty one stays empty.
    """
    for line in lines:
        found = _UNIQUE.match(line)
        if found is None:
            raise ProtocolError("a line of UIDL without a message number", data=line)
        number = _number(found[1], unique_ids, line)
        unique_ids[number] = found[2] or b""


def _number(digits: bytes, seen: dict[int, int] | dict[int, bytes], line: bytes) -> int:
    number = int(digits)
    if number > MAX_NUMBER or number in seen:
        raise ProtocolError("a message number that is too large, or comes twice", data=line)
    return number


# -- commands --------------------------------------------------------------------------------------------------------


def command(word: str, *arguments: bytes) -> bytes:
    """A command line. ValueError (without the argument, which may be a secret) for CR, LF or NUL in an argument."""
    for argument in arguments:
        if b"\r" in argument or b"\n" in argument or b"\0" in argument:
            raise ValueError(f"a line end or NUL in an argument of {word}")
    return b" ".join((word.encode("ascii"), *arguments)) + b"\r\n"


def apop(user: bytes, stamp: str, secret: bytes) -> bytes:
    """APOP (RFC 1939, 7): the greeting's timestamp and the secret, as MD5."""
    from hashlib import md5  # noqa: PLC0415 - only this way to log in needs it

    return command("APOP", user, md5(stamp.encode("ascii") + secret).hexdigest().encode("ascii"))
