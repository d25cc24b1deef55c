"""The two-way mode against the embedded server: whatever is done on either side arrives at the other, once, and nothing more."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from fetchmail_py.errors import ExitStatus, SafetyStop
from fetchmail_py.model import MailboxName
from fetchmail_py.report import Report
from fetchmail_py.store.state import FILE_NAME, StateDb
from fetchmail_py.sync.status import status_of
from tests.servers.imap import ALL, BARE, ImapServer
from tests.servers.mailbox import Store
from tests.servers.mails import mails
from tests.sync.world import World, world

ARCHIVE = "Archive/2026"
LETTERS = {"D": "\\Draft", "F": "\\Flagged", "P": "$Forwarded", "R": "\\Answered", "S": "\\Seen", "T": "\\Deleted"}


def filled() -> Store:
    store = Store()
    store.create(ARCHIVE)
    for data in mails(8):
        store.append(data)
    for data in mails(5, seed=2):
        store.append(data, ARCHIVE, ["\\Seen"])
    return store


@pytest.fixture(params=["all", "bare"])
def account(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    """An account in the two-way mode, synchronised once."""
    store = filled()
    server = ImapServer(store, capabilities=ALL if request.param == "all" else BARE)
    with world(tmp_path, store, server, mode="disconnected") as found:
        found.sync()
        server.log.clear()
        yield found


def here(found: World, mailbox: str) -> Counter[tuple[bytes, frozenset[str]]]:
    """Content and flags of the files, as the server would have them."""
    table = {}
    keywords = found.maildir / mailbox / "dovecot-keywords"
    if keywords.exists():
        for line in keywords.read_text().splitlines():
            number, _, name = line.partition(" ")
            table[chr(ord("a") + int(number))] = name
    names = LETTERS | table
    return Counter(
        (path.read_bytes().replace(b"\r\n", b"\n"), frozenset(names[letter] for letter in path.name.partition(":2,")[2]))
        for path in found.files(mailbox).values()
    )


def there(found: World, mailbox: str) -> Counter[tuple[bytes, frozenset[str]]]:
    return Counter(
        (message.data.replace(b"\r\n", b"\n"), frozenset(message.flags)) for message in found.store.mailboxes[mailbox].messages
    )


def assert_equal(found: World) -> None:
    """Both sides are the same, and a further run changes nothing on either."""
    for mailbox in found.store.mailboxes:
        assert here(found, mailbox) == there(found, mailbox), mailbox
    assert found.in_tmp() == []
    found.server.log.clear()
    before = {path: path.stat().st_mtime_ns for path in found.maildir.rglob("*") if ".fetchmail" not in path.name}
    report = found.sync()
    assert done(report) == {}
    assert before == {path: path.stat().st_mtime_ns for path in found.maildir.rglob("*") if ".fetchmail" not in path.name}
    changing = {"UID STORE", "UID EXPUNGE", "APPEND", "UID MOVE", "UID COPY", "EXPUNGE", "CREATE", "DELETE", "RENAME"}
    assert [line for line in found.commands if any(line.upper().startswith(word) for word in changing)] == []


def done(report: Report) -> dict[str, int]:
    """What a run did, without what it did not."""
    names = ["downloaded", "uploaded", "flags_pushed", "flags_pulled"]
    names += ["moved_local", "moved_remote", "deleted_local", "deleted_remote"]
    return {name: getattr(report, name) for name in names if getattr(report, name)}


def a_file(found: World, mailbox: str = "INBOX", number: int = 0) -> Path:
    return sorted(found.files(mailbox).values(), key=lambda path: path.read_bytes())[number]


def add_file(found: World, data: bytes, name: str = "cur/1700000001.x.host:2,S", mailbox: str = "INBOX") -> Path:
    path = found.maildir / mailbox / name
    path.write_bytes(data)
    os.utime(path, (1_600_000_000, 1_600_000_000))
    return path


def flag(path: Path, letters: str) -> Path:
    """The file with exactly these letters, as a mail reader renames it."""
    target = path.parent.parent / "cur" / f"{path.name.partition(':')[0]}:2,{letters}"
    path.rename(target)
    return target


def test_first_run(account: World) -> None:
    assert_equal(account)


class TestFlags:
    def test_up(self, account: World) -> None:
        flag(a_file(account), "FPS")
        assert done(account.sync()) == {"flags_pushed": 1}
        assert_equal(account)

    def test_down(self, account: World) -> None:
        account.store.set_flags(3, ["\\Answered", "$Label1"])
        assert done(account.sync()) == {"flags_pulled": 1}
        assert_equal(account)

    def test_both_sides_changed_others(self, account: World) -> None:
        path = a_file(account)
        data = path.read_bytes().replace(b"\n", b"\r\n")
        uid = next(uid for uid, found in account.store.contents().items() if found == data)
        flag(path, "S")
        account.store.set_flags(uid, ["\\Flagged"])
        assert done(account.sync()) == {"flags_pushed": 1, "flags_pulled": 1}
        assert_equal(account)
        assert account.store.mailboxes["INBOX"].by_uid(uid).flags == {"\\Seen", "\\Flagged"}  # type: ignore[union-attr]

    def test_taken_away(self, account: World) -> None:
        path = a_file(account, ARCHIVE)
        flag(path, "")
        account.sync()
        assert_equal(account)

    def test_a_keyword_here(self, account: World) -> None:
        (account.maildir / "INBOX/dovecot-keywords").write_text("0 $Work\n1 todo\n")
        flag(a_file(account), "Sb")
        account.sync()
        assert_equal(account)
        assert any("todo" in message.flags for message in account.store.mailboxes["INBOX"].messages)


class TestMessages:
    def test_new_here(self, account: World) -> None:
        add_file(account, b"Subject: mine\nMessage-ID: <mine@here>\n\nHello\n")
        add_file(account, b"Subject: mine\n\nno identity\n", "new/1700000002.y.host")
        assert done(account.sync()) == {"uploaded": 2}
        assert_equal(account)
        message = account.store.mailboxes["INBOX"].messages[-1]
        assert len(account.store.contents()) == 10
        assert message.data.endswith(b"\r\n")

    def test_mixed_line_ends_go_up_as_imap_wants_them(self, account: World) -> None:
        add_file(account, b"Subject: mixed\r\nMessage-ID: <mixed@here>\r\n\r\none\ntwo\r\nthree\n")
        account.sync()
        assert b"\r\n\r\none\r\ntwo\r\nthree\r\n" in list(account.store.contents().values())[-1]
        assert done(account.sync()) == {}

    def test_deleted_here(self, account: World) -> None:
        a_file(account).unlink()
        assert done(account.sync()) == {"deleted_remote": 1}
        assert_equal(account)
        assert len(account.store.contents()) == 7

    def test_deleted_there(self, account: World) -> None:
        account.store.expunge([2, 5])
        assert done(account.sync()) == {"deleted_local": 2}
        assert_equal(account)

    def test_deleted_here_but_wanted_there(self, account: World) -> None:
        path = a_file(account)
        data = path.read_bytes().replace(b"\n", b"\r\n")
        uid = next(uid for uid, found in account.store.contents().items() if found == data)
        path.unlink()
        account.store.set_flags(uid, ["\\Flagged"])
        assert done(account.sync()) == {"downloaded": 1}
        assert_equal(account)

    def test_deleted_there_but_wanted_here(self, account: World) -> None:
        path = a_file(account)
        data = path.read_bytes().replace(b"\n", b"\r\n")
        uid = next(uid for uid, found in account.store.contents().items() if found == data)
        flag(path, "FS")
        account.store.expunge([uid])
        assert done(account.sync()) == {"uploaded": 1}
        assert_equal(account)

    def test_read_here_is_no_reason_to_keep(self, account: World) -> None:
        path = a_file(account)
        data = path.read_bytes().replace(b"\n", b"\r\n")
        uid = next(uid for uid, found in account.store.contents().items() if found == data)
        flag(path, "S")
        account.store.expunge([uid])
        assert done(account.sync()) == {"deleted_local": 1}
        assert_equal(account)

    def test_deleted_on_both_sides(self, account: World) -> None:
        path = a_file(account)
        data = path.read_bytes().replace(b"\n", b"\r\n")
        path.unlink()
        account.store.expunge([uid for uid, found in account.store.contents().items() if found == data])
        assert done(account.sync()) == {}
        assert_equal(account)

    def test_the_mark_travels(self, account: World) -> None:
        flag(a_file(account), "ST")
        assert done(account.sync()) == {"flags_pushed": 1}
        assert_equal(account)
        assert len(account.store.contents()) == 8

    def test_expunge_removes_what_is_marked_on_either_side(self, account: World) -> None:
        account.settings(expunge=True)
        flag(a_file(account), "ST")
        account.store.set_flags(1, ["\\Deleted"], ARCHIVE)
        assert done(account.sync()) == {"deleted_local": 2, "deleted_remote": 2}
        assert_equal(account)
        assert len(account.store.contents()) == 7

    @pytest.mark.parametrize("lost", ["state", "uidvalidity"])
    def test_expunge_removes_what_was_recognised(self, account: World, lost: str) -> None:
        """Marked on both sides before anything was known of it: that is no change, and it goes all the same, once it may."""
        flag(a_file(account), "ST")
        account.sync()
        account.settings(expunge=True)
        if lost == "state":
            (account.maildir / FILE_NAME).unlink()
        else:
            account.store.new_uidvalidity()
        account.sync()
        assert len(account.store.contents()) == 8 or lost == "uidvalidity"
        account.sync()
        assert_equal(account)
        assert len(account.store.contents()) == 7

    def test_trash(self, account: World) -> None:
        account.settings(trash="Trash")
        a_file(account).unlink()
        account.sync()
        assert_equal(account)
        assert len(account.store.contents("Trash")) == 1
        assert len(account.files("Trash")) == 1


class TestMoves:
    def test_here_under_the_same_name(self, account: World) -> None:
        path = a_file(account)
        path.rename(account.maildir / ARCHIVE / "cur" / f"{path.name.partition(':')[0]}:2,S")
        report = account.sync()
        assert done(report)["moved_remote"] == 1
        assert report.downloaded == report.uploaded == report.deleted_remote == 0
        assert_equal(account)
        assert len(account.store.contents()) == 7

    def test_here_under_a_new_name(self, account: World) -> None:
        for number, path in enumerate(sorted(account.files().values())[:3]):
            path.rename(account.maildir / ARCHIVE / "cur" / f"17000000{number}.R{number}.neo:2,S")
        report = account.sync()
        assert done(report)["moved_remote"] == 3
        assert report.downloaded == report.uploaded == report.deleted_remote == 0
        assert_equal(account)

    def test_keywords_go_along(self, account: World) -> None:
        uid = 3
        account.store.set_flags(uid, ["$Label1", "\\Seen"])
        account.sync()
        (account.maildir / ARCHIVE / "dovecot-keywords").write_text("0 other\n")
        path = next(path for path in account.files().values() if path.name.endswith("a"))
        path.rename(account.maildir / ARCHIVE / "cur" / path.name)
        account.sync()
        assert_equal(account)
        assert any("$Label1" in message.flags for message in account.store.mailboxes[ARCHIVE].messages)

    def test_there(self, account: World) -> None:
        account.store.move(2, "INBOX", ARCHIVE)
        account.store.move(3, "INBOX", ARCHIVE)
        report = account.sync()
        assert done(report) == {"moved_local": 2}
        assert_equal(account)

    def test_on_both_sides(self, account: World) -> None:
        account.store.create("Other")
        account.sync()
        path = a_file(account)
        data = path.read_bytes().replace(b"\n", b"\r\n")
        uid = next(uid for uid, found in account.store.contents().items() if found == data)
        path.rename(account.maildir / ARCHIVE / "cur" / path.name)
        account.store.move(uid, "INBOX", "Other")
        report = account.sync()
        assert report.downloaded == report.uploaded == 0
        assert_equal(account)
        assert len(account.store.contents("Other")) == 1

    @pytest.mark.parametrize("mailbox", ["INBOX", ARCHIVE])
    def test_what_was_saved_anew_there_is_no_move(self, account: World, mailbox: str) -> None:
        """Another client's draft: the same header, the same size, another sum. Only the date of its arrival tells."""
        (uid,) = (message.uid for message in account.store.mailboxes["INBOX"].messages[:1])
        message = account.store.mailboxes["INBOX"].by_uid(uid)
        assert message is not None
        before = message.data
        after = before[:-4] + b"9" + before[-3:]
        account.store.append(after, mailbox, message.flags, message.internaldate + 60)
        account.store.expunge([uid], "INBOX")
        account.sync()
        assert_equal(account)
        kept = [path.read_bytes() for name in ("INBOX", ARCHIVE) for path in account.files(name).values()]
        assert after.replace(b"\r\n", b"\n") in kept
        assert before.replace(b"\r\n", b"\n") not in kept

    def test_there_of_what_was_recognised(self, account: World) -> None:
        """The time of the files tells nothing of when they came: it is the server's word that counts."""
        for path in account.files().values():
            os.utime(path, (1, 1))
        for path in account.maildir.glob(".fetchmail-py.sqlite3*"):
            path.unlink()
        account.sync()
        account.server.log.clear()
        for message in list(account.store.mailboxes["INBOX"].messages)[:3]:
            account.store.move(message.uid, "INBOX", ARCHIVE)
        assert done(account.sync()) == {"moved_local": 3}
        assert_equal(account)

    def test_a_copy_here(self, account: World) -> None:
        shutil.copy(a_file(account), account.maildir / ARCHIVE / "cur" / "1700000009.copy.host:2,S")
        report = account.sync()
        assert not any(line.startswith("APPEND") for line in account.commands)
        assert report.downloaded == 0
        assert_equal(account)
        assert len(account.store.contents(ARCHIVE)) == 6


class TestMailboxes:
    def test_made_here(self, account: World) -> None:
        for part in ("cur", "new", "tmp"):
            (account.maildir / "Lists/Python" / part).mkdir(parents=True)
        add_file(account, b"Subject: x\nMessage-ID: <x@y>\n\nx\n", mailbox="Lists/Python")
        account.sync()
        assert_equal(account)
        assert len(account.store.contents("Lists/Python")) == 1

    def test_made_there(self, account: World) -> None:
        account.store.create("Lists/C")
        account.sync()
        assert (account.maildir / "Lists/C/cur").is_dir()
        assert_equal(account)

    def test_renamed_here(self, account: World) -> None:
        (account.maildir / ARCHIVE).rename(account.maildir / "Archive/Old")
        report = account.sync()
        assert report.downloaded == report.uploaded == 0
        assert set(account.store.mailboxes) == {"INBOX", "Archive/Old"}
        assert_equal(account)

    def test_renamed_there(self, account: World) -> None:
        account.store.rename(ARCHIVE, "Elsewhere")
        report = account.sync()
        assert report.downloaded == report.uploaded == 0
        assert_equal(account)

    def test_gone_here_is_kept_there(self, account: World) -> None:
        shutil.rmtree(account.maildir / ARCHIVE)
        report = account.sync()
        assert done(report) == {}
        assert len(account.store.contents(ARCHIVE)) == 5
        assert any("folder is gone" in notice for notice in report.notices)
        assert account.sync(fresh=True).downloaded == 5
        assert_equal(account)

    def test_gone_there_is_kept_here(self, account: World) -> None:
        account.store.delete(ARCHIVE)
        assert done(account.sync()) == {}
        assert len(account.files(ARCHIVE)) == 5
        assert done(account.sync()) == {}
        assert ARCHIVE not in account.store.mailboxes


class TestRecovery:
    def test_new_uidvalidity(self, account: World) -> None:
        account.store.new_uidvalidity(reorder=lambda messages: messages.reverse())
        report = account.sync()
        assert done(report) == {}
        assert_equal(account)

    def test_lost_state(self, account: World) -> None:
        for path in account.maildir.glob(".fetchmail-py.sqlite3*"):
            path.unlink()
        report = account.sync()
        assert done(report) == {}
        assert_equal(account)

    def test_lost_state_and_changes_on_both_sides(self, account: World) -> None:
        for path in account.maildir.glob(".fetchmail-py.sqlite3*"):
            path.unlink()
        flag(a_file(account), "F")
        account.store.set_flags(1, ["\\Answered"], ARCHIVE)
        add_file(account, b"Subject: mine\nMessage-ID: <mine@here>\n\nHello\n")
        account.store.append(b"Subject: theirs\r\nMessage-ID: <t@there>\r\n\r\nHello\r\n")
        report = account.sync()
        assert (report.downloaded, report.uploaded) == (1, 1)
        assert_equal(account)


class TestGuard:
    def test_all_deleted_here(self, account: World) -> None:
        for path in account.files(ARCHIVE).values():
            path.unlink()
        report = account.run()
        assert isinstance(report.failure, SafetyStop)
        assert "5 of 5 messages were deleted here" in report.failure.detail
        assert len(account.store.contents(ARCHIVE)) == 5
        assert account.sync(allow_mass_delete=True).deleted_remote == 5
        assert_equal(account)

    def test_all_deleted_there(self, account: World) -> None:
        account.store.expunge([1, 2, 3, 4, 5], ARCHIVE)
        report = account.run()
        assert isinstance(report.failure, SafetyStop)
        assert len(account.files(ARCHIVE)) == 5
        assert account.sync(allow_mass_delete=True).deleted_local == 5
        assert_equal(account)

    def test_dry_run_changes_nothing(self, account: World) -> None:
        flag(a_file(account), "F")
        a_file(account, number=1).unlink()
        account.store.expunge([1], ARCHIVE)
        add_file(account, b"Subject: mine\nMessage-ID: <mine@here>\n\nHello\n")
        before = {path: path.read_bytes() for path in account.maildir.rglob("*") if path.is_file()}
        mail = {name: account.store.contents(name) for name in account.store.mailboxes}
        report = account.run(dry_run=True)
        assert {action.as_dict()["do"] for action in report.plan} == {"upload", "merge-flags", "delete-remote", "delete-local"}
        assert before == {path: path.read_bytes() for path in account.maildir.rglob("*") if path.is_file()}
        assert mail == {name: account.store.contents(name) for name in account.store.mailboxes}
        assert not any(line.startswith("SELECT") for line in account.commands)
        report = account.sync()
        assert done(report) == {"uploaded": 1, "flags_pushed": 1, "deleted_remote": 1, "deleted_local": 1}
        assert_equal(account)


class TestEdited:
    def test_a_draft_with_other_content(self, account: World) -> None:
        account.store.create("Drafts", special_use="\\Drafts")
        account.store.append(b"Subject: draft\r\nMessage-ID: <d@x>\r\n\r\none\r\n", "Drafts", ["\\Draft"])
        account.sync()
        path = a_file(account, "Drafts")
        path.write_bytes(b"Subject: draft\nMessage-ID: <d@x>\n\none and two\n")
        account.sync()
        assert list(account.store.contents("Drafts").values()) == [
            b"Subject: draft\r\nMessage-ID: <d@x>\r\n\r\none and two\r\n"
        ]
        assert_equal(account)


    def drafts(self, account: World, names: tuple[str, ...] = ("Drafts",)) -> Path:
        """A draft in step, then edited here."""
        for name in names:
            account.store.create(name, special_use="\\Drafts" if name == "Drafts" else None)
        account.store.append(b"Subject: draft\r\nMessage-ID: <d@x>\r\n\r\none\r\n", "Drafts", ["\\Draft"])
        account.sync()
        path = a_file(account, "Drafts")
        path.write_bytes(b"Subject: draft\nMessage-ID: <d@x>\n\none and two\n")
        return path

    def test_and_with_another_flag_at_the_server(self, account: World) -> None:
        """The file's name says what the old message was given: it is the new one's file all the same."""
        self.drafts(account)
        account.store.set_flags(1, {"\\Draft", "\\Flagged"}, "Drafts")
        for _ in range(3):
            account.sync()
        assert list(account.store.contents("Drafts").values()) == [
            b"Subject: draft\r\nMessage-ID: <d@x>\r\n\r\none and two\r\n"
        ]
        assert_equal(account)

    def test_and_moved_at_the_server(self, account: World) -> None:
        """Both are kept: the old one where it was moved to, the edited one where it was edited."""
        self.drafts(account, ("Drafts", "Kept"))
        account.store.move(1, "Drafts", "Kept")
        for _ in range(2):
            account.sync()
        assert [data[-5:] for data in account.store.contents("Kept").values()] == [b"one\r\n"]
        assert [data[-5:] for data in account.store.contents("Drafts").values()] == [b"two\r\n"]
        assert_equal(account)


class TestAdopt:
    def test_a_maildir_of_another_program(self, tmp_path: Path) -> None:
        """mbsync puts X-TUID into what it fetches and UIDs into names, getmail puts fields in front: all are recognised."""
        store = filled()
        with world(tmp_path, store, ImapServer(store), mode="disconnected") as found:
            for part in ("cur", "new", "tmp"):
                (found.maildir / "INBOX" / part).mkdir(parents=True)
            contents = [data.replace(b"\r\n", b"\n") for data in store.contents().values()]
            head, body = contents[0].split(b"\n\n", 1)
            contents[0] = head + b"\nX-TUID: abcdefghijkl\n\n" + body
            contents[1] = b"Return-Path: <a@b>\nDelivered-To: ann\nReceived: from x by y with getmail6\n" + contents[1]
            for number, data in enumerate(contents[:6]):
                add_file(found, data, f"cur/17000000{number:02d}.x.host,U={number + 1}:2,{'F' if number == 2 else 'S'}")
            add_file(found, b"Subject: only here\nMessage-ID: <only@here>\n\nx\n", "cur/1700000099.x.host:2,S")
            store.set_flags(4, ["\\Answered"])
            report = found.run(adopt=True)
            assert report.failure is None
            assert done(report) == {}
            assert "6 messages here were recognised; 7 only at the server, 1 only here" in report.notices
            assert store.mailboxes["INBOX"].by_uid(3).flags == set()  # type: ignore[union-attr]
            report = found.sync()
            assert (report.downloaded, report.uploaded, report.deleted_local, report.deleted_remote) == (7, 1, 0, 0)
            assert store.mailboxes["INBOX"].by_uid(3).flags == {"\\Flagged"}  # type: ignore[union-attr]
            assert store.mailboxes["INBOX"].by_uid(4).flags == {"\\Answered", "\\Seen"}  # type: ignore[union-attr]
            assert done(found.sync()) == {}
            assert len(store.contents()) == 9


class TestAnEmptyFile:
    """As a delivery leaves it that met a full disk: no server takes it, and no run can do anything about it."""

    @pytest.fixture
    def empty(self, account: World) -> Path:
        """The file, after a run that has seen it."""
        path = add_file(account, b"")
        report = account.sync()
        assert done(report) == {}
        (notice,) = report.notices
        assert notice.startswith("INBOX: 1700000001.x.host is empty")
        return path

    def test_it_stays_and_is_shown_and_is_no_error(self, account: World, empty: Path) -> None:
        for full in (False, True):
            report = account.run(full=full)
            assert report.exit_status is ExitStatus.OK
            assert (done(report), report.notices) == ({}, [])
            (aside,) = status_of(account.account).deferred
            assert (aside.mailbox, aside.ident) == ("INBOX", "empty:1700000001.x.host")
            assert "empty file" in aside.reason
        assert account.run(dry_run=True, full=True).plan == []
        assert empty.exists()
        assert len(account.store.contents()) == 8

    def test_once_written_to_it_goes_up(self, account: World, empty: Path) -> None:
        empty.write_bytes(b"Subject: at last\n\nhere\n")
        assert done(account.sync(full=True)) == {"uploaded": 1}
        assert status_of(account.account).deferred == []
        assert_equal(account)

    def test_once_removed_nothing_is_said_of_it(self, account: World, empty: Path) -> None:
        empty.unlink()
        assert done(account.sync()) == {}
        assert status_of(account.account).deferred == []
        assert_equal(account)

    def test_one_that_an_earlier_version_sent_in_vain(self, account: World) -> None:
        add_file(account, b"")
        account.sync()
        path = str(account.maildir / FILE_NAME)
        with closing(StateDb.open(path)) as state:
            row = state.mailboxes()[MailboxName("INBOX")].id
            state.undefer(row, ["empty:1700000001.x.host"])
            state.defer(row, "file:1700000001.x.host", "not uploaded: BAD empty", 0.0)
            state.commit()
        account.sync(full=True)
        assert [aside.ident for aside in status_of(account.account).deferred] == ["empty:1700000001.x.host"]

    def test_an_empty_message_of_the_server_is_a_message(self, account: World) -> None:
        account.store.append(b"")
        assert done(account.sync()) == {"downloaded": 1}
        assert done(account.sync(full=True)) == {}
        assert_equal(account)


class TestOddFiles:
    def test_one_message_under_two_names(self, account: World) -> None:
        path = a_file(account)
        os.link(path, path.parent.parent / "cur" / f"{path.name.partition(':')[0]}:2,S")
        report = account.sync()
        assert (report.uploaded, report.downloaded) == (0, 0)
        assert len(account.store.contents()) == 8

    def test_a_link_a_pipe_and_a_directory_are_no_mail(self, account: World) -> None:
        (account.maildir / "INBOX/cur/1700000001.link.host:2,S").symlink_to("/etc/passwd")
        (account.maildir / "INBOX/cur/1700000002.dir.host:2,S").mkdir()
        os.mkfifo(account.maildir / f"{ARCHIVE}/new/1700000003.pipe.host")
        report = account.sync()
        assert done(report) == {}
        inbox, archive = sorted(report.notices, reverse=True)
        names = "cur/1700000001.link.host:2,S, cur/1700000002.dir.host:2,S"
        assert inbox.startswith(f"INBOX: {names} are no files, and were left alone")
        assert archive.startswith(f"{ARCHIVE}: new/1700000003.pipe.host is no file, and was left alone")
        add_file(account, b"Subject: more\n\nof this run\n")
        report = account.sync()
        assert done(report) == {"uploaded": 1}
        assert report.notices.count(inbox) == 1, "once, however often the directory is read"

    def test_a_name_that_is_no_text(self, account: World) -> None:
        add_file(account, b"Subject: odd name\n\nbody\n", os.fsdecode(b"cur/17.bad\xff\xfebytes:2,S"))
        assert done(account.sync()) == {"uploaded": 1}
        assert_equal(account)

    def test_a_folder_that_is_a_link_is_no_mailbox(self, account: World) -> None:
        """What lies elsewhere belongs to others, who would find their mail moved and their flags changed."""
        elsewhere = account.root / "elsewhere"
        for name in ("cur", "new", "tmp"):
            (elsewhere / "Box" / name).mkdir(parents=True)
        (elsewhere / "Box/cur/17.x.y:2,").write_bytes(b"Subject: not ours\n\n")
        (account.maildir / "link").symlink_to(elsewhere)
        (account.maildir / "box").symlink_to(elsewhere / "Box")
        assert done(account.sync()) == {}
        assert account.store.mailboxes.keys() == {"INBOX", ARCHIVE}

    def test_a_message_the_server_refuses_is_set_aside(self, account: World) -> None:
        add_file(account, b"Subject: bad\nMessage-ID: <bad@here>\n\nrefused\n")
        add_file(account, b"Subject: good\nMessage-ID: <good@here>\n\ngood\n", "cur/1700000002.y.host:2,S")
        assert isinstance(account.server, ImapServer)
        account.server.options.refuse_append = b"refused"
        report = account.run()
        assert report.failure is None
        assert (report.uploaded, report.deferred) == (1, 1)
        account.server.options.refuse_append = b""
        assert done(account.sync()) == {"uploaded": 1}
        assert_equal(account)

    def test_a_folder_made_anew_is_no_deletion(self, account: World) -> None:
        account.store.create("Small")
        account.store.append(b"Subject: a\r\nMessage-ID: <a@b>\r\n\r\na\r\n", "Small")
        account.sync()
        (account.maildir / "Small").rename(account.root / "away")
        for part in ("cur", "new", "tmp"):
            (account.maildir / "Small" / part).mkdir(parents=True)
        report = account.run()
        assert isinstance(report.failure, SafetyStop)
        assert len(account.store.contents("Small")) == 1
        assert account.sync(fresh=True).downloaded == 1
        assert_equal(account)

    def test_expunge_switched_on_later(self, account: World) -> None:
        flag(a_file(account), "ST")
        account.sync()
        account.settings(expunge=True)
        assert done(account.sync()) == {"deleted_local": 1, "deleted_remote": 1}
        assert_equal(account)
