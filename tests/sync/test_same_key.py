"""Two files of one key, as `cp` makes them when it keeps the name: each is a message of its own, and none is lost for the other."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers.imap import ALL, BARE, ImapServer
from tests.sync.test_folders import filled
from tests.sync.test_twoway import assert_equal, done
from tests.sync.world import World, world


@pytest.fixture(params=["all", "bare"])
def account(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    """An account with the mailboxes A, B and C, in step."""
    store = filled("A", "B", "C")
    with world(tmp_path, store, ImapServer(store, capabilities=ALL if request.param == "all" else BARE)) as found:
        found.settings(mode="disconnected")
        found.sync()
        yield found


def first(found: World, box: str = "A") -> tuple[int, Path]:
    """A message that the server has, and its file."""
    uid, data = next(iter(found.store.contents(box).items()))
    return uid, next(path for path in found.files(box).values() if path.read_bytes().replace(b"\n", b"\r\n") == data)


def key_of(path: Path) -> str:
    return path.name.partition(":")[0]


def every_file(found: World, box: str) -> list[Path]:
    return sorted(path for part in ("new", "cur") for path in (found.maildir / box / part).iterdir())


def flagged(path: Path, letters: str) -> Path:
    return path.rename(path.parent.parent / "cur" / f"{key_of(path)}:2,{letters}")


class TestMovedOntoACopy:
    """The server moves a message to where a copy of its file has the same key."""

    @pytest.mark.parametrize("letters", ["", "F"])
    @pytest.mark.parametrize("edited", [False, True])
    def test_both_stay(self, account: World, letters: str, *, edited: bool) -> None:
        uid, path = first(account)
        copy = account.maildir / "B/cur" / f"{key_of(path)}:2,{letters}"
        copy.write_bytes(path.read_bytes() + b"more\n" * edited)
        account.sync()
        account.sync()
        account.store.move(uid, "A", "B")
        report = account.sync()
        assert (report.downloaded, report.moved_local) == (0, 1)
        account.sync()
        assert_equal(account)
        files = every_file(account, "B")
        assert len(files) == len({key_of(file) for file in files}) == len(account.store.contents("B")) == 8, files
        flagged(account.files("B")[key_of(path)], "RS")
        for _ in range(2):
            assert account.sync(full=True).deleted_remote == 0
        assert len(account.store.contents("B")) == 8
        assert_equal(account)

    def test_in_mode_mirror(self, account: World) -> None:
        account.settings(mode="mirror")
        uid, path = first(account)
        shutil.copy(path, account.maildir / "B/cur" / f"{key_of(path)}:2,F")
        account.sync()
        account.store.move(uid, "A", "B")
        assert account.sync().downloaded == 0
        files = every_file(account, "B")
        assert len(files) == len({key_of(file) for file in files}) == 8
        assert done(account.sync()) == {}
