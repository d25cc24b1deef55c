"""Mailboxes, or folders, whose names are exchanged or handed on: they are renamed on the other side, and nothing is transferred."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fetchmail_py.sync.status import status_of
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


def apart(found: World) -> dict[str, str]:
    """The mailboxes that `status` says are called otherwise than their folders, and what it says."""
    boxes = status_of(found.account).mailboxes
    return {box.name: box.last_error for box in boxes if box.last_error and "so that both have one name" in box.last_error}


def rename(found: World, old: str, new: str) -> None:
    """Gives a folder another name."""
    (found.maildir / old).rename(found.maildir / new)


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
        for told in (2, 0):  # it and what is below it
            report = account.run()
            assert report.failure is None
            assert sum("which is taken there" in notice for notice in report.notices) == told
            assert apart(account).keys() == {"A-fetchmail-py", "A-fetchmail-py/Sub", "B", "B/Empty"}
            assert apart(account)["A-fetchmail-py"].startswith("it was A at the server, which is taken there; its folder is B: ")
        assert not [line for line in account.commands if line.startswith("RENAME")]
        assert_nothing_crossed(account)
        account.store.rename("A", "Theirs")
        account.run()
        account.run()
        assert apart(account).keys() == {"A", "A/Sub", "B", "B/Empty"}
        assert done(account.run()) == {}
        assert_nothing_crossed(account)
        assert account.store.mailboxes.keys() == {"INBOX", "A", "A/Sub", "B", "B/Empty", "D", "Theirs"}
        assert {len(account.files("A")), len(account.files("B"))} == {6}
        exchanged(lambda old, new: (account.maildir / old).rename(account.maildir / new))
        account.commands.clear()
        account.sync()
        assert apart(account) == {}
        assert not [line for line in account.commands if line.startswith("RENAME")]
        assert_nothing_crossed(account)
        assert_equal(account)

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


class TestRenamedDifferentlyOnBothSides:
    """Nothing is lost for it, and what cannot be brought together is shown until somebody does it: in either way."""

    @pytest.fixture
    def parted(self, account: World) -> World:
        """A and B have each other's names here; A and D there."""
        exchanged(lambda old, new: (account.maildir / old).rename(account.maildir / new))
        account.store.rename("A", "aside")
        account.store.rename("D", "A")
        account.store.rename("aside", "D")
        told = [account.sync().notices for _ in range(3)]
        assert told[0]
        assert told[1:] == [[], []]
        account.commands.clear()
        return account

    def assert_solved(self, account: World) -> None:
        for _ in range(2):
            assert account.sync().notices == []
        assert apart(account) == {}
        assert_nothing_crossed(account)
        assert_equal(account)

    def test_status_shows_it(self, parted: World) -> None:
        shown = apart(parted)
        assert shown.keys() == {"B", "B/Empty", "D", "D/Sub"}
        assert shown["B"].startswith("its folder is A: rename that to B here")
        assert shown["D"].startswith("it was A at the server, which is taken there; its folder is B: rename that to D here")
        for name in ("INBOX", "A", "B", "D"):
            assert len(parted.store.contents(name)) == 6

    def test_solved_here(self, parted: World) -> None:
        displaced = next(path.name for path in parted.maildir.iterdir() if "%~" in path.name)
        rename(parted, "B", "D")
        rename(parted, "A", "B")
        rename(parted, displaced, "A")
        self.assert_solved(parted)
        assert not [line for line in parted.commands if line.startswith("RENAME")]

    def test_solved_here_one_after_the_other(self, parted: World) -> None:
        displaced = next(path.name for path in parted.maildir.iterdir() if "%~" in path.name)
        rename(parted, "B", "D")
        parted.sync()
        assert apart(parted).keys() == {"B", "B/Empty"}
        rename(parted, "A", "B")
        parted.sync()
        assert apart(parted).keys() == {"A"}
        rename(parted, displaced, "A")
        self.assert_solved(parted)

    def test_solved_at_the_server(self, parted: World) -> None:
        for name in ("B", "D"):
            parted.store.rename(name, f"New {name}")
        parted.sync()
        assert apart(parted).keys() <= {"A"}
        displaced = next(path.name for path in parted.maildir.iterdir() if "%~" in path.name)
        (parted.maildir / displaced).rename(parted.maildir / "A")
        self.assert_solved(parted)

    def test_one_name_for_two(self, account: World) -> None:
        """A became X here, and B there. Either folder gets back what it is at the server."""
        (account.maildir / "A").rename(account.maildir / "X")
        account.store.rename("B", "X")
        account.sync()
        account.sync()
        assert apart(account).keys() >= {"X"}
        account.commands.clear()
        (account.maildir / "X").rename(account.maildir / "A")
        (account.maildir / "B").rename(account.maildir / "X")
        self.assert_solved(account)

    def test_names_that_are_no_others(self, tmp_path: Path) -> None:
        """A folder as another program calls it, a level mapped to another name, and names in any layout agree."""
        store = filled("A", "Ünï & mehr/x", "Old/1", "a" * 300, "%")
        for layout in ("fs", "maildir++"):
            place = tmp_path / layout
            place.mkdir()
            (place / "mail" / "&ANw-n&AO8- &- mehr" / "x").mkdir(parents=True)
            for part in ("cur", "new", "tmp"):
                (place / "mail" / "&ANw-n&AO8- &- mehr" / "x" / part).mkdir()
            settings: dict[str, object] = {"mode": "disconnected", "map": {"Old": "Archive"}, "layout": layout}
            with world(place, store, ImapServer(store), **settings) as found:
                found.sync()
                assert apart(found) == {}
                found.settings(map={}, layout="fs")
                assert apart(found) == {}  # that is yet to come, and will
