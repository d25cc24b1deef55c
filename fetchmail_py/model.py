"""The nouns every room shares, in the standards' words (RFC 3501, 7162, 9051, 1939). Values only: nothing here has effects."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import Enum, IntEnum
from functools import lru_cache
from typing import NamedTuple, NewType

Uid = NewType("Uid", int)
"""A message's unique identifier, 1 to 2**32-1; worth nothing without its UIDVALIDITY (RFC 9051, 2.3.1.1)."""
UidValidity = NewType("UidValidity", int)
ModSeq = NewType("ModSeq", int)
"""A modification sequence, 0 (unknown) to 2**63-1 (RFC 7162)."""
MessageKey = NewType("MessageKey", str)
"""The unique part of a Maildir file name, before ':'. Bytes that are not UTF-8 are kept as surrogate escapes."""
NO_FILE = MessageKey("")
"""Of a message that the server has still, although its file is elsewhere by now."""
MailboxName = NewType("MailboxName", str)
"""A mailbox's name as Unicode, levels separated by the server's delimiter. What is no valid modified UTF-7 is carried
as lone surrogates, so that the name on the wire can always be had back (`wire.utf7`)."""

Flags = frozenset[str]
"""IMAP flags and keywords: system flags in canonical case (`\\Seen`), keywords as the server spells them; never `\\Recent`."""

UID_MAX = 2**32 - 1
MODSEQ_MAX = 2**63 - 1

NO_FLAGS: Flags = frozenset()
SEEN = "\\Seen"
ANSWERED = "\\Answered"
FLAGGED = "\\Flagged"
DELETED = "\\Deleted"
DRAFT = "\\Draft"
FORWARDED = "$Forwarded"

# Maildir info letters (https://cr.yp.to/proto/maildir.html); 'P' (passed) is the keyword $Forwarded.
LETTER_TO_FLAG = {"D": DRAFT, "F": FLAGGED, "P": FORWARDED, "R": ANSWERED, "S": SEEN, "T": DELETED}
FLAG_TO_LETTER = {flag: letter for letter, flag in LETTER_TO_FLAG.items()}
_CANONICAL = {flag.lower(): flag for flag in (*FLAG_TO_LETTER, "\\Recent")}


@lru_cache(maxsize=4096)
def flags_of(words: str) -> Flags:
    """The flags in a space-separated list, as in FETCH FLAGS; the same set object for the same words."""
    return frozenset(_CANONICAL.get(word.lower(), word) for word in words.split()) - {"\\Recent"}


class UidSet:
    """A set of UIDs kept as ranges and never expanded: `1:4294967295` costs two numbers (RFC 9051, sequence-set)."""

    __slots__ = ("_starts", "ranges")

    ranges: tuple[tuple[int, int], ...]

    def __init__(self, ranges: Iterable[tuple[int, int]] = ()) -> None:
        """From (low, high) pairs in any order, overlapping or not; both ends are included."""
        merged: list[list[int]] = []
        for low, high in sorted(ranges):
            if merged and low <= merged[-1][1] + 1:
                merged[-1][1] = max(merged[-1][1], high)
            else:
                merged.append([low, high])
        self.ranges = tuple((low, high) for low, high in merged)
        self._starts = [low for low, _ in self.ranges]

    @classmethod
    def of(cls, uids: Iterable[int]) -> UidSet:
        """From single UIDs."""
        return cls((uid, uid) for uid in uids)

    def __contains__(self, uid: int) -> bool:
        index = bisect_right(self._starts, uid) - 1
        return index >= 0 and uid <= self.ranges[index][1]

    def __len__(self) -> int:
        return sum(high - low + 1 for low, high in self.ranges)

    def __bool__(self) -> bool:
        return bool(self.ranges)

    def __iter__(self) -> Iterator[int]:
        """Every UID, ascending. Only for sets that are known to be small, such as our own."""
        for low, high in self.ranges:
            yield from range(low, high + 1)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, UidSet) and self.ranges == other.ranges

    def __hash__(self) -> int:
        return hash(self.ranges)

    def __str__(self) -> str:
        return ",".join(str(low) if low == high else f"{low}:{high}" for low, high in self.ranges)

    def __repr__(self) -> str:
        return f"UidSet({self})"

    def chunks(self, max_octets: int = 4000) -> Iterator[str]:
        """The set as one or more sequence-sets, none longer than `max_octets`: servers limit a command line (RFC 7162, 4)."""
        piece: list[str] = []
        length = 0
        for low, high in self.ranges:
            text = str(low) if low == high else f"{low}:{high}"
            if piece and length + len(text) + 1 > max_octets:
                yield ",".join(piece)
                piece, length = [], 0
            piece.append(text)
            length += len(text) + 1
        if piece:
            yield ",".join(piece)


class LineEnds:
    """How the stored bytes relate to the bytes on the wire (README, Files)."""

    AS_RECEIVED = 0
    """Stored exactly as received."""
    CRLF = 1
    """Every line end was CRLF and is stored as LF; the wire has CRLF for each LF."""
    MIXED = 2
    """Came into being here with line ends of both kinds; the wire has CRLF for each, as IMAP wants it."""


class Delivered(NamedTuple):
    """One message that lies complete in `tmp/`, not yet durable."""

    key: MessageKey
    wire_size: int
    """Octets as received (IMAP: the literal; POP3: after dot-unstuffing, with its CRLFs)."""
    size: int
    """Octets as stored."""
    sha256: bytes
    """Digest of the stored bytes."""
    line_ends: int
    """One of `LineEnds`."""
    identity: bytes
    """`plan.matching.identity` of its header: 16 octets."""


class Stage(IntEnum):
    """How far a message that has a row in the state has come."""

    ARRIVING = 0
    """An intent: its file may still be in `tmp/`."""
    PAIRED = 1
    """Both sides have it, or had it when last seen."""
    KEPT = 2
    """Gone from the server, kept here on purpose; with a UID below zero: here, and perhaps there under a UID we do not know."""
    DELETING = 3
    """Stored here; the server is to delete it, or was told to (POP3, mode offline)."""
    SENT = 4
    """The server has taken it without telling its UID: it is looked for there, and not sent again meanwhile."""
    NEW = 5
    """Only here, and never sent: nothing at the server can be it. It becomes KEPT before it is sent."""


class Pair(NamedTuple):
    """What both sides agreed on last time about one message of an IMAP mailbox: the merge base.

    A UID below zero is no UID: the message has lost its counterpart (changed UIDVALIDITY, lost state) and waits for matching.
    """

    uid: Uid
    key: MessageKey
    flags: Flags
    stage: int


class RemoteMessage(NamedTuple):
    """What a listing says of one message."""

    uid: Uid
    flags: Flags
    modseq: int = 0


class RemoteMailbox(NamedTuple):
    """A mailbox as LIST and STATUS tell it. Numbers are None where the server did not say."""

    name: MailboxName
    delimiter: str | None
    attributes: frozenset[str]
    """Lower case, with the backslash: `\\noselect`, `\\trash`."""
    uidvalidity: UidValidity | None = None
    uidnext: int | None = None
    messages: int | None = None
    highestmodseq: int | None = None
    mailbox_id: str | None = None

    @property
    def selectable(self) -> bool:
        """Whether it can hold messages."""
        return not self.attributes & {"\\noselect", "\\nonexistent"}


class Coverage(Enum):
    """What a listing claims to hold."""

    ALL = "all"
    """Every message: what is not in it is gone, if the count is right."""
    CHANGES = "changes"
    """Messages new or changed since the known MODSEQ; deletions only as VANISHED."""


@dataclass(slots=True)
class Look:
    """One mailbox as a session saw it (SELECT or EXAMINE, and a listing)."""

    name: MailboxName
    uidvalidity: UidValidity
    uidnext: int
    exists: int
    highestmodseq: int
    coverage: Coverage
    messages: dict[Uid, RemoteMessage] = field(default_factory=dict)
    vanished: UidSet = field(default_factory=UidSet)
    present: UidSet | None = None
    """Every UID there is, where the server was asked for that too (UID SEARCH ALL)."""
    read_only: bool = False
    permanent_flags: frozenset[str] | None = None


class RemoteSnapshot(NamedTuple):
    """One mailbox at the server, as far as it may differ from what we knew.

    A full listing, CONDSTORE and QRESYNC all build this: `changed` holds every message that is new or whose flags may
    have changed, `gone` every known UID the server said is no longer there. `complete` is False where the
    answer does not add up to EXISTS: then `gone` is empty and nothing may be taken for deleted.
    """

    name: MailboxName
    uidvalidity: UidValidity
    uidnext: int
    exists: int
    highestmodseq: int
    changed: dict[Uid, RemoteMessage]
    gone: frozenset[Uid]
    complete: bool
    read_only: bool = False


class MaildropEntry(NamedTuple):
    """One message of a POP3 maildrop as UIDL and LIST tell it."""

    number: int
    uidl: bytes | None
    """None where the server has no UIDL."""
    size: int


class StoredMessage(NamedTuple):
    """A message of a POP3 maildrop that was stored here and was not yet seen to be gone from the server."""

    id: int
    uidl: bytes | None
    key: MessageKey
    listed_size: int
    wire_size: int
    sha256: bytes
    identity: bytes
    stored_at: float
    """POSIX time."""
    stage: int


EMPTY_FILE = "empty:"
"""What names an empty file among the messages set aside: no server takes it, so it is shown, and not tried again."""


def count_of(number: int, noun: str) -> str:
    """1 message, 2 messages."""
    plural = noun + ("es" if noun.endswith("x") else "s")
    return f"{number:,} {noun if number == 1 else plural}"
