"""A mailbox without a UIDVALIDITY (0, or none at all): its UIDs mean nothing from one look to the next. It is pulled, no more."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from fetchmail_py.errors import ExitStatus
from fetchmail_py.report import Report
from tests.servers.base import Connection
from tests.servers.imap import ALL, BARE, ImapServer
from tests.servers.mails import mails
from tests.sync.test_folders import filled
from tests.sync.test_twoway import add_file, assert_equal, done, flag
from tests.sync.world import World, world

CHANGES = ("APPEND", "STORE", "UID STORE", "EXPUNGE", "UID EXPUNGE", "UID MOVE", "COPY", "UID COPY", "DELETE", "RENAME")


@pytest.fixture(params=["all", "bare"])
def account(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    """INBOX without UIDVALIDITY, and another mailbox as it should be; six messages each, nothing synchronised yet."""
    store = filled("Other")
    store.mailboxes["INBOX"].uidvalidity = 0
    server = ImapServer(store, capabilities=ALL if request.param == "all" else BARE)
    with world(tmp_path, store, server, mode="disconnected") as found:
        yield found


@pytest.fixture(params=["disconnected", "backup", "mirror", "offline"])
def in_any_mode(request: pytest.FixtureRequest, account: World) -> World:
    account.settings(mode=request.param)
    return account


def here(found: World) -> Counter[bytes]:
    return Counter(path.read_bytes().replace(b"\n", b"\r\n") for path in found.files().values())


def there(found: World) -> Counter[bytes]:
    return Counter(found.store.contents().values())


def pulled(found: World, count: int) -> Report:
    """A run that brings so many messages of INBOX in, and changes nothing at the server but in the other mailbox."""
    found.server.log.clear()
    before = there(found)
    report = found.run()
    assert report.exit_status is ExitStatus.OK, report.failure
    assert report.downloaded == count
    assert report.deleted_local == 0
    assert sum("no UIDVALIDITY" in notice for notice in report.notices) == 1
    assert there(found) == before
    return report


def reordered(found: World) -> None:
    """The server counts anew, and says nothing of it."""
    found.store.new_uidvalidity(reorder=lambda messages: messages.reverse())
    found.store.mailboxes["INBOX"].uidvalidity = 0


def test_everything_comes_in_once_whatever_its_uids(in_any_mode: World) -> None:
    found = in_any_mode
    pulled(found, 12)
    for _ in range(2):
        reordered(found)
        pulled(found, 0)
        assert here(found) == there(found)
    for data in mails(2, seed=8):
        found.store.append(data)
    reordered(found)
    pulled(found, 2)
    assert here(found) == there(found)
    assert found.store.contents("Other") == {} or found.account.mode != "offline"


def test_messages_that_nothing_tells_apart_are_not_said_to_wait(in_any_mode: World) -> None:
    found = in_any_mode
    for data in (b"Subject: twin\r\n\r\nx\r\n",) * 2 + (b"\r\nno header\r\n",):
        found.store.append(data)
    pulled(found, 15)
    for _ in range(2):
        report = pulled(found, 0)
        assert not [notice for notice in report.notices if "cannot go up" in notice]


def test_what_is_gone_there_stays_here(in_any_mode: World) -> None:
    found = in_any_mode
    pulled(found, 12)
    found.store.expunge(list(found.store.contents()))
    pulled(found, 0)
    assert len(found.files()) == 6


def test_none_at_all(in_any_mode: World) -> None:
    """As servers have it that leave the response code out."""
    found = in_any_mode

    def leave_out(line: str, connection: Connection) -> None:
        del line
        send = connection.send
        if not hasattr(connection, "without"):
            connection.without = True  # type: ignore[attr-defined]
            connection.send = lambda data: send(data.replace(b"* OK [UIDVALIDITY 0] ok\r\n", b""))  # type: ignore[method-assign]

    found.server.faults.hook = leave_out
    pulled(found, 12)
    pulled(found, 0)
    assert here(found) == there(found)


class TestTwoWays:
    @pytest.fixture(autouse=True)
    def _pulled(self, account: World) -> None:
        pulled(account, 12)
        account.sync()

    def test_a_file_removed_here_comes_back(self, account: World) -> None:
        next(iter(account.files().values())).unlink()
        pulled(account, 1)
        assert here(account) == there(account)

    def test_all_files_removed_here_are_no_deletion(self, account: World) -> None:
        for path in account.files().values():
            path.unlink()
        pulled(account, 6)
        assert here(account) == there(account)

    def test_a_new_file_stays_here(self, account: World) -> None:
        path = add_file(account, b"Subject: new\n\nhere\n")
        for _ in range(2):
            report = pulled(account, 0)
            assert any("1 message cannot go up" in notice for notice in report.notices)
        assert path.exists()

    def test_flags_come_in_and_do_not_go_up(self, account: World) -> None:
        path = flag(next(iter(account.files().values())), "F")
        account.store.set_flags(next(iter(account.store.contents())), ["\\Seen"])
        for _ in range(2):
            pulled(account, 0)
        letters = Counter(account.letters().values())
        assert letters["F"] + letters["FS"] == 1
        assert letters["S"] + letters["FS"] == 1
        assert path.exists() or letters["FS"] == 1
        assert not [line for line in account.server.log if line.startswith(CHANGES)]

    def test_a_file_moved_out_of_it_is_copied(self, account: World) -> None:
        path = next(iter(account.files().values()))
        data = path.read_bytes()
        path.rename(account.maildir / "Other/cur" / f"{path.name.partition(':')[0]}:2,S")
        for _ in range(3):
            report = account.run()
            assert report.exit_status is ExitStatus.OK
        assert here(account) == there(account)
        assert len(account.store.contents()) == 6
        assert data.replace(b"\n", b"\r\n") in account.store.contents("Other").values()
        assert len(account.store.contents("Other")) == len(account.files("Other")) == 7

    def test_a_file_moved_into_it_leaves_the_servers_copy_where_it_is(self, account: World) -> None:
        path = next(iter(account.files("Other").values()))
        path.rename(account.maildir / "INBOX/cur" / f"{path.name.partition(':')[0]}:2,S")
        for _ in range(2):
            assert account.run().exit_status is ExitStatus.OK
        assert len(account.store.contents()) == 6
        assert len(account.store.contents("Other")) == 6
        assert len(account.files()) == 7

    def test_once_there_is_one_all_is_as_ever(self, account: World) -> None:
        add_file(account, b"Subject: new\n\nhere\n")
        pulled(account, 0)
        account.store.new_uidvalidity()
        assert done(account.sync()) == {"uploaded": 1}
        next(iter(account.files().values())).unlink()
        assert done(account.sync()) == {"deleted_remote": 1}
        assert_equal(account)

    def test_and_once_it_is_gone_again_nothing_is_lost(self, account: World) -> None:
        account.store.new_uidvalidity()
        account.sync()
        reordered(account)
        pulled(account, 0)
        assert here(account) == there(account)
