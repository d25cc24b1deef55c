"""What IMAP responses say, as values (RFC 9051, 7)."""

from __future__ import annotations

from typing import Final, NamedTuple, TypeAlias

from fetchmail_py.errors import ProtocolError
from fetchmail_py.model import Flags, Uid, UidSet


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

    @property
    def number(self) -> int:
        """`arg` as the number it has to be."""
        if not (self.arg.isascii() and self.arg.isdigit() and len(self.arg) <= 20):
            raise ProtocolError(f"{self.name} without a number", data=self.arg.encode("utf-8", "replace"))
        return int(self.arg)


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
