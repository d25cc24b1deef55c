"""What changed here since the last run, for the two-way mode: flags, files gone, files new, mailboxes made or renamed.

A hundred thousand names are compared with the state as sets; only what differs is looked at one by one.
"""

from __future__ import annotations

import os
import stat
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import NamedTuple

from fetchmail_py.errors import StoreError
from fetchmail_py.model import EMPTY_FILE, Delivered, Flags, LineEnds, MailboxName, MessageKey, Pair, Stage, Uid, flags_of
from fetchmail_py.plan.twoway import Here, Missing
from fetchmail_py.store import content
from fetchmail_py.store.layout import MAILDIRPP, name_of
from fetchmail_py.store.maildir import LOOKS, LocalFile, Maildir, split_name, tidy
from fetchmail_py.store.state import MailboxRow
from fetchmail_py.sync import same_key
from fetchmail_py.sync.home import Home
from fetchmail_py.sync.imap_boxes import Box
from fetchmail_py.sync.place import linked

EDITED_AMONG = 2000
"""Drafts are edited in place, under their names: so many files of such a mailbox are looked at in every run."""


def look(home: Home, box: Box, *, contents: bool) -> None:
    """Compares a mailbox's directory with the state; fills `here`, `strangers`, `pairs` and `signature` of the box.

    `contents`: also whether files of pairs have other content now, which costs a look at each.
    """
    box.signature = box.maildir.signature()
    seen = _settled(home, box, contents=contents)
    if seen.missing:
        # A mail reader renames while we read: absent is what was absent twice, with the directory at rest.
        again = box.maildir.every_key()
        if any(pair.key in again for pair in seen.missing):
            box.signature = box.maildir.signature()
            seen = _settled(home, box, contents=contents)
    if seen.unclear:
        same_key.fetch_again(home, box, seen.unclear)
    flags: dict[Uid, Flags] = {}
    for pair, file in seen.changed:
        found = home.flags_known(box.row, file, pair.flags)
        if found != pair.flags:
            if pair.uid < 0:
                home.state.set_flags(box.row.id, [(pair.uid, found)])
            else:
                flags[pair.uid] = found
        box.pairs[pair.uid] = pair
    for pair in seen.missing:
        box.pairs[pair.uid] = pair
    gone = [pair.key for pair in seen.missing if pair.uid < 0]
    home.state.undefer(box.row.id, [f"{what}{key}" for key in gone for what in ("file:", EMPTY_FILE)])
    edited = _edited(home, box, seen.plain) if contents else frozenset()
    box.strangers = seen.strangers
    box.here = Here(flags, frozenset(pair.uid for pair in seen.missing), edited)


class _Seen(NamedTuple):
    """What a directory has, beside the state."""

    changed: list[tuple[Pair, LocalFile]]
    missing: list[Pair]
    strangers: dict[MessageKey, LocalFile]
    plain: dict[Uid, LocalFile]
    """The file of each pair, where contents are asked for."""
    doubles: list[same_key.Double]
    unclear: list[Uid]


def _settled(home: Home, box: Box, *, contents: bool) -> _Seen:
    """Compares, once every file has a key of its own. A dry run leaves the names as they are, and plans with others."""
    for _ in range(LOOKS):
        seen = _compare(home, box, contents=contents)
        if not seen.doubles or home.dry_run:
            return seen
        same_key.separate(home, box, seen.doubles)
        box.signature = box.maildir.signature()
    raise StoreError(f"messages of one name are made faster than they get names of their own: {box.maildir.path}")


def _compare(home: Home, box: Box, *, contents: bool) -> _Seen:
    new, cur = box.maildir.names()
    suffixes: dict[str, bytes] = {}
    rest, plain = _not_as_known(home, box, new, cur, suffixes, contents=contents)
    loose = _loose(box, new, cur)
    changed: list[tuple[Pair, LocalFile]] = []
    missing: list[Pair] = []
    unclear: list[Uid] = []
    doubles: list[same_key.Double] = []
    contested = same_key.contested(home, box, rest, loose, suffixes)
    for uid, octets, words, stage in rest:
        pair = Pair(uid, MessageKey(octets.decode("utf-8", "surrogatepass")), flags_of(words), stage)
        if pair.key in contested:
            continue
        files = loose.pop(pair.key, None)
        if files is None:
            missing.append(pair)
        else:
            changed.append((pair, files[-1]))
    strangers: dict[MessageKey, LocalFile] = {}
    for key_text, rows in contested.items():
        shared = same_key.share(home, box, rows, loose.pop(key_text, ()))
        pairs = {row.uid: Pair(row.uid, key_text, flags_of(row.words), row.stage) for row in rows}
        changed += [(pairs[uid], file) for uid, file in shared.files.items()]
        missing += [pairs[uid] for uid in shared.missing]
        unclear += shared.unclear
        more = same_key.doubles(key_text, shared)
        doubles += more
        if shared.extra and not shared.files:
            strangers[key_text] = shared.extra[0]
        strangers |= {double.fresh: double.file for double in more if double.row is None}
    strangers |= {key_text: files[-1] for key_text, files in loose.items()}
    if contents:
        plain |= {pair.uid: file for pair, file in changed if pair.uid > 0}
    return _Seen(changed, missing, strangers, plain, doubles, unclear)


def _not_as_known(
    home: Home, box: Box, new: set[bytes], cur: set[bytes], suffixes: dict[str, bytes], *, contents: bool
) -> tuple[list[tuple[Uid, bytes, str, int]], dict[Uid, LocalFile]]:
    """The rows of which no file bears the name that they tell, newest first; and, where asked for `contents`, the others' files.

    What is as known is taken out of `new` and `cur`: of a million messages, few are left. `suffixes` collects what flags are in
    a file name here.
    """
    rest: list[tuple[Uid, bytes, str, int]] = []
    plain: dict[Uid, LocalFile] = {}
    claimed: set[bytes] = set()
    for row in home.state.rows(box.row.id):
        uid, key, words, _ = row
        suffix = suffixes.get(words)
        if suffix is None:
            suffix = suffixes[words] = b":2," + home.letters_known(box.row, flags_of(words)).encode("ascii")
        name = key + suffix
        if key in claimed:
            # An edited file has the row of its old content too, until the server has given that up: the newest one is its own.
            rest.append(row)
            continue
        if name in cur:
            cur.remove(name)
        elif not words and key in new:
            new.remove(key)
            name = b"new/" + key
        else:
            rest.append(row)
            claimed.add(key)
            continue
        if contents and uid > 0:
            text = os.fsdecode(name)
            plain[uid] = LocalFile("new", text[4:], "") if text.startswith("new/") else LocalFile("cur", text, "")
    return rest, plain


def _loose(box: Box, new: Iterable[bytes], cur: Iterable[bytes]) -> dict[MessageKey, list[LocalFile]]:
    """The files of these names by key. What is no file at all is odd."""
    loose: dict[MessageKey, list[LocalFile]] = defaultdict(list)
    box.odd = []
    for subdir, names in (("new", new), ("cur", cur)):
        for octets in names:
            name_text = os.fsdecode(octets)
            is_file = _is_regular(f"{box.maildir.path}/{subdir}/{name_text}")
            if is_file:
                found, letters = split_name(name_text)
                loose[found].append(LocalFile(subdir, name_text, tidy(letters)))
            elif is_file is not None:
                box.odd.append(f"{subdir}/{name_text}")
    return loose


def _is_regular(path: str) -> bool | None:
    """None if it is gone meanwhile."""
    try:
        return stat.S_ISREG(os.lstat(path).st_mode)
    except FileNotFoundError:
        return None


def part_has_all(home: Home, box: Box) -> bool:
    """Whether the one of new/ and cur/ that is there has every message the state knows."""
    there: set[MessageKey] = set()
    for directory in (box.maildir.new, box.maildir.cur):
        if os.path.isdir(directory):
            there |= {split_name(name)[0] for name in os.listdir(directory)}
    return all(pair.key in there for pair in home.state.pairs(box.row.id).values())


def _edited(home: Home, box: Box, files: Mapping[Uid, LocalFile]) -> frozenset[Uid]:
    """Pairs whose file has other content than what was stored."""
    found = set()
    for message in home.state.known_messages(box.row.id):
        file = files.get(message.uid)
        if file is None or message.stage != Stage.PAIRED:
            continue
        try:
            path = box.maildir.path_of(file)
            if content.is_edited(path, message.size, message.sha256, message.internaldate):
                found.add(message.uid)
        except FileNotFoundError:
            continue  # renamed or removed since it was listed: the next look has it
        except StoreError:
            continue  # what cannot be read could not go up either; and nothing that was not read is removed here
    return frozenset(found)


def inspect(box: Box, file: LocalFile, key: MessageKey) -> tuple[Delivered, int] | None:
    """A file that nothing is known of, read once: what it is, and its date (POSIX seconds). None if it is gone meanwhile."""
    try:
        seen = content.inspect(box.maildir.path_of(file))
    except FileNotFoundError:
        return None
    wire, line_ends = (seen.size, LineEnds.AS_RECEIVED)
    if not seen.has_cr and seen.lf_count:
        wire, line_ends = seen.size + seen.lf_count, LineEnds.CRLF
    return Delivered(key, wire, seen.size, seen.sha256, line_ends, seen.identity), seen.mtime


def is_same(path: str, size: int, sha256: bytes) -> bool:
    """Whether a file has this content, which costs a look at it where its size is right."""
    try:
        return os.stat(path, follow_symlinks=False).st_size == size and content.is_same(path, size, sha256)
    except FileNotFoundError:
        return False


def is_plausibly(box: Box, file: LocalFile, gone: Missing) -> bool:
    """Whether a file with a missing one's name and size is that one: read only where its time tells that it may have been edited.

    A rename leaves a file its time, an edit does not. One that cannot be read is what its name says.
    """
    try:
        return not content.is_edited(box.maildir.path_of(file), gone.size, gone.sha256, gone.internaldate)
    except (FileNotFoundError, StoreError):
        return True


def register(
    home: Home,
    box: Box,
    files: Mapping[MessageKey, Delivered],
    dates: Mapping[MessageKey, int],
    perhaps_there: Collection[MessageKey] = (),
) -> None:
    """Gives files that no row knows one without a UID: to be recognised at the server, or to go up.

    `perhaps_there` may have been sent already; so may everything, as long as the state has not seen what was before.
    """
    uid = home.state.next_unpaired_uid(box.row.id)
    for key in sorted(files):
        flags = home.flags_of_file(box.row, box.strangers[key])
        fresh = home.trusted and not box.new and key not in perhaps_there
        home.state.add_arriving(
            box.row.id, [(uid, flags, dates[key], files[key])], stage=Stage.NEW if fresh else Stage.KEPT
        )
        uid = Uid(uid - 1)


# -- mailboxes -----------------------------------------------------------------------------------------------------------


class Place(NamedTuple):
    """A directory below `maildir` that is a Maildir."""

    path: str
    inode: int
    """Of its `cur/`."""


def places(root: str, layout: str) -> Iterator[Place]:
    """Every Maildir below `root`, parents before what is below them.

    One with a link in it is none: what that points to may be anybody's.
    """
    seen: set[tuple[int, int]] = set()

    def visit(path: str) -> Iterator[Place]:
        directory = f"{root}/{path}" if path else root
        below = []
        parts = set()
        has_links = False
        try:
            with os.scandir(directory) as entries:
                for entry in entries:
                    if entry.name in {"cur", "new", "tmp"}:
                        parts.add(entry.name)
                        has_links = has_links or entry.is_symlink()
                    elif entry.name.startswith(".") == (layout == MAILDIRPP) and entry.is_dir(follow_symlinks=False):
                        below.append(entry.name)
        except OSError as error:
            raise StoreError.from_os_error(error, "looking for mailboxes", directory) from error
        if {"cur", "new"} <= parts and not has_links:
            found = os.stat(f"{directory}/cur")
            if (found.st_dev, found.st_ino) in seen:
                return  # its cur/ is a link to another one: the messages are the same
            seen.add((found.st_dev, found.st_ino))
            yield Place(path, found.st_ino)
        if layout == MAILDIRPP and path:
            return
        for name in sorted(below):
            yield from visit(f"{path}/{name}" if path else name)

    yield from visit("")


class RenamedHere(NamedTuple):
    """A mailbox whose directory has another name now."""

    row: MailboxRow
    path: str
    name: MailboxName


def renamed_here(
    home: Home, rows: Iterable[MailboxRow], unknown: Collection[Place], name_for: Mapping[str, MailboxName]
) -> list[RenamedHere]:
    """Which directories that no row has are mailboxes whose own directory is gone: the same inode, or most of the files."""
    found = []
    left = {place.path: place for place in unknown if place.path in name_for}
    for row in rows:
        if row.name == "INBOX" or home.maildir(row).has_a_part():
            continue
        for path, place in list(left.items()):
            if _is_the_same(home, row, place):
                found.append(RenamedHere(row, path, name_for[path]))
                del left[path]
                break
    return found


def elsewhere(home: Home, rows: Collection[MailboxRow]) -> list[tuple[MailboxRow, Place]]:
    """Mailboxes whose directory is not where it was, and where it is now: the same inode, or a copy with most of the files."""
    known = [row for row in rows if row.inode is not None and row.name != "INBOX"]
    if all(home.maildir(row).inode() == row.inode for row in known):
        return []
    # Of the directories of a copy, some may have each other's inodes by chance.
    lost = [row for row in known if not _is_its_own(home.maildir(row), row) and linked(home.root, row.path) is None]
    by_path = {place.path: place for place in places(home.root, home.account.layout)}
    by_inode = {place.inode: place for place in by_path.values()}
    found: list[tuple[MailboxRow, Place]] = []
    rest: list[MailboxRow] = []
    given: set[str] = set()
    # A mailbox that is gone may still have the inode of a folder that is another mailbox's now: whoever has mail comes first.
    for row in sorted(lost, key=lambda row: (not row.listed, not home.state.count_present(row.id))):
        place, own = by_inode.get(row.inode or 0), by_path.get(row.path)
        mine = place is not None and place.path not in given and _is_its_own(_maildir(home, place), row)
        if place is not None and mine and _is_the_same(home, row, place):
            found.append((row, place))
            given.add(place.path)
        elif own is None or not _is_a_copy(home, row, own):
            rest.append(row)
    at_home = {row.path for row in rows} - {row.path for row in rest}
    left = {path: place for path, place in by_path.items() if path not in at_home | given}
    for row in rest:
        for path, place in left.items():
            if _is_the_same(home, row, place):
                found.append((row, place))
                del left[path]
                break
    return found


def is_a_copy(box: Box) -> bool:
    """Whether the mailbox's directory is another than it was, with its messages: its files may be older than they were."""
    row = box.row
    return row.inode is not None and not _is_its_own(box.maildir, row)


def _is_its_own(maildir: Maildir, row: MailboxRow) -> bool:
    return maildir.inode() == row.inode and row.born in {None, maildir.born()}


def _is_a_copy(home: Home, row: MailboxRow, place: Place) -> bool:
    """Whether the directory in a mailbox's place, which is another than it was, is a copy of that.

    It counts as the mailbox's own once a run has dealt with all that may be older in it: one that is cut before leaves it a copy.
    """
    known = {key for _, key, _, _ in home.state.rows(row.id)}
    return 2 * _common(home, known, place) > len(known) or not known


def _is_the_same(home: Home, row: MailboxRow, place: Place) -> bool:
    """Whether a directory is that of a mailbox. An inode may have been given out again, and a restored folder has another."""
    known = {key for _, key, _, _ in home.state.rows(row.id)}
    if not known:
        return place.inode == row.inode
    common = _common(home, known, place)
    return common > 0 if place.inode == row.inode else 2 * common > len(known)


def _common(home: Home, known: Collection[bytes], place: Place) -> int:
    """How many of these keys have a file there."""
    return sum(key.encode("utf-8", "surrogatepass") in known for key in _maildir(home, place).every_key())


def _maildir(home: Home, place: Place) -> Maildir:
    return Maildir(f"{home.root}/{place.path}" if place.path else home.root, home.barrier)


def server_names(
    home: Home, unknown: Iterable[Place], delimiter: str
) -> tuple[dict[str, MailboxName], list[str]]:
    """The mailbox that each directory is to be at the server, by path; and the paths that cannot be one."""
    account = home.account
    names: dict[str, MailboxName] = {}
    odd = []
    for place in unknown:
        local = name_of(place.path, delimiter, layout=account.layout)
        if local is None or not local:
            odd.append(place.path)
            continue
        best = ""
        for source, target in account.map.items():
            if (local == target or local.startswith(target + delimiter)) and len(target) > len(account.map.get(best, "")):
                best = source
        name = MailboxName(best + local[len(account.map[best]) :]) if best else local
        if not best and any(name == source or name.startswith(source + delimiter) for source in account.map):
            odd.append(place.path)  # that name means another directory here
            continue
        names[place.path] = name
    return names, odd


__all__ = ["Place", "RenamedHere", "elsewhere", "inspect", "look", "places", "register", "renamed_here", "server_names"]
