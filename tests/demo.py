"""`make demo`: the main job, shown on two small servers in this process. No root, no service, nothing left behind."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.servers.base import Tls
from tests.servers.imap import ImapServer
from tests.servers.mailbox import Store
from tests.servers.mails import AWKWARD, mails
from tests.servers.pop3 import Pop3Server

CONFIG = """\
[defaults]
host = "localhost"
ca_file = "{ca}"
password_env = "DEMO_PASSWORD"

[accounts.isp]                      # POP3: download, then delete at the server
protocol = "pop3"
port = {pop3}
user = "ann"
maildir = "{root}/Mail/isp"

[accounts.work]                     # IMAP: everything, as a backup that only adds
port = {imap}
user = "ann"
mode = "backup"
maildir = "{root}/Mail/work"
"""


def main() -> int:
    """Runs it; 0 if everything did what it should."""
    tls = Tls()
    maildrop, account = Store(), Store()
    for number, data in enumerate(mails(120)):
        maildrop.append(data, internaldate=1_790_000_000 + 600 * number)
    for name in ("Archive/2026", "Lists/Ünïcödé & more", "Sent"):
        account.create(name, special_use="\\Sent" if name == "Sent" else None)
    for number, data in enumerate([*AWKWARD.values(), *mails(400, seed=2)]):
        name = ("INBOX", "INBOX", "Archive/2026", "Lists/Ünïcödé & more", "Sent")[number % 5]
        account.append(data, name, ["\\Seen"] if number % 3 else ["$Todo"], 1_790_000_000 + 600 * number)
    with (
        tempfile.TemporaryDirectory(prefix="fetchmail-py-demo-") as directory,
        Pop3Server(maildrop, tls, implicit=True) as pop3,
        ImapServer(account, tls, implicit=True) as imap,
    ):
        root = Path(directory)
        config = CONFIG.format(ca=tls.write_ca(f"{root}/ca.pem"), pop3=pop3.port, imap=imap.port, root=root)
        (root / "config.toml").write_text(config, encoding="utf-8")
        return show(root, config, maildrop, account)


def show(root: Path, config: str, maildrop: Store, account: Store) -> int:
    """The demonstration itself."""
    environment = os.environ | {
        "DEMO_PASSWORD": maildrop.password,
        "XDG_STATE_HOME": str(root / "state"),
        "FETCHMAIL_PY_CONFIG": str(root / "config.toml"),
    }
    failed = 0

    def run(*words: str) -> None:
        nonlocal failed
        print(f"\n$ fetchmail-py {shlex.join(words)}", flush=True)
        command = [sys.executable, "-m", "fetchmail_py", *words]
        if sys.stderr.isatty():
            failed |= subprocess.run(command, env=environment, check=False).returncode
            return
        # Without a terminal it would say nothing: -v makes it talk, and of all the arrivals ten are enough here.
        command.insert(3, "-v")
        done = subprocess.run(
            command, env=environment, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8"
        )
        failed |= done.returncode
        lines = done.stdout.splitlines()
        print("\n".join(lines[:24] if words[0] != "sync" else lines[:11]))
        if words[0] == "sync" and len(lines) > 11:
            print(f"  … and {len(lines) - 11} more")

    here = len(maildrop.contents()), sum(len(account.contents(name)) for name in account.mailboxes)
    print(f"A POP3 server with {here[0]} messages and an IMAP server with {here[1]}, in this process.")
    print(f"The configuration:\n\n{config}")
    run("check")
    run("sync", "isp", "--dry-run")
    print(f"\nPOP3, download and delete: {len(maildrop.contents())} messages at the server before,")
    run("sync", "isp")
    print(f"{len(maildrop.contents())} after.\n\nThe IMAP backup:")
    run("sync", "work")
    print("\nA second run has nothing to do:")
    run("sync")
    run("status")
    print("\nWhat is on disk now:")
    tree(root / "Mail")
    wrong = 0
    stored = {path.read_bytes().replace(b"\n", b"\r\n") for path in (root / "Mail/isp/new").iterdir()}
    wrong += stored != set(mails(120))
    total = sum(1 for path in (root / "Mail/work").rglob("*") if path.parent.name in {"new", "cur"})
    wrong += total != here[1]
    print(f"\n{120 + total} messages stored, each on stable storage before the server was told to delete anything.")
    if failed or wrong:
        print("The demonstration FAILED.", file=sys.stderr)
    return int(bool(failed or wrong))


def tree(root: Path) -> None:
    """Directories with the number of messages in each."""
    for path in sorted(root.rglob("*")):
        depth = len(path.relative_to(root).parts) - 1
        if path.is_dir():
            messages = sum(1 for _ in path.iterdir()) if path.name in {"new", "cur"} else 0
            note = f"  {messages} messages" if messages else ""
            print(f"{'    ' * depth}{path.name}/{note}")
        elif path.parent.name not in {"new", "cur"} and not path.name.startswith(".fetchmail-py"):
            print(f"{'    ' * depth}{path.name}")


if __name__ == "__main__":
    sys.exit(main())
