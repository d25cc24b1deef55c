"""Mailbox names on the wire: modified UTF-7 (RFC 3501, 5.1.3), or UTF-8 once UTF8=ACCEPT is enabled (RFC 6855).

Servers also list names that are neither. Such a name is carried octet by octet, with what would be misread as lone
surrogates (U+DC00 and the octet: U+DC26 for an `&`), so that it can be sent back as it came.
"""

from __future__ import annotations

import re
from binascii import Error, a2b_base64, b2a_base64

from fetchmail_py.model import MailboxName

_SHIFTED = re.compile(rb"&([A-Za-z0-9+,]*)-")
_PLAIN = re.compile(rb"[ -%'-~]*")
_TO_ENCODE = re.compile("[^ -~\udc00-\udcff]+|&")
_RAW = re.compile("[\udc00-\udcff]")


def decode_mailbox(wire: bytes, *, utf8: bool) -> MailboxName:
    """A name as the server gave it; `encode_mailbox` gives back the same octets. INBOX comes in one spelling."""
    if wire.upper() == b"INBOX":
        return MailboxName("INBOX")
    if utf8:
        return MailboxName(wire.decode("utf-8", "surrogateescape"))
    decoded = _decode(wire)
    # One that hides a NUL could not be sent once names are UTF-8.
    if decoded is not None and "\0" not in decoded and encode_mailbox(MailboxName(decoded), utf8=False) == wire:
        return MailboxName(decoded)
    return MailboxName("".join(chr(octet if 0x20 <= octet < 0x7F and octet != 0x26 else 0xDC00 + octet) for octet in wire))


def _decode(wire: bytes) -> str | None:
    """None where it is no modified UTF-7 at all; what is sloppy shows when it is encoded again."""
    text: list[str] = []
    at = 0
    while at < len(wire):
        plain = _PLAIN.match(wire, at)
        assert plain is not None
        text.append(plain[0].decode("ascii"))
        at = plain.end()
        if at == len(wire):
            break
        shifted = _SHIFTED.match(wire, at)
        if shifted is None:
            return None
        at = shifted.end()
        if not shifted[1]:
            text.append("&")
            continue
        base64 = shifted[1].replace(b",", b"/")
        try:
            text.append(a2b_base64(base64 + b"=" * (-len(base64) % 4)).decode("utf-16-be"))
        except (Error, UnicodeDecodeError):
            return None
    return "".join(text)


def encode_mailbox(name: MailboxName, *, utf8: bool) -> bytes:
    """A name as the server wants it. ValueError for one with lone surrogates that are not ours: no server has it."""
    if utf8:
        try:
            return _octets(name, "utf-8")
        except UnicodeEncodeError as error:
            raise ValueError("not a mailbox name: it has surrogates") from error
    return _octets(_TO_ENCODE.sub(_shift, name), "ascii")


def _octets(text: str, encoding: str) -> bytes:
    """The text encoded, its raw octets as they are. UnicodeEncodeError for any other lone surrogate."""
    pieces = []
    at = 0
    for found in _RAW.finditer(text):
        pieces += [text[at : found.start()].encode(encoding), bytes([ord(found[0]) & 0xFF])]
        at = found.end()
    return b"".join((*pieces, text[at:].encode(encoding)))


def _shift(found: re.Match[str]) -> str:
    run = found[0]
    if run == "&":
        return "&-"
    try:
        octets = run.encode("utf-16-be")
    except UnicodeEncodeError as error:
        raise ValueError("not a mailbox name: it has surrogates") from error
    return "&" + b2a_base64(octets, newline=False).rstrip(b"=").replace(b"/", b",").decode("ascii") + "-"


def printable(name: str) -> str:
    """The name for people: lone surrogates as the octets they stand for."""
    return _RAW.sub(lambda found: f"\\x{ord(found[0]) & 0xFF:02x}", name)
