"""When a directory came into being: that tells it from another that was made anew, and was given the same inode number."""

from __future__ import annotations

import os
import sys
from functools import cache
from typing import Any

_AT_FDCWD = -100
_STATX_BTIME = 0x800
_SIZE = 256
_BTIME = 80
"""Where struct statx has `stx_btime` on every Linux: seconds in 8 octets, nanoseconds in 4."""


def birth_of(path: str) -> int | None:
    """Nanoseconds since 1970; None where the system or the file system does not tell. FileNotFoundError as `os.stat`."""
    found = os.stat(path)
    born = getattr(found, "st_birthtime", None)
    if born is not None:
        return int(born * 1e9)
    statx = _statx()
    if statx is None:
        return None
    import ctypes  # noqa: PLC0415 - a run with nothing new needs none of this

    buffer = ctypes.create_string_buffer(_SIZE)
    if statx(_AT_FDCWD, os.fsencode(path), 0, _STATX_BTIME, buffer) != 0:
        return None
    raw = buffer.raw
    if not int.from_bytes(raw[:4], sys.byteorder) & _STATX_BTIME:
        return None
    seconds = int.from_bytes(raw[_BTIME : _BTIME + 8], sys.byteorder, signed=True)
    return seconds * 1_000_000_000 + int.from_bytes(raw[_BTIME + 8 : _BTIME + 12], sys.byteorder)


@cache
def _statx() -> Any:
    """The C library's function (glibc 2.28), or None."""
    if sys.platform != "linux":
        return None
    import ctypes  # noqa: PLC0415

    try:
        return ctypes.CDLL(None).statx
    except AttributeError:
        return None
