"""What makes files and names survive a power cut: the only caller of fsync and syncfs; the rename that never replaces.

A batch of files is one `syncfs` where that is known to be honest: on Linux 5.8 or later, which reports write-back
errors from it, and on file systems that write data, metadata and the disk's cache in it. Elsewhere each file gets its
own fsync, several at a time. An error means that nothing of the batch counts as stored: the kernel reports a lost write
once, so asking again on the same data would get a false yes.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import Self

from fetchmail_py.errors import StoreError

THREADS = 16
"""fsync calls under way at a time: the file system puts them into common journal commits. More gain nothing."""
FEW = 3
"""Up to so many files are synced one by one: a syncfs waits for everybody's data, an fsync for its own."""
PATIENCE = 2.0
"""Seconds. A syncfs that took longer waited for other programs' data: the next `DETOUR` batches go file by file."""
DETOUR = 16

# Files with data, metadata and a cache flush are known to be covered by syncfs here (statfs(2), f_type). Not overlayfs:
# its superblock does not pass on the write errors of the one below. tmpfs survives nothing, whatever is called.
_HONEST = {0xEF53: "ext4", 0x58465342: "xfs", 0x9123683E: "btrfs", 0xF2F52010: "f2fs", 0x01021994: "tmpfs"}
_RENAME_NOREPLACE = 1
_AT_FDCWD = -100
_OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_OPEN_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NOT_OFFERED = {errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP}
_NO_LINKS = {errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP, errno.EMLINK}


class Barrier:
    """Makes things durable below one directory. Cheap to make: nothing is looked up before the first batch.

    One object per account; used by one thread at a time, except `rename`, which any thread may call.
    """

    def __init__(self, root: str) -> None:
        """`root` must exist; it is opened now, since syncfs reports the errors of what was written after the open."""
        self.root = root
        self._fd: int | None = None
        try:
            self._fd = os.open(root, _OPEN_DIRECTORY)
            self._device = os.fstat(self._fd).st_dev
        except OSError as error:
            self.close()
            raise StoreError.from_os_error(error, "opening the mail directory", root) from error
        self._devices: dict[str, int] = {}
        self._created: set[str] = set()
        self._detour = 0
        self._honest: bool | None = None

    def close(self) -> None:
        """Gives the directory back; the object is of no use afterwards."""
        fd, self._fd = self._fd, None
        if fd is not None:
            os.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def files(self, paths: Sequence[str]) -> None:
        """Puts data and metadata of closed files on stable storage; StoreError: take none of them for stored.

        A file that has vanished is no error here: `Maildir.publish` names it."""
        if len(paths) <= FEW or not self._syncfs({os.path.dirname(path) for path in paths}):
            _sync_many(paths, _OPEN_FILE, "syncing the message")

    def created(self, paths: Iterable[str]) -> None:
        """Remembers directories whose entries changed, to be made durable with the next `directories`."""
        self._created.update(paths)

    def directories(self, paths: Iterable[str]) -> None:
        """Puts the names in these directories, and in those told to `created`, on stable storage."""
        todo = sorted(self._created.union(paths))
        # Not one by one: fsync of 800 new directories costs 100 times what one syncfs does.
        if len(todo) <= FEW or not self._syncfs(todo):
            _sync_many(todo, _OPEN_DIRECTORY, "syncing the directory")
        self._created.clear()

    def rename(self, old: str, new: str) -> None:
        """Renames a file and never replaces one; the directories are yet to be synced. FileExistsError and
        FileNotFoundError come through as they are, since callers have an answer; any other failure is a StoreError."""
        try:
            rename_no_replace(old, new)
        except (FileExistsError, FileNotFoundError):
            raise
        except OSError as error:
            raise StoreError.from_os_error(error, "renaming", new) from error

    def write_small(self, path: str, data: bytes, mode: int = 0o600) -> None:
        """Replaces a small file as a whole: after a power cut it has the old content or the new, never a part."""
        write_small(path, data, mode)

    def _syncfs(self, directories: Iterable[str]) -> bool:
        """One syncfs for what is in these directories; False: not honest here, or too slow, and nothing was done."""
        if self._detour:
            self._detour -= 1
            return False
        if self._fd is None:
            raise StoreError("the mail directory is closed", path=self.root)
        if self._honest is None:
            self._honest = _reports_errors(self._fd)
        libc = _libc()
        if libc is None or not self._honest or not self._covers(directories):
            return False
        started = time.monotonic()
        try:
            libc.syncfs(self._fd)
        except OSError as error:
            raise StoreError.from_os_error(error, "syncing the file system", self.root) from error
        if time.monotonic() - started > PATIENCE:
            self._detour = DETOUR
        return True

    def _covers(self, directories: Iterable[str]) -> bool:
        """Whether all lie on the root's file system: a mailbox may be a mount point or a link to one."""
        known = self._devices
        for directory in directories:
            if directory not in known:
                try:
                    known[directory] = os.stat(directory).st_dev
                except OSError as error:
                    raise StoreError.from_os_error(error, "syncing the directory", directory) from error
            if known[directory] != self._device:
                return False
        return True


def write_small(path: str, data: bytes, mode: int = 0o600) -> None:
    """Writes `path` as a whole, durably: a temporary file beside it, fsync, rename, fsync of the directory."""
    directory = os.path.dirname(path) or "."
    temporary = f"{path}.{os.getpid()}.{threading.get_native_id()}.tmp"
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        fd = os.open(temporary, flags, mode)
        try:
            try:
                write_all(fd, data)
                _flush(fd)
            finally:
                os.close(fd)
            os.rename(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise
    except OSError as error:
        raise StoreError.from_os_error(error, "writing", path) from error
    _sync_path(directory, _OPEN_DIRECTORY, "syncing the directory")


def remove_partial(path: str) -> None:
    """Removes what `write_small` left beside `path` when its process was killed."""
    directory, name = os.path.split(path)
    for entry in os.listdir(directory or "."):
        number = entry.removeprefix(f"{name}.").removesuffix(".tmp").partition(".")[0]
        if entry.startswith(f"{name}.") and entry.endswith(".tmp") and number.isdecimal() and not runs(int(number)):
            with contextlib.suppress(OSError):
                os.unlink(os.path.join(directory, entry))


def runs(pid: int) -> bool:
    """Whether a process of that number runs. Our own number in a name of another run has been used up."""
    if pid == os.getpid():
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


def replace_file(partial: str, path: str) -> None:
    """Gives a closed, complete file its name, durably, in the place of what had it."""
    _sync_path(partial, _OPEN_FILE, "writing")
    try:
        os.rename(partial, path)
    except OSError as error:
        raise StoreError.from_os_error(error, "writing", path) from error
    _sync_path(os.path.dirname(path) or ".", _OPEN_DIRECTORY, "syncing the directory")


def write_all(fd: int, data: bytes | memoryview) -> None:
    """Writes all of `data`: one call may write a part, on a disk that fills up or beyond 2 GiB."""
    written = os.write(fd, data)
    if written != len(data):
        view = memoryview(data)
        while written < len(data):
            written += os.write(fd, view[written:])


def make_directories(path: str, *, again: bool = False) -> list[str]:
    """Makes `path` and what is missing above it, mode 0700; returns the directories that changed, for `created`."""
    changed: list[str] = []
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        if os.path.isdir(path):
            return changed
        raise StoreError(f"not a directory: {path}", path=path, errno=errno.ENOTDIR) from None
    except FileNotFoundError as error:
        parent = os.path.dirname(path.rstrip("/"))
        if not parent:
            raise StoreError(f"no such directory: {path}", path=path, errno=errno.ENOENT) from None
        if os.path.isdir(parent):
            # Another account's thread has just made it; or, as in /proc, nothing that we could make is missing.
            if not again:
                return make_directories(path, again=True)
            raise StoreError.from_os_error(error, "making the directory", path) from error
        changed = make_directories(parent)
        return changed + make_directories(path)
    except OSError as error:
        raise StoreError.from_os_error(error, "making the directory", path) from error
    return [os.path.dirname(path.rstrip("/")) or "."]


def rename_no_replace(old: str, new: str, old_dir: int | None = None, new_dir: int | None = None) -> None:
    """Renames `old`, found below the open directory `old_dir`, to `new` below `new_dir`; FileExistsError if taken."""
    libc = _libc()
    if libc is not None and libc.renameat2 is not None:
        number = libc.renameat2(
            _AT_FDCWD if old_dir is None else old_dir,
            os.fsencode(old),
            _AT_FDCWD if new_dir is None else new_dir,
            os.fsencode(new),
        )
        if number == 0:
            return
        if number not in _NOT_OFFERED:
            raise OSError(number, os.strerror(number), old, None, new)
    try:
        os.link(old, new, src_dir_fd=old_dir, dst_dir_fd=new_dir, follow_symlinks=False)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
    else:
        os.unlink(old, dir_fd=old_dir)
        return
    # Neither: a file system such as sshfs. Names are unique by how they are made; this only catches a repeated step.
    try:
        os.stat(new, dir_fd=new_dir, follow_symlinks=False)
    except FileNotFoundError:
        os.rename(old, new, src_dir_fd=old_dir, dst_dir_fd=new_dir)
    else:
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), new)


def _sync_many(paths: Sequence[str], flags: int, doing: str) -> None:
    """fsync of each path, `THREADS` at a time; the first error, after all have ended."""
    if len(paths) <= 1:
        for path in paths:
            _sync_path(path, flags, doing)
        return
    errors: list[BaseException] = []
    waiting = iter(paths)  # next() on a list's iterator is atomic: the threads share it without a lock

    def work() -> None:
        for path in waiting:
            try:
                _sync_path(path, flags, doing)
            except BaseException as error:  # noqa: BLE001 - raised below: a thread that dies must not pass for a success
                errors.append(error)
                return

    threads = [threading.Thread(target=work, name="fsync") for _ in range(min(THREADS, len(paths)))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def _sync_path(path: str, flags: int, doing: str) -> None:
    try:
        fd = os.open(path, flags)
        try:
            _flush(fd)
        finally:
            os.close(fd)
    except OSError as error:
        if error.errno == errno.ENOENT and flags == _OPEN_FILE:
            return
        raise StoreError.from_os_error(error, doing, path) from error


def _flush(fd: int) -> None:
    if sys.platform == "darwin":  # fsync leaves it in the disk's cache there
        import fcntl  # noqa: PLC0415

        fcntl.fcntl(fd, fcntl.F_FULLFSYNC)
    else:
        os.fsync(fd)


class _Libc:
    """The calls Python does not offer. Loaded when first needed: a run with nothing new needs none of them."""

    def __init__(self) -> None:
        import ctypes  # noqa: PLC0415

        library = ctypes.CDLL(None, use_errno=True)
        self._ctypes = ctypes
        self._syncfs = library.syncfs
        self._syncfs.argtypes = (ctypes.c_int,)
        self._statfs = library.fstatfs
        self._statfs.argtypes = (ctypes.c_int, ctypes.c_void_p)
        self.renameat2: Callable[[int, bytes, int, bytes], int] | None = None
        try:
            rename = library.renameat2
        except AttributeError:  # glibc before 2.28
            return
        rename.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint)
        get_errno = ctypes.get_errno

        def renameat2(old_dir: int, old: bytes, new_dir: int, new: bytes) -> int:
            """0, or the error's number."""
            return 0 if rename(old_dir, old, new_dir, new, _RENAME_NOREPLACE) == 0 else get_errno()

        self.renameat2 = renameat2

    def syncfs(self, fd: int) -> None:
        if self._syncfs(fd) != 0:
            number = self._ctypes.get_errno()
            raise OSError(number, os.strerror(number))

    def file_system(self, fd: int) -> int:
        """`f_type`, the first member of struct statfs on every Linux; a long, except that s390x has an unsigned int."""
        buffer = self._ctypes.create_string_buffer(512)
        if self._statfs(fd, buffer) != 0:
            number = self._ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        width = 4 if os.uname().machine.startswith("s390") else self._ctypes.sizeof(self._ctypes.c_long)
        return int.from_bytes(buffer.raw[:width], sys.byteorder) & 0xFFFFFFFF


@cache
def _libc() -> _Libc | None:
    return _Libc() if sys.platform == "linux" else None


def _reports_errors(fd: int) -> bool:
    """Whether syncfs on this file system tells when a write failed."""
    libc = _libc()
    if libc is None or not new_enough(os.uname().release):
        return False
    try:
        return libc.file_system(fd) in _HONEST
    except OSError:
        return False  # not known is not honest: the files are synced one by one


def new_enough(release: str) -> bool:
    """Whether a Linux of this release ("5.10.0-8-amd64") reports write-back errors from syncfs: 5.8 or later."""
    numbers = release.partition("-")[0].split(".")
    try:
        return (int(numbers[0]), int(numbers[1])) >= (5, 8)
    except (IndexError, ValueError):
        return False
