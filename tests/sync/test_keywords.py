"""The names of keyword letters, where the file that has them is lost or an older one: no letter becomes another keyword."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fetchmail_py.store.keywords import KeywordTable
from tests.servers.imap import ALL, BARE, ImapServer
from tests.sync.test_folders import filled
from tests.sync.test_twoway import assert_equal, done, flag
from tests.sync.world import World, world

TABLE = "0 $Old\n1 $Work\n"


@pytest.fixture(params=["all", "bare"])
def account(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    """Two keywords, which came in one after the other."""
    store = filled()
    server = ImapServer(store, capabilities=ALL if request.param == "all" else BARE)
    with world(tmp_path, store, server, mode="disconnected") as found:
        for uid, keyword in ((1, "$Old"), (2, "$Work")):
            store.set_flags(uid, [keyword])
            found.sync()
        assert table(found).read_text() == TABLE
        yield found


def table(found: World) -> Path:
    return found.maildir / "INBOX/dovecot-keywords"


def keywords_there(found: World) -> list[set[str]]:
    return [message.flags for message in found.store.mailboxes["INBOX"].messages[:3]]


@pytest.mark.parametrize("left", [None, "", "0 $Old\n", "1 $Work\n"])
def test_a_letter_keeps_its_keyword(account: World, left: str | None) -> None:
    if left is None:
        table(account).unlink()
    else:
        table(account).write_text(left)
    account.store.set_flags(3, ["$Other"])
    assert done(account.sync()) == {"flags_pulled": 1}
    assert table(account).read_text() == TABLE + "2 $Other\n"
    for _ in range(2):
        assert done(account.sync(full=True)) == {}
    assert keywords_there(account) == [{"$Old"}, {"$Work"}, {"$Other"}]
    assert_equal(account)


def test_it_is_written_again_by_a_full_look(account: World) -> None:
    table(account).unlink()
    assert done(account.sync(full=True)) == {}
    assert table(account).read_text() == TABLE


def test_what_is_taken_off_here_is_taken_off_there(account: World) -> None:
    table(account).write_text("0 $Old\n")
    (path,) = [path for path in account.files().values() if path.name.endswith(":2,b")]
    flag(path, "")
    assert done(account.sync()) == {"flags_pushed": 1}
    assert keywords_there(account) == [{"$Old"}, set(), set()]


def test_what_another_program_has_added_is_known_too(account: World) -> None:
    table(account).write_text(TABLE + "2 todo\n")
    (path,) = [path for path in account.files().values() if path.name.endswith(":2,a")]
    flag(path, "ac")
    assert done(account.sync()) == {"flags_pushed": 1}
    table(account).write_text(TABLE)
    account.store.set_flags(3, ["$Other"])
    assert done(account.sync()) == {"flags_pulled": 1}
    assert table(account).read_text() == TABLE + "2 todo\n3 $Other\n"
    assert_equal(account)


def test_the_file_counts_where_it_says_something_else(account: World) -> None:
    table(account).write_text("0 $Theirs\n2 $work\n")
    account.store.set_flags(3, ["$Other"])
    account.sync()
    assert table(account).read_text() == "0 $Theirs\n1 $Other\n2 $work\n"


def test_a_folder_that_is_renamed_takes_them_along(account: World) -> None:
    account.store.create("A")
    account.store.append(b"Subject: a\r\n\r\n", "A", flags=["$Third"])
    account.sync()
    (account.maildir / "A").rename(account.maildir / "B")
    (account.maildir / "B/dovecot-keywords").unlink()
    account.store.append(b"Subject: b\r\n\r\n", "A", flags=["$Fourth"])
    account.sync()
    account.sync(full=True)
    assert KeywordTable.load(str(account.maildir / "B")).find("$Third") == "a"
    assert_equal(account)


def test_marked_before_the_state_was_lost(account: World) -> None:
    """Such a run deletes nothing; the next one does."""
    account.settings(expunge=True)
    account.sync()
    account.store.set_flags(4, ["\\Deleted"])
    for path in account.maildir.glob(".fetchmail-py.sqlite3*"):
        path.unlink()
    report = account.sync()
    assert (report.deleted_local, report.deleted_remote, report.downloaded) == (0, 0, 0)
    assert done(account.sync()) == {"deleted_local": 1, "deleted_remote": 1}
    assert_equal(account)
