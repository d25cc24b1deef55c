"""One Maildir: deliveries into tmp/, their names in new/ and cur/, and what is there (https://cr.yp.to/proto/maildir.html)."""

from __future__ import annotations

import errno
import os
import re
import time
from collections.abc import Collection, Sequence
from functools import lru_cache
from typing import NamedTuple

from fetchmail_py.errors import StoreError
from fetchmail_py.model import FLAG_TO_LETTER, Delivered, Flags, MessageKey
from fetchmail_py.store import content, delivery
from fetchmail_py.store.birth import birth_of
from fetchmail_py.store.durable import Barrier, make_directories, rename_no_replace

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC

LOCAL_GRAIN_NS = 20_000_000
"""Two changes closer than this may leave the same mtime: the kernel's clock tick, twice."""
COARSE_GRAIN_NS = 2_000_000_000
"""The same for a file system that keeps whole seconds, or every second one (FAT)."""
LOOKS = 5
"""How often a directory that changes while it is read is read again."""

# What programs use where ':' cannot be part of a file name.
_INFO = re.compile(r"[!;]2,([A-Za-z]*)$")


class LocalFile(NamedTuple):
    """A message's file as its name tells it."""

    subdir: str
    """`new`, `cur`, or `tmp` for one that is not yet published."""
    name: str
    letters: str
    """Flags of the info part, sorted, each once: A to Z as Maildir has them, a to z for keywords."""


class Signature(NamedTuple):
    """When the directories last changed, and when we looked; nanoseconds since 1970."""

    new_mtime_ns: int
    cur_mtime_ns: int
    looked_at_ns: int


class PublishError(StoreError):
    """Some files of a batch were not renamed; the others were. `directories` are to be synced all the same."""

    def __init__(self, first: StoreError, keys: Sequence[MessageKey], directories: tuple[str, ...]) -> None:
        super().__init__(first.detail, path=first.path, errno=first.errno)
        self.keys = tuple(keys)
        self.directories = directories


class EditedError(StoreError):
    """A file is not removed: its content is not what was stored."""


def split_name(name: str) -> tuple[MessageKey, str]:
    """A file's name as its key and its flag letters as they stand. Fields such as `,S=123` belong to the key."""
    base, colon, info = name.partition(":2,")
    if colon:
        return MessageKey(base), info.partition(",")[0]
    found = _INFO.search(name)
    if found:
        return MessageKey(name[: found.start()]), found[1]
    return MessageKey(name.partition(":")[0]), ""


def with_letters(name: str, letters: str) -> str:
    """The file's name with these flag letters in place of its own; other fields, and a foreign separator, stay."""
    base, colon, info = name.partition(":2,")
    if colon:
        _, comma, rest = info.partition(",")
        return f"{base}:2,{letters}{comma}{rest}"
    found = _INFO.search(name)
    if found:
        return name[: found.start(1)] + letters
    return f"{name.partition(':')[0]}:2,{letters}"


@lru_cache(maxsize=4096)
def tidy(letters: str) -> str:
    """Flag letters sorted, each once, and nothing but letters."""
    return "".join(sorted({letter for letter in letters if letter.isascii() and letter.isalpha()}))


@lru_cache(maxsize=4096)
def letters_of(flags: Flags, keywords: str = "") -> str:
    """The info letters of flags, with the keyword letters given; flags that have no letter are left out."""
    return tidy("".join(FLAG_TO_LETTER.get(flag, "") for flag in flags) + keywords)


class Maildir:
    """One Maildir. Deliveries may be made from several threads at once; all else is the account's own thread's."""

    __slots__ = ("_again", "_again_at", "barrier", "cur", "new", "path", "tmp")

    def __init__(self, path: str, barrier: Barrier) -> None:
        self.path = path
        self.barrier = barrier
        self.tmp, self.new, self.cur = (f"{path}/{subdir}" for subdir in ("tmp", "new", "cur"))
        self._again: dict[MessageKey, LocalFile] = {}
        self._again_at = float("-inf")

    # -- the directory itself

    def exists(self) -> bool:
        """Whether new/ and cur/ are there: tmp/ is made again where it is missing."""
        return os.path.isdir(self.cur) and os.path.isdir(self.new)

    def has_a_part(self) -> bool:
        """Whether at least one of new/ and cur/ is there."""
        return os.path.isdir(self.cur) or os.path.isdir(self.new)

    def create(self, *, subfolder: bool = False) -> bool:
        """Makes what is missing, mode 0700, to be durable with the barrier's next `directories`; True if anything was.

        `subfolder` adds the empty file `maildirfolder` that marks a Maildir inside another (Maildir++).
        """
        changed: list[str] = []
        for directory in (self.tmp, self.new, self.cur):
            changed += make_directories(directory)
        if subfolder:
            try:
                os.close(os.open(f"{self.path}/maildirfolder", delivery.CREATE, 0o600))
                changed.append(self.path)
            except FileExistsError:
                pass
            except OSError as error:
                raise StoreError.from_os_error(error, "making the Maildir", self.path) from error
        self.check()
        self.barrier.created(changed)
        return bool(changed)

    def check(self) -> None:
        """StoreError unless tmp/, new/ and cur/ are there on one file system, where a rename can publish a message."""
        try:
            devices = {os.stat(directory).st_dev for directory in (self.tmp, self.new, self.cur)}
        except OSError as error:
            raise StoreError.from_os_error(error, "opening the Maildir") from error
        if len(devices) != 1:
            raise StoreError(
                f"tmp/, new/ and cur/ are not on one file system: {self.path}", path=self.path, errno=errno.EXDEV
            )

    def path_of(self, file: LocalFile) -> str:
        """Where the file is."""
        return f"{self.path}/{file.subdir}/{file.name}"

    def is_there(self, file: LocalFile) -> bool:
        """Whether there is a file of exactly this name."""
        return os.path.lexists(self.path_of(file))

    # -- arriving messages

    def deliver(self, data: bytes, mtime: int | None) -> Delivered:
        """A whole message into tmp/, not yet durable. `mtime` in POSIX seconds; None: now."""
        return delivery.deliver(self.tmp, data, mtime)

    def start(self, mtime: int | None) -> delivery.Delivery:
        """A message that comes in pieces, into tmp/ in constant memory."""
        return delivery.Delivery(self.tmp, mtime)

    def publish(self, items: Sequence[tuple[Delivered | MessageKey, Flags, str]]) -> tuple[str, ...]:
        """Renames durable files from tmp/ into new/ (no flags at all) or cur/, flags and keyword letters in the name.

        Never replaces a file. Returns the directories to be made durable. PublishError, after all were tried, if some
        could not be renamed, as when a file has vanished from tmp/.
        """
        failed: list[MessageKey] = []
        first: StoreError | None = None
        touched: dict[str, int] = {}
        opened: list[int] = []
        try:
            tmp = self._open(self.tmp, opened)
            for item, flags, keywords in items:
                key = item.key if isinstance(item, Delivered) else item
                letters = letters_of(flags, keywords)
                directory, name = (self.cur, f"{key}:2,{letters}") if letters or flags else (self.new, key)
                if directory not in touched:
                    touched[directory] = self._open(directory, opened)
                try:
                    rename_no_replace(key, name, tmp, touched[directory])
                except OSError as error:
                    failed.append(key)
                    first = first or StoreError.from_os_error(error, "publishing the message", f"{self.tmp}/{key}")
        finally:
            for fd in opened:
                os.close(fd)
            self._again_at = float("-inf")
        if first is not None:
            raise PublishError(first, failed, tuple(touched))
        return tuple(touched)

    def _open(self, directory: str, opened: list[int]) -> int:
        try:
            opened.append(os.open(directory, _DIRECTORY))
        except OSError as error:
            raise StoreError.from_os_error(error, "opening the Maildir", directory) from error
        return opened[-1]

    # -- what is there

    def signature(self) -> Signature:
        """When new/ and cur/ last changed. Take it before `scan`: what changes during the scan shows the next time."""
        now = time.time_ns()
        try:
            return Signature(os.stat(self.new).st_mtime_ns, os.stat(self.cur).st_mtime_ns, now)
        except OSError as error:
            raise StoreError.from_os_error(error, "looking at the Maildir") from error

    def inode(self) -> int | None:
        """Of cur/, which a renamed directory takes along; None if it is not there."""
        try:
            return os.stat(self.cur).st_ino
        except FileNotFoundError:
            return None

    def born(self) -> int | None:
        """When cur/ was made, in nanoseconds; None where that cannot be told."""
        try:
            return birth_of(self.cur)
        except FileNotFoundError:
            return None

    def unchanged_since(self, then: Signature) -> bool:
        """Whether no name in new/ and cur/ can have changed since; False where the clock is too coarse to tell."""
        if any(
            then.looked_at_ns - mtime <= (LOCAL_GRAIN_NS if mtime % 1_000_000_000 else COARSE_GRAIN_NS)
            for mtime in then[:2]
        ):
            return False
        return self.signature()[:2] == then[:2]

    def names(self) -> tuple[set[bytes], set[bytes]]:
        """The names in new/ and cur/ as octets, dot files left out, once nothing changed while they were read.

        A directory that never rests gives every name that was seen: absence needs a second look. StoreError as `scan`.
        """
        new: set[bytes] = set()
        cur: set[bytes] = set()
        before = self.signature()[:2]
        for _ in range(LOOKS):
            try:
                now_new, now_cur = set(os.listdir(os.fsencode(self.new))), set(os.listdir(os.fsencode(self.cur)))
            except OSError as error:
                raise StoreError.from_os_error(error, "reading the Maildir") from error
            after = self.signature()[:2]
            if after == before:
                new, cur = now_new, now_cur
                break
            before = after
            new |= now_new
            cur |= now_cur
        return {name for name in new if name[0] != 46}, {name for name in cur if name[0] != 46}

    def every_key(self) -> set[MessageKey]:
        """The keys of `names`, whatever bears them: links and pipes too."""
        return {split_name(os.fsdecode(name))[0] for names in self.names() for name in names}

    def scan(self, skipped: list[str] | None = None) -> dict[MessageKey, LocalFile]:
        """Every message by its key, from names alone: no file is looked at. StoreError if new/ or cur/ is missing.

        Dot files are not mail. What is no regular file is left out, and added to `skipped` as "cur/name". A directory
        that changes while it is read is read again; where it never rests, a name seen once counts as there, since a
        renamed file may be missed: absence needs a second look.
        """
        self._again_at = float("-inf")
        everything: dict[MessageKey, LocalFile] = {}
        before = self.signature()[:2]
        for _ in range(LOOKS):
            found: dict[MessageKey, LocalFile] = {}
            odd: list[str] = []
            # new/ first: a file that goes from new/ to cur/ meanwhile is then seen twice rather than never.
            self._names("new", found, odd)
            self._names("cur", found, odd)
            after = self.signature()[:2]
            if after == before:
                break
            before = after
            everything.update(found)
        else:
            found = everything
        if skipped is not None:
            skipped += odd
        return found

    def scan_part(self) -> dict[MessageKey, LocalFile]:
        """As `scan`, of the one of new/ and cur/ that is there: for a dry run, which cannot make the other."""
        found: dict[MessageKey, LocalFile] = {}
        for subdir, directory in (("new", self.new), ("cur", self.cur)):
            if os.path.isdir(directory):
                self._names(subdir, found, [])
        return found

    def _names(self, subdir: str, found: dict[MessageKey, LocalFile], odd: list[str]) -> None:
        make = tuple.__new__  # half the price of LocalFile(), which counts over 100,000 names
        neat: dict[str, str] = {}
        try:
            with os.scandir(f"{self.path}/{subdir}") as entries:
                for entry in entries:
                    name = entry.name
                    if name[0] == ".":
                        continue
                    if not entry.is_file(follow_symlinks=False):
                        odd.append(f"{subdir}/{name}")
                        continue
                    base, colon, info = name.partition(":2,")
                    if not colon or "," in info:
                        base, info = split_name(name)
                    letters = neat.get(info)
                    if letters is None:
                        letters = neat[info] = tidy(info)
                    found[MessageKey(base)] = make(LocalFile, (subdir, name, letters))
        except OSError as error:
            raise StoreError.from_os_error(error, "reading the Maildir", f"{self.path}/{subdir}") from error

    def locate(self, keys: Collection[MessageKey]) -> dict[MessageKey, LocalFile]:
        """Those of the keys that have a file in tmp/, new/ or cur/; published wins. One scan at most for all."""
        if not keys:
            return {}
        located = {key: LocalFile("tmp", key, "") for key in keys if os.path.lexists(f"{self.tmp}/{key}")}
        there = self.scan() if self.exists() else {}
        located.update((key, there[key]) for key in keys if key in there)
        return located

    def leftovers(self, keep: Collection[MessageKey]) -> int:
        """Removes from tmp/ what killed deliveries of ours left, except the keys in `keep`; returns how many.

        Only files of this host, named as ours, whose process no longer runs; to be called with the account's lock held.
        """
        return delivery.leftovers(self.tmp, keep)

    # -- changes to what is there. The directory is yet to be synced.

    def set_flags(self, key: MessageKey, file: LocalFile, *, add: str = "", remove: str = "") -> LocalFile | None:
        """Adds and removes flag letters, moving the file to cur/ where it gets one; None if the message is gone.

        Letters not named stay, also where a mail reader has renamed the file since `file` was looked up.
        """
        found: LocalFile | None = file
        for _ in range(LOOKS):
            if found is None:
                return None
            letters = tidy("".join(letter for letter in found.letters if letter not in remove) + add)
            if letters == found.letters:
                if os.path.lexists(self.path_of(found)):
                    return found
            else:
                renamed = LocalFile("cur", with_letters(found.name, letters), letters)
                try:
                    self.barrier.rename(self.path_of(found), self.path_of(renamed))
                except FileNotFoundError:
                    pass
                except FileExistsError as error:
                    raise StoreError.from_os_error(error, "setting flags", self.path_of(renamed)) from error
                else:
                    return renamed
            found = self._look_again(key, found)
        raise self._restless(file)

    def remove(self, key: MessageKey, file: LocalFile, stored: tuple[int, bytes] | None = None) -> bool:
        """Removes a message; False if it was gone already.

        EditedError, and nothing is removed, where its file has not the content (size, SHA-256) that was `stored`.
        """
        found: LocalFile | None = file
        for _ in range(LOOKS):
            if found is None:
                return False
            try:
                # Right before it goes: whatever name it has now, and however long ago it was listed.
                if stored is not None and not self._is_as_stored(found, *stored):
                    raise EditedError("the message was edited here", path=self.path_of(found))
                os.unlink(self.path_of(found))
            except FileNotFoundError:
                found = self._look_again(key, found)
            except OSError as error:
                raise StoreError.from_os_error(error, "removing the message", self.path_of(found)) from error
            else:
                return True
        raise self._restless(file)

    def _is_as_stored(self, file: LocalFile, size: int, digest: bytes) -> bool:
        """What cannot be read is not known to be what was stored."""
        try:
            return content.is_same(self.path_of(file), size, digest)
        except StoreError:
            return False

    def move(
        self, key: MessageKey, file: LocalFile, target: Maildir, letters: str, new_key: MessageKey | None = None
    ) -> LocalFile | None:
        """Moves a message to another Maildir under the same key or `new_key`, with these letters; None if it is gone here.

        Keyword letters mean something in one Maildir only: `letters` are the target's, and all of them. StoreError with
        errno EXDEV where the target is on another file system, EEXIST where it has a file of this name already.
        """
        found: LocalFile | None = file
        for _ in range(LOOKS):
            if found is None:
                return None
            moved = _placed(found, found.name if new_key in {None, key} else str(new_key), letters)
            try:
                self.barrier.rename(self.path_of(found), target.path_of(moved))
            except FileNotFoundError:
                found = self._look_again(key, found)
                target.check()
            except FileExistsError as error:
                raise StoreError.from_os_error(error, "moving the message", target.path_of(moved)) from error
            else:
                target._again_at = float("-inf")
                return moved
        raise self._restless(file)

    def copy(
        self, key: MessageKey, file: LocalFile, target: Maildir, copy_key: MessageKey, letters: str
    ) -> LocalFile | None:
        """A second name for the message's file, `copy_key` in `target`, with the target's letters; None if it is gone.

        A hard link: StoreError with errno EXDEV, EPERM or EMLINK where the file system can have none.
        """
        found: LocalFile | None = file
        for _ in range(LOOKS):
            if found is None:
                return None
            copied = _placed(found, copy_key, letters)
            try:
                os.link(self.path_of(found), target.path_of(copied), follow_symlinks=False)
            except FileNotFoundError:
                found = self._look_again(key, found)
                target.check()
            except OSError as error:
                raise StoreError.from_os_error(error, "copying the message", target.path_of(copied)) from error
            else:
                target._again_at = float("-inf")
                return copied
        raise self._restless(file)

    def _look_again(self, key: MessageKey, stale: LocalFile) -> LocalFile | None:
        """Where the message is, since `stale` is no longer there: a mail reader has renamed or removed the file.

        One scan serves for a second: whoever marks a whole mailbox as read meanwhile must not cost a scan per message.
        It no longer serves once the caller may know of a file from later than that: then "not there" would be a guess.
        """
        now = time.monotonic()
        if now - self._again_at > 1 or self._again.get(key) == stale:
            self._again, self._again_at = self.scan(), now
        return self._again.get(key)

    def _restless(self, file: LocalFile) -> StoreError:
        return StoreError(
            f"the message's file is renamed faster than we can follow: {file.name}",
            path=self.path_of(file),
            errno=errno.EBUSY,
        )


def _placed(file: LocalFile, name: str, letters: str) -> LocalFile:
    """Where a file goes that gets a new place: what nobody has opened yet and has no flags stays new."""
    letters = tidy(letters)
    if file.subdir == "new" and not letters:
        return LocalFile("new", split_name(name)[0], "")
    return LocalFile("cur", with_letters(name, letters), letters)
