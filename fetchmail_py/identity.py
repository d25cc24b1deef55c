"""What two copies of one message have in common wherever they are: a digest of its identifying header fields.

With the size on the wire this recognises known mail after lost state, a changed UIDVALIDITY or changed UIDLs. The bytes are
only read here, never rewritten. Pure.
"""

from __future__ import annotations

import re
from hashlib import blake2b

FIELDS = ("DATE", "FROM", "MESSAGE-ID", "SUBJECT", "TO")
"""The fields that identify, as HEADER.FIELDS wants them (RFC 9051, 6.4.5). No Received: servers add those."""

SIZE = 16
NO_IDENTITY = bytes(SIZE)
"""The identity of a message that has none of the fields: it is like no other."""

# The first line that is empty, or white space only, ends the header.
_END = re.compile(rb"\r?\n\r?\n")
_FIELD = re.compile(
    rb"^(date|from|message-id|subject|to)[ \t]*:[ \t]*([^\r\n]*(?:\r?\n[ \t][^\r\n]*)*)", re.IGNORECASE | re.MULTILINE
)


def identity(message: bytes) -> bytes:
    """The 16-octet identity of a message, a header, or the answer to HEADER.FIELDS with `FIELDS`; line ends do not count.

    Folding and the order of the fields do not count either: some servers unfold, some answer in the order asked for.
    """
    if message.startswith((b"\n", b"\r\n")):
        return NO_IDENTITY
    end = _END.search(message)
    header = message if end is None else message[: end.start()]
    fields = _FIELD.findall(header)
    if not fields:
        return NO_IDENTITY
    parts = sorted((name.lower(), b" ".join(value.split())) for name, value in fields)
    return blake2b(b"\n".join(name + b":" + value for name, value in parts), digest_size=SIZE).digest()
