"""Files moved or copied into the folder of a mailbox in which nothing may be changed, and out of it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers.imap import ALL, BARE, ImapServer
from tests.sync.test_folders import filled
from tests.sync.test_push import everything, moved, uid_of
from tests.sync.test_twoway import a_file, assert_equal
from tests.sync.world import World, world

CAPABILITIES = {"acl": ALL | {"ACL"}, "all": ALL, "bare": BARE}


@pytest.fixture(params=list(CAPABILITIES))
def account(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    """A and B, in which everything may be done, and "Shared", in which nothing may; with ACL the server says so."""
    server = ImapServer(filled("A", "B", "Shared", count=3), capabilities=CAPABILITIES[request.param])
    server.options.read_only_mailboxes = frozenset({"Shared"})
    with world(tmp_path, server.store, server, mode="disconnected") as found:
        found.sync()
        yield found


def files(found: World) -> list[bytes]:
    """What lies here, in all mailboxes."""
    return sorted(path.read_bytes() for name in found.store.mailboxes for path in found.files(name).values())


def another_name(path: Path) -> Path:
    return path.rename(path.parent / "1700000009.other.name:2,S")


class TestInto:
    @pytest.mark.parametrize("renamed", [False, True])
    def test_moved(self, account: World, *, renamed: bool) -> None:
        """It lies here where it was put, and at the server where it was: the same in every run, which tells it."""
        before, mine = everything(account), files(account)
        path = moved(a_file(account, "A"), "Shared")
        if renamed:
            path = another_name(path)
        for _ in range(4):
            report = account.run()
            assert everything(account) == before
            assert files(account) == mine
            assert path.exists() or renamed
        assert report.downloaded == report.uploaded == report.deleted_remote == report.deleted_local == 0
        assert report.notices or report.failure
        moved(path, "A")
        account.sync()
        account.sync()
        assert everything(account) == before
        assert_equal(account)

    @pytest.mark.parametrize("renamed", [False, True])
    def test_moved_and_elsewhere_at_the_server(self, account: World, *, renamed: bool) -> None:
        """Where it can be in one place on both sides, it is."""
        before, mine = everything(account), files(account)
        path = a_file(account, "A")
        uid = uid_of(account, path, "A")
        path = moved(path, "Shared")
        if renamed:
            another_name(path)
        account.store.move(uid, "A", "B")
        account.sync()
        assert everything(account) == before
        assert files(account) == mine
        assert_equal(account)

    def test_copied(self, account: World) -> None:
        before = everything(account)
        shutil.copy(a_file(account, "A"), account.maildir / "Shared/cur/1700000009.copied.here:2,S")
        mine = files(account)
        for _ in range(3):
            account.run()
            assert everything(account) == before
            assert files(account) == mine
        (account.maildir / "Shared/cur/1700000009.copied.here:2,S").unlink()
        account.sync()
        account.sync()
        assert_equal(account)


class TestOutOf:
    @pytest.mark.parametrize("renamed", [False, True])
    def test_moved(self, account: World, *, renamed: bool) -> None:
        """What was taken away is copied: it comes back where nothing may be changed, and is one more where it was put."""
        path = moved(a_file(account, "Shared"), "B")
        data = path.read_bytes().replace(b"\n", b"\r\n")
        if renamed:
            another_name(path)
        for _ in range(3):
            report = account.run()
        assert report.failure is None
        assert sorted(account.store.contents("B").values()).count(data) == 1
        assert sorted(account.store.contents("Shared").values()).count(data) == 1
        assert everything(account)[data] == 2
        assert_equal(account)

    def test_moved_and_elsewhere_at_the_server(self, account: World) -> None:
        """By somebody who may: the server's place counts."""
        before, mine = everything(account), files(account)
        path = a_file(account, "Shared")
        uid = uid_of(account, path, "Shared")
        moved(path, "B")
        account.store.move(uid, "Shared", "A")
        account.sync()
        assert everything(account) == before
        assert files(account) == mine
        assert_equal(account)

    def test_copied(self, account: World) -> None:
        path = a_file(account, "Shared")
        data = path.read_bytes().replace(b"\n", b"\r\n")
        shutil.copy(path, account.maildir / "B/cur/1700000009.copied.here:2,S")
        for _ in range(2):
            account.sync()
        assert everything(account)[data] == 2
        assert_equal(account)
