"""One run at a time for each account: a kernel lock, which ends with the process that holds it and so is never stale."""

from __future__ import annotations

import errno
import fcntl
import os
from typing import Self

from fetchmail_py.errors import Locked, StoreError

FILE_NAME = ".fetchmail-py.lock"
_TRIES = 10


class Lock:
    """The lock on one account's Maildir, held until `close`.

    An empty file that stays: to remove it would let two runs lock two files. Nothing is written into it, so that a run with
    nothing to do writes nothing; who holds the lock is asked of the kernel. Over NFS it needs a server with locking (all of
    NFSv4); where there is none, that is an error and not a missing lock.
    """

    def __init__(self, fd: int | None) -> None:
        self._fd = fd

    @classmethod
    def acquire(cls, directory: str, *, create: bool = True) -> Self:
        """Takes the lock without waiting. Raises Locked with the holder's process number where it is known, StoreError.

        Without `create`, a missing file is no reason to make one: nobody has ever run here.
        """
        path = f"{directory}/{FILE_NAME}"
        for _ in range(_TRIES):
            flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | (os.O_CREAT if create else 0)
            try:
                fd = os.open(path, flags, 0o600)
            except FileNotFoundError as error:
                if create:
                    raise StoreError.from_os_error(error, "locking the Maildir", path) from error
                return cls(None)
            except OSError as error:
                raise StoreError.from_os_error(error, "locking the Maildir", path) from error
            try:
                if cls._take(fd, path):
                    return cls(fd)
            except BaseException:
                os.close(fd)
                raise
            os.close(fd)
        raise StoreError(f"locking the Maildir: the lock file is replaced again and again: {path}", path=path)

    @staticmethod
    def _take(fd: int, path: str) -> bool:
        """Locks the open file; False if the name stands for another file by now."""
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in {errno.EAGAIN, errno.EACCES}:
                raise StoreError.from_os_error(error, "locking the Maildir", path) from error
            holder = _holder(fd)
            who = "another run" if holder is None else f"process {holder}"
            raise Locked(f"{who} is at work on {os.path.dirname(path)}", pid=holder) from error
        try:
            there = os.stat(path, follow_symlinks=False)
        except FileNotFoundError:
            return False
        here = os.fstat(fd)
        return (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino)

    def close(self) -> None:
        """Gives the lock back."""
        fd, self._fd = self._fd, None
        if fd is not None:
            os.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _holder(fd: int) -> int | None:
    """The process that holds the lock on an open file, where the kernel tells (Linux, /proc/locks)."""
    inode = os.fstat(fd).st_ino
    try:
        with open("/proc/locks", encoding="ascii") as locks:
            for line in locks:
                # "1: FLOCK  ADVISORY  WRITE 4711 08:01:131 0 EOF"
                words = line.split()
                if len(words) > 5 and words[1] == "FLOCK" and words[5].rpartition(":")[2] == str(inode) and int(words[4]) > 0:
                    return int(words[4])
    except (OSError, ValueError):
        return None
    return None
