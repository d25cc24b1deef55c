"""What is remembered of a Maildir outside of it: by this, a wiped folder, an unmounted disk and a restored state are noticed.

One small file for each account in `$XDG_STATE_HOME/fetchmail-py/` (`~/.local/state/fetchmail-py/`).
"""

from __future__ import annotations

import json
import math
import os
from typing import NamedTuple

from fetchmail_py.errors import StoreError
from fetchmail_py.store import durable


class Remembered(NamedTuple):
    """One Maildir, as the last run with effects left it."""

    store_id: str
    """The same as in the state."""
    run: int
    """The number of that run, the same as in the state."""
    maildir: str
    last_seen: float
    """POSIX seconds."""
    messages: int


def directory() -> str:
    """Where the files are."""
    base = os.environ.get("XDG_STATE_HOME", "")
    if not os.path.isabs(base):
        home = os.path.expanduser("~")
        if not os.path.isabs(home):
            raise StoreError("no home directory", hint="set HOME or XDG_STATE_HOME")
        base = f"{home}/.local/state"
    return f"{base}/fetchmail-py"


def _path(name: str) -> str:
    # Names are letters, digits, '-', '_', '.'; one that begins with a dot would hide.
    return f"{directory()}/{name if not name.startswith('.') else '_' + name}.json"


def load(name: str) -> tuple[Remembered | None, bool]:
    """What is remembered under a name, and whether there is something that cannot be read."""
    try:
        with open(_path(name), "rb") as file:
            data = file.read(65536)
    except FileNotFoundError:
        return None, False
    except OSError as error:
        unreadable = StoreError.from_os_error(error, "reading what is remembered of the Maildir", _path(name))
        unreadable.hint = "put that right, or set XDG_STATE_HOME to a directory that you may write to"
        raise unreadable from error
    try:
        found = json.loads(data)
        remembered = Remembered(
            store_id=str(found["store_id"]),
            run=int(found["run"]),
            maildir=str(found["maildir"]),
            last_seen=float(found["last_seen"]),
            messages=int(found["messages"]),
        )
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None, True
    # Numbers that JSON can hold and no run ever wrote.
    if not math.isfinite(remembered.last_seen) or not 0 <= remembered.last_seen < 2**40:
        return None, True
    if remembered.run < 0 or remembered.messages < 0:
        return None, True
    return remembered, False


def save(name: str, remembered: Remembered) -> None:
    """Replaces what is remembered, durably."""
    path = _path(name)
    durable.make_directories(os.path.dirname(path))
    durable.remove_partial(path)
    durable.write_small(path, json.dumps(remembered._asdict(), indent=1).encode() + b"\n")
