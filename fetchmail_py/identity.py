"""What two copies of one message have in common wherever they are: a digest of its identifying header fields.

With the size on the wire this recognises known mail after lost state, a changed UIDVALIDITY or changed UIDLs. The bytes are
only read here, never rewritten. Pure. One call per message that comes in, so it uses `find`, not a regular expression.
"""

from __future__ import annotations

from hashlib import blake2b

FIELDS = ("DATE", "FROM", "MESSAGE-ID", "SUBJECT", "TO")
"""The fields that identify, as HEADER.FIELDS wants them (RFC 9051, 6.4.5). No Received: servers add those."""

SIZE = 16
NO_IDENTITY = bytes(SIZE)
"""The identity of a message without a Message-ID: it is like no other. Reports of one machine often have the same subject and
the same size, and are different all the same; only their whole content can tell.
"""

_NEEDLES = tuple(b"\n" + name.lower().encode() + b":" for name in FIELDS)
_MESSAGE_ID = _NEEDLES[FIELDS.index("MESSAGE-ID")]


def identity(message: bytes) -> bytes:
    """The 16-octet identity of a message, a header, or the answer to HEADER.FIELDS with `FIELDS`; line ends do not count.

    Folding, white space and the order of the fields do not count either: some servers unfold, some reorder.
    """
    header = b"\n" + message[: header_end(message)]
    lower = header.lower()
    found = []
    has_id = False
    for needle in _NEEDLES:
        at = lower.find(needle)
        while at >= 0:
            start = at + len(needle)
            end = header.find(b"\n", start)
            while end >= 0 and header[end + 1 : end + 2] in {b" ", b"\t"}:
                end = header.find(b"\n", end + 1)
            value = b" ".join(header[start : end if end >= 0 else None].split())
            has_id = has_id or (value != b"" and needle is _MESSAGE_ID)
            found.append(needle)
            found.append(value)
            at = lower.find(needle, start)
    return blake2b(b"".join(found), digest_size=SIZE).digest() if has_id else NO_IDENTITY


def header_end(message: bytes) -> int:
    """Where the header's last line end begins: before the first empty line, or the whole length without one."""
    if message.startswith((b"\n", b"\r\n")):
        return 0
    lf = message.find(b"\n\n")
    crlf = message.find(b"\n\r\n", 0, lf if lf >= 0 else len(message))
    end = crlf if crlf >= 0 else lf
    return end if end >= 0 else len(message)
