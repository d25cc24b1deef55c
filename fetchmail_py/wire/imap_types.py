"""What IMAP responses say, as values (RFC 9051, 7)."""

from __future__ import annotations

from typing import Final, NamedTuple, TypeAlias

from fetchmail_py.errors import ProtocolError
from fetchmail_py.model import Flags, Uid, UidSet

MAX_WORDS: Final = 65536
"""Octets of the flags of one message, and of a list of capabilities."""


def number_in(digits: bytes, limit: int) -> int | None:
    """The number that these are the digits of; None where they are none, or it is above `limit`.

    The length comes first: Python refuses to convert thousands of digits with a ValueError.
    """
    if len(digits) > 20 or not digits.isdigit():
        return None
    number = int(digits)
    return number if number <= limit else None


class _Streamed:
    """Stands where a literal was that went out in pieces."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "STREAMED"


STREAMED: Final = _Streamed()

Fragment: TypeAlias = bytes | _Streamed
"""A response is lines and literals in turn: line, literal, line, …, line."""
Section: TypeAlias = bytes | _Streamed | None


class Code(NamedTuple):
    """A response code (RFC 9051, 7.1), its name in upper case; `arg` is what stands behind the name."""

    name: str
    arg: str

    def number(self, limit: int) -> int | None:
        """`arg` as a number of at most `limit`; what is none, or is too large to be one, was not told."""
        return number_in(self.arg.encode("utf-8", "replace"), limit)

    def words(self) -> frozenset[str]:
        """`arg` as a list of names or flags."""
        if len(self.arg) > MAX_WORDS:
            raise ProtocolError(f"{self.name} of more than {MAX_WORDS} octets", data=self.arg[:200].encode("utf-8", "replace"))
        return frozenset(self.arg.strip().strip("()").split())


class Status(NamedTuple):
    """OK, NO, BAD, BYE or PREAUTH. `tag` is None for an untagged one."""

    tag: str | None
    status: str
    code: Code | None
    text: str


class Continuation(NamedTuple):
    """`+`: the server waits."""

    text: bytes


class Capability(NamedTuple):
    """Names in upper case."""

    names: frozenset[str]


class Enabled(NamedTuple):
    """Names in upper case."""

    names: frozenset[str]


class Exists(NamedTuple):
    """How many messages the selected mailbox holds."""

    messages: int


class Expunge(NamedTuple):
    """A message is gone; later numbers go down by one."""

    seq: int


class Fetch(NamedTuple):
    """What FETCH tells of one message; None for what it does not. `sections` by name: "" is the whole message."""

    seq: int
    uid: Uid | None
    flags: Flags | None
    modseq: int | None
    size: int | None
    """RFC822.SIZE."""
    internaldate: int | None
    """POSIX seconds; None also where it is no date."""
    sections: dict[str, Section]


class FlagsData(NamedTuple):
    """The flags a mailbox knows."""

    flags: Flags


class ListEntry(NamedTuple):
    """One mailbox of LIST or LSUB; attributes in lower case."""

    attributes: frozenset[str]
    delimiter: str | None
    name: bytes


class StatusData(NamedTuple):
    """STATUS of a mailbox: item names in upper case."""

    name: bytes
    items: dict[str, int | str]


class Namespace(NamedTuple):
    """Prefix and delimiter of each namespace (RFC 2342)."""

    personal: tuple[tuple[bytes, str | None], ...]
    others: tuple[tuple[bytes, str | None], ...]
    shared: tuple[tuple[bytes, str | None], ...]


class Rights(NamedTuple):
    """What we may do in a mailbox: the letters of RFC 4314, 2.1."""

    name: bytes
    rights: str


class Search(NamedTuple):
    """The answer to (UID) SEARCH."""

    uids: tuple[int, ...]


class Esearch(NamedTuple):
    """The answer to a SEARCH with RETURN (RFC 4731)."""

    tag: str | None
    uid: bool
    all: UidSet | None


class Vanished(NamedTuple):
    """UIDs that are gone (RFC 7162, 3.2.10); `earlier`: before this session."""

    uids: UidSet
    earlier: bool


class BodyStart(NamedTuple):
    """A large message begins."""

    section: str


class BodyChunk(NamedTuple):
    """Octets of the message that has begun."""

    data: bytes


class BodyEnd(NamedTuple):
    """The message is complete; its Fetch follows."""
