"""The way to the trash, cut at each of its steps: one copy there, none where it was, and no deletion that is forgotten."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from fetchmail_py.errors import ExitStatus
from fetchmail_py.store.state import FILE_NAME
from tests.servers.base import Connection, Cut
from tests.servers.imap import ALL, BARE, ImapServer
from tests.servers.mails import mails
from tests.sync.test_folders import filled
from tests.sync.test_twoway import assert_equal, done
from tests.sync.world import World, world

SERVERS = {"MOVE": ALL, "COPY": ALL - {"MOVE"}, "bare": BARE}
CUTS = 3


@pytest.fixture(params=SERVERS)
def account(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    """A mailbox with six messages, synchronised, and an empty trash."""
    store = filled("A")
    store.create("Trash")
    server = ImapServer(store, capabilities=SERVERS[request.param])
    with world(tmp_path, store, server, mode="disconnected", trash="Trash") as found:
        found.sync()
        yield found


def first(found: World) -> Path:
    return sorted(found.files("A").values())[0]


def removed_here(found: World) -> None:
    first(found).unlink()


def marked_here(found: World) -> None:
    found.settings(expunge=True)
    path = first(found)
    path.rename(path.parent.parent / "cur" / f"{path.name.partition(':')[0]}:2,T")


def marked_there(found: World) -> None:
    found.settings(expunge=True)
    found.store.set_flags(2, {"\\Deleted"}, "A")


def marked_on_both_sides(found: World) -> None:
    found.store.set_flags(2, {"\\Deleted"}, "A")
    found.sync()
    found.settings(expunge=True)


def marked_and_never_here(found: World) -> None:
    found.settings(expunge=True)
    found.store.append(next(mails(1, seed=77)), "A", flags={"\\Deleted"})


@pytest.mark.parametrize("step", ["-FLAGS", "UID COPY", "UID MOVE", "+FLAGS", "EXPUNGE"])
@pytest.mark.parametrize(
    "delete", [removed_here, marked_here, marked_there, marked_on_both_sides, marked_and_never_here]
)
def test_it_arrives_once_and_goes_where_it_was(account: World, delete: object, step: str) -> None:
    assert callable(delete)
    delete(account)
    cuts = 0

    def cut(line: str, connection: Connection) -> None:
        nonlocal cuts
        del connection
        if step in line and cuts < CUTS:
            cuts += 1
            raise Cut

    account.server.faults.hook = cut
    for _ in range(CUTS):
        report = account.run()
        if report.exit_status is ExitStatus.OK:
            break
        assert report.exit_status is ExitStatus.TRY_AGAIN, report.failure
        assert len(account.store.contents("Trash")) <= 1
    account.sync()
    left = 6 if delete is marked_and_never_here else 5
    assert len(account.store.contents("Trash")) == len(account.files("Trash")) == 1
    assert len(account.store.contents("A")) == len(account.files("A")) == left
    assert not [path for path in account.files("Trash").values() if "T" in path.name.partition(":2,")[2]]
    account.server.log.clear()
    account.sync()
    assert not [line for line in account.commands if "STORE" in line or "COPY" in line or "EXPUNGE" in line]


def test_another_message_of_the_trash_is_not_taken_for_the_copy(account: World) -> None:
    """One like it that was there before, and one without a Message-ID: both originals have to arrive all the same."""
    bare = b"Subject: bare\r\n\r\nx\r\n"
    like = account.store.contents("A")[2]
    account.store.append(like, "Trash")
    account.store.append(bare, "A")
    account.sync()
    for path in account.files("A").values():
        if path.read_bytes().replace(b"\n", b"\r\n") in {bare, like}:
            path.unlink()
    cuts = 0

    def cut(line: str, connection: Connection) -> None:
        nonlocal cuts
        del connection
        if ("UID COPY" in line or "UID MOVE" in line) and not cuts:
            cuts += 1
            account.store.append(bare, "Trash")  # somebody else's
            raise Cut

    account.server.faults.hook = cut
    assert account.run().exit_status is ExitStatus.TRY_AGAIN
    account.sync()
    trash = list(account.store.contents("Trash").values())
    assert (trash.count(like), trash.count(bare)) == (2, 2)
    assert len(account.store.contents("A")) == 5


class TestWhatComesDownIsNoNewMail:
    """It was here before, and its user has just deleted it."""

    def test_removed_here(self, account: World) -> None:
        removed_here(account)
        report = account.sync()
        assert done(report) == {"deleted_remote": 1}
        assert (report.downloaded_bytes, report.arrivals) == (0, [])
        assert_equal(account)
        assert len(account.files("Trash")) == 1

    def test_new_mail_beside_it_is(self, account: World) -> None:
        """Also in the trash itself, where others deliver too; but no second time what is like it."""
        data = first(account).read_bytes()
        removed_here(account)
        account.store.append(b"Subject: new\r\n\r\n")
        account.store.append(b"Subject: a rule put it here\r\n\r\n", "Trash")
        report = account.sync()
        assert done(report) == {"deleted_remote": 1, "downloaded": 2}
        assert sorted(arrival.mailbox for arrival in report.arrivals) == ["INBOX", "Trash"]
        account.store.append(data.replace(b"\n", b"\r\n"), "Trash")
        assert done(account.sync()) == {"downloaded": 1}

    def test_a_trash_that_is_yet_to_be_made(self, account: World) -> None:
        account.settings(trash="Bin")
        removed_here(account)
        assert done(account.sync()) == {"deleted_remote": 1}
        assert_equal(account)
        assert len(account.files("Bin")) == 1

    def test_after_a_cut_before_the_answer(self, account: World) -> None:
        """The server has moved it, and the run knows of nothing."""
        removed_here(account)

        def cut(line: str, connection: Connection) -> None:
            del connection
            if line.startswith(("UID MOVE", "UID COPY")):
                account.store.append(account.store.contents("A")[1], "Trash")
                if "UID MOVE" in line:
                    account.store.expunge([1], "A")
                raise Cut

        account.server.faults.hook = cut
        assert account.run().exit_status is ExitStatus.TRY_AGAIN
        account.server.faults.hook = None
        report = account.sync()
        assert report.downloaded == 0
        assert_equal(account)
        assert len(account.files("Trash")) == 1

    def test_after_a_cut_before_it_has_come_down(self, account: World) -> None:
        removed_here(account)

        def cut(line: str, connection: Connection) -> None:
            del connection
            if "BODY.PEEK[]" in line:
                raise Cut

        account.server.faults.hook = cut
        assert account.run().exit_status is ExitStatus.TRY_AGAIN
        account.server.faults.hook = None
        assert account.sync().downloaded == 0
        assert_equal(account)

    @pytest.mark.parametrize("delete", [marked_here, marked_there, marked_on_both_sides])
    def test_a_file_that_is_still_here_goes_to_the_trash_here(self, account: World, delete: object) -> None:
        """So that no body crosses the wire, where the server tells the UID it has there."""
        assert callable(delete)
        delete(account)
        account.server.log.clear()
        report = account.sync()
        told = "UIDPLUS" in account.server.capabilities  # type: ignore[attr-defined]
        assert done(report) == {"deleted_remote": 1, "moved_local" if told else "deleted_local": 1}
        assert any("BODY.PEEK[]" in line for line in account.commands) == (not told)
        assert_equal(account)
        assert len(account.files("Trash")) == 1

    def test_with_what_was_changed_on_the_way(self, account: World) -> None:
        account.settings(expunge=True)
        path = first(account)
        path.rename(path.parent.parent / "cur" / f"{path.name.partition(':')[0]}:2,FST")
        account.sync()
        assert_equal(account)

    def test_marked_and_never_here(self, account: World) -> None:
        marked_and_never_here(account)
        told = "UIDPLUS" in account.server.capabilities  # type: ignore[attr-defined]
        assert account.sync().downloaded == (0 if told else 1)
        assert_equal(account)

    def test_a_trash_that_does_not_come_here(self, account: World) -> None:
        account.settings(expunge=True, mailboxes=("*", "!Trash"))
        removed_here(account)
        marked = sorted(account.files("A").values())[1]
        marked.rename(marked.parent.parent / "cur" / f"{marked.name.partition(':')[0]}:2,T")
        report = account.sync()
        assert (report.downloaded, report.deleted_remote) == (0, 2)
        assert len(account.store.contents("Trash")) == 2
        assert account.files("Trash") == {}
        assert done(account.sync()) == {}

    @pytest.mark.parametrize("delete", [marked_here, marked_on_both_sides])
    def test_a_cut_before_the_answer_does_not_expunge_it_from_the_trash(self, account: World, delete: object) -> None:
        """The file has its mark still, and follows its message into the trash: there that mark would mean for good."""
        assert callable(delete)
        delete(account)

        def cut(line: str, connection: Connection) -> None:
            del connection
            if line.startswith(("UID MOVE", "UID COPY")):
                account.store.move(int(line.split()[2]), "A", "Trash")
                raise Cut

        account.server.faults.hook = cut
        assert account.run().exit_status is ExitStatus.TRY_AGAIN
        account.server.faults.hook = None
        for _ in range(2):
            account.sync()
        assert len(account.store.contents("Trash")) == 1
        assert_equal(account)


@pytest.mark.parametrize("side", ["here", "there", "both"])
def test_marked_and_moved_into_the_trash_by_hand(account: World, side: str) -> None:
    """It is where the mark would bring it; there it would mean for good."""
    account.settings(expunge=True)
    account.sync()
    data = account.store.contents("A")[3].replace(b"\r\n", b"\n")
    path = next(path for path in account.files("A").values() if path.read_bytes() == data)
    path.rename(account.maildir / "Trash/cur" / f"{path.name.partition(':')[0]}:2,F{'S' if side == 'there' else 'ST'}")
    if side != "here":
        account.store.set_flags(3, {"\\Deleted", "\\Answered"}, "A")
    for _ in range(3):
        account.sync()
    assert len(account.store.contents("Trash")) == 1
    assert account.store.mailboxes["Trash"].messages[0].flags >= {"\\Flagged", "\\Seen"}
    assert_equal(account)


def test_what_was_on_its_way_from_a_mailbox_that_is_gone_is_forgotten_with_it(account: World) -> None:
    """The number it had here may be another mailbox's next: what is deleted there has nothing to do with it."""
    marked_here(account)

    def cut(line: str, connection: Connection) -> None:
        del connection
        if "UID MOVE" in line or "UID COPY" in line:
            raise Cut

    account.server.faults.hook = cut
    assert account.run().exit_status is ExitStatus.TRY_AGAIN
    account.server.faults.hook = None

    def on_their_way() -> list[tuple[str]]:
        with closing(sqlite3.connect(account.maildir / FILE_NAME)) as state:
            return state.execute("SELECT key FROM meta WHERE key LIKE 'to-trash:%'").fetchall()

    assert on_their_way()
    account.store.delete("A")
    shutil.rmtree(account.maildir / "A")
    for _ in range(2):
        account.run()
    assert not on_their_way()
