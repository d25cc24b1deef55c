"""An account against the embedded servers: run it, look at what lies in the Maildir, compare with the server's octets."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from fetchmail_py.config import Account
from fetchmail_py.model import MessageKey
from fetchmail_py.report import Event, Report
from fetchmail_py.store.content import read_wire
from fetchmail_py.store.state import FILE_NAME, StateDb
from fetchmail_py.sync.options import Options, StopFlag
from fetchmail_py.sync.run import run_account
from tests.servers.base import Server
from tests.servers.imap import ImapServer
from tests.servers.mailbox import Store


@dataclass
class World:
    """One account, its server, its place on disk."""

    root: Path
    server: Server
    store: Store
    account: Account
    events: list[Event] = field(default_factory=list)

    def run(
        self,
        *,
        dry_run: bool = False,
        full: bool = False,
        allow_mass_delete: bool = False,
        fresh: bool = False,
        adopt: bool = False,
        mailboxes: tuple[str, ...] | None = None,
        stop: StopFlag | None = None,
        on_event: Callable[[Event], None] | None = None,
    ) -> Report:
        """One run, whatever comes of it."""
        options = Options(
            dry_run=dry_run, full=full, allow_mass_delete=allow_mass_delete, fresh=fresh, adopt=adopt, mailboxes=mailboxes
        )
        return run_account(
            self.account,
            lambda: self.store.password,
            options,
            on_event=on_event or self.events.append,
            stop=stop or StopFlag(),
        )

    def sync(self, **options: bool) -> Report:
        """One run, which must succeed."""
        report = self.run(**options)  # type: ignore[arg-type]
        assert report.failure is None, report.failure
        assert report.deferred == 0
        return report

    def settings(self, **changes: object) -> None:
        """Other settings from the next run on."""
        self.account = self.account._replace(**changes)  # type: ignore[arg-type]

    @property
    def maildir(self) -> Path:
        """The account's directory."""
        return Path(self.account.maildir)

    def files(self, mailbox: str = "INBOX") -> dict[str, Path]:
        """Every published message of a mailbox by its key."""
        base = self.maildir if self.account.protocol == "pop3" else self.maildir / mailbox
        return {
            path.name.partition(":")[0]: path
            for subdir in ("new", "cur")
            if (base / subdir).is_dir()
            for path in (base / subdir).iterdir()
        }

    def letters(self, mailbox: str = "INBOX") -> dict[bytes, str]:
        """Content -> flag letters."""
        return {path.read_bytes(): path.name.partition(":2,")[2] for path in self.files(mailbox).values()}

    def in_tmp(self) -> list[Path]:
        """What lies in any `tmp/`."""
        return [path for path in self.maildir.rglob("*") if path.parent.name == "tmp"]

    def wire(self, mailbox: str = "INBOX") -> Counter[bytes]:
        """The messages of a mailbox as they were on the wire, by the state's knowledge of their line ends."""
        with closing(StateDb.open_to_read(str(self.maildir / FILE_NAME))) as state:
            ends = state.line_ends()
        return Counter(b"".join(read_wire(str(path), ends[MessageKey(key)])) for key, path in self.files(mailbox).items())

    def assert_same(self, mailbox: str = "INBOX") -> None:
        """Here is exactly what is at the server, octet for octet, each once, nothing in `tmp/`."""
        assert self.wire(mailbox) == Counter(self.store.contents(mailbox).values())
        assert self.in_tmp() == []

    @property
    def commands(self) -> list[str]:
        """What the server was told since `forget_commands`."""
        return self.server.log


@contextmanager
def world(tmp_path: Path, store: Store, server: Server, **settings: object) -> Iterator[World]:
    """A world around a server, which is started. `settings` are those of the account."""
    values: dict[str, object] = {
        "name": "test",
        "protocol": "imap" if isinstance(server, ImapServer) else "pop3",
        "host": "localhost",
        "port": server.port,
        "tls": "none",
        "user": store.user,
        "maildir": str(tmp_path / "mail"),
        "timeout": 20.0,
        "mode": "backup",
    }
    values |= settings
    before = os.environ.get("XDG_STATE_HOME")
    os.environ["XDG_STATE_HOME"] = str(tmp_path / "state")
    try:
        with server:
            yield World(tmp_path, server, store, Account(**values))  # type: ignore[arg-type]
    finally:
        if before is None:
            del os.environ["XDG_STATE_HOME"]
        else:
            os.environ["XDG_STATE_HOME"] = before
