"""Files that somebody has edited here, above all without changing their size: the new content is lost on neither side."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from fetchmail_py.errors import ExitStatus
from fetchmail_py.store import content
from fetchmail_py.store.state import FILE_NAME
from tests.servers.base import Connection, Cut
from tests.servers.imap import ALL, BARE, ImapServer
from tests.servers.mailbox import Store
from tests.sync.world import World, world

OLD = b"Subject: a\r\nMessage-ID: <a@x>\r\n\r\nold\r\n"
NEW = OLD.replace(b"old", b"new")
LONGER = OLD.replace(b"old", b"old and new")
OTHER = b"Subject: other\r\n\r\nx\r\n"


@pytest.fixture(params=["all", "bare"])
def account(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    """An account in the two-way mode with three mailboxes, in step."""
    store = Store()
    store.create("Drafts", special_use="\\Drafts")
    store.create("Work")
    for mailbox in ("Drafts", "INBOX"):
        store.append(OLD, mailbox)
        store.append(OTHER, mailbox)
    server = ImapServer(store, capabilities=ALL if request.param == "all" else BARE)
    with world(tmp_path, store, server, mode="disconnected") as found:
        found.sync()
        yield found


def edit(found: World, mailbox: str, data: bytes = NEW) -> Path:
    """Saves the message OLD with other content, as editors do: a new file takes the name of the old one."""
    path = next(path for path in found.files(mailbox).values() if path.read_bytes() == stored(OLD))
    saved = path.parent.parent / "tmp" / "saved"
    saved.write_bytes(stored(data))
    saved.rename(path)
    os.utime(path.parent, (1_700_000_000, 1_700_000_000))  # long ago: nothing but what the run notes makes it look again
    return path


def stored(wire: bytes) -> bytes:
    return wire.replace(b"\r\n", b"\n")


def both(found: World, mailbox: str, *messages: bytes) -> None:
    """The mailbox has exactly these messages, on both sides."""
    assert Counter(found.store.contents(mailbox).values()) == Counter(messages)
    found.assert_same(mailbox)


def again(found: World, times: int = 3, **options: bool) -> None:
    for _ in range(times):
        found.sync(**options)


def test_a_draft_of_the_same_size_goes_up(account: World) -> None:
    edit(account, "Drafts")
    again(account)
    both(account, "Drafts", NEW, OTHER)


def test_and_in_every_mailbox_with_a_full_look(account: World) -> None:
    edit(account, "INBOX")
    again(account, full=True)
    both(account, "INBOX", NEW, OTHER)


def test_a_file_that_was_only_touched_does_not_go_up(account: World) -> None:
    for path in (*account.files("Drafts").values(), *account.files().values()):
        os.utime(path)
    report = account.sync(full=True)
    assert report.uploaded == report.deleted_remote == 0
    both(account, "Drafts", OLD, OTHER)


@pytest.mark.parametrize("mailbox", ["Drafts", "INBOX"])
@pytest.mark.parametrize("data", [NEW, LONGER])
def test_what_was_deleted_at_the_server_and_edited_here_comes_back(account: World, mailbox: str, data: bytes) -> None:
    edit(account, mailbox, data)
    account.store.expunge([1], mailbox)
    again(account)
    both(account, mailbox, data, OTHER)


@pytest.mark.parametrize("data", [NEW, LONGER])
def test_what_was_moved_at_the_server_and_edited_here_is_there_in_both_places(account: World, data: bytes) -> None:
    edit(account, "INBOX", data)
    account.store.move(1, "INBOX", "Work")
    again(account)
    both(account, "INBOX", data, OTHER)
    both(account, "Work", OLD)


def test_what_was_marked_as_deleted_there_and_edited_here_comes_back(account: World) -> None:
    account.settings(expunge=True)
    account.sync()
    edit(account, "INBOX")
    account.store.set_flags(1, ["\\Deleted"])
    again(account)
    both(account, "INBOX", NEW, OTHER)


@pytest.mark.parametrize("letters", ["F", "S"])
@pytest.mark.parametrize("mailbox", ["Drafts", "INBOX"])
@pytest.mark.parametrize("gone", ["expunged", "moved"])
def test_and_with_another_flag_it_goes_up_once(account: World, mailbox: str, gone: str, letters: str) -> None:
    path = edit(account, mailbox, LONGER)
    path.rename(path.parent.parent / "cur" / f"{path.name.partition(':')[0]}:2,{letters}")
    if gone == "moved":
        account.store.move(1, mailbox, "Work")
    else:
        account.store.expunge([1], mailbox)
    account.sync(full=True)
    again(account)
    both(account, mailbox, LONGER, OTHER)
    both(account, "Work", *([OLD] if gone == "moved" else []))


@pytest.mark.parametrize("data", [NEW, LONGER])
@pytest.mark.parametrize("mailbox", ["Drafts", "INBOX"])
def test_a_state_of_before_the_edit_was_restored(account: World, mailbox: str, data: bytes) -> None:
    """What the file is now has gone up since: it is found at the server, not sent or fetched again."""
    state = account.maildir / FILE_NAME
    before = state.read_bytes()
    edit(account, mailbox, data)
    account.sync(full=True)
    account.sync()
    assert sorted(path.name for path in account.maildir.glob(f"{FILE_NAME}*")) == [FILE_NAME]
    state.write_bytes(before)
    report = account.sync()
    assert any("restored" in notice for notice in report.notices)
    again(account)
    both(account, mailbox, data, OTHER)


def test_a_mirror_leaves_alone_what_was_edited(account: World) -> None:
    account.settings(mode="mirror")
    account.sync()
    path = edit(account, "INBOX")
    account.store.expunge([1])
    report = account.sync()
    assert any("was edited here" in notice for notice in report.notices)
    assert report.deleted_local == 0
    again(account)
    assert path.read_bytes() == stored(NEW)
    assert list(account.store.contents().values()) == [OTHER]


def test_only_a_file_with_another_time_is_read(tmp_path: Path) -> None:
    """The time it was stored with says that nobody has written to it; any other says nothing."""
    path = tmp_path / "message"
    path.write_bytes(b"one")
    facts = (3, sha256(b"one").digest())
    assert not content.is_edited(str(path), *facts, None)
    assert not content.is_edited(str(path), *facts, 1_600_000_000)
    path.write_bytes(b"two")
    assert content.is_edited(str(path), *facts, None)
    assert content.is_edited(str(path), *facts, int(path.stat().st_mtime))
    os.utime(path, (1_600_000_000, 1_600_000_000))
    assert not content.is_edited(str(path), *facts, 1_600_000_000)
    path.write_bytes(b"three")
    os.utime(path, (1_600_000_000, 1_600_000_000))
    assert content.is_edited(str(path), *facts, 1_600_000_000)


def edit_and_restore(account: World, mailbox: str, data: bytes) -> None:
    """An edit gets to both sides, and then a copy of before it takes the folder's place."""
    if mailbox == "Work":
        for message in (OLD, OTHER):
            account.store.append(message, mailbox)
        account.sync()
    folder = account.maildir / mailbox
    shutil.copytree(folder, account.root / "copy")
    edit(account, mailbox, data)
    again(account, full=True)
    both(account, mailbox, data, OTHER)
    folder.rename(account.root / "gone")
    (account.root / "copy").rename(folder)


@pytest.mark.parametrize("data", [NEW, LONGER])
@pytest.mark.parametrize("mailbox", ["Drafts", "Work"])
@pytest.mark.parametrize("changed", [False, True])
def test_a_folder_of_before_the_edit_was_restored(account: World, mailbox: str, data: bytes, *, changed: bool) -> None:
    """A copy may be older than what it is a copy of: it speaks for no deletion, and both contents are kept."""
    edit_and_restore(account, mailbox, data)
    if changed:
        for uid in account.store.contents(mailbox):
            account.store.set_flags(uid, ["\\Flagged"], mailbox)
    again(account)
    both(account, mailbox, data, OLD, OTHER)
    again(account, full=True)
    both(account, mailbox, data, OLD, OTHER)


class TestEditedAndMoved:
    """Edited without another size, and moved, between two runs: the name and the size alone do not make it a plain move."""

    def move(self, found: World, path: Path, mailbox: str = "Work") -> None:
        target = found.maildir / mailbox / "cur" / f"{path.name.partition(':')[0]}:2,S"
        path.rename(target)

    def test_the_edit_is_carried_over(self, account: World) -> None:
        self.move(account, edit(account, "INBOX"))
        again(account)
        both(account, "Work", NEW)
        both(account, "INBOX", OTHER)

    def test_what_was_only_touched_is_moved(self, account: World) -> None:
        path = next(path for path in account.files().values() if path.read_bytes() == stored(OLD))
        os.utime(path)
        self.move(account, path)
        report = account.sync()
        assert (report.moved_remote, report.uploaded, report.deleted_remote) == (1, 0, 0)
        both(account, "Work", OLD)

    def test_what_was_not_is_not_read(self, account: World, monkeypatch: pytest.MonkeyPatch) -> None:
        """Moves by the thousand cost a look at each file's times."""
        read = []
        really = content.open_message

        def noted(path: str) -> int:
            read.append(path)
            return really(path)

        monkeypatch.setattr(content, "open_message", noted)
        path = next(path for path in account.files().values() if path.read_bytes() == stored(OLD))
        self.move(account, path)
        assert account.sync().moved_remote == 1
        assert read == []

    def test_edited_and_moved_at_the_server_to_another_place(self, account: World) -> None:
        self.move(account, edit(account, "INBOX"))
        account.store.create("There")
        account.store.move(1, "INBOX", "There")
        again(account)
        both(account, "Work", NEW)
        both(account, "There", OLD)
        both(account, "INBOX", OTHER)


@pytest.mark.parametrize("mailbox", ["Drafts", "Work"])
@pytest.mark.parametrize(("at", "data"), [("EXAMINE", NEW), ("EXAMINE", LONGER), ("BODY.PEEK[]", LONGER)])
def test_and_the_run_after_that_was_cut(account: World, mailbox: str, data: bytes, at: str) -> None:
    """What is known of a folder is not that it is the one it was before all of it has been dealt with."""
    edit_and_restore(account, mailbox, data)
    for part in ("tmp", "new", "cur"):  # a run makes this one at the server before it looks into any other
        (account.maildir / "Made" / part).mkdir(parents=True)
    made = False

    def cut(line: str, connection: Connection) -> None:
        nonlocal made
        del connection
        made = made or line.startswith("CREATE")
        if made and at in line:
            raise Cut

    account.server.faults.hook = cut
    assert account.run().exit_status is ExitStatus.TRY_AGAIN
    account.server.faults.hook = None
    again(account, full=mailbox == "Work")
    both(account, mailbox, data, OLD, OTHER)
