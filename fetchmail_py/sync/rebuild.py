"""Messages that lie here and of which the state knows nothing: read once, so that they can be recognised at the server."""

from __future__ import annotations

import re
from collections.abc import Sequence

from fetchmail_py.identity import NO_IDENTITY, header_end
from fetchmail_py.model import Delivered, LineEnds, MessageKey, Stage, Uid
from fetchmail_py.plan.matching import LocalCandidate
from fetchmail_py.store import content
from fetchmail_py.store.state import KnownMessage
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


def agree_on_size(home: Home, message: KnownMessage, wire_size: int) -> None:
    """The server tells how large the message is on the wire: as stored means that its line ends are as received."""
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
    sizes: set[int] = set()
    by_name: dict[bytes, int] = {}
    leading = 0
    in_front = True
    header = head[: header_end(head)] + b"\n"
    for field in re.split(rb"\n(?![ \t])", header.removesuffix(b"\n")):
        name = field.partition(b":")[0].strip().lower()
        octets = len(field) + field.count(b"\n") + 2
        in_front = in_front and name in _ADDED
        if in_front:
            leading += octets
            sizes.add(wire_size - leading)
        if name in _ADDED and name != b"received":
            by_name[name] = by_name.get(name, 0) + octets
    sizes.update(wire_size - octets for octets in by_name.values())
    if by_name:
        sizes.add(wire_size - sum(by_name.values()))
    return tuple(sorted(size for size in sizes if size > 0))
