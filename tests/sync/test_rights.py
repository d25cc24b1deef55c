"""Deletions that the server does not carry out: they count for nothing, are said and set aside, and are made up for later."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fetchmail_py.errors import ExitStatus
from fetchmail_py.report import Report
from tests.servers.imap import ALL, BARE, ImapServer
from tests.sync.test_twoway import ARCHIVE, a_file, assert_equal, done, filled, flag
from tests.sync.world import World, world

CHANGING = ("UID STORE", "UID EXPUNGE", "EXPUNGE", "UID MOVE", "UID COPY", "APPEND")
SERVERS = {"all": ALL, "acl": ALL | {"ACL"}, "no-qresync": ALL - {"QRESYNC", "CONDSTORE"}, "no-move": ALL - {"MOVE"}, "bare": BARE}


@pytest.fixture(params=SERVERS)
def account(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    """An account in the two-way mode, synchronised once."""
    server = ImapServer(filled(), capabilities=SERVERS[request.param])
    with world(tmp_path, server.store, server, mode="disconnected") as found:
        found.sync()
        server.log.clear()
        yield found


def allow(found: World, rights: str | None) -> None:
    """What the user may do in INBOX from now on; None: everything."""
    found.server.options.rights = {} if rights is None else {"INBOX": rights}  # type: ignore[attr-defined]


def offers(found: World, name: str) -> bool:
    return name in found.server.capabilities  # type: ignore[attr-defined]


def run(found: World) -> Report:
    """A run that did nothing, and could not do something."""
    found.server.log.clear()
    report = found.run()
    assert report.failure is None, report.failure
    assert done(report) == {}
    assert report.exit_status is ExitStatus.PARTIAL
    return report


def changed(found: World) -> list[str]:
    """Commands of the last run that change something."""
    return [line for line in found.commands if line.startswith(CHANGING)]


def each_once(found: World) -> bool:
    """Whether the server has no message twice, in whatever mailbox."""
    contents = [data for name in found.store.mailboxes for data in found.store.contents(name).values()]
    return len(contents) == len(set(contents))


@pytest.mark.parametrize("rights", ["lrswip", "lrswipt", "lrswipe"])
class TestWithoutTheRight:
    def test_deleted_here(self, account: World, rights: str) -> None:
        allow(account, rights)
        a_file(account).unlink()
        report = run(account)
        assert report.deferred == 1
        (notice,) = report.notices
        assert notice.startswith("INBOX: 1 message to be deleted stays at the server: ")
        assert ("MYRIGHTS " + rights in notice) is offers(account, "ACL")
        assert sum(line.startswith(("UID EXPUNGE", "EXPUNGE")) for line in changed(account)) <= 1
        for _ in range(2):
            report = run(account)
            assert (report.deferred, len(report.notices)) == (1, 1)
            if offers(account, "ACL"):
                assert changed(account) == []
            elif "t" in rights:
                assert not any(line.startswith("UID STORE") for line in changed(account))
        assert (len(account.store.contents()), len(account.files())) == (8, 7)
        allow(account, None)
        assert done(account.sync()) == {"deleted_remote": 1}
        assert_equal(account)

    def test_the_file_comes_back(self, account: World, rights: str) -> None:
        allow(account, rights)
        path = a_file(account)
        data = path.read_bytes()
        path.unlink()
        run(account)
        path.write_bytes(data)
        account.sync()
        allow(account, None)
        assert_equal(account)
        assert len(account.files()) == 8

    def test_marked(self, account: World, rights: str) -> None:
        account.settings(expunge=True)
        flag(a_file(account), "ST")
        account.store.set_flags(1, ["\\Deleted"])
        account.store.append(b"Subject: marked, and never here\r\n\r\nx\r\n", flags=["\\Deleted"])
        allow(account, rights.replace("e", ""))  # with it, what is marked may go
        for _ in range(3):
            assert run(account).deferred in {2, 3}  # the first file may be the first message
            assert (len(account.store.contents()), len(account.files())) == (9, 8)
        allow(account, None)
        account.sync()
        assert len(account.store.contents()) == len(account.files()) <= 7
        assert_equal(account)

    def test_trash(self, account: World, rights: str) -> None:
        account.settings(trash="Trash")
        allow(account, rights)
        a_file(account).unlink()
        for _ in range(3):
            account.run()
        assert account.run().deferred == 1
        assert len(account.store.contents().values()) == 8
        assert "Trash" not in account.store.mailboxes or len(account.store.contents("Trash")) == 1
        assert len(account.files()) == 7
        allow(account, None)
        account.sync()
        assert_equal(account)
        assert len(account.store.contents("Trash")) == 1
        assert each_once(account)

    @pytest.mark.parametrize("count", [1, 8])
    def test_moved_here(self, account: World, rights: str, count: int) -> None:
        allow(account, rights)
        for path in list(account.files().values())[:count]:
            path.rename(account.maildir / ARCHIVE / "cur" / path.name.replace("new", "cur").partition(":")[0])
        report = account.run()
        assert report.exit_status is ExitStatus.PARTIAL
        assert (report.deferred, report.downloaded, report.moved_remote, report.deleted_remote) == (count, 0, 0, 0)
        for _ in range(2):
            report = account.run()
            assert (report.deferred, report.downloaded, report.uploaded) == (count, 0, 0)
        assert len(account.store.contents(ARCHIVE)) == len(account.files(ARCHIVE)) == 5 + count
        assert (len(account.store.contents()), len(account.files())) == (8, 8 - count)
        allow(account, None)
        assert done(account.sync()) == {"deleted_remote": count}
        assert_equal(account)
        assert each_once(account)

    def test_moved_here_and_back(self, account: World, rights: str) -> None:
        path = a_file(account)
        there = account.maildir / ARCHIVE / "cur" / path.name.partition(":")[0]
        path.rename(there)
        allow(account, rights)
        account.run()
        (found,) = [path for path in account.files(ARCHIVE).values() if path.name.startswith(there.name)]
        found.rename(path.parent.parent / "cur" / found.name)
        allow(account, None)
        for _ in range(3):
            account.run()
        assert_equal(account)
        assert (len(account.files()), len(account.files(ARCHIVE))) == (8, 5)

    def test_offline(self, account: World, rights: str) -> None:
        account.settings(mode="offline")
        allow(account, rights)
        for _ in range(2):
            report = account.run()
            assert report.exit_status is ExitStatus.PARTIAL
            assert report.deferred == 8
            assert len(account.store.contents()) == 8
        allow(account, None)
        report = account.sync()
        assert report.deleted_remote == 8
        assert account.store.contents() == {}
        assert len(account.files()) == 8


@pytest.mark.parametrize("capabilities", [ALL, ALL | {"ACL"}], ids=["all", "acl"])
def test_a_server_that_says_no(tmp_path: Path, capabilities: frozenset[str]) -> None:
    server = ImapServer(filled(), capabilities=capabilities)
    with world(tmp_path, server.store, server, mode="disconnected") as found:
        found.sync()
        allow(found, "lrswip")
        server.options.says_no = True
        a_file(found).unlink()
        report = run(found)
        assert report.deferred == 1
        assert ("MYRIGHTS" if "ACL" in capabilities else "NOPERM") in report.notices[0]


def test_gone_meanwhile_is_nothing_to_set_aside(account: World) -> None:
    allow(account, "lrswip")
    path = a_file(account)
    data = path.read_bytes().replace(b"\n", b"\r\n")
    path.unlink()
    assert account.run().deferred == 1
    account.store.expunge([uid for uid, found in account.store.contents().items() if found == data])
    account.sync()
    allow(account, None)
    assert_equal(account)
