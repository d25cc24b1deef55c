"""Messages into tmp/: their names, a whole one at once, one in pieces in constant memory, what a killed run left."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import time
from collections.abc import Collection
from hashlib import sha256
from typing import Self

from fetchmail_py.errors import StoreError
from fetchmail_py.model import Delivered, LineEnds, MessageKey
from fetchmail_py.store.content import HEAD, identity_of, lf_form, read_wire
from fetchmail_py.store.durable import runs, write_all

CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_DOING = "writing the message"
GATHER = 512 * 1024
"""Octets that are put together before they are looked at: TLS gives 16 KB at a time, and each look has its price."""
_OLDEST, _NEWEST = -(2**31), 2**32 - 1
"""What every file system can hold, POSIX seconds: 1901 to 2106. A date outside is brought to the nearer end."""


def _host() -> str:
    """This host's name as a file name may have it: with '/', ':' and other odd characters as octal, as Maildir says."""
    name = os.uname().nodename[:64] or "localhost"
    return re.sub(r"[^A-Za-z0-9._-]", lambda found: "".join(f"\\{octet:03o}" for octet in os.fsencode(found[0])), name)


_counter = itertools.count(1)
_process = os.urandom(4).hex()
_suffix = _host()
# Ours, or of a program that names files the same way.
_OUR_NAME = re.compile(r"\d+\.M\d+P(\d+)Q\d+R([0-9a-f]{8})\.(.*)", re.DOTALL)


def new_key() -> MessageKey:
    """A name no other delivery has: time, process, a count, and chance in case the process number comes again."""
    seconds, nanoseconds = divmod(time.time_ns(), 1_000_000_000)
    return MessageKey(f"{seconds}.M{nanoseconds // 1000}P{os.getpid()}Q{next(_counter)}R{_process}.{_suffix}")


def deliver(tmp: str, data: bytes, mtime: int | None) -> Delivered:
    """A whole message into `tmp`, not yet durable. `mtime` in POSIX seconds; None: now."""
    key = new_key()
    lf, line_ends, _ = lf_form(data)
    stored = lf if line_ends == LineEnds.CRLF else data
    path = f"{tmp}/{key}"
    fd = _create(path)
    try:
        try:
            write_all(fd, stored)
            _set_time(fd, mtime)
        finally:
            os.close(fd)
    except BaseException as error:
        _discard(path)
        if isinstance(error, OSError):
            raise StoreError.from_os_error(error, _DOING, path) from error
        raise
    return Delivered(key, len(data), len(stored), sha256(stored).digest(), line_ends, identity_of(lf))


class Delivery:
    """One message that comes in pieces. A failure removes the file; so does `discard`, and leaving a `with` unfinished.

    Written with LF in the hope that every line end is a CRLF. The first that is none turns back what was written.
    """

    def __init__(self, tmp: str, mtime: int | None) -> None:
        self._tmp = tmp
        self._mtime = mtime
        self._key = new_key()
        self._path = f"{tmp}/{self._key}"
        self._fd: int | None = _create(self._path)
        self._digest = sha256()
        self._head = bytearray()
        self._carry = b""
        """A CR at the end of the last piece: whether it belongs to a CRLF is not known yet."""
        self._raw = False
        self._line_ends = 0
        self._size = 0
        self._wire_size = 0
        self._gathered: list[bytes] = []
        self._gathered_size = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.discard()

    def write(self, chunk: bytes | bytearray | memoryview) -> None:
        """The next octets as they are on the wire, in pieces of any size. StoreError: the message is not stored."""
        self._wire_size += len(chunk)
        self._gathered.append(bytes(chunk))
        self._gathered_size += len(chunk)
        if self._gathered_size < GATHER:
            return
        try:
            self._take_gathered()
        except OSError as error:
            self.discard()
            raise StoreError.from_os_error(error, _DOING, self._path) from error
        except BaseException:
            self.discard()
            raise

    def finish(self) -> Delivered:
        """The message is complete, in `tmp`, not yet durable."""
        try:
            self._take_gathered()
            if self._carry and not self._raw:
                self._turn_back()
                self._put(self._carry)
            self._head += self._carry
            fd = self._open_fd()
            _set_time(fd, self._mtime)
            self._fd = None
            try:
                os.close(fd)
            except OSError:  # where a network file system tells that the disk is full
                _discard(self._path)
                raise
        except OSError as error:
            self.discard()
            raise StoreError.from_os_error(error, _DOING, self._path) from error
        except BaseException:
            self.discard()
            raise
        return Delivered(
            self._key,
            self._wire_size,
            self._size,
            self._digest.digest(),
            LineEnds.CRLF if self._line_ends and not self._raw else LineEnds.AS_RECEIVED,
            identity_of(bytes(self._head)),
        )

    def discard(self) -> None:
        """Removes the file, unless the message is complete. May be called more than once."""
        fd, self._fd = self._fd, None
        if fd is not None:
            with contextlib.suppress(OSError):
                os.close(fd)
            _discard(self._path)

    def _take_gathered(self) -> None:
        gathered, self._gathered, self._gathered_size = self._gathered, [], 0
        self._take(b"".join(gathered))

    def _take(self, chunk: bytes) -> None:
        whole = self._carry + chunk if self._carry else chunk
        if self._raw and len(self._head) >= HEAD:
            self._carry = b""
            self._put(chunk)
            return
        # An LF form is needed for the identity even where the message is stored as received.
        self._carry = b"\r" if whole.endswith(b"\r") else b""
        whole = whole.removesuffix(b"\r")
        lf, _, bare = lf_form(whole)
        if bare and not self._raw:
            self._turn_back()
            self._put(whole + self._carry)
        elif self._raw:
            self._put(chunk)
        else:
            self._line_ends += len(whole) - len(lf)
            self._put(lf)
        if len(self._head) < HEAD:
            self._head += lf[: HEAD - len(self._head)]

    def _put(self, data: bytes) -> None:
        self._digest.update(data)
        self._size += len(data)
        write_all(self._open_fd(), data)

    def _turn_back(self) -> None:
        """Copies what was written so far into a new file with its CRLFs, and goes on there, as received."""
        old, old_fd = self._path, self._open_fd()
        key = new_key()
        path = f"{self._tmp}/{key}"
        fd = _create(path)
        os.close(old_fd)
        self._fd, self._path, self._key = fd, path, key
        self._raw = True
        self._digest = sha256()
        self._size = 0
        try:
            for piece in read_wire(old, LineEnds.CRLF):
                self._put(piece)
        finally:
            _discard(old)

    def _open_fd(self) -> int:
        if self._fd is None:
            raise StoreError("the delivery has ended already", path=self._path)
        return self._fd


def leftovers(tmp: str, keep: Collection[MessageKey]) -> int:
    """Removes from `tmp` what a delivery of ours left when it was killed, except the keys in `keep`; returns how many.

    Only files of this host, named as ours, whose process no longer runs; to be called with the account's lock held.
    """
    removed = 0
    try:
        names = os.listdir(tmp)
    except FileNotFoundError:
        return 0
    except OSError as error:
        raise StoreError.from_os_error(error, "reading the Maildir", tmp) from error
    for name in names:
        ours = _OUR_NAME.fullmatch(name)
        if ours is None or name in keep or ours[3] != _suffix or ours[2] == _process or runs(int(ours[1])):
            continue
        _discard(f"{tmp}/{name}")
        removed += 1
    return removed


def _create(path: str) -> int:
    try:
        return os.open(path, CREATE, 0o600)
    except OSError as error:
        raise StoreError.from_os_error(error, _DOING, path) from error


def _set_time(fd: int, mtime: int | None) -> None:
    if mtime is not None:
        when = min(max(mtime, _OLDEST), _NEWEST)
        os.utime(fd, (when, when))


def _discard(path: str) -> None:
    with contextlib.suppress(OSError):
        os.unlink(path)
