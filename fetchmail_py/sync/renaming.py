"""Directories follow mailboxes that have other names at the server, also where these were exchanged or handed on in a chain.

Names and paths change in the state first, with a note of where each directory was: a run that is cut leaves a plan, and the next
one completes it. Where a directory's new place is still another's old one, that other is set aside first.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from fetchmail_py.errors import StoreError
from fetchmail_py.model import MailboxName
from fetchmail_py.store.durable import Barrier, make_directories
from fetchmail_py.store.state import MailboxRow, StateDb

PARTS = ("tmp", "new", "cur", "dovecot-keywords", "maildirfolder")
_ASIDE = ".fetchmail-py.renaming-"
"""Begins the directory, below the old one, in which what is set aside waits: no mailbox's path has such a name."""
_ALL_ASIDE = "renaming-aside"


class Following(NamedTuple):
    """What a mailbox is called from now on, and where it lies."""

    row: MailboxRow
    name: MailboxName
    delimiter: str | None
    path: str


def record(state: StateDb, following: Sequence[Following]) -> None:
    """Changes names and paths in the state. They are unique there, so each row first gives up what it had."""
    for row, *_ in following:
        name, path = row.name, row.path
        row.name, row.path = MailboxName(f"\0{row.id}"), f"\0{row.id}"
        state.save_mailbox(row)
        row.name, row.path = name, path
    for row, name, delimiter, path in following:
        row.name, row.delimiter, row.path = name, delimiter, path
        state.save_mailbox(row)


def begin(state: StateDb, following: Sequence[Following]) -> None:
    """Changes names and paths, and notes where the directories are that are to follow."""
    for row, _, _, path in following:
        if path != row.path:
            state.put(f"renaming:{row.id}", row.path)
    record(state, following)


def finish(state: StateDb, root: str, barrier: Barrier) -> None:
    """Brings the directories to their new places, from wherever a run that was cut has left them."""
    rows = state.mailboxes().values()
    moves = [(row, f"{root}/{old}") for row in rows if (old := state.get(f"renaming:{row.id}")) is not None]
    if not moves:
        return
    new_places = {f"{root}/{row.path}" for row, _ in moves}
    aside = {row.id: f"{old}/{_ASIDE}{row.id}" for row, old in moves if old in new_places}
    if aside and state.get(_ALL_ASIDE) is None:
        for row, old in moves:
            if row.id in aside:
                _bring(old, aside[row.id], barrier)
                barrier.created(_there([old]))
        # What lies in these places is theirs until this is known; then it is what has come there.
        barrier.directories(())
        state.put(_ALL_ASIDE, "1")
        state.commit()
    for row, old in moves:
        _bring(aside.get(row.id, old), f"{root}/{row.path}", barrier)
    cleared = [_clear(root, path) for path in (*aside.values(), *(old for _, old in moves))]
    barrier.created(_there(cleared))
    barrier.directories(())
    for row, _ in moves:
        state.put(f"renaming:{row.id}", None)
    state.put(_ALL_ASIDE, None)
    state.commit()


def _bring(old: str, new: str, barrier: Barrier) -> None:
    """What makes a directory a mailbox goes from one place to another; nothing of it may be there any more."""
    parts = [name for name in PARTS if os.path.lexists(f"{old}/{name}")]
    if not parts:
        return  # done already; or renamed here too, and found by looking, as any folder is
    changed = make_directories(new)
    for name in parts:
        try:
            os.rename(f"{old}/{name}", f"{new}/{name}")
        except OSError as error:
            raise StoreError.from_os_error(error, "renaming the mailbox", f"{old}/{name}") from error
    barrier.created((*changed, new))


def _clear(root: str, path: str) -> str:
    """Removes a directory that is empty now, and those above it that are; returns the one that is left."""
    with contextlib.suppress(OSError):  # other mailboxes may lie below it, or in it now
        while os.path.normpath(path) != root:
            if os.path.isdir(path):
                os.rmdir(path)
            path = os.path.dirname(path)
    return path


def _there(paths: Iterable[str]) -> list[str]:
    return [path for path in paths if os.path.isdir(path)]


def can_follow(root: str, old: str, new: str, leaving: Iterable[str]) -> bool:
    """Whether a directory can be renamed to `new`: no rename reaches another device, or a place that somebody else has taken.

    `leaving` are the paths that become free.
    """
    source, target = f"{root}/{old}", f"{root}/{new}"
    if not os.path.isdir(source):
        return True  # it was renamed here too: there is nothing to bring
    if new not in set(leaving) and any(os.path.lexists(f"{target}/{part}") for part in ("new", "cur")):
        return False
    while not os.path.isdir(target):
        target = os.path.dirname(target)
    return os.stat(source).st_dev == os.stat(target).st_dev
