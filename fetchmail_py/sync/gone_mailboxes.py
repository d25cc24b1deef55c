"""Mailboxes that are gone on both sides are forgotten: their names and places are free for others.

One that is gone on one side is kept on the other, and known. But what is neither at the server nor here would stand in the way
for ever of a folder that gets its name, and of a change of `layout`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Sequence

from fetchmail_py.model import RemoteMailbox
from fetchmail_py.plan import oneway
from fetchmail_py.store.maildir import Maildir
from fetchmail_py.store.state import MailboxRow
from fetchmail_py.sync import local
from fetchmail_py.sync.home import Home
from fetchmail_py.wire.utf7 import printable

_FACTS = ("announced", "announced-there", "told-name", "keywords", "to-trash")
_OPEN = ("renaming", "wanted", "was")
"""Facts of a mailbox that something is still to be done about."""


def forget(home: Home, listed: Sequence[RemoteMailbox], note: Callable[[str], None]) -> list[int]:
    """Drops the rows of mailboxes that the server did not list before, and does not now, and that have no folder here.

    A backup keeps them, since `verify` is to tell what is missing here; and so does a run that has to find out what it has.
    """
    if home.account.mode in {oneway.BACKUP, oneway.OFFLINE} or not home.trusted or not os.path.isdir(home.root):
        return []
    rows, there = home.state.mailboxes(), {box.name for box in listed if box.selectable}
    dead = [row for row in rows.values() if not (row.listed or row.name in there or row.name == "INBOX")]
    dropped = []
    for row in dead:
        others = [other for other in rows.values() if other.id != row.id]
        if any(home.state.get(f"{fact}:{row.id}") is not None for fact in _OPEN) or _may_have_a_folder(home, row, others):
            continue
        # The number may be given to another mailbox: nothing that is kept by it may be left.
        home.state.remove_mailbox(row.id)
        for fact in _FACTS:
            home.state.put(f"{fact}:{row.id}", None)
        home.forget_keywords([row.id])
        dropped.append(row.id)
        note(f"{printable(row.name)}: gone at the server and here, and forgotten")
    return dropped


def _may_have_a_folder(home: Home, row: MailboxRow, others: Collection[MailboxRow]) -> bool:
    """Whether the mailbox's folder is here, renamed or not, or on a disk that may just not be mounted."""
    maildir = home.maildir(row)
    if os.path.lexists(maildir.path):
        # A directory that has nothing but others below it is no mailbox any more; an empty one may be a disk's place.
        only_above_others = os.path.isdir(maildir.path) and not maildir.has_a_part() and os.listdir(maildir.path)
        if not (only_above_others or _is_anothers(maildir, others)):
            return True
    elif _in_an_empty_directory(maildir.path, home.root):
        return True
    if row.inode is None:
        return False
    for place in local.places(home.root, home.account.layout):
        found = Maildir(f"{home.root}/{place.path}", home.barrier)
        if place.inode == row.inode and row.born in {None, found.born()} and not _is_anothers(found, others):
            return True
    return False


def _is_anothers(maildir: Maildir, others: Collection[MailboxRow]) -> bool:
    """Whether a directory is that of another mailbox, which was renamed here to this one's name."""
    inode, born = maildir.inode(), maildir.born()
    return inode is not None and any(other.inode == inode and other.born in {None, born} for other in others)


def _in_an_empty_directory(path: str, root: str) -> bool:
    """Whether what is left above a path that is not there is empty, as the place of a disk that is not mounted."""
    while not os.path.lexists(path):
        path = os.path.dirname(path)
    return path != root and (not os.path.isdir(path) or not os.listdir(path))
