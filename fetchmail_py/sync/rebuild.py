"""Messages that lie here and of which the state knows nothing: read once, so that they can be recognised at the server."""

from __future__ import annotations

import contextlib
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from hashlib import sha256

from fetchmail_py.identity import NO_IDENTITY, header_end
from fetchmail_py.model import Delivered, LineEnds, MessageKey, Stage, Uid
from fetchmail_py.plan.matching import LocalCandidate, RemoteCandidate
from fetchmail_py.store import content
from fetchmail_py.store.state_pairs import KnownMessage
from fetchmail_py.sync.home import Home, line_ends_of
from fetchmail_py.sync.imap_boxes import Box


def unknown_files(home: Home, box: Box) -> None:
    """Gives every file of a mailbox that has no row one without a UID."""
    if not box.files:
        return
    known = {pair.key for pair in home.state.pairs(box.row.id).values()}
    uid = home.state.next_unpaired_uid(box.row.id)
    rows = []
    for key in sorted(set(box.files) - known):
        delivered = _inspect(box, key)
        if delivered is not None:
            found, mtime = delivered
            rows.append((uid, home.flags_of_file(box.row, box.files[key]), mtime, found))
            uid = Uid(uid - 1)
    home.state.add_arriving(box.row.id, rows, stage=Stage.KEPT)


def _inspect(box: Box, key: MessageKey) -> tuple[Delivered, int] | None:
    assert box.files is not None
    try:
        seen = content.inspect(box.maildir.path_of(box.files[key]))
    except FileNotFoundError:
        return None  # a mail reader has moved it: its content is met again when the server's copy comes in
    wire_size, line_ends = line_ends_of(seen.size, seen.lf_count, has_cr=seen.has_cr)
    return Delivered(key, wire_size, seen.size, seen.sha256, line_ends, seen.identity), seen.mtime


def agree(home: Home, message: KnownMessage, wire_size: int, internaldate: int | None) -> None:
    """The server tells when the message came, and how large it is there: as stored means that its line ends are as received."""
    if internaldate not in {None, message.internaldate}:
        home.state.set_internaldate(message.mailbox, message.uid, internaldate)
    if wire_size != message.wire_size and wire_size == message.size:
        home.state.set_wire(message.mailbox, message.uid, wire_size, LineEnds.AS_RECEIVED)


# Fields that other programs add to what they fetch or serve: the server's copy does not have them.
_ADDED = frozenset({
    b"x-tuid", b"x-offlineimap", b"return-path", b"delivered-to", b"x-getmail-retrieved-from-mailbox", b"x-uid", b"x-keywords",
    b"status", b"x-status", b"received",
})  # fmt: skip


def with_additions(box: Box, messages: Sequence[KnownMessage]) -> list[LocalCandidate[Uid]]:
    """Candidates with the sizes that messages have without what another program may have added to their headers.

    mbsync adds X-TUID, getmail and fetchmail Received, Delivered-To and Return-Path in front: such a Maildir can be taken over.
    """
    files = box.files if box.files is not None else box.maildir.scan() if messages else {}
    found = []
    for message in messages:
        file = files.get(message.key)
        if file is None or message.identity == NO_IDENTITY:
            continue
        try:
            sizes = sizes_without_additions(content.head(box.maildir.path_of(file)), message.wire_size)
        except FileNotFoundError:
            continue
        if sizes:
            found.append(LocalCandidate(message.uid, sizes, message.identity, -message.uid))
    return found


def sizes_without_additions(head: bytes, wire_size: int) -> tuple[int, ...]:
    """The sizes on the wire that a message may have had, from its header with LF line ends."""
    fields = _fields(head[: header_end(head)])
    sizes = {wire_size - sum(len(fields[at]) + fields[at].count(b"\n") + 2 for at in added) for added in _additions(fields)}
    return tuple(sorted(size for size in sizes if size > 0))


def digests_without_additions(box: Box, messages: Sequence[KnownMessage]) -> Iterator[tuple[bytes, Uid]]:
    """The digests that messages have without what another program may have added, where only the whole content can tell.

    The server's copy of such a message is then known when it comes in.
    """
    files = box.files if box.files is not None else box.maildir.scan() if messages else {}
    for message in messages:
        file = files.get(message.key)
        if file is not None and message.identity == NO_IDENTITY:
            with contextlib.suppress(FileNotFoundError):
                for digest in _digests(box.maildir.path_of(file)):
                    yield digest, message.uid


def _digests(path: str) -> Iterable[bytes]:
    head = content.head(path)
    end = header_end(head)
    fields = _fields(head[:end])
    # The rest of the message is read once, whatever the number of headers it may have had.
    digests = [
        sha256(b"".join(field + b"\n" for at, field in enumerate(fields) if at not in added)) for added in _additions(fields)
    ]
    if digests:
        skip = end + 1
        for chunk in content.read_wire(path, LineEnds.AS_RECEIVED):
            if b"\r" in chunk[:skip]:
                return ()  # as received, and not in the form that the server's copy would be stored in
            for digest in digests:
                digest.update(chunk[skip:])
            skip = max(0, skip - len(chunk))
    return {digest.digest() for digest in digests}


def _fields(header: bytes) -> list[bytes]:
    """Each field with its continuation lines, without the last line end."""
    return re.split(rb"\n(?![ \t])", header.removesuffix(b"\n"))


def _additions(fields: Sequence[bytes]) -> set[frozenset[int]]:
    """Which fields another program may have added, by their places: those in front, all of one name, all of any name."""
    names = [field.partition(b":")[0].strip().lower() for field in fields]
    found: set[frozenset[int]] = set()
    for count, name in enumerate(names, start=1):
        if name not in _ADDED:
            break
        found.add(frozenset(range(count)))
    by_name: dict[bytes, set[int]] = {}
    for at, name in enumerate(names):
        if name in _ADDED and name != b"received":
            by_name.setdefault(name, set()).add(at)
    found.update(frozenset(places) for places in by_name.values())
    if by_name:
        found.add(frozenset().union(*by_name.values()))
    return found


def sent(
    unpaired: Iterable[KnownMessage], there: Iterable[RemoteCandidate[Uid]], pairs: Iterable[tuple[Uid, Uid]]
) -> list[tuple[Uid, Uid]]:
    """What was sent to a server that tells no UIDs, and was stored with another size: its identity alone must tell."""
    used_here, used_there = {here for here, _ in pairs}, {uid for _, uid in pairs}
    waiting: dict[bytes, list[Uid]] = defaultdict(list)
    for message in unpaired:
        if message.stage == Stage.SENT and message.uid not in used_here and message.identity != NO_IDENTITY:
            waiting[message.identity].append(message.uid)
    found: dict[bytes, list[Uid]] = defaultdict(list)
    for candidate in there:
        if candidate.handle not in used_there:
            found[candidate.identity].append(candidate.handle)
    return [(rows[0], found[key][0]) for key, rows in waiting.items() if len(rows) == 1 == len(found[key])]
