"""Messages that lie here and of which the state knows nothing: read once, so that they can be recognised at the server."""

from __future__ import annotations

from fetchmail_py.model import Delivered, LineEnds, MessageKey, Stage, Uid
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
