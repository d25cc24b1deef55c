"""Files of one key in one mailbox, as `cp` makes them when it keeps a file's name: each is a message of its own.

Which row has which of them, their contents tell; all but one get keys of their own. An edited file, on the other hand, has two
rows for a while: that of its new content and that of its old one, which is to go at the server.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from fetchmail_py.errors import StoreError
from fetchmail_py.model import NO_FILE, MessageKey, Pair, Stage, Uid, count_of
from fetchmail_py.store import content
from fetchmail_py.store.delivery import new_key
from fetchmail_py.store.maildir import LocalFile
from fetchmail_py.sync.home import Home
from fetchmail_py.sync.imap_boxes import Box
from fetchmail_py.wire.utf7 import printable

RowData = tuple[Uid, bytes, str, int]


class Row(NamedTuple):
    """A row whose key another row, or more than one file, has too."""

    uid: Uid
    words: str
    stage: int
    exact: LocalFile | None
    """The file that has the very name the row tells."""


class Shared(NamedTuple):
    """Who has which file."""

    files: dict[Uid, LocalFile]
    missing: list[Uid]
    """Their file is gone: all that is there has the content of others."""
    unclear: list[Uid]
    """There is one file less than messages of this content: nothing tells which of them was removed here."""
    extra: list[LocalFile]
    """Files that are none of the rows'."""


class Double(NamedTuple):
    """A file that is to have another key."""

    key: MessageKey
    fresh: MessageKey
    file: LocalFile
    row: Uid | None
    """None: it has none yet."""


def contested(
    home: Home,
    box: Box,
    rest: Sequence[RowData],
    files: Mapping[MessageKey, Sequence[LocalFile]],
    exact: Mapping[str, bytes],
) -> dict[MessageKey, list[Row]]:
    """Keys that more than one row or more than one file has, with their rows, newest first.

    `rest` are the rows without a file of the very name that they tell, `files` those that no row tells the name of; `exact` is
    how names end for flags.
    """
    keys = {key for _, key, _, _ in rest} | {_octets(key) for key in files}
    keys.discard(_octets(NO_FILE))
    if not keys:
        return {}
    without = {uid for uid, *_ in rest}
    rows: dict[MessageKey, list[Row]] = defaultdict(list)
    for uid, octets, words, stage in home.state.rows(box.row.id):
        if octets in keys:
            key = MessageKey(octets.decode("utf-8", "surrogatepass"))
            file = None if uid in without else _exact(box, key, os.fsdecode(exact[words]))
            rows[key].append(Row(uid, words, stage, file))
    for key, found in files.items():
        if len(found) > 1 or any(row.exact for row in rows.get(key, ())):
            rows.setdefault(key, [])
    return {
        key: found
        for key, found in rows.items()
        if len(found) > 1 or len(files.get(key, ())) + sum(row.exact is not None for row in found) > 1
    }


def share(home: Home, box: Box, rows: Sequence[Row], files: Iterable[LocalFile]) -> Shared:
    """Which row of a key has which of its files: the one of its name and content, one of its content, any one."""
    free = _distinct(box, [*(row.exact for row in rows if row.exact is not None), *sorted(files)])
    if not rows:
        return Shared({}, [], [], free)
    digests = {file: _digest(box, file) for file in free}
    known = {row.uid: home.state.known_message(box.row.id, row.uid) for row in rows}
    wanted = {uid: None if message is None else message.sha256 for uid, message in known.items()}
    given: dict[Uid, LocalFile] = {}

    def take(uid: Uid, file: LocalFile | None) -> None:
        if uid not in given and file in free:
            given[uid] = file
            free.remove(file)

    # What was edited goes up before its old content goes: as long as that is not done, the file is the old row's.
    firm = rows if len(free) >= len(rows) else [row for row in rows if row.uid > 0]
    for row in firm:
        if row.exact is not None and digests.get(row.exact) == wanted[row.uid]:
            take(row.uid, row.exact)
    for row in firm:
        take(row.uid, next((file for file in free if digests[file] == wanted[row.uid]), None))
    for row in sorted(rows, key=lambda row: row.uid < 0):
        take(row.uid, row.exact)
    for row in sorted(rows, key=lambda row: row.uid < 0):
        take(row.uid, next(iter(free), None))
    there = {digests[file] for file in given.values()}
    told = all(digests[file] == wanted[uid] for uid, file in given.items())
    missing: list[Uid] = []
    unclear: list[Uid] = []
    for row in rows:
        if row.uid in given:
            continue
        if not given:
            missing.append(row.uid)
        elif row.uid > 0 and wanted[row.uid] in there:
            unclear.append(row.uid)
        elif row.uid > 0 and told:
            missing.append(row.uid)
        elif row.uid > 0:
            box.touched = True  # edited once more: what became of it, a later look tells
    return Shared(given, missing, unclear, free)


def doubles(key: MessageKey, shared: Shared) -> list[Double]:
    """Which of the files that share a key are to have another: all but one."""
    owners: list[tuple[Uid | None, LocalFile]] = [*shared.files.items(), *((None, file) for file in shared.extra)]
    return [Double(key, new_key(), file, uid) for uid, file in owners[1:]]


def separate(home: Home, box: Box, found: Collection[Double]) -> None:
    """Gives files their own keys, durably. The rows go first: a file whose row is ahead of it is recognised by its content."""
    home.begin_effects()
    for double in found:
        if double.row is not None:
            home.state.set_key(box.row.id, double.row, double.fresh)
    home.commit()
    count = 0
    for double in found:
        renamed = double.file._replace(name=double.fresh + double.file.name[len(double.key) :])
        try:
            home.barrier.rename(box.maildir.path_of(double.file), box.maildir.path_of(renamed))
        except FileNotFoundError:
            continue  # renamed or removed by somebody else: the next look finds it
        count += 1
    home.barrier.directories((box.maildir.new, box.maildir.cur))
    if count:
        what = "the name of another message and has" if count == 1 else "the names of other messages and have"
        home.note(f"{printable(box.name)}: {count_of(count, 'message')} had {what} a new one: each is a message of its own")


def fetch_again(home: Home, box: Box, uids: Collection[Uid]) -> None:
    """Messages that may have been removed here or not come back: what was not surely deleted stays on both sides."""
    home.state.forget(box.row.id, uids)
    box.row.highestmodseq, box.row.settled = 0, False
    home.state.save_mailbox(box.row)


def take_for_new(home: Home, box: Box, uids: Iterable[Uid]) -> dict[Uid, Pair]:
    """What the server has of these is another message than what is here, or is here no more and was not deleted: it is fetched.

    By a later run, if this one cannot: then nothing tells any more what was found out about the folder. Returns what they were.
    """
    gone = box.snapshot.gone if box.snapshot is not None else frozenset()
    found = {uid: box.pairs[uid] for uid in uids if uid in box.pairs and uid > 0 and uid not in gone}
    pairs = {uid: box.pairs.pop(uid) for uid, pair in found.items() if pair.stage == Stage.PAIRED}
    if pairs:
        fetch_again(home, box, pairs)
    return pairs


def _exact(box: Box, key: MessageKey, suffix: str) -> LocalFile:
    """The file that was found under the name that the row tells: as it was looked for, in cur/ first."""
    file = LocalFile("cur", f"{key}{suffix}", suffix[len(":2,") :])
    return file if box.maildir.is_there(file) else LocalFile("new", key, "")


def _distinct(box: Box, files: Iterable[LocalFile]) -> list[LocalFile]:
    """Each file once: a mail reader may link a new name and not yet have removed the old one."""
    found: dict[tuple[int, int], LocalFile] = {}
    for file in files:
        try:
            seen = os.lstat(box.maildir.path_of(file))
        except FileNotFoundError:
            continue
        found.setdefault((seen.st_dev, seen.st_ino), file)
    return list(found.values())


def _digest(box: Box, file: LocalFile) -> bytes:
    try:
        return content.inspect(box.maildir.path_of(file)).sha256
    except (FileNotFoundError, StoreError):
        return b""  # not known: then it speaks for no deletion


def _octets(key: MessageKey) -> bytes:
    return key.encode("utf-8", "surrogatepass")
