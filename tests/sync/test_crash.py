"""Killed at every effect: nothing is lost at any moment, and the next run completes without a double.

A child process ends at the n-th effect, for every n there is; then the mail at the server and here together must be complete,
and one more run must bring the state of things that an undisturbed run would have brought.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from fetchmail_py.store.state import FILE_NAME
from tests.servers.imap import ALL, BARE, ImapServer
from tests.servers.mailbox import Mailbox, Message, Store
from tests.servers.mails import mails
from tests.servers.pop3 import Pop3Options, Pop3Server
from tests.sync.world import World, world

BOXES = ("INBOX", "Archive/2026")


def filled() -> Store:
    """Five messages and three."""
    store = Store()
    store.create(BOXES[1])
    for data in mails(5):
        store.append(data)
    for data in mails(3, seed=2):
        store.append(data, BOXES[1], ["\\Seen", "$Label1"])
    return store


class Scenario:
    """Where a cut run begins: what lies here, what is at the server, and what must be the case afterwards."""

    def __init__(self, found: World, template: Path) -> None:
        self.world = found
        self.template = template
        others = ("Drafts", "Old", "Renamed", "Made", "A", "A/Sub", "B", "B/Sub", "C", f"{BOXES[1]}/C", ".", ".Archive.2026")
        self.boxes = (*BOXES, *others) if isinstance(found.server, ImapServer) else ("INBOX",)

    def save(self) -> None:
        """This is the beginning."""
        shutil.rmtree(self.template, ignore_errors=True)
        self.template.mkdir()
        for name in ("mail", "state"):
            if (self.world.root / name).exists():
                shutil.copytree(self.world.root / name, self.template / name)
        self.server = json.dumps(
            [
                [
                    box.name, box.uidvalidity, box.mailbox_id, box.uidnext, box.highestmodseq, box.expunged,
                    [[m.uid, m.data.decode("latin-1"), sorted(m.flags), m.internaldate, m.modseq] for m in box.messages],
                ]
                for box in self.world.store.mailboxes.values()
            ]
        )  # fmt: skip

    def begin(self) -> None:
        """Back to the beginning, on both sides."""

        for name in ("mail", "state"):
            shutil.rmtree(self.world.root / name, ignore_errors=True)
            if (self.template / name).exists():
                shutil.copytree(self.template / name, self.world.root / name)
        store = self.world.store
        store.mailboxes.clear()
        for name, validity, mailbox_id, uidnext, modseq, expunged, messages in json.loads(self.server):
            store.mailboxes[name] = Mailbox(
                name, validity, mailbox_id, uidnext=uidnext, highestmodseq=modseq,
                messages=[Message(u, d.encode("latin-1"), set(f), i, m) for u, d, f, i, m in messages],
                expunged=[(uid, at) for uid, at in expunged],
            )  # fmt: skip

    def everything(self) -> set[bytes]:
        """Every message that is complete at the server or here."""
        there = {data for box in self.world.store.mailboxes for data in self.world.store.contents(box).values()}
        here = {path.read_bytes().replace(b"\n", b"\r\n") for box in self.boxes for path in self.world.files(box).values()}
        return there | here

    def here(self) -> dict[str, Counter[tuple[bytes, str]]]:
        """Content and flag letters of what is published, by mailbox."""
        return {
            box: Counter((path.read_bytes(), path.name.partition(":2,")[2]) for path in self.world.files(box).values())
            for box in self.boxes
        }


    def there(self) -> dict[str, Counter[tuple[bytes, str]]]:
        """Content and flags of what is at the server, by mailbox."""
        return {
            box.name: Counter((message.data, " ".join(sorted(message.flags))) for message in box.messages)
            for box in self.world.store.mailboxes.values()
        }


@contextmanager
def runner() -> Iterator[Callable[[int, World], str]]:
    """Runs an account in a child that ends at the n-th effect."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.sync.crash_runner"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None

        def run(number: int, found: World) -> str:

            assert process.stdin is not None
            assert process.stdout is not None
            request = {"account": found.account._asdict(), "password": found.store.password}
            process.stdin.write(f"{number} {json.dumps(request, default=dict)}\n")
            process.stdin.flush()
            return process.stdout.readline().strip()

        yield run
        process.stdin.close()


def first_backup(found: World) -> None:
    """Nothing is here."""


def mirror_of_changes(found: World) -> None:
    """Everything is here, then: a move, deletions, flags, new mail."""
    found.settings(mode="mirror")
    found.sync()
    found.store.move(2, "INBOX", BOXES[1])
    found.store.expunge([4])
    found.store.set_flags(1, ["\\Flagged", "\\Seen"])
    found.store.append(b"Subject: new\r\n\r\nnew\r\n", flags=["$Label2"])
    # Each try begins with a copy of all this: its folders are to count as the ones they were, or no deletion goes up.
    with closing(sqlite3.connect(found.maildir / FILE_NAME)) as state, state:
        state.execute("UPDATE mailbox SET inode = NULL, born = NULL")


def new_uidvalidity(found: World) -> None:
    """Everything is here, but under other UIDs."""
    found.sync()
    found.store.new_uidvalidity(reorder=lambda messages: messages.reverse())
    found.store.set_flags(3, ["\\Answered"])


def renamed_mailbox(found: World) -> None:
    """A mailbox comes back under the name it is looked for."""
    found.store.rename(BOXES[1], "Before")
    found.sync()
    found.store.rename("Before", BOXES[1])


def offline(found: World) -> None:
    """Download, then delete at the server."""
    found.settings(mode="offline")


def changes_on_both_sides(found: World) -> None:
    """Everything is here, then on both sides: new mail, flags, moves, deletions; a folder made and one renamed here."""
    found.settings(mode="disconnected", expunge=False)
    found.store.create("Old")
    found.store.append(next(iter(mails(1, seed=5))), "Old")
    found.sync()
    here = {path.read_bytes().replace(b"\n", b"\r\n"): path for path in found.files().values()}
    paths = [here[data] for _, data in sorted(found.store.contents().items())]
    archive = found.maildir / BOXES[1]
    paths[0].rename(paths[0].parent.parent / "cur" / f"{paths[0].name.partition(':')[0]}:2,FS")
    paths[1].rename(archive / "cur" / "1700000001.moved.here:2,S")
    (archive / "cur" / "1700000002.copied.here:2,S").write_bytes(paths[2].read_bytes())
    (archive / "new" / "1700000003.new.here").write_bytes(b"Subject: up\nMessage-ID: <up@here>\n\nup\n")
    (archive / "new" / "1700000004.new.here").write_bytes(b"Subject: without identity\n\nup\n")
    deleted = next(iter(found.files(BOXES[1]).values()))
    deleted.unlink()
    for part in ("cur", "new", "tmp"):
        (found.maildir / "Made" / part).mkdir(parents=True)
    (found.maildir / "Old").rename(found.maildir / "Renamed")
    found.store.move(4, "INBOX", BOXES[1])
    found.store.expunge([5])
    found.store.set_flags(3, ["\\Answered"])
    found.store.append(b"Subject: new\r\n\r\nnew\r\n", flags=["$Label2"])


def moved_onto_a_copy(found: World) -> None:
    """A file was copied with its name, so that two mailboxes have the key; then the server moves the message there."""
    found.settings(mode="disconnected")
    found.store.create("A")
    found.sync()
    path = next(path for path in found.files().values() if path.read_bytes().replace(b"\n", b"\r\n") == found.store.contents()[1])
    for box in (BOXES[1], "A"):
        shutil.copy(path, found.maildir / box / "cur" / f"{path.name.partition(':')[0]}:2,S")
    found.sync()
    found.sync()
    found.store.move(1, "INBOX", BOXES[1])


def two_files_of_one_key(found: World) -> None:
    """As an earlier version has left them, with their rows; then one gets a flag, and a third one is made."""
    found.settings(mode="disconnected")
    found.sync()
    path, *_ = found.files(BOXES[1]).values()
    key = path.name.partition(":")[0]
    copy = path.with_name("1700000009.copy.here:2,F")
    copy.write_bytes(path.read_bytes() + b"more\n")
    found.sync()
    found.sync()
    with closing(sqlite3.connect(found.maildir / FILE_NAME)) as state, state:
        state.execute("UPDATE message SET key = ? WHERE key = ?", [key.encode(), b"1700000009.copy.here"])
    copy.rename(path.with_name(f"{key}:2,FS"))
    path.with_name(f"{key}:2,R").write_bytes(path.read_bytes() + b"and more\n")


def with_names_to_exchange(found: World) -> None:
    """Three mailboxes, one with something below it, which are the same on both sides."""
    found.settings(mode="disconnected")
    for number, name in enumerate(("A", "A/Sub", "B", "C")):
        found.store.create(name)
        for data in mails(2, seed=10 + number):
            found.store.append(data, name, ["$Label1"])
    found.sync()


def names_exchanged_there(found: World) -> None:
    """Two mailboxes have each other's names at the server, and a third one has another."""
    with_names_to_exchange(found)
    for old, new in (("A", "aside"), ("B", "A"), ("aside", "B"), ("C", BOXES[1] + "/C")):
        found.store.rename(old, new)


def names_exchanged_here(found: World) -> None:
    """Two folders have each other's names here, with what is below them."""
    with_names_to_exchange(found)
    for old, new in (("A", "aside"), ("B", "A"), ("aside", "B")):
        (found.maildir / old).rename(found.maildir / new)


def into_the_trash(found: World) -> None:
    """A file was removed here, others are marked on one side: all go to the trash, the marked ones with their files."""
    found.settings(mode="disconnected", trash="Trash")
    found.store.create("Trash")
    found.sync()
    found.settings(expunge=True)
    found.sync()
    paths = sorted(found.files().values())
    paths[0].unlink()
    # Without COPYUID the file is fetched again, as it is at the server; after a cut it is known again, and what it had goes up.
    letters = "FST" if "UIDPLUS" in found.server.capabilities else "T"  # type: ignore[attr-defined]
    paths[1].rename(paths[1].parent.parent / "cur" / f"{paths[1].name.partition(':')[0]}:2,{letters}")
    wire = paths[2].read_bytes().replace(b"\n", b"\r\n")
    found.store.set_flags(next(uid for uid, data in found.store.contents().items() if data == wire), ["\\Deleted", "$Label1"])
    with closing(sqlite3.connect(found.maildir / FILE_NAME)) as state, state:
        state.execute("UPDATE mailbox SET inode = NULL, born = NULL")


def moved_together(found: World) -> None:
    """The server has moved several messages, to each other's mailboxes, and some were given flags here meanwhile."""
    found.settings(mode="disconnected")
    found.store.create("A")
    found.sync()
    here = {path.read_bytes().replace(b"\n", b"\r\n"): path for path in found.files().values()}
    for uid, letters in ((1, "FS"), (2, "S"), (4, "")):
        path = here[found.store.contents()[uid]]
        path.rename(path.parent.parent / "cur" / f"{path.name.partition(':')[0]}:2,{letters}")
    shutil.copy(here[found.store.contents()[3]], found.maildir / BOXES[1] / "cur")  # another message under a name that comes there
    for uid in (1, 2, 3):
        found.store.move(uid, "INBOX", BOXES[1])
    found.store.move(4, "INBOX", "A")
    found.store.move(1, BOXES[1], "INBOX")
    with closing(sqlite3.connect(found.maildir / FILE_NAME)) as state, state:
        state.execute("UPDATE mailbox SET inode = NULL, born = NULL")


def an_older_folder(found: World) -> None:
    """A folder was restored from a copy: of one message it has what was before an edit, and another it does not have."""
    found.settings(mode="disconnected")
    found.store.create("Drafts", special_use="\\Drafts")
    for data in (b"Subject: a\r\nMessage-ID: <a@x>\r\n\r\nold\r\n", *mails(2, seed=7)):
        found.store.append(data, "Drafts")
    found.sync()
    folder, before = found.maildir / "Drafts", found.root / "copy"
    shutil.copytree(folder, before)
    path = next(path for path in found.files("Drafts").values() if path.read_bytes().endswith(b"\n\nold\n"))
    path.write_bytes(path.read_bytes() + b"and new\n")
    found.sync()
    found.sync()
    shutil.rmtree(folder)
    before.rename(folder)
    next(path for path in found.files("Drafts").values() if not path.read_bytes().endswith(b"\n\nold\n")).unlink()
    for part in ("cur", "new", "tmp"):
        (found.maildir / "Made" / part).mkdir(parents=True)


def another_layout(found: World) -> None:
    """Everything is here, and is to lie in another way."""
    found.settings(mode="mirror")
    found.sync()
    found.settings(layout="maildir++")


def download_and_delete(found: World) -> None:
    """POP3 as it is by default."""
    found.settings(keep=0.0)


IMAP = [first_backup, mirror_of_changes, new_uidvalidity, renamed_mailbox, another_layout, offline]


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("kind", "prepare"),
    [("imap", prepare) for prepare in IMAP]
    + [("bare imap", prepare) for prepare in (first_backup, mirror_of_changes, offline)]
    + [(kind, changes_on_both_sides) for kind in ("imap", "bare imap")]
    + [(kind, prepare) for kind in ("imap", "bare imap") for prepare in (moved_onto_a_copy, two_files_of_one_key)]
    + [(kind, prepare) for kind in ("imap", "bare imap") for prepare in (names_exchanged_there, names_exchanged_here)]
    + [(kind, into_the_trash) for kind in ("imap", "bare imap")]
    + [("imap", an_older_folder), ("imap", moved_together), ("bare imap", moved_together)]
    + [("pop3", download_and_delete), ("pop3 without uidl", download_and_delete)],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
def test_killed_at_every_effect(tmp_path: Path, kind: str, prepare: Callable[[World], None]) -> None:
    store = filled()
    server = (
        Pop3Server(store, options=Pop3Options(uidl=kind == "pop3"))
        if kind.startswith("pop3")
        else ImapServer(store, capabilities=BARE if kind == "bare imap" else ALL)
    )
    with world(tmp_path, store, server) as found, runner() as run:
        prepare(found)
        scenario = Scenario(found, tmp_path / "template")
        scenario.save()
        complete = scenario.everything()
        scenario.begin()
        found.sync()
        wanted_here, wanted_there = scenario.here(), scenario.there()
        complete &= scenario.everything()  # what the user has deleted is not missed
        number = 0
        while True:
            number += 1
            scenario.begin()
            outcome = run(number, found)
            assert outcome in {"crashed", "ended"}, f"at effect {number}: {outcome}"
            assert complete <= scenario.everything(), f"lost at effect {number}"
            found.sync()
            assert scenario.here() == wanted_here, f"after effect {number}"
            assert scenario.there() == wanted_there, f"after effect {number}"
            assert found.in_tmp() == [], f"after effect {number}"
            report = found.sync()
            done = [report.downloaded, report.uploaded, report.flags_pushed, report.flags_pulled, report.moved_local]
            done += [report.moved_remote, report.deleted_local, report.deleted_remote]
            assert done == [0] * 8, f"after effect {number}"
            if outcome == "ended":
                break
        assert number > 15, "so few effects cannot be all"
