"""Directories follow mailboxes that have other names at the server, also where these were exchanged or handed on in a chain.

Names and paths change in the state first, with a note of where each directory was: a run that is cut leaves a plan, and the next
one completes it. Where a directory's new place is still another's old one, that other is set aside first.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterable, Mapping, Sequence
from string import ascii_lowercase
from typing import NamedTuple

from fetchmail_py.errors import StoreError
from fetchmail_py.model import MailboxName
from fetchmail_py.store.durable import Barrier, make_directories
from fetchmail_py.store.keywords import FILE_NAME as KEYWORDS
from fetchmail_py.store.keywords import KeywordTable
from fetchmail_py.store.maildir import LOOKS, split_name, tidy, with_letters
from fetchmail_py.store.state import MailboxRow, StateDb
from fetchmail_py.sync.place import linked

PARTS = ("tmp", "new", "cur", KEYWORDS, "maildirfolder")
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


def under_way(state: StateDb, root: str) -> tuple[int, set[int]]:
    """For a dry run, which finishes nothing: the rows get the paths where their folders are, in a state that is not kept.

    Returns how many renamings are open, and the mailboxes that have parts in two places: they cannot be looked at.
    """
    rows = [row for row in state.mailboxes().values() if state.get(f"renaming:{row.id}") is not None]
    old = {row.id: state.get(f"renaming:{row.id}") or "" for row in rows}
    new_places = {row.path for row in rows}
    all_aside = state.get(_ALL_ASIDE) is not None
    between = set()
    following = []
    for row in rows:
        was = old[row.id]
        aside = f"{was}/{_ASIDE}{row.id}".lstrip("/")
        # Until all are aside, what lies in a place is theirs that were there; then it is theirs that come there.
        places = (was, row.path) if was not in new_places else (aside, row.path) if all_aside else (was, aside)
        parts = {path: _parts(f"{root}/{path}") for path in places}
        whole = [path for path in places if parts[path] >= {"new", "cur"}]
        there = [path for path in places if parts[path] & {"new", "cur", KEYWORDS}]
        if len(there) > 1 or len(whole) < len(there):
            between.add(row.id)
        following.append(Following(row, row.name, row.delimiter, (whole or there or [row.path])[0]))
    record(state, following)
    return len(rows), between


def _parts(path: str) -> set[str]:
    return {name for name in PARTS if os.path.lexists(f"{path}/{name}")}


def _bring(old: str, new: str, barrier: Barrier) -> None:
    """What makes a directory a mailbox goes from one place to another. What a mail reader has put there meanwhile stays."""
    parts = [name for name in PARTS if os.path.lexists(f"{old}/{name}")]
    if not parts:
        return  # done already; or renamed here too, and found by looking, as any folder is
    try:
        changed = make_directories(new)
        letters = _joined_keywords(old, new)
        # The keywords' names first: at no time does a file bear a letter that has lost its name.
        names = sorted(parts, key=lambda name: name != KEYWORDS) if letters is None else parts
        for name in names:
            _bring_part(f"{old}/{name}", f"{new}/{name}", (letters or {}) if name == "cur" else {}, barrier)
        barrier.created((*changed, new))
    except StoreError as error:
        error.hint = error.hint or f"put that right, or move what is in {old} to {new} by hand; the next run goes on with it"
        raise


def _joined_keywords(old: str, new: str) -> dict[str, str] | None:
    """What letters have to become whose keywords have others in the new place; None where only one place has a table.

    A letter means what the table beside its file says, so the tables become one before a file moves, and the old one goes last.
    """
    if not all(os.path.lexists(f"{path}/{KEYWORDS}") for path in (old, new)):
        return None
    theirs, ours = KeywordTable.load(old), KeywordTable.load(new)
    found = {}
    for letter in ascii_lowercase:
        name = theirs.name_of(letter)
        if name is not None:
            found[letter] = ours.letter_for(name) or ""  # none is left: the state keeps the keyword, as any past the 26th
    ours.save()
    return {letter: other for letter, other in found.items() if other != letter}


def _bring_part(old: str, new: str, letters: Mapping[str, str], barrier: Barrier) -> None:
    """One part: as a whole where there is none in the new place, else file by file."""
    is_directory = os.path.isdir(old) and not os.path.islink(old)
    if not (is_directory and letters):
        with contextlib.suppress(FileExistsError):
            barrier.rename(old, new)
            return
    try:
        if is_directory:
            barrier.created(make_directories(new))
            _bring_files(old, new, letters, barrier)
        else:
            barrier.directories(_there([os.path.dirname(new), *(f"{os.path.dirname(new)}/{name}" for name in ("new", "cur"))]))
            os.unlink(old)  # a table that has become a part of the other, or a mark that is there already
    except OSError as error:
        raise StoreError.from_os_error(error, "renaming the mailbox", old) from error


def _bring_files(old: str, new: str, letters: Mapping[str, str], barrier: Barrier) -> None:
    for _ in range(LOOKS):
        for name in os.listdir(old):
            _bring_file(f"{old}/{name}", f"{new}/{_lettered(name, letters)}", barrier)
        barrier.directories((new,))
        try:
            os.rmdir(old)
        except OSError as error:
            if error.errno not in {errno.ENOTEMPTY, errno.EEXIST}:
                raise
            continue  # a message came in meanwhile
        return
    raise StoreError(f"renaming the mailbox: it never comes to rest: {old}", path=old, errno=errno.EBUSY)


def _bring_file(old: str, new: str, barrier: Barrier) -> None:
    try:
        barrier.rename(old, new)
    except FileNotFoundError:
        pass  # a mail reader has renamed or removed it: the next look has it
    except FileExistsError as error:
        if not os.path.samefile(old, new):
            raise StoreError(
                f"renaming the mailbox: there are two different files of this name: {old} and {new}",
                path=old,
                errno=errno.EEXIST,
                hint="move one of them out of the way; the next run goes on with it",
            ) from error
        os.unlink(old)  # where a file system cannot rename without replacing, a cut leaves both names


def _lettered(name: str, letters: Mapping[str, str]) -> str:
    """A file's name with the letters that its keywords have in the new place."""
    before = tidy(split_name(name)[1])
    after = tidy("".join(letters.get(letter, letter) for letter in before))
    return name if after == before else with_letters(name, after)


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
    if linked(root, old) is not None or linked(root, new) is not None:
        return False
    if new not in set(leaving) and any(os.path.lexists(f"{target}/{part}") for part in ("new", "cur")):
        return False
    while not os.path.isdir(target):
        target = os.path.dirname(target)
    return os.stat(source).st_dev == os.stat(target).st_dev
