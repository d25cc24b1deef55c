"""IMAP commands as octets (RFC 9051, 6 and 9): strings are quoted or become literals, and nothing can break out of a command."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

QUOTED_MAX = 1000
"""Octets of a quoted string: servers limit the length of a line, not that of a literal."""
LITERAL_MINUS_MAX = 4096
"""The largest literal that LITERAL- allows unasked (RFC 7888, 5)."""


class Literal(NamedTuple):
    """A string that is sent as `{n}` and its octets."""

    data: bytes


class Stream(NamedTuple):
    """A literal whose octets are produced while it is sent: exactly `size` of them."""

    size: int
    chunks: Callable[[], Iterable[bytes]]


def astring(data: bytes, *, utf8: bool = False) -> bytes | Literal:
    """A string as a command wants it: quoted where it can be, else a literal. ValueError for NUL, which no string may hold.

    `utf8`: octets beyond ASCII may be quoted (UTF8=ACCEPT, IMAP4rev2).
    """
    if b"\0" in data:
        raise ValueError("a string with a NUL character")
    if len(data) > QUOTED_MAX or b"\r" in data or b"\n" in data or not (utf8 or data.isascii()):
        return Literal(data)
    return b'"' + data.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"'


def command(
    tag: str, *parts: bytes | Literal, literal_plus: bool = False, literal_minus: bool = False
) -> list[bytes]:
    """A whole command. Each piece but the first may be sent only after the server's `+` (RFC 9051, 4.3).

    With LITERAL+ or LITERAL- (RFC 7888) literals go unasked. ValueError for a line end outside a literal: that would start
    another command.
    """
    pieces: list[bytes] = []
    current = bytearray(tag.encode("ascii") + b" ")
    for part in parts:
        if isinstance(part, Literal):
            size = len(part.data)
            if literal_plus or (literal_minus and size <= LITERAL_MINUS_MAX):
                current += b"{%d+}\r\n" % size
            else:
                current += b"{%d}\r\n" % size
                pieces.append(bytes(current))
                current = bytearray()
            current += part.data
        elif b"\r" in part or b"\n" in part:
            raise ValueError("a line end inside a command")
        else:
            current += part
    current += b"\r\n"
    pieces.append(bytes(current))
    return pieces
