"""Runs an account in a child of its own, which ends without a word at its n-th effect on the world, as after SIGKILL.

Reads lines `N JSON` (the account's values) from standard input, forks for each, and prints "crashed" or "ended".
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from typing import Any

from fetchmail_py.config import Account
from fetchmail_py.session.transport import Transport
from fetchmail_py.store import delivery, durable, maildir
from fetchmail_py.store.state import StateDb
from fetchmail_py.sync.options import Options, StopFlag
from fetchmail_py.sync.run import run_account

CRASHED = 99

# Everything through which a run changes what outlives it: files, names, rows, the server.
EFFECTS: list[tuple[Any, str]] = [
    (delivery, "_create"),
    (delivery, "write_all"),
    (delivery, "_set_time"),
    (durable.Barrier, "files"),
    (durable.Barrier, "directories"),
    (durable.Barrier, "rename"),
    (maildir, "rename_no_replace"),
    (durable, "write_small"),
    (os, "unlink"),
    (os, "mkdir"),
    (os, "rename"),
    (StateDb, "commit"),
    (Transport, "send"),
]


class Fuse:
    """Counts effects, each before and after it is made, and ends the process at the n-th."""

    def __init__(self, at: int) -> None:
        self._left = at

    def burn(self) -> None:
        """One step."""
        self._left -= 1
        if self._left == 0:
            os._exit(CRASHED)

    def wrap(self, owner: Any, name: str) -> None:
        """Puts the fuse around a function."""
        original: Callable[..., object] = getattr(owner, name)

        def wrapped(*args: object, **kwargs: object) -> object:
            self.burn()
            result = original(*args, **kwargs)
            self.burn()
            return result

        setattr(owner, name, wrapped)


def child(at: int, values: dict[str, Any], password: str) -> int:
    """The run that is cut."""
    fuse = Fuse(at)
    for owner, name in EFFECTS:
        fuse.wrap(owner, name)
    report = run_account(Account(**values), lambda: password, Options(), on_event=lambda _: None, stop=StopFlag())
    if report.failure is not None:
        print(report.failure, file=sys.stderr)
    return int(report.exit_status)


def main() -> None:
    """Serves one request per line."""
    for line in sys.stdin:
        number, _, document = line.partition(" ")
        request = json.loads(document)
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                status = child(int(number), request["account"], request["password"])
            finally:
                os._exit(status)
        _, ended = os.waitpid(pid, 0)
        code = os.waitstatus_to_exitcode(ended)
        print({CRASHED: "crashed", 0: "ended"}.get(code, f"failed with {code}"), flush=True)


if __name__ == "__main__":
    main()
