"""`layout` or `map` changed for an account that has its mail already: the folders follow, or nothing happens; never a mix."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from fetchmail_py.errors import ConfigError, ExitStatus, StoreError
from fetchmail_py.model import MailboxName
from fetchmail_py.store.state import FILE_NAME, StateDb
from fetchmail_py.sync.renaming import Following, begin
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
        planned = account.run(dry_run=True)
        report = account.run()
        assert isinstance(report.failure, ConfigError)
        assert (type(planned.failure), str(planned.failure)) == (ConfigError, str(report.failure))
        assert report.failure.key == "layout"
        assert report.exit_status is ExitStatus.CONFIG
        assert 'layout was "fs" and is "maildir++"' in report.failure.detail
        assert report.failure.hint is not None
        assert "set layout back to fs" in report.failure.hint
        assert folders(account) == before
        assert account.commands == []
        account.settings(layout="fs")
        account.sync()

    def test_what_is_gone_on_both_sides_does_not(self, account: World) -> None:
        """A backup goes on knowing it."""
        account.sync()
        account.store.delete("Lists/a.b")
        account.sync()
        shutil.rmtree(account.maildir / "Lists")
        account.settings(layout="maildir++")
        told = 'layout was "fs" and is "maildir++": 3 folders here'
        assert account.sync(dry_run=True).notices[0] == f"{told} would follow; this is what is done besides"
        assert account.sync().notices[0] == f"{told} followed"
        assert_all_there(account, {name: path for name, path in PATHS["maildir++"].items() if name != "Lists/a.b"})

    @pytest.mark.parametrize("folder", ["Spam", "a%ZZ"])
    def test_what_a_run_leaves_alone_does_not(self, account: World, folder: str) -> None:
        """What `mailboxes` excludes, and what has no mailbox's name: no run would ever know it."""
        account.settings(mode="disconnected", mailboxes=("*", "!Spam"))
        account.store.create("Spam")
        account.sync()
        make(account.maildir / folder)
        (account.maildir / folder / "cur/1.here:2,").write_bytes(b"Subject: here\n\n")
        account.settings(layout="maildir++")
        assert done(account.sync()) == {}
        assert done(account.sync()) == {}
        assert folders(account) == {*PATHS["maildir++"].values(), folder}
        assert set(account.store.mailboxes) == {*PATHS["fs"], "Spam"}


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


def begin_only(account: World, moved: int) -> None:
    """The layout changes to maildir++, and the run is cut when all is recorded and so many parts of each folder have moved."""
    account.settings(layout="maildir++")
    with closing(StateDb.open(str(account.maildir / FILE_NAME))) as state:
        rows = list(state.mailboxes().values())
        state.put("places", json.dumps(["maildir++", {}]))
        old = {row.name: row.path for row in rows}
        paths = {row.name: "" if row.name == "INBOX" else PATHS["maildir++"][row.name] for row in rows}
        begin(state, [Following(row, row.name, row.delimiter, paths[row.name]) for row in rows])
        state.commit()
    for name, path in old.items():
        for part in ("dovecot-keywords", "tmp", "new", "cur")[:moved]:
            if (account.maildir / path / part).exists():
                (account.maildir / paths[name]).mkdir(exist_ok=True)
                (account.maildir / path / part).rename(account.maildir / paths[name] / part)


def make(directory: Path) -> None:
    """As a mail reader that has the folder open makes it anew."""
    for part in ("tmp", "new", "cur"):
        (directory / part).mkdir(parents=True, exist_ok=True)


class TestCut:
    """A run that moves the folders is cut, and something comes into the old places or the new ones before the next."""

    @pytest.mark.parametrize("moved", range(5))
    def test_the_old_folder_is_made_anew(self, account: World, moved: int) -> None:
        account.sync()
        begin_only(account, moved)
        for path in PATHS["fs"].values():
            make(account.maildir / path)
        assert done(account.sync()) == {}
        assert_all_there(account, PATHS["maildir++"])

    @pytest.mark.parametrize("moved", range(5))
    @pytest.mark.parametrize("layout", ["fs", "maildir++"])
    def test_something_is_saved_meanwhile(self, account: World, moved: int, layout: str) -> None:
        account.settings(mode="disconnected")
        account.sync()
        begin_only(account, moved)
        folder = account.maildir / PATHS[layout]["Sent Items"]
        make(folder)
        (folder / "cur" / "1.reader.here:2,S").write_bytes(b"Subject: saved\n\n")
        assert done(account.sync()) == {"uploaded": 1}
        assert b"Subject: saved\r\n\r\n" in account.store.contents("Sent Items").values()
        assert_all_there(account, PATHS["maildir++"])

    def test_letters_mean_what_they_meant(self, account: World) -> None:
        """Both places have a table of keywords, and the same letter for different ones."""
        account.settings(mode="disconnected")
        for uid, keyword in enumerate(("$Label1", "work"), start=1):
            account.store.set_flags(uid, {keyword}, "Sent Items")
        account.sync()
        flags = {message.uid: set(message.flags) for message in account.store.mailboxes["Sent Items"].messages}
        begin_only(account, 0)
        folder = account.maildir / ".Sent Items"
        make(folder)
        (folder / "dovecot-keywords").write_text("0 theirs\n1 $Label1\n")
        (folder / "cur" / "1.reader.here:2,a").write_bytes(b"Subject: saved\n\n")
        assert done(account.sync()) == {"uploaded": 1}
        assert (folder / "dovecot-keywords").read_text() == "0 theirs\n1 $Label1\n2 work\n"
        now = {message.uid: set(message.flags) for message in account.store.mailboxes["Sent Items"].messages}
        saved = next(uid for uid, data in account.store.contents("Sent Items").items() if b"saved" in data)
        assert now == flags | {saved: {"theirs"}}
        assert_all_there(account, PATHS["maildir++"])

    @pytest.mark.parametrize("moved", range(5))
    def test_a_dry_run_looks_where_the_folders_are(self, account: World, moved: int) -> None:
        account.store.set_flags(1, {"$Label1"}, "Sent Items")
        account.sync()
        begin_only(account, moved)
        before = sorted(account.maildir.rglob("*"))
        report = account.run(dry_run=True)
        assert report.failure is None
        assert report.plan == []
        assert report.notices == ["a renaming of 4 folders here was cut: the next run completes it first"]
        assert sorted(account.maildir.rglob("*")) == before
        assert done(account.sync()) == {}
        assert_all_there(account, PATHS["maildir++"])

    @pytest.mark.parametrize("steps", range(5))
    def test_a_dry_run_while_two_change_places(self, account: World, steps: int) -> None:
        account.sync()
        account.settings(map={"Sent Items": "Lists/a.b", "Lists/a.b": "Sent Items"})
        names = ("Sent Items", "Lists/a.b")
        with closing(StateDb.open(str(account.maildir / FILE_NAME))) as state:
            rows = [state.mailboxes()[MailboxName(name)] for name in names]
            state.put("places", json.dumps(["fs", account.account.map]))
            begin(state, [Following(row, row.name, row.delimiter, names[1 - n]) for n, row in enumerate(rows)])
            if steps > 2:
                state.put("renaming-aside", "1")
            state.commit()
        aside = [account.maildir / name / f".fetchmail-py.renaming-{row.id}" for name, row in zip(names, rows, strict=True)]
        old = [account.maildir / name for name in names]
        for source, target in ((old[0], aside[0]), (old[1], aside[1]), (aside[0], old[1]), (aside[1], old[0]))[:steps]:
            target.mkdir(exist_ok=True)
            for part in ("tmp", "new", "cur"):
                (source / part).rename(target / part)
        report = account.run(dry_run=True)
        assert report.failure is None
        assert report.plan == []
        assert report.notices == ["a renaming of 2 folders here was cut: the next run completes it first"]
        assert done(account.sync()) == {}
        exchanged = {"Sent Items": names[1], "Sent Items/2025": "Sent Items/2025", "Lists/a.b": names[0]}
        assert_all_there(account, {"INBOX": "INBOX", **exchanged})

    def test_no_file_replaces_another(self, account: World) -> None:
        account.sync()
        begin_only(account, 0)
        mine = next(iter(account.files("Sent Items").values()))
        content = mine.read_bytes()
        folder = account.maildir / ".Sent Items"
        make(folder)
        other = folder / mine.parent.name / mine.name
        other.write_bytes(b"Subject: another\n\n")
        report = account.run()
        assert isinstance(report.failure, StoreError)
        assert "two different files of this name" in report.failure.detail
        assert report.failure.hint == "move one of them out of the way; the next run goes on with it"
        assert (mine.read_bytes(), other.read_bytes()) == (content, b"Subject: another\n\n")
        other.unlink()
        assert done(account.sync()) == {}
        assert_all_there(account, PATHS["maildir++"])
