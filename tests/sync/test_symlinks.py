"""Folders that are symbolic links: what they point to is neither read nor written, and nothing is deleted at the server for it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from fetchmail_py.errors import ExitStatus
from fetchmail_py.report import Report
from fetchmail_py.sync.status import status_of
from tests.servers.imap import ALL, BARE, ImapServer
from tests.servers.mails import mails
from tests.sync.test_folders import filled
from tests.sync.test_twoway import assert_equal, done
from tests.sync.world import World, world

MODES = ("disconnected", "mirror", "backup", "offline")
PLACES = ("A/B", "A", "A/B/cur")
"""What is a link: the folder, one above it, or what is in it."""


@pytest.fixture(params=["all", "bare"])
def account(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    """Two mailboxes and INBOX, synchronised once."""
    server = ImapServer(filled("A/B", "C"), capabilities=ALL if request.param == "all" else BARE)
    with world(tmp_path, server.store, server, mode="disconnected") as found:
        found.sync()
        yield found


def put_elsewhere(found: World, place: str) -> Path:
    """As somebody does whose disk is full."""
    to = found.root / "other disk"
    (found.maildir / place).rename(to)
    (found.maildir / place).symlink_to(to)
    return to


def put_back(found: World, place: str) -> None:
    (found.maildir / place).unlink()
    if (found.root / "other disk").exists():
        (found.root / "other disk").rename(found.maildir / place)


def everything(place: Path) -> dict[str, object]:
    """What is in a directory: names, and each file's own times and content."""
    return {str(path): (path.stat().st_mtime_ns, path.is_file() and path.read_bytes()) for path in (place, *place.rglob("*"))}


def refused(report: Report) -> None:
    assert report.exit_status is ExitStatus.DISK
    assert report.failure is not None
    assert "is a symbolic link" in report.failure.detail
    assert report.failure.mailbox == "A/B"


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("place", PLACES)
def test_nothing_is_done_there_and_the_others_go_on(account: World, place: str, mode: str) -> None:
    account.settings(mode=mode)
    account.sync()
    elsewhere = put_elsewhere(account, place)
    before = everything(elsewhere)
    account.store.append(b"Subject: new\r\n\r\n", "A/B")
    account.store.append(b"Subject: new\r\n\r\n", "C")
    if mode != "offline":
        account.store.set_flags(1, ["\\Flagged"], "A/B")
        account.store.expunge([2], "A/B")
    there = account.store.contents("A/B")
    for new in (1, 0):
        report = account.run()
        refused(report)
        assert done(report).get("downloaded", 0) == new
        assert report.deleted_local == 0
    assert everything(elsewhere) == before
    assert account.store.contents("A/B") == there
    (shown,) = [box.last_error for box in status_of(account.account).mailboxes if box.name == "A/B"]
    assert "is a symbolic link" in str(shown)
    put_back(account, place)
    account.sync()
    assert not [box.last_error for box in status_of(account.account).mailboxes if box.last_error]
    if mode in {"disconnected", "mirror"}:
        account.assert_same("A/B")
        account.assert_same("C")


@pytest.mark.parametrize("place", PLACES)
def test_what_is_removed_behind_it_is_not_deleted_at_the_server(account: World, place: str) -> None:
    put_elsewhere(account, place)
    for path in list(account.files("A/B").values())[:2]:
        path.unlink()
    for options in ({}, {"full": True}, {"fresh": True}, {"allow_mass_delete": True}):
        refused(account.run(**options))  # type: ignore[arg-type]
    assert len(account.store.contents("A/B")) == 6
    put_back(account, place)
    assert done(account.sync()) == {"deleted_remote": 2}
    assert_equal(account)


def test_a_disk_that_is_not_there(account: World) -> None:
    elsewhere = put_elsewhere(account, "A")
    elsewhere.rename(account.root / "unmounted")
    refused(account.run())
    assert len(account.store.contents("A/B")) == 6
    (account.root / "unmounted").rename(elsewhere)
    put_back(account, "A")
    assert done(account.sync()) == {}
    assert_equal(account)


def test_what_was_moved_behind_it_stays_at_the_server(account: World) -> None:
    put_elsewhere(account, "A/B")
    path = next(iter(account.files().values()))
    path.rename(account.maildir / "A/B/cur" / f"{path.name.partition(':')[0]}:2,S")
    for _ in range(2):
        report = account.run()
        refused(report)
        assert any("moved there from INBOX" in notice for notice in report.notices)
        assert len(account.store.contents()) == 6
    put_back(account, "A/B")
    assert done(account.sync())["moved_remote"] == 1
    assert_equal(account)


def test_a_mailbox_that_is_renamed_at_the_server(account: World) -> None:
    elsewhere = put_elsewhere(account, "A/B")
    before = everything(elsewhere)
    account.store.rename("A/B", "Fresh")
    assert account.run().exit_status is ExitStatus.DISK
    assert everything(elsewhere) == before
    assert os.path.islink(account.maildir / "A/B")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("lost", [False, True])
def test_a_new_mailbox_whose_place_is_a_link(account: World, mode: str, *, lost: bool) -> None:
    """Somebody else's mail lies there."""
    theirs = account.root / "theirs"
    for part in ("tmp", "new", "cur"):
        (theirs / part).mkdir(parents=True)
    (theirs / "cur/1700000001.x.y:2,").write_bytes(b"Subject: not ours\n\n")
    before = everything(theirs)
    (account.maildir / "Fresh").symlink_to(theirs)
    account.settings(mode=mode)
    if lost:
        (account.maildir / ".fetchmail-py.sqlite3").unlink()
    account.store.create("Fresh")
    for data in mails(3, seed=33):
        account.store.append(data, "Fresh")
    for _ in range(2):
        report = account.run()
        assert report.exit_status is ExitStatus.DISK
        assert everything(theirs) == before
    assert len(account.store.contents("Fresh")) == 3
    (account.maildir / "Fresh").unlink()
    assert account.sync().downloaded == 3


@pytest.mark.parametrize("part", ["cur", "new", "tmp"])
def test_a_folder_made_here_with_a_link_in_it_goes_nowhere(account: World, part: str) -> None:
    """What it points to may be anybody's: nothing of it goes up."""
    theirs = account.root / "theirs"
    theirs.mkdir()
    (theirs / "1700000001.x.y").write_bytes(b"Subject: not ours\n\n")
    for own in {"cur", "new", "tmp"} - {part}:
        (account.maildir / "Made" / own).mkdir(parents=True)
    (account.maildir / "Made" / part).symlink_to(theirs)
    before = everything(theirs)
    for _ in range(2):
        assert done(account.sync()) == {}
    assert "Made" not in account.store.mailboxes
    assert everything(theirs) == before


@pytest.mark.parametrize("mode", ["disconnected", "mirror", "backup"])
def test_what_lies_there_once_the_folder_itself_is_there_is_recognised(account: World, mode: str) -> None:
    """A mailbox that no run has looked at is new to the state, however often it was met: its mail may be here already."""
    account.settings(mode=mode)
    account.sync()
    account.store.create("Fresh")
    elsewhere = account.root / "elsewhere"
    for part in ("tmp", "new", "cur"):
        (elsewhere / part).mkdir(parents=True)
    for number, data in enumerate(mails(3, seed=33)):
        account.store.append(data, "Fresh")
        (elsewhere / f"cur/170000000{number}.x.y:2,").write_bytes(data.replace(b"\r\n", b"\n"))
    (account.maildir / "Fresh").symlink_to(elsewhere)
    assert account.run().exit_status is ExitStatus.DISK
    (account.maildir / "Fresh").unlink()
    elsewhere.rename(account.maildir / "Fresh")
    assert done(account.sync()) == {}
    assert len(account.files("Fresh")) == len(account.store.contents("Fresh")) == 3
