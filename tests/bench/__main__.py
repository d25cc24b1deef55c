"""`make bench`: the program and its peers, interleaved, on one private Dovecot with TLS; medians, and ratios.

Needs Dovecot, and mbsync (isync) and mpop from Debian. `python -m tests.bench [--runs N] [NAME …]` runs a part of it. The disk
matters: point TMPDIR at the one that is meant. Nothing is deleted from it, since ext4 makes new files slowly for minutes after a
mass deletion: let it rest that long before, too.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.bench.harness import MEMORY, letters
from tests.bench.million import Million
from tests.everything import install_wheel
from tests.live.dovecot import Dovecot, missing

PARTS = (
    "imap", "pop3", "far_imap", "far_pop3", "big", "idle", "idle_large",
    "two_idle", "two_million", "two_boxes", "two_changes", "two_flags", "two_moves", "two_upload",
)  # fmt: skip


@contextmanager
def kept() -> Iterator[str]:
    """A directory that stays: to remove it would slow down whoever measures next."""
    directory = tempfile.mkdtemp(prefix="fetchmail-py-bench-")
    try:
        yield directory
    finally:
        print(f"\nWhat was fetched is in {directory}: remove it when all is measured")


def main() -> int:
    """Runs what was asked for."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; none: all")
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    unknown = set(options.parts) - set(PARTS)
    problem = missing() or next((f"{name} is not installed" for name in ("mbsync", "mpop") if shutil.which(name) is None), None)
    if unknown or problem:
        print(problem or f"no such part: {', '.join(unknown)}", file=sys.stderr)
        return 2
    parts = options.parts or PARTS
    runs: int = options.runs
    users = ["imap", "pop", "far", "big", "many", "large", "empty"]
    users += [f"two-{name}-{number}" for name in ("mbsync", "ours") for number in range(runs + 2)]
    users += [f"pop-{number}" for number in range(3 * runs)]
    users += [f"farpop-{name}-{number}" for name in ("mpop", "fetchmail-py") for number in range(runs)]
    users += [f"bigpop-{number}" for number in range(2 * runs)]
    with kept() as directory, Dovecot(users=users, parent=MEMORY if MEMORY.is_dir() else None) as server:
        bench = Million(Path(directory), server, runs, install_wheel(Path(directory)))
        print(f"{os.uname().sysname} {os.uname().release}, {os.cpu_count()} CPUs, Python {sys.version.split()[0]}")
        for user, count in (("imap", 10_000), ("pop", 10_000), ("far", 2000), ("large", 100_000)):
            part = {"imap": "imap", "pop": "pop3", "far": "far_imap", "large": "idle_large"}[user]
            if part in parts:
                server.deliver(user, "INBOX", letters(count) if count <= 10_000 else letters(count, 600, 900))
                server.warm(user, "INBOX")
        if "idle" in parts:
            for number in range(199):
                server.deliver("many", f"box/{number // 20}/{number}", letters(20))
            server.deliver("many", "INBOX", letters(20))
        for part in parts:
            getattr(bench, part)()
    return 0


if __name__ == "__main__":
    sys.exit(main())
