"""`layout` or `map` changed for an account that has its mail already: the folders follow, or nothing happens; never a mix."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from fetchmail_py.errors import ConfigError, ExitStatus
from fetchmail_py.store.state import FILE_NAME
from tests.servers.imap import ImapServer
from tests.sync.test_folders import filled
from tests.sync.test_twoway import done
from tests.sync.world import World, world

PATHS = {
    "fs": {"INBOX": "INBOX", "Sent Items": "Sent Items", "Sent Items/2025": "Sent Items/2025", "Lists/a.b": "Lists/a.b"},
    "maildir++": {"INBOX": ".", "Sent Items": ".Sent Items", "Sent Items/2025": ".Sent Items.2025", "Lists/a.b": ".Lists.a%2Eb"},
}
OTHER = {"fs": "maildir++", "maildir++": "fs"}


@pytest.fixture(params=["disconnected", "mirror", "backup"])
def account(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    store = filled("Sent Items", "Sent Items/2025", "Lists/a.b")
    with world(tmp_path, store, ImapServer(store), mode=request.param) as found:
        yield found


def folders(found: World) -> set[str]:
    """Every directory that is a Maildir."""
    return {str(path.parent.relative_to(found.maildir)) for path in found.maildir.rglob("cur")}


def assert_all_there(found: World, paths: dict[str, str]) -> None:
    """Each mailbox lies where it should, and nothing lies elsewhere; nothing crosses the wire for it, or in the next run."""
    for name, path in paths.items():
        wanted = sorted(data.replace(b"\r\n", b"\n") for data in found.store.contents(name).values())
        assert sorted(file.read_bytes() for file in found.files(path).values()) == wanted, name
    assert folders(found) == set(paths.values())
    found.commands.clear()
    assert done(found.sync()) == {}
    assert not [line for line in found.commands if "BODY.PEEK[]" in line or line.startswith(("APPEND", "RENAME", "CREATE"))]
    assert set(found.store.mailboxes) == set(paths)


class TestLayout:
    @pytest.mark.parametrize("first", ["fs", "maildir++"])
    @pytest.mark.parametrize("kept", [True, False])
    def test_the_folders_follow(self, account: World, first: str, *, kept: bool) -> None:
        account.settings(layout=first)
        account.sync()
        assert_all_there(account, PATHS[first])
        if not kept:  # as an earlier version left it
            with closing(sqlite3.connect(account.maildir / FILE_NAME)) as db, db:
                db.execute("DELETE FROM meta WHERE key = 'places'")
        account.settings(layout=OTHER[first])
        plan = account.run(dry_run=True)
        assert plan.failure is None
        assert plan.plan == []
        assert folders(account) == set(PATHS[first].values())
        report = account.sync()
        assert done(report) == {}
        assert any(f'was "{first}"' in notice for notice in report.notices)
        assert_all_there(account, PATHS[OTHER[first]])

    @pytest.mark.parametrize("what", ["new", "gone", "in the way"])
    def test_what_is_not_as_it_was_stops_it(self, account: World, what: str) -> None:
        account.settings(mode="disconnected")
        account.sync()
        if what == "new":
            for part in ("tmp", "new", "cur"):
                (account.maildir / "Made" / part).mkdir(parents=True)
        elif what == "gone":
            shutil.move(account.maildir / "Lists/a.b", account.root / "away")
        else:
            (account.maildir / "cur").mkdir()
        account.settings(layout="maildir++")
        before = folders(account)
        account.commands.clear()
        report = account.run()
        assert isinstance(report.failure, ConfigError)
        assert report.failure.key == "layout"
        assert report.exit_status is ExitStatus.CONFIG
        assert 'layout was "fs" and is "maildir++"' in report.failure.detail
        assert report.failure.hint is not None
        assert "set layout back to fs" in report.failure.hint
        assert folders(account) == before
        assert account.commands == []
        account.settings(layout="fs")
        account.sync()


class TestMap:
    def test_the_folders_follow(self, account: World) -> None:
        account.sync()
        account.settings(map={"Sent Items": "Sent"})
        assert done(account.sync()) == {}
        mapped = PATHS["fs"] | {"Sent Items": "Sent", "Sent Items/2025": "Sent/2025"}
        assert_all_there(account, mapped)
        account.settings(map={"Sent Items": "INBOX/Sent", "Lists": "Sent"})
        assert done(account.sync()) == {}
        mapped |= {"Sent Items": "INBOX/Sent", "Sent Items/2025": "INBOX/Sent/2025", "Lists/a.b": "Sent/a.b"}
        assert_all_there(account, mapped)
        account.settings(map={})
        account.sync()
        assert_all_there(account, PATHS["fs"])

    def test_a_folder_in_the_way_stops_it(self, account: World) -> None:
        account.sync()
        for part in ("tmp", "new", "cur"):
            (account.maildir / "Sent" / part).mkdir(parents=True)
        account.settings(map={"Sent Items": "Sent"})
        report = account.run()
        assert isinstance(report.failure, ConfigError)
        assert report.failure.key == "map"
        assert len(account.files("Sent Items")) == 6
        assert account.files("Sent") == {}

    def test_for_what_is_not_there_yet(self, account: World) -> None:
        account.sync()
        account.settings(map={"Drafts": "Entwürfe"})
        account.store.create("Drafts")
        account.store.append(b"Subject: new\r\n\r\n", "Drafts")
        assert done(account.sync()) == {"downloaded": 1}
        assert len(account.files("Entwürfe")) == 1
