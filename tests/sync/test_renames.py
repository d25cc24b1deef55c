"""Mailboxes, or folders, whose names are exchanged or handed on: they are renamed on the other side, and nothing is transferred."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.servers.base import Cut
from tests.servers.imap import ALL, BARE, ImapServer
from tests.servers.mailbox import Store
from tests.sync.test_folders import filled
from tests.sync.test_twoway import assert_equal, done
from tests.sync.world import World, world

MODES = ("disconnected", "mirror", "backup")


def exchanged(rename: Callable[[str, str], object]) -> None:
    rename("A", "aside")
    rename("B", "A")
    rename("aside", "B")


def handed_on(rename: Callable[[str, str], object]) -> None:
    rename("B", "C")
    rename("A", "B")


def three_in_a_circle(rename: Callable[[str, str], object]) -> None:
    rename("A", "aside")
    rename("B", "A")
    rename("D", "B")
    rename("aside", "D")


CHANGES = (exchanged, handed_on, three_in_a_circle)


@pytest.fixture(params=["all", "bare"])
def account(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    """Mailboxes with something below them, and an empty one, synchronised once."""
    store = filled("A", "A/Sub", "B", "D")
    store.create("B/Empty")
    server = ImapServer(store, capabilities=ALL if request.param == "all" else BARE)
    with world(tmp_path, store, server, mode="disconnected") as found:
        found.sync()
        yield found


def assert_nothing_crossed(found: World) -> None:
    assert not [line for line in found.commands if "BODY.PEEK[]" in line or line.startswith(("APPEND", "UID COPY", "UID MOVE"))]


class TestAtTheServer:
    @pytest.mark.parametrize("mode", MODES)
    @pytest.mark.parametrize("offered", [ALL, BARE], ids=["all", "bare"])
    def test_without_any_message_id(self, tmp_path: Path, offered: frozenset[str], mode: str) -> None:
        """What proves that they are the same is size and date of arrival, under the same UIDs."""
        store = Store()
        for name in ("A", "B"):
            store.create(name)
            for number in range(3):
                data = f"Subject: {name}{number}\r\n\r\n{name * (number + 1)}\r\n".encode()
                store.append(data, name, internaldate=1_700_000_000 + number + len(name) * ord(name))
        with world(tmp_path, store, ImapServer(store, capabilities=offered), mode=mode) as account:
            account.sync()
            exchanged(store.rename)
            report = account.sync()
            assert report.downloaded == report.uploaded == 0
            for name in ("A", "B"):
                stored = {path.read_bytes().replace(b"\n", b"\r\n") for path in account.files(name).values()}
                assert stored == {message.data for message in store.mailboxes[name].messages}

    @pytest.mark.parametrize("mode", MODES)
    @pytest.mark.parametrize("change", CHANGES)
    def test_the_folders_follow(self, account: World, change: Callable[[Callable[[str, str], object]], None], mode: str) -> None:
        account.settings(mode=mode)
        account.sync()
        change(account.store.rename)
        account.commands.clear()
        plan = account.run(dry_run=True)
        assert plan.failure is None
        assert {action.as_dict()["do"] for action in plan.plan} == {"rename-local-mailbox"}
        assert set(done(account.sync())) == {"moved_local"}
        assert_nothing_crossed(account)
        for name in account.store.mailboxes:
            account.assert_same(name)
        assert not list(account.maildir.rglob(".fetchmail-py.renaming*"))
        account.settings(mode="disconnected")
        account.sync()
        assert_equal(account)

    def test_one_uidvalidity_for_all(self, tmp_path: Path) -> None:
        """Then only the messages tell which mailbox is which."""
        store = filled("A", "B")
        store.append(b"Subject: one more\r\n\r\n", "B")
        for box in store.mailboxes.values():
            box.uidvalidity = 1
        with world(tmp_path, store, ImapServer(store, capabilities=BARE), mode="disconnected") as found:
            found.sync()
            exchanged(store.rename)
            store.append(b"Subject: new\r\n\r\n", "A")
            assert done(found.sync()) == {"moved_local": 2, "downloaded": 1}
            assert_equal(found)

    def test_the_old_name_is_another_mailboxs_now(self, account: World) -> None:
        """What has taken the place of one that is gone for good has not been exchanged with it: nothing is lost for it."""
        before = {path.read_bytes() for name in ("A", "B", "A/Sub") for path in account.files(name).values()}
        account.store.delete("B")
        account.store.rename("A", "B")
        for _ in range(2):
            account.run()
            assert before <= {path.read_bytes() for path in account.maildir.rglob("*") if path.parent.name in {"cur", "new"}}

    def test_a_folder_of_that_name_is_there_already(self, account: World) -> None:
        """It is somebody else's: nothing of it is replaced or mixed, and no run gets stuck over it."""
        for part in ("tmp", "new", "cur"):
            (account.maildir / "C" / part).mkdir(parents=True)
        other = account.maildir / "C/cur/1700000001.other.here:2,S"
        other.write_bytes(b"Subject: other\n\n")
        handed_on(account.store.rename)
        account.commands.clear()
        for _ in range(2):
            account.sync()
        assert_nothing_crossed(account)
        assert other.exists()
        assert len(account.files("B")) == 6


class TestHere:
    @pytest.mark.parametrize("change", CHANGES)
    def test_the_mailboxes_follow(self, account: World, change: Callable[[Callable[[str, str], object]], None]) -> None:
        change(lambda old, new: (account.maildir / old).rename(account.maildir / new))
        account.commands.clear()
        before = account.store.mailboxes["A"], account.store.mailboxes["A/Sub"]
        plan = account.run(dry_run=True)
        assert plan.failure is None
        assert {action.as_dict()["do"] for action in plan.plan} == {"rename-remote-mailbox"}
        assert set(done(account.sync())) == {"moved_remote"}
        assert_nothing_crossed(account)
        assert not [name for name in account.store.mailboxes if "fetchmail-py" in name]
        to = before[0].name
        assert to in {"B", "D"}
        assert before[1].name == f"{to}/Sub"
        assert_equal(account)
        folders = {str(path.parent.relative_to(account.maildir)) for path in account.maildir.rglob("cur")}
        assert account.store.mailboxes.keys() == folders

    def test_in_a_copy_of_it_all(self, account: World) -> None:
        """Then no folder is the one it was: what is in them tells."""
        shutil.copytree(account.maildir, account.root / "copy")
        shutil.rmtree(account.maildir)
        (account.root / "copy").rename(account.maildir)
        assert done(account.sync()) == {}
        handed_on(lambda old, new: (account.maildir / old).rename(account.maildir / new))
        assert set(done(account.sync())) == {"moved_remote"}
        assert_equal(account)

    def test_on_both_sides(self, account: World) -> None:
        exchanged(lambda old, new: (account.maildir / old).rename(account.maildir / new))
        exchanged(account.store.rename)
        account.commands.clear()
        account.sync()
        assert_nothing_crossed(account)
        assert not [line for line in account.commands if line.startswith("RENAME")]
        assert_equal(account)

    def test_another_way_there(self, account: World) -> None:
        """What was done here is done there too."""
        exchanged(lambda old, new: (account.maildir / old).rename(account.maildir / new))
        account.store.rename("A", "C")
        account.commands.clear()
        account.sync()
        assert_nothing_crossed(account)
        assert_equal(account)

    @pytest.mark.parametrize("name", ["A", "B", "A-fetchmail-py"])
    def test_refused(self, account: World, name: str) -> None:
        """The mailboxes keep their names, and the folders what they were given: what comes finds its place all the same."""
        exchanged(lambda old, new: (account.maildir / old).rename(account.maildir / new))
        boxes = {name: account.store.mailboxes[name] for name in ("A", "B")}
        server = account.server
        assert isinstance(server, ImapServer)
        server.options.refuse_rename_to = name
        report = account.run()
        assert report.failure is not None
        server.options.refuse_rename_to = ""
        assert report.deleted_remote == report.deleted_local == report.uploaded == report.downloaded == 0
        account.store.append(b"Subject: to A\r\n\r\n", boxes["A"].name)
        account.commands.clear()
        account.sync()
        assert sum("BODY.PEEK[]" in line for line in account.commands) == 1
        assert len(account.files("B")) == 7
        assert done(account.sync()) == {}
        assert not [name for name in account.store.mailboxes if "fetchmail-py" in name]
        assert {boxes["A"].name, boxes["B"].name} == {"A", "B"}

    def test_inbox_keeps_its_name(self, account: World) -> None:
        account.maildir.joinpath("INBOX").rename(account.maildir / "aside")
        account.maildir.joinpath("A").rename(account.maildir / "INBOX")
        account.maildir.joinpath("aside").rename(account.maildir / "A")
        report = account.run()
        assert report.stops
        assert report.uploaded == report.downloaded == report.deleted_remote == report.deleted_local == 0

    def test_another_client_makes_the_old_one_again_after_a_cut(self, account: World) -> None:
        """As phones do with Sent or Drafts. What cannot be called as its folder is told of, and goes on under its name."""
        exchanged(lambda old, new: (account.maildir / old).rename(account.maildir / new))
        renames = []

        def cut(line: str, _: object) -> None:
            if line.startswith("RENAME"):
                renames.append(line)
                if len(renames) == 2:
                    raise Cut

        account.server.faults.hook = cut
        assert account.run().failure is not None
        account.server.faults.hook = None
        account.store.create("A")
        account.commands.clear()
        for _ in range(2):
            report = account.run()
            assert report.failure is None
            assert any("which is taken there" in notice for notice in report.notices)
        assert not [line for line in account.commands if line.startswith("RENAME")]
        assert_nothing_crossed(account)
        account.store.rename("A", "Theirs")
        account.run()
        account.run()
        assert done(account.run()) == {}
        assert_nothing_crossed(account)
        assert account.store.mailboxes.keys() == {"INBOX", "A", "A/Sub", "B", "B/Empty", "D", "Theirs"}
        assert {len(account.files("A")), len(account.files("B"))} == {6}

    def test_after_one_of_them_was_another_mailbox(self, account: World) -> None:
        """Its mailbox was deleted at the server, and its folder renamed: it is a new mailbox's, and the old one's row has it."""
        account.store.delete("D")
        account.run()
        (account.maildir / "D").rename(account.maildir / "E")
        assert done(account.run()) == {"uploaded": 6}
        account.run()
        (account.maildir / "E").rename(account.maildir / "aside")
        (account.maildir / "B").rename(account.maildir / "E")
        (account.maildir / "aside").rename(account.maildir / "B")
        account.commands.clear()
        report = account.sync()
        assert not [notice for notice in report.notices if "damaged" in notice]
        assert_nothing_crossed(account)
        account.sync()
        assert_equal(account)
