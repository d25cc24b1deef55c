"""The guard against mass deletion over several runs: what waits goes on waiting, whatever else happens meanwhile."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fetchmail_py.errors import ExitStatus
from tests.servers.imap import ALL, BARE, ImapServer
from tests.servers.mailbox import Store
from tests.servers.mails import mails
from tests.sync.test_twoway import assert_equal, done
from tests.sync.world import World, world


def filled(count: int) -> Store:
    store = Store()
    store.create("Other")
    for data in mails(count):
        store.append(data)
    for data in mails(4, seed=7):
        store.append(data, "Other")
    return store


@pytest.fixture(params=[ALL, BARE], ids=["all", "bare"])
def account(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    """Ten messages in INBOX, four in another mailbox, synchronised once."""
    store = filled(10)
    with world(tmp_path, store, ImapServer(store, capabilities=request.param), mode="disconnected") as found:
        found.sync()
        yield found


def emptied_here(found: World) -> None:
    for path in found.files().values():
        path.unlink()


def emptied_there(found: World) -> None:
    found.store.expunge(list(found.store.contents()))


def new_mail_there(found: World) -> None:
    found.store.append(b"Message-ID: <new@example.org>\r\nSubject: new\r\n\r\nbody\r\n")


def new_mail_here(found: World) -> None:
    number = len(list(found.maildir.glob("INBOX/cur/*")))
    (found.maildir / f"INBOX/cur/170000000{number}.new.here:2,S").write_bytes(b"Subject: new\n\nbody\n")


def nothing(found: World) -> None:
    del found


@pytest.mark.parametrize("meanwhile", [nothing, new_mail_there, new_mail_here])
@pytest.mark.parametrize("event", [emptied_here, emptied_there])
def test_it_waits_until_it_is_let_through(
    account: World, event: Callable[[World], None], meanwhile: Callable[[World], None]
) -> None:
    event(account)
    for _ in range(3):
        report = account.run()
        assert report.exit_status is ExitStatus.SAFETY
        assert [stop.mailbox for stop in report.stops] == ["INBOX"]
        assert (report.deleted_local, report.deleted_remote) == (0, 0)
        assert len(account.store.contents()) >= 10 or len(account.files()) >= 10
        meanwhile(account)
    new = 0 if meanwhile is nothing else 3
    account.run(allow_mass_delete=True)
    assert account.run().failure is None
    assert len(account.store.contents()) == new
    assert_equal(account)


def test_nor_in_a_later_round_of_the_same_run(tmp_path: Path) -> None:
    """A deletion into the trash makes a run look again: what was refused in the first look is refused in the second."""
    store = filled(10)
    store.create("Trash", special_use="\\Trash")
    with world(tmp_path, store, ImapServer(store), mode="disconnected", trash="Trash") as found:
        found.sync()
        emptied_there(found)
        new_mail_there(found)
        next(iter(found.files("Other").values())).unlink()
        report = found.run()
        assert report.exit_status is ExitStatus.SAFETY
        assert len(report.stops) == 1
        assert report.deleted_local == 0
        assert len(found.files()) == 10
        assert len(store.contents("Trash")) == 1


def test_a_mirror_waits_too(tmp_path: Path) -> None:
    store = filled(40)
    with world(tmp_path, store, ImapServer(store), mode="mirror") as found:
        found.sync()
        store.expunge(list(store.contents())[:25])
        for _ in range(3):
            assert found.run().exit_status is ExitStatus.SAFETY
            for data in mails(15, seed=3):
                store.append(data)
        assert len(found.files()) == 40
        found.run(allow_mass_delete=True)
        found.sync()
        assert len(found.files()) == 60


def test_what_came_back_is_announced_anew(account: World, tmp_path: Path) -> None:
    """An announcement is good for the deletions it was about, while they wait."""
    shutil.copytree(account.maildir / "INBOX", tmp_path / "kept")
    emptied_here(account)
    assert account.run().exit_status is ExitStatus.SAFETY
    for path in (tmp_path / "kept").glob("*/*"):
        shutil.copy2(path, account.maildir / "INBOX" / path.parent.name / path.name)
    account.sync()
    emptied_here(account)
    report = account.run(allow_mass_delete=True)
    assert report.exit_status is ExitStatus.SAFETY
    assert len(account.store.contents()) == 10


def test_marked_and_gone_are_counted_together(tmp_path: Path) -> None:
    store = filled(4)
    with world(tmp_path, store, ImapServer(store), mode="disconnected", expunge=True) as found:
        found.sync()
        uids = list(store.contents())
        store.expunge(uids[:2])
        for uid in uids[2:]:
            store.set_flags(uid, {"\\Deleted"})
        assert found.run().exit_status is ExitStatus.SAFETY
        assert len(found.files()) == 4


def test_a_state_that_is_not_trusted_expunges_nothing(tmp_path: Path) -> None:
    store = filled(10)
    with world(tmp_path, store, ImapServer(store), mode="disconnected", expunge=True) as found:
        found.sync()
        for path in found.maildir.glob(".fetchmail-py.sqlite3*"):
            shutil.copy2(path, tmp_path / path.name)
        for _ in range(2):
            new_mail_there(found)
            found.sync()
        store.set_flags(next(iter(store.contents())), {"\\Deleted"})
        path = sorted(found.files().values())[5]
        path.rename(path.parent.parent / "cur" / f"{path.name.partition(':')[0]}:2,T")
        for path in found.maildir.glob(".fetchmail-py.sqlite3*"):
            path.unlink()
        for path in tmp_path.glob(".fetchmail-py.sqlite3*"):
            shutil.copy2(path, found.maildir / path.name)
        report = found.run()
        assert (report.deleted_local, report.deleted_remote) == (0, 0)
        assert len(store.contents()) == len(found.files()) == 12


def test_a_folder_that_was_restored_lacks_what_came_since(account: World, tmp_path: Path) -> None:
    """Folders from a copy, and the newest state: what is not in the copy was not deleted."""
    shutil.copytree(account.maildir / "INBOX", tmp_path / "kept")
    for data in mails(3, seed=5):
        account.store.append(data)
    account.sync()
    shutil.rmtree(account.maildir / "INBOX")
    shutil.copytree(tmp_path / "kept", account.maildir / "INBOX")
    assert done(account.sync()) == {"downloaded": 3}
    assert len(account.store.contents()) == 13
    assert_equal(account)


@pytest.mark.parametrize("there", [True, False])
def test_a_trash_that_no_server_names_is_one_all_the_same(tmp_path: Path, *, there: bool) -> None:
    """Whoever asks for a trash does not want to have it expunged."""
    store = filled(4)
    if there:
        store.create("Trash")
    with world(tmp_path, store, ImapServer(store), mode="disconnected", trash="\\Trash") as found:
        found.sync()
        next(iter(found.files().values())).unlink()
        found.sync()
        assert len(store.contents("Trash")) == 1
