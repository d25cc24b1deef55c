"""How stored bytes relate to the bytes on the wire: line ends there and back, digest and identity, in constant memory.

A message whose every line end is CRLF is stored with LF; any other exactly as received. So the wire's bytes can
always be had back from the stored ones and one of `LineEnds`.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from hashlib import sha256
from typing import NamedTuple

from fetchmail_py.errors import StoreError
from fetchmail_py.identity import identity
from fetchmail_py.model import LineEnds

HEAD = 65536
"""So many octets, counted with each CRLF as LF, are looked at for the identity: whole headers, but for freaks."""
SPLIT = 1024 * 1024
"""Octets that may be taken apart into lines at a time."""
CHUNK = 262144
"""Octets read at a time."""


class LfForm(NamedTuple):
    """A message, or a stretch of one that ends in no CR, with each CRLF made LF."""

    data: bytes
    line_ends: int
    """How the original is to be stored: `LineEnds.CRLF` means as `data`."""
    bare: bool
    """Whether the original has a CR or an LF that is not part of a CRLF."""


def lf_form(message: bytes) -> LfForm:
    """Each CRLF made LF, and whether that can be undone."""
    # For a mail of 5 KB this takes 7 us where replace takes 12; for big ones it would need memory.
    if len(message) <= SPLIT and message.endswith(b"\r\n"):
        lines = message.splitlines()  # at CR, LF and CRLF, and at nothing else
        data = b"\n".join(lines) + b"\n"
        if len(message) - len(data) == len(lines):  # an octet for each line end: each of them was a CRLF
            return LfForm(data, LineEnds.CRLF, bare=False)
    data = message.replace(b"\r\n", b"\n")
    removed = len(message) - len(data)
    bare = b"\r" in data or data.count(b"\n") != removed
    return LfForm(data, LineEnds.CRLF if removed and not bare else LineEnds.AS_RECEIVED, bare)


def identity_of(lf_data: bytes) -> bytes:
    """The identity of a message with each CRLF made LF, or of its beginning: the same whichever way it came in."""
    return identity(lf_data[:HEAD])


class Inspected(NamedTuple):
    """What a stored file says of itself, when nothing else is known of it."""

    size: int
    """Octets as stored."""
    lf_count: int
    has_cr: bool
    """Without a CR, each LF may be a CRLF on the wire, or an LF: the size there is `size + lf_count`, or `size`."""
    sha256: bytes
    """Digest of the stored bytes."""
    identity: bytes
    mtime: int
    """POSIX seconds: INTERNALDATE, if we stored it."""


def inspect(path: str) -> Inspected:
    """Reads a message's file once, in constant memory. FileNotFoundError comes through; all else is a StoreError."""
    digest = sha256()
    size = lf_count = 0
    has_cr = False
    head = b""
    fd = open_message(path)
    try:
        mtime = int(os.fstat(fd).st_mtime)
        while chunk := os.read(fd, CHUNK):
            digest.update(chunk)
            size += len(chunk)
            lf_count += chunk.count(b"\n")
            has_cr = has_cr or b"\r" in chunk
            if len(head) < 2 * HEAD:  # twice: CRLFs are yet to shrink
                head += chunk[: 2 * HEAD + 1 - len(head)]
    except OSError as error:
        raise StoreError.from_os_error(error, "reading the message", path) from error
    finally:
        os.close(fd)
    if len(head) < size:
        head = head.removesuffix(b"\r")  # perhaps half of a CRLF
    return Inspected(size, lf_count, has_cr, digest.digest(), identity_of(head.replace(b"\r\n", b"\n")), mtime)


def is_same(path: str, size: int, digest: bytes) -> bool:
    """Whether the file under this name has this content, read in constant memory only where its size is right.

    What is put in its place, or written to, meanwhile is not the same. FileNotFoundError comes through; a file that cannot
    be read is a StoreError.
    """
    fd = open_message(path)
    try:
        before = os.fstat(fd)
        if before.st_size != size:
            return False
        found = sha256()
        while chunk := os.read(fd, CHUNK):
            found.update(chunk)
        if found.digest() != digest:
            return False
        after = os.stat(path, follow_symlinks=False)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise StoreError.from_os_error(error, "reading the message", path) from error
    finally:
        os.close(fd)
    return _which(before) == _which(after)


def is_edited(path: str, size: int, digest: bytes, date: int | None) -> bool:
    """Whether a file has other content than was stored; read only where it has the size, and not the time it was given then.

    That is its INTERNALDATE (`date`), to the second. Another time says nothing: programs touch files, and a file that was not
    stored by us has its own. FileNotFoundError comes through; a file that cannot be read is a StoreError.
    """
    seen = os.stat(path, follow_symlinks=False)
    if seen.st_size != size or not stat.S_ISREG(seen.st_mode):
        return True
    return (date is None or seen.st_mtime_ns != date * 1_000_000_000) and not is_same(path, size, digest)


def _which(status: os.stat_result) -> tuple[int, int, int, int]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def head(path: str) -> bytes:
    """The beginning of a stored message, each CRLF made LF: its header, but for freaks. FileNotFoundError comes through."""
    fd = open_message(path)
    try:
        return os.read(fd, HEAD).replace(b"\r\n", b"\n")
    except OSError as error:
        raise StoreError.from_os_error(error, "reading the message", path) from error
    finally:
        os.close(fd)


def read_wire(path: str, line_ends: int) -> Iterator[bytes]:
    """The message as it was on the wire, in pieces. FileNotFoundError comes through; all else is a StoreError."""
    fd = open_message(path)
    try:
        after_cr = False
        while chunk := os.read(fd, CHUNK):
            if line_ends == LineEnds.AS_RECEIVED:
                yield chunk
            elif line_ends == LineEnds.CRLF:
                yield chunk.replace(b"\n", b"\r\n")
            else:
                # An LF behind a CR is a line end already, also where the two are read apart.
                whole = chunk.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
                yield whole[1:] if after_cr and chunk.startswith(b"\n") else whole
                after_cr = chunk.endswith(b"\r")
    except OSError as error:
        raise StoreError.from_os_error(error, "reading the message", path) from error
    finally:
        os.close(fd)


def open_message(path: str) -> int:
    """Opens a regular file for reading, never a link or a pipe. FileNotFoundError comes through."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise StoreError.from_os_error(error, "reading the message", path) from error
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise StoreError(f"not a regular file: {path}", path=path, errno=errno.EINVAL)
    return fd


def bare_line_feeds(path: str) -> int:
    """How many LFs of a stored message are not part of a CRLF. FileNotFoundError comes through; all else is a StoreError."""
    count = 0
    after_cr = False
    for chunk in read_wire(path, LineEnds.AS_RECEIVED):
        count += chunk.count(b"\n") - chunk.count(b"\r\n") - (after_cr and chunk.startswith(b"\n"))
        after_cr = chunk.endswith(b"\r")
    return count


class WireSource(NamedTuple):
    """A stored message as it goes over the wire. `data`: read already."""

    path: str
    line_ends: int
    data: bytes | None = None

    def chunks(self) -> Iterator[bytes]:
        """The octets in pieces, from the beginning each time."""
        if self.data is None:
            yield from read_wire(self.path, self.line_ends)
        elif self.line_ends == LineEnds.AS_RECEIVED:
            yield self.data
        else:
            yield self.data.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
