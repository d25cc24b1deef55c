"""The grammar of one whole IMAP response (RFC 9051, 9), lenient where real servers stray, each leniency named."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final, TypeAlias

from fetchmail_py.errors import ProtocolError
from fetchmail_py.model import MODSEQ_MAX, UID_MAX, Flags, Uid, UidSet, flags_of
from fetchmail_py.wire.imap_types import (
    MAX_WORDS,
    STREAMED,
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
    Section,
    Status,
    StatusData,
    Vanished,
    number_in,
)

MAX_DEPTH: Final = 100
"""Lists in lists."""
MAX_ITEMS: Final = 1_000_000
"""Values in one response, and ranges in one set."""
MAX_FOUND: Final = 2_000_000
"""Messages in one answer to SEARCH."""
MAX_STATUS_ITEMS: Final = 100
"""Items in one answer to STATUS; we ask for five."""
MAX_STATUS_ITEM: Final = 255
"""Octets of one, name or value; a MAILBOXID may have as many (RFC 8474, 4.3)."""
COMMON_FLAGS: Final = 256
"""Octets of flags that are worth remembering for the next message."""

Value: TypeAlias = "bytes | object | list[Value] | None"

_STATUS = re.compile(rb"(?i)(\*|[^ *+]+) +(OK|NO|BAD|BYE|PREAUTH)(?: +(.*))?$", re.DOTALL)
# None of these may give back what it has taken, or have two ways to take the same octets: a server that chooses the line would
# choose the time it takes to fail. `*+` also spares the memory that the way back costs: 130 octets for each octet of a string.
_CODE = re.compile(rb"\[ *+([A-Za-z0-9._/+-]++)(?: ([^\]]*+))?\](?: |$)")
_NUMBERED = re.compile(rb"(?i)\* +(\d{1,20}) +(EXISTS|EXPUNGE|RECENT|FETCH)\b *")
_NAMED = re.compile(rb"\* +([A-Za-z0-9.-]+) *")
_ATOM = re.compile(rb"[^ ()\"\r\n]+")
_SPACE = re.compile(rb" *")
_QUOTED = re.compile(rb'"([^"\\]*+(?:\\.[^"\\]*+)*+)"', re.DOTALL)
_FETCH_NAME = re.compile(rb"[A-Za-z0-9.-]+(\[[^\[\]]*+\])?(<\d++>)?")
_DATE = re.compile(rb" ?(\d{1,2})-([A-Za-z]{3})-(\d{4}) (\d\d):(\d\d):(\d\d)(?: ([+-])(\d\d)(\d\d))?")
_MONTHS = {
    name: number
    for number, name in enumerate(
        (b"JAN", b"FEB", b"MAR", b"APR", b"MAY", b"JUN", b"JUL", b"AUG", b"SEP", b"OCT", b"NOV", b"DEC"), start=1
    )
}

Parsed: TypeAlias = (
    Status | Continuation | Capability | Enabled | Exists | Expunge | Fetch | FlagsData | ListEntry | StatusData | Namespace
    | Rights | Search | Esearch | Vanished | None
)  # fmt: skip


def parse_response(fragments: list[Fragment]) -> Parsed:
    """One response. None for one we do not know, which is to be ignored. Raises ProtocolError."""
    line = fragments[0]
    assert isinstance(line, bytes)
    if not line.strip():
        return None  # quirk: blank lines between responses (some proxies)
    if line.startswith(b"+"):
        # quirk_empty_continue_req: "+" alone, without the space the grammar wants.
        return Continuation(line[1:].removeprefix(b" "))
    status = _STATUS.match(line)
    if status is not None:
        return _status(status)
    if not line.startswith(b"*"):
        raise ProtocolError("neither a response nor an answer", data=line)
    numbered = _NUMBERED.match(line)
    if numbered is not None:
        return _numbered(numbered, fragments)
    named = _NAMED.match(line)
    if named is None:
        return None
    reader = _NAMES.get(named[1].upper())
    if reader is None:
        return None
    return reader(_Reader(fragments, named.end()))


def _status(found: re.Match[bytes]) -> Status:
    tag, word, text = found[1], found[2].upper().decode("ascii"), found[3] or b""  # quirk_missing_text: "a1 OK" alone
    if tag != b"*" and word in {"BYE", "PREAUTH"}:
        raise ProtocolError(f"a tagged {word}", data=found[0])
    code = None
    if text.startswith(b"["):
        coded = _CODE.match(text)
        if coded is not None:
            code = Code(coded[1].upper().decode("ascii"), (coded[2] or b"").decode("utf-8", "replace").strip())
            text = text[coded.end() :]
    return Status(
        None if tag == b"*" else tag.decode("ascii", "replace"), word, code, text.decode("utf-8", "replace").strip()
    )


def _numbered(found: re.Match[bytes], fragments: list[Fragment]) -> Exists | Expunge | Fetch | None:
    number = int(found[1])
    if number > UID_MAX:
        raise ProtocolError("a message number out of range", data=found[0])
    match found[2].upper():
        case b"EXISTS":
            return Exists(number)
        case b"EXPUNGE":
            return Expunge(number)
        case b"FETCH":
            if number == 0:
                raise ProtocolError("FETCH of message 0", data=found[0])
            return _fetch(number, _Reader(fragments, found.end()))
        case _:
            return None


def _unquoted(text: bytes) -> bytes:
    if b"\\" not in text:
        return text
    # A pair is one backslash, any other goes.
    return b"\\".join(part.replace(b"\\", b"") for part in text.split(b"\\\\"))


class _Reader:
    """Reads values from a response's fragments, left to right."""

    def __init__(self, fragments: list[Fragment], at: int) -> None:
        self._fragments = fragments
        self._index = 0
        self._at = at
        line = fragments[0]
        assert isinstance(line, bytes)
        self._line = line
        self._items = 0

    def fail(self, what: str) -> ProtocolError:
        return ProtocolError(what, data=self._line[max(0, self._at - 60) : self._at + 100])

    def skip_spaces(self) -> None:
        found = _SPACE.match(self._line, self._at)
        assert found is not None
        self._at = found.end()

    def peek(self) -> bytes:
        """The next octet; empty at the end of this line."""
        return self._line[self._at : self._at + 1]

    def at_literal(self) -> bool:
        return self._at >= len(self._line) and self._index + 1 < len(self._fragments)

    def at_end(self) -> bool:
        self.skip_spaces()
        return self._at >= len(self._line) and self._index + 1 >= len(self._fragments)

    def expect(self, octet: bytes) -> None:
        self.skip_spaces()
        if self.peek() != octet:
            raise self.fail(f"{octet.decode()} is missing")
        self._at += 1

    def accept(self, octet: bytes) -> bool:
        self.skip_spaces()
        if self.peek() == octet:
            self._at += 1
            return True
        return False

    def literal(self) -> Fragment:
        value = self._fragments[self._index + 1]
        line = self._fragments[self._index + 2] if self._index + 2 < len(self._fragments) else b""
        assert isinstance(line, bytes)
        self._index += 2
        self._line, self._at = line, 0
        return value

    def string(self) -> Section:
        """A string or NIL."""
        self.skip_spaces()
        if self.at_literal():
            return self.literal()
        if self.peek() == b'"':
            found = _QUOTED.match(self._line, self._at)
            if found is None:
                raise self.fail("a string without its closing quote")
            self._at = found.end()
            return _unquoted(found[1])
        atom = self.atom()
        return None if atom.upper() == b"NIL" else atom

    def atom(self) -> bytes:
        self.skip_spaces()
        found = _ATOM.match(self._line, self._at)
        if found is None:
            raise self.fail("a value is missing")
        self._at = found.end()
        return found[0]

    def name(self) -> bytes:
        """A string that must be one; NIL as an atom is then a name like any other."""
        self.skip_spaces()
        if not self.at_literal() and self.peek() != b'"':
            return self.atom()
        value = self.string()
        if not isinstance(value, bytes):
            raise self.fail("a name is missing")
        return value

    def number(self, limit: int) -> int:
        atom = self.atom()
        number = number_in(atom, limit)
        if number is None:
            raise ProtocolError("not a number in range", data=atom)
        return number

    def pattern(self, pattern: re.Pattern[bytes]) -> re.Match[bytes] | None:
        self.skip_spaces()
        found = pattern.match(self._line, self._at)
        if found is not None:
            self._at = found.end()
        return found

    def value(self, depth: int = 0) -> Value:
        """Any value; lists become lists."""
        if depth > MAX_DEPTH:
            raise self.fail(f"lists nested more than {MAX_DEPTH} deep")
        self._items += 1
        if self._items > MAX_ITEMS:
            raise self.fail(f"more than {MAX_ITEMS} values in a response")
        if not self.accept(b"("):
            return self.string()
        items: list[Value] = []
        while not self.accept(b")"):
            if self.at_end():
                raise self.fail("a list without its end")
            items.append(self.value(depth + 1))
        return items

    def words(self) -> list[bytes]:
        """A list of atoms, such as flags."""
        value = self.value()
        if not isinstance(value, list):
            raise self.fail("a list is missing")
        return [word for word in value if isinstance(word, bytes)]

    def rest(self) -> bytes:
        text = self._line[self._at :]
        self._at = len(self._line)
        return text.strip()


def _flags(words: list[bytes]) -> Flags:
    text = b" ".join(words)
    if len(text) > MAX_WORDS:
        raise ProtocolError(f"flags of more than {MAX_WORDS} octets", data=text)
    # `flags_of` keeps what it was asked: a server must not choose how much that is.
    find = flags_of if len(text) <= COMMON_FLAGS else flags_of.__wrapped__
    return find(text.decode("ascii", "backslashreplace"))


def _names_in(reader: _Reader) -> frozenset[str]:
    text = reader.rest()
    if len(text) > MAX_WORDS:
        raise ProtocolError(f"a list of more than {MAX_WORDS} octets", data=text)
    return frozenset(text.decode("ascii", "replace").upper().split())


def _fetch(seq: int, reader: _Reader) -> Fetch:
    uid: Uid | None = None
    flags: Flags | None = None
    modseq = size = date = None
    sections: dict[str, Section] = {}
    reader.expect(b"(")
    while not reader.accept(b")"):
        found = reader.pattern(_FETCH_NAME)
        if found is None:
            raise reader.fail("an item of FETCH is missing")
        name = found[0].upper().decode("ascii", "replace")
        section = found[1]
        if section is not None and name.startswith(("BODY[", "BINARY[")):
            sections[section[1:-1].upper().decode("ascii", "replace")] = reader.string()
            continue
        match name:
            case "UID":
                number = reader.number(UID_MAX)
                if number == 0:
                    raise reader.fail("UID 0")
                uid = Uid(number)
            case "FLAGS":
                flags = _flags(reader.words())
            case "MODSEQ":
                reader.expect(b"(")
                modseq = reader.number(MODSEQ_MAX)
                reader.expect(b")")
            case "RFC822.SIZE":
                size = reader.number(2**63 - 1)
            case "INTERNALDATE":
                text = reader.string()
                date = parse_date(text) if isinstance(text, bytes) else None
            case "RFC822":
                sections[""] = reader.string()
            case _:
                reader.value()
    return Fetch(seq, uid, flags, modseq, size, date, sections)


def parse_date(text: bytes) -> int | None:
    """INTERNALDATE (RFC 9051, date-time) as POSIX seconds; None where it is no date: some servers send zeros."""
    found = _DATE.match(text)
    if found is None:
        return None
    day, year = int(found[1]), int(found[3])
    month = _MONTHS.get(found[2].upper(), 0)
    if not month or not 1 <= day <= 31 or year == 0:
        return None
    # Days since 1970 of the proleptic Gregorian calendar, with years that begin in March.
    years = year - (month <= 2)
    days = 365 * years + years // 4 - years // 100 + years // 400 + (153 * ((month + 9) % 12) + 2) // 5 + day - 1 - 719468
    seconds = days * 86400 + int(found[4]) * 3600 + int(found[5]) * 60 + int(found[6])
    if found[7] is None:
        return seconds  # quirk: a server that leaves the zone out means UTC, as far as anybody knows
    offset = int(found[8]) * 3600 + int(found[9]) * 60
    return seconds - offset if found[7] == b"+" else seconds + offset


def parse_uid_set(text: bytes) -> UidSet:
    """A sequence-set without `*`: never expanded, so that `1:4294967295` costs nothing."""
    if text.count(b",") >= MAX_ITEMS:
        raise ProtocolError(f"a set of more than {MAX_ITEMS} ranges", data=text)
    ranges = []
    for part in text.split(b","):
        low, colon, high = part.partition(b":")
        first = number_in(low, UID_MAX)
        last = number_in(high, UID_MAX) if colon else first
        if not first or not last:
            raise ProtocolError("not a set of UIDs", data=part)
        ranges.append((min(first, last), max(first, last)))
    return UidSet(ranges)


def parse_uid_list(text: bytes, limit: int) -> list[Uid] | None:
    """The UIDs of a set in the order they are written, as COPYUID and APPENDUID pair them (RFC 4315, 3).

    None for more than `limit`, since we know how many it can be about, and for what is no set of UIDs.
    """
    found: list[Uid] = []
    for part in text.split(b",", limit):
        low, colon, high = part.partition(b":")
        one = number_in(low, UID_MAX)
        other = number_in(high, UID_MAX) if colon else one
        if not one or not other:
            return None
        first, last = sorted((one, other))
        if last - first >= limit - len(found):
            return None
        found.extend(Uid(uid) for uid in range(first, last + 1))
    return found


def _capability(reader: _Reader) -> Capability:
    return Capability(_names_in(reader))


def _enabled(reader: _Reader) -> Enabled:
    return Enabled(_names_in(reader))


def _flags_data(reader: _Reader) -> FlagsData:
    return FlagsData(_flags(reader.words()))


def _delimiter(reader: _Reader) -> str | None:
    value = reader.string()
    if value is STREAMED:
        raise reader.fail("a delimiter is missing")
    return value.decode("utf-8", "replace")[:1] or None if isinstance(value, bytes) else None


def _list(reader: _Reader) -> ListEntry:
    attributes = frozenset(word.decode("ascii", "replace").lower() for word in reader.words())
    delimiter = _delimiter(reader)
    return ListEntry(attributes, delimiter, reader.name())


def _status_data(reader: _Reader) -> StatusData:
    name = reader.name()
    items: dict[str, int | str] = {}
    reader.expect(b"(")
    while not reader.accept(b")"):
        if len(items) >= MAX_STATUS_ITEMS:
            raise reader.fail(f"STATUS with more than {MAX_STATUS_ITEMS} items")
        item = reader.atom()[:MAX_STATUS_ITEM].upper().decode("ascii", "replace")
        value = reader.value()
        if isinstance(value, list):
            value = value[0] if value else None
        if isinstance(value, bytes):
            # A number out of its range is no number of ours: the mailbox is then looked at.
            items[item] = int(value) if value.isdigit() and len(value) <= 19 else value[:MAX_STATUS_ITEM].decode("ascii", "replace")
    return StatusData(name, items)


def _namespace(reader: _Reader) -> Namespace:
    spaces: list[tuple[tuple[bytes, str | None], ...]] = []
    for _ in range(3):
        if reader.at_end():
            spaces.append(())
            continue
        value = reader.value()
        found = []
        for entry in value if isinstance(value, list) else []:
            if isinstance(entry, list) and entry and isinstance(entry[0], bytes):
                delimiter = entry[1] if len(entry) > 1 else None
                found.append((entry[0], delimiter.decode("utf-8", "replace")[:1] if isinstance(delimiter, bytes) else None))
        spaces.append(tuple(found))
    return Namespace(*spaces)


def _search(reader: _Reader) -> Search:
    text = reader.rest().partition(b"(")[0]
    if text.count(b" ") >= MAX_FOUND:
        raise reader.fail(f"SEARCH found more than {MAX_FOUND} messages")
    numbers = []
    for word in text.split():
        number = number_in(word, UID_MAX)
        if not number:
            raise ProtocolError("a UID out of range", data=word)
        numbers.append(number)
    return Search(tuple(numbers))


def _esearch(reader: _Reader) -> Esearch:
    tag: str | None = None
    uid = False
    everything: UidSet | None = None
    if reader.peek() == b"(":
        correlator = reader.value()
        if isinstance(correlator, list) and len(correlator) == 2 and isinstance(correlator[1], bytes):
            tag = correlator[1].decode("ascii", "replace")
    while not reader.at_end():
        word = reader.atom().upper()
        if word == b"UID":
            uid = True
        elif word == b"ALL":
            everything = parse_uid_set(reader.atom())
        else:
            reader.value()
    return Esearch(tag, uid, everything)


def _rights(reader: _Reader) -> Rights:
    name = reader.name()
    return Rights(name, reader.name().decode("ascii", "replace"))


def _vanished(reader: _Reader) -> Vanished:
    earlier = False
    if reader.peek() == b"(":
        earlier = b"EARLIER" in [word.upper() for word in reader.words()]
    return Vanished(parse_uid_set(reader.rest()), earlier)


_NAMES: dict[bytes, Callable[[_Reader], Parsed]] = {
    b"CAPABILITY": _capability,
    b"ENABLED": _enabled,
    b"FLAGS": _flags_data,
    b"LIST": _list,
    b"LSUB": _list,
    b"STATUS": _status_data,
    b"MYRIGHTS": _rights,
    b"NAMESPACE": _namespace,
    b"SEARCH": _search,
    b"ESEARCH": _esearch,
    b"VANISHED": _vanished,
}
