"""Two files of one key, as `cp` makes them when it keeps the name: each is a message of its own, and none is lost for the other."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from fetchmail_py.store.state import FILE_NAME
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


class TestMadeByHand:
    """Two files of one key in one mailbox."""

    @pytest.mark.parametrize("edited", [False, True])
    @pytest.mark.parametrize("name", ["cur/{}:2,F", "cur/{}:2,", "new/{}"])
    def test_a_copy_beside_it(self, account: World, name: str, *, edited: bool) -> None:
        _, path = first(account)
        path = flagged(path, "S")
        account.sync()
        copy = account.maildir / "A" / name.format(key_of(path))
        copy.write_bytes(path.read_bytes() + b"more\n" * edited)
        report = account.sync()
        assert any("each is a message of its own" in notice for notice in report.notices)
        account.sync()
        assert_equal(account)
        assert len(account.store.contents("A")) == len({key_of(file) for file in every_file(account, "A")}) == 7

    def test_a_copy_beside_it_and_the_original_is_flagged(self, account: World) -> None:
        _, path = first(account)
        copy = path.parent.parent / "cur" / f"{key_of(path)}:2,F"
        copy.write_bytes(path.read_bytes() + b"more\n")
        flagged(path, "S")
        account.sync()
        account.sync()
        assert_equal(account)
        assert len(account.store.contents("A")) == 7

    def test_a_dry_run_tells_and_renames_nothing(self, account: World) -> None:
        _, path = first(account)
        shutil.copy(path, path.parent.parent / "cur" / f"{key_of(path)}:2,F")
        before = every_file(account, "A")
        plan = account.sync(dry_run=True).plan
        assert len(plan) == 1
        assert every_file(account, "A") == before

    def test_new_here_both(self, account: World) -> None:
        for letters in ("", "F"):
            (account.maildir / "A/cur" / f"1700000001.x.host:2,{letters}").write_bytes(b"Subject: x%s\n\nx\n" % letters.encode())
        account.sync()
        account.sync()
        assert_equal(account)
        assert len(account.store.contents("A")) == 8

    def test_moved_onto_a_copy_here(self, account: World) -> None:
        """`cp A/m B`, then `mv A/m B`."""
        _, path = first(account)
        shutil.copy(path, account.maildir / "B/cur" / f"{key_of(path)}:2,S")
        account.sync()
        account.sync()
        path.rename(account.maildir / "B/cur" / f"{key_of(path)}:2,F")
        report = account.sync()
        assert report.downloaded == 0
        account.sync()
        assert_equal(account)
        assert (len(account.store.contents("A")), len(account.store.contents("B"))) == (5, 8)

    def test_a_second_link_is_no_second_message(self, account: World) -> None:
        """So a mail reader renames where it can rename nothing: the old name goes a moment later."""
        _, path = first(account)
        os.link(path, path.parent.parent / "cur" / f"{key_of(path)}:2,F")
        assert done(account.sync()) == {}
        path.unlink()
        assert done(account.sync()) == {"flags_pushed": 1}
        assert_equal(account)

    def test_cut_between_row_and_file(self, account: World) -> None:
        """The row has its new key, and the file not yet."""
        path, other = rows_of_one_key(account, edited=False)
        with closing(sqlite3.connect(account.maildir / FILE_NAME)) as state, state:
            (uid,) = state.execute("SELECT max(uid) FROM message WHERE key = ?", [key(path)]).fetchone()
            state.execute("UPDATE message SET key = ? WHERE uid = ? AND key = ?", [b"another", uid, key(path)])
        flagged(other, "FS")
        for _ in range(2):
            account.sync()
        assert len(account.store.contents("A")) == 7
        assert_equal(account)


def key(path: Path) -> bytes:
    return key_of(path).encode()


def rows_of_one_key(found: World, *, edited: bool) -> tuple[Path, Path]:
    """What an earlier version has left: two messages, their rows and their files, under one key."""
    _, path = first(found)
    path = flagged(path, "S")
    copy = found.maildir / "A/cur/1700000009.copy.host:2,F"
    copy.write_bytes(path.read_bytes() + b"more\n" * edited)
    found.sync()
    found.sync()
    with closing(sqlite3.connect(found.maildir / FILE_NAME)) as state, state:
        state.execute("UPDATE message SET key = ? WHERE key = ?", [key(path), key(copy)])
        state.execute("UPDATE mailbox SET new_mtime = NULL, cur_mtime = NULL, looked_at = NULL")
    return path, copy.rename(path.parent / f"{key_of(path)}:2,F")


@pytest.mark.parametrize("edited", [False, True])
class TestRowsOfOneKey:
    def test_a_flag_on_one(self, account: World, *, edited: bool) -> None:
        for number, letters in enumerate(("RS", "FR")):
            both = rows_of_one_key(account, edited=edited) if not number else tuple(every_file(account, "A")[:2])
            flagged(both[number], letters)
            for full in (False, False, True):
                assert account.sync(full=full).deleted_remote == 0
        assert len(account.store.contents("A")) == 7
        assert_equal(account)
        assert len({key_of(file) for file in every_file(account, "A")}) == 7

    def test_one_gets_the_name_of_the_other(self, account: World, *, edited: bool) -> None:
        path, other = rows_of_one_key(account, edited=edited)
        path.rename(path.parent / "aside")
        other.rename(path)
        (path.parent / "aside").rename(other)
        flagged(other, "")
        for _ in range(3):
            account.sync()
        assert len(account.store.contents("A")) == 7
        assert_equal(account)

    @pytest.mark.parametrize("which", [0, 1])
    def test_one_is_removed(self, account: World, which: int, *, edited: bool) -> None:
        """Only what is surely not there any more was deleted."""
        both = rows_of_one_key(account, edited=edited)
        kept = both[1 - which].read_bytes().replace(b"\n", b"\r\n")
        both[which].unlink()
        for _ in range(2):
            account.sync()
        assert kept in account.store.contents("A").values()
        assert len(account.store.contents("A")) == (6 if edited else 7)
        assert_equal(account)
