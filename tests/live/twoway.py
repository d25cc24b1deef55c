"""An account in the two-way mode, with the whole of both sides in view and none of the program's own code in between."""

from __future__ import annotations

import imaplib
import os
import re
import shutil
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from tests.live.bare import Bare
from tests.live.conftest import Shell
from tests.live.dovecot import Dovecot, Mail, _quoted, _utf7

LETTERS = {"D": "\\Draft", "F": "\\Flagged", "P": "$Forwarded", "R": "\\Answered", "S": "\\Seen", "T": "\\Deleted"}
COUNTERS = (
    "downloaded", "uploaded", "flags_pushed", "flags_pulled", "moved_local", "moved_remote", "deleted_local", "deleted_remote",
)  # fmt: skip
DATE = 1_600_000_000
KEYWORD = "$Work"
BOXES = {"INBOX": 8, "Work": 4, "Archive/2024": 2, "Ünï & mehr": 2, "Trash": 1}
"""What a user has at the start, and how many messages in each."""


class Message(NamedTuple):
    """A message as either side has it."""

    data: bytes
    """As on the wire."""
    flags: frozenset[str]
    date: int
    """INTERNALDATE, or the file's time: POSIX seconds."""


Side = dict[str, Counter[Message]]
"""Messages by mailbox (modified UTF-7)."""


def mail(mailbox: str, number: int) -> bytes:
    """The content of a message of `BOXES`: like no other."""
    name = _utf7(mailbox)
    return (
        f"From: ann@example.org\r\nSubject: {name} {number}\r\nMessage-ID: <{number}.{name.encode().hex()}@example.org>\r\n\r\n"
        + f"{name} {number}\r\n" * (number + 1)
    ).encode("ascii")


@dataclass
class Sides:
    """A user's mail on both sides."""

    shell: Shell
    user: str
    bare: Bare | None

    @property
    def server(self) -> Dovecot:
        return self.shell.server

    @property
    def root(self) -> Path:
        """The account's directory."""
        return self.shell.root / "Mail/work"

    # Running

    def configure(self, extra: str = "") -> None:
        """Writes the configuration; `extra` are lines of the account's."""
        where = f'host = "{self.bare.host}"\nport = {self.bare.port}\ntls = "none"' if self.bare else "port = IMAPS_PORT"
        self.shell.configure(
            f'[accounts.work]\n{where}\nuser = "{self.user}"\nmode = "disconnected"\nmaildir = "~/Mail/work"\n{extra}\n'
        )

    def sync(self, *words: str, status: int = 0, **expected: int) -> dict[str, Any]:
        """One run, which must end with `status` and with these counts; any count that is not named must be 0."""
        result = self.shell.run("sync", "--json", *words)
        assert result.status == status, result.out + result.err
        report = result.json
        counted = {name: report[name] for name in COUNTERS}
        assert counted == dict.fromkeys(COUNTERS, 0) | expected, result.out
        return report

    def start(self, extra: str = "", *, more: int = 0) -> None:
        """Fills the server with `BOXES`, and brings it all here with `more` messages that it has already."""
        for mailbox, count in BOXES.items():
            self.server.deliver(
                self.user,
                mailbox,
                [Mail(mail(mailbox, number), "S" if number % 2 else "", DATE + number) for number in range(count)],
            )
            with self.selected(mailbox) as client:
                client.store("1:*", "+FLAGS", KEYWORD)
        self.configure(extra)
        self.sync(downloaded=sum(BOXES.values()) + more)
        self.assert_same()

    def settle(self) -> None:
        """Both sides have the same, another run does nothing and plans nothing, and nothing was asked that is not offered."""
        self.assert_same()
        self.sync()
        assert self.sync("--dry-run")["plan"] == []
        self.assert_same()
        if self.bare is not None:
            assert self.bare.refused == []

    # Comparing

    def assert_same(self) -> None:
        """Mailboxes, content, flags and dates are the same on both sides, and nothing is left in `tmp/`."""
        here, there = self.here(), self.there()
        assert here.keys() == there.keys()
        for mailbox in here:
            assert sorted(here[mailbox].elements(), key=_order) == sorted(there[mailbox].elements(), key=_order), mailbox

    def here(self) -> Side:
        """The Maildirs, read as any mail reader does."""
        found: Side = {}
        for cur in self.root.rglob("cur"):
            directory = cur.parent
            names = _keywords(directory)
            messages = found[_utf7(directory.relative_to(self.root).as_posix())] = Counter()
            assert list((directory / "tmp").iterdir()) == []
            for path in (*cur.iterdir(), *(directory / "new").iterdir()):
                _, _, letters = path.name.partition(":2,")
                data = path.read_bytes()
                if b"\r\n" not in data:
                    data = data.replace(b"\n", b"\r\n")
                flags = frozenset(names[letter] if letter.islower() else LETTERS[letter] for letter in letters)
                messages[Message(data, flags, int(path.stat().st_mtime))] += 1
        return found

    def there(self) -> Side:
        """The server, asked by imaplib and not through the filter."""
        found: Side = {}
        with self.server.imap(self.user) as client:
            for name in self.server.mailboxes(self.user):
                status, _ = client.select(f'"{name}"', readonly=True)
                if status != "OK":
                    continue  # \Noselect: only a level above others
                messages = found[name] = Counter()
                _, parts = client.uid("FETCH", "1:*", "(FLAGS INTERNALDATE BODY.PEEK[])")
                for part in parts:
                    if isinstance(part, tuple):
                        flags = re.search(rb"FLAGS \(([^)]*)\)", part[0])
                        date = imaplib.Internaldate2tuple(part[0])
                        assert flags is not None
                        assert date is not None
                        kept = frozenset(flags[1].decode("ascii").split()) - {"\\Recent"}
                        messages[Message(part[1], kept, int(time.mktime(date)))] += 1
        return found

    def snapshot(self) -> object:
        """Everything that a run which changes nothing leaves as it is: names too, and each file's own times."""
        files = {
            str(path.relative_to(self.root)): (path.stat().st_ino, path.stat().st_mtime_ns)
            for path in self.root.rglob("*")
            if not path.name.startswith(".fetchmail-py") and path != self.root
        }
        return files, self.there()

    # Changing this side

    def path(self, mailbox: str, number: int, place: str | None = None) -> Path:
        """The file of a message of `BOXES`, which is in `place`, if that is another mailbox."""
        data = mail(mailbox, number).replace(b"\r\n", b"\n")
        directory = self.root / (place or mailbox)
        found = [path for part in ("cur", "new") for path in (directory / part).iterdir() if path.read_bytes() == data]
        assert len(found) == 1, found
        return found[0]

    def mark(self, path: Path, letters: str) -> Path:
        """Gives a file these flags besides its keywords."""
        key, _, old = path.name.partition(":2,")
        kept = "".join(letter for letter in old if letter.islower())
        return path.rename(path.parent.parent / "cur" / f"{key}:2,{letters}{kept}")

    def label(self, path: Path, keyword: str) -> Path:
        """Gives a file a keyword, with a letter of its own in `dovecot-keywords`."""
        directory = path.parent.parent
        number = len(_keywords(directory))
        with (directory / "dovecot-keywords").open("a", encoding="utf-8") as file:
            file.write(f"{number} {keyword}\n")
        key, _, letters = path.name.partition(":2,")
        return path.rename(directory / "cur" / f"{key}:2,{letters}{chr(ord('a') + number)}")

    def carry(self, path: Path, mailbox: str, key: str | None = None, *, add: str = "", copy: bool = False) -> Path:
        """Moves or copies a file to another mailbox, under another key if one is given, as mail readers do: with its time."""
        old, _, letters = path.name.partition(":2,")
        names, directory = _keywords(path.parent.parent), self.root / mailbox
        there = {name: letter for letter, name in _keywords(directory).items()}
        flags = "".join(sorted({*add, *(there[names[letter]] if letter.islower() else letter for letter in letters)}))
        target = directory / "cur" / f"{key or old}:2,{flags}"
        shutil.copy2(path, target)
        if not copy:
            path.unlink()
        return target

    def make(self, mailbox: str) -> Path:
        """A new mailbox, with the keywords that all others have."""
        directory = self.root / mailbox
        for part in ("tmp", "new", "cur"):
            (directory / part).mkdir(parents=True)
        (directory / "dovecot-keywords").write_text(f"0 {KEYWORD}\n", encoding="utf-8")
        return directory

    def add(self, mailbox: str, name: str, data: bytes, date: int) -> Path:
        """A new file: `name` with the subdirectory."""
        path = self.root / mailbox / name
        path.write_bytes(data.replace(b"\r\n", b"\n"))
        os.utime(path, (date, date))
        return path

    # Changing the other

    @contextmanager
    def selected(self, mailbox: str) -> Iterator[imaplib.IMAP4]:
        """A client of the server with a mailbox open."""
        with self.server.imap(self.user) as client:
            assert client.select(_quoted(mailbox))[0] == "OK"
            yield client

    def uid(self, mailbox: str, number: int, place: str | None = None) -> str:
        """The UID of a message of `BOXES`, which is in `place`, if that is another mailbox."""
        data = mail(mailbox, number)
        (uid,) = (str(uid) for uid, found in self.server.messages(self.user, place or mailbox).items() if found == data)
        return uid

    def store(self, mailbox: str, number: int, sign: str, flags: str) -> None:
        """UID STORE: `sign` is "+" or "-"."""
        uid = self.uid(mailbox, number)
        with self.selected(mailbox) as client:
            assert client.uid("STORE", uid, f"{sign}FLAGS", f"({flags})")[0] == "OK"

    def expunge(self, mailbox: str, *numbers: int) -> None:
        """Deletes messages."""
        uids = ",".join(self.uid(mailbox, number) for number in numbers)
        with self.selected(mailbox) as client:
            client.uid("STORE", uids, "+FLAGS", "(\\Deleted)")
            assert client.uid("EXPUNGE", uids)[0] == "OK"

    def tell(self, command: str, *mailboxes: str) -> None:
        """CREATE, RENAME and the like."""
        with self.server.imap(self.user) as client:
            method = getattr(client, command.lower())
            assert method(*(_quoted(mailbox) for mailbox in mailboxes))[0] == "OK"

    def flags(self, mailbox: str, number: int, place: str | None = None) -> set[str]:
        """The flags that the server has for a message, without `KEYWORD`."""
        uid = int(self.uid(mailbox, number, place))
        return set(self.server.flags(self.user, place or mailbox)[uid]) - {KEYWORD}

    def uidvalidity(self, mailbox: str) -> bytes:
        """The server's."""
        with self.selected(mailbox) as client:
            value = client.response("UIDVALIDITY")[1][0]
            assert isinstance(value, bytes)
            return value


def _order(message: Message) -> tuple[bytes, list[str], int]:
    return message.data, sorted(message.flags), message.date


def _keywords(directory: Path) -> Mapping[str, str]:
    """The letters of a mailbox, by its `dovecot-keywords`."""
    file = directory / "dovecot-keywords"
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    return {chr(ord("a") + int(number)): name for number, _, name in (line.partition(" ") for line in lines)}
