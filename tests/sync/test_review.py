"""What a hard review found: ways to lose, double or wrongly delete mail, each with the test that would have caught it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from fetchmail_py.errors import ExitStatus, ProtocolError, SafetyStop
from fetchmail_py.plan.actions import CreateMailbox, Recognise
from fetchmail_py.store.state import FILE_NAME
from fetchmail_py.sync import imap_execute
from tests.servers.base import Connection
from tests.servers.imap import ALL, BARE, ImapServer
from tests.servers.mailbox import Store
from tests.servers.mails import mails
from tests.servers.pop3 import Pop3Options, Pop3Server
from tests.sync.world import World, world

# What devices send: the same header and size every time, and no Message-ID.
FIRST = b"From: scanner\r\nTo: ann\r\nSubject: alarm\r\n\r\nvalue 17\r\n"
SECOND = b"From: scanner\r\nTo: ann\r\nSubject: alarm\r\n\r\nvalue 42\r\n"


@pytest.fixture
def account(tmp_path: Path) -> Iterator[World]:
    store = Store()
    store.create("Archive")
    for data in mails(8):
        store.append(data)
    for data in mails(4, seed=2):
        store.append(data, "Archive")
    with world(tmp_path, store, ImapServer(store)) as found:
        yield found


@pytest.fixture
def drop(tmp_path: Path) -> Iterator[World]:
    store = Store()
    with world(tmp_path, store, Pop3Server(store), keep=0.0) as found:
        yield found


def content(found: World) -> list[bytes]:
    """What lies in a maildrop, with the line ends of the wire. The state no longer knows all of it."""
    return sorted(path.read_bytes().replace(b"\n", b"\r\n") for path in found.files().values())


class TestOnlyCopies:
    @pytest.mark.parametrize("mode", ["mirror", "backup"])
    def test_a_change_from_offline_keeps_what_only_this_side_has(self, account: World, mode: str) -> None:
        contents = sorted(account.store.contents().values())
        account.settings(mode="offline")
        account.sync()
        account.settings(mode=mode)
        report = account.sync()
        assert report.deleted_local == 0
        assert sorted(path.read_bytes().replace(b"\n", b"\r\n") for path in account.files().values()) == contents

    def test_a_change_to_offline_fetches_what_is_not_here_first(self, account: World) -> None:
        account.sync()
        account.sync()
        shutil.rmtree(account.maildir / "Archive")
        account.settings(mode="offline")
        report = account.sync()
        assert report.downloaded == 4
        assert len(account.files("Archive")) == 4

    def test_a_vanished_maildir_is_noticed_in_mode_offline_too(self, account: World) -> None:
        account.settings(mode="offline")
        account.sync()
        account.sync()
        shutil.rmtree(account.maildir)
        account.store.append(FIRST)
        assert isinstance(account.run().failure, SafetyStop)
        assert len(account.store.contents()) == 1


class TestLookalikes:
    def test_pop3(self, drop: World) -> None:
        for data in (FIRST, SECOND):
            drop.store.append(data)
            drop.sync()
        assert content(drop) == [FIRST, SECOND]

    @pytest.mark.parametrize("size", [0, 7])
    def test_a_uidl_used_again(self, drop: World, size: int) -> None:
        assert isinstance(drop.server, Pop3Server)
        drop.server.options = Pop3Options(uidl_of=lambda _: "1")
        for data in (FIRST, SECOND + b"x" * size):
            drop.store.append(data)
            drop.sync()
        assert content(drop) == sorted([FIRST, SECOND + b"x" * size + (b"\r\n" if size else b"")])

    def test_a_uidl_used_again_after_a_lost_quit(self, drop: World) -> None:
        assert isinstance(drop.server, Pop3Server)
        drop.server.options = Pop3Options(uidl_of=lambda _: "1", cut_at_quit=True)
        drop.store.append(FIRST)
        drop.run()
        drop.server.options.cut_at_quit = False
        drop.store.append(SECOND)
        drop.sync()
        assert content(drop) == [FIRST, SECOND]

    def test_a_mirror_does_not_take_one_for_the_other(self, account: World) -> None:
        account.settings(mode="mirror")
        uid = account.store.append(FIRST)
        account.sync()
        account.store.expunge([uid])
        account.store.append(SECOND, "Archive")
        account.sync()
        account.assert_same()
        account.assert_same("Archive")

    def test_a_changed_uidvalidity_does_not_either(self, account: World) -> None:
        uid = account.store.append(FIRST)
        account.sync()
        account.store.expunge([uid])
        account.store.append(SECOND)
        account.store.new_uidvalidity()
        account.settings(mode="offline")
        account.sync()
        stored = {path.read_bytes() for path in account.files().values()}
        assert {data.replace(b"\r\n", b"\n") for data in (FIRST, SECOND)} <= stored


class TestAnotherAccount:
    def test_an_equal_uidvalidity_is_no_proof(self, account: World) -> None:
        account.sync()
        account.store.user = "bob"
        account.settings(user="bob", mode="offline")
        for name in ("INBOX", "Archive"):
            box = account.store.mailboxes[name]
            for message, data in zip(box.messages, mails(20, seed=99), strict=False):
                message.data = data
        before = account.store.contents()
        assert isinstance(account.run().failure, SafetyStop)
        assert account.store.contents() == before
        account.sync(fresh=True)
        assert {data.replace(b"\r\n", b"\n") for data in before.values()} <= {
            path.read_bytes() for path in account.files().values()
        }

    def test_the_same_mail_under_another_host_name_goes_on(self, account: World) -> None:
        account.sync()
        account.settings(host="127.0.0.1")
        assert account.sync().downloaded == 0


def test_a_modseq_that_goes_backwards(account: World) -> None:
    """A server restored from a backup: the count adds up, and the changes it tells are none."""
    account.sync()
    box = account.store.mailboxes["INBOX"]
    box.highestmodseq += 100
    account.store.set_flags(1, ["\\Seen"])
    account.sync()
    account.store.expunge([1])
    account.store.append(b"Subject: new\r\nMessage-ID: <new@x>\r\n\r\n")
    box.highestmodseq = 3
    for message in box.messages:
        message.modseq = 1
    box.expunged.clear()
    assert account.sync().downloaded == 1


class TestTheUsersWord:
    def test_nothing_more_than_was_announced(self, account: World) -> None:
        account.settings(mode="mirror")
        account.sync()
        account.store.expunge(range(1, 9))
        assert account.run().exit_status is ExitStatus.SAFETY
        account.store.expunge(range(1, 5), "Archive")
        report = account.run(allow_mass_delete=True)
        assert report.exit_status is ExitStatus.SAFETY
        assert report.deleted_local == 8
        assert len(account.files("Archive")) == 4

    def test_nothing_announced_nothing_let_through(self, account: World) -> None:
        account.settings(mode="mirror")
        account.sync()
        account.store.expunge(range(1, 9))
        assert account.run(allow_mass_delete=True).exit_status is ExitStatus.SAFETY
        assert account.sync(allow_mass_delete=True).deleted_local == 8


class TestDoubles:
    def test_a_lost_state_and_a_run_of_one_mailbox_first(self, account: World) -> None:
        account.sync()
        (account.maildir / ".fetchmail-py.sqlite3").unlink()
        assert account.run(mailboxes=("INBOX",)).downloaded == 0
        assert account.sync().downloaded == 0
        account.assert_same("Archive")

    def test_new_is_missing_and_cur_is_full(self, account: World) -> None:
        for uid in range(1, 5):
            account.store.set_flags(uid, ["\\Seen"], "Archive")
        account.sync()
        (account.maildir / "Archive/new").rmdir()
        assert account.sync().downloaded == 0
        account.assert_same("Archive")

    @pytest.mark.parametrize(
        ("mode", "state"),
        [("disconnected", "kept"), ("mirror", "kept"), ("backup", "kept"), ("mirror", "lost"), ("backup", "lost")],
    )
    def test_a_dry_run_makes_nothing_and_looks_all_the_same(self, account: World, mode: str, state: str) -> None:
        account.settings(mode=mode)
        for uid in range(1, 5):
            account.store.set_flags(uid, ["\\Seen"], "Archive")
        account.sync()
        (account.maildir / "Archive/new").rmdir()
        if state == "lost":
            (account.maildir / FILE_NAME).unlink()
        report = account.run(dry_run=True)
        assert report.failure is None
        assert not [action for action in report.plan if not isinstance(action, (CreateMailbox, Recognise))]
        assert not (account.maildir / "Archive/new").exists()
        assert account.sync().downloaded == 0

    def test_a_rename_seen_first_by_a_run_of_another_mailbox(self, account: World) -> None:
        account.sync()
        account.store.rename("Archive", "Old")
        account.run(mailboxes=("INBOX",))
        assert account.sync().downloaded == 0
        account.assert_same("Old")

    def test_moved_away_and_back(self, account: World) -> None:
        account.settings(mode="mirror")
        account.sync()
        uid = account.store.move(3, "INBOX", "Archive")
        account.store.move(uid, "Archive", "INBOX")
        assert account.sync().downloaded == 0
        account.assert_same()


class TestNotStuck:
    def test_a_defect_while_storing_ends_the_run(self, account: World, monkeypatch: pytest.MonkeyPatch) -> None:
        for data in mails(3000, seed=4):
            account.store.append(data)

        def fail(*_: object) -> None:
            raise ValueError("a defect")

        monkeypatch.setattr(imap_execute.Execution, "_store", fail)
        with pytest.raises(ValueError, match="a defect"):
            account.run()

    def test_a_server_that_refuses_to_tell_headers(self, account: World) -> None:
        account.sync()
        account.store.new_uidvalidity()

        def hook(line: str, connection: Connection) -> bytes | None:
            del connection
            return None if "HEADER.FIELDS" not in line else b"F7 NO not today\r\nF6 NO not today\r\nF8 NO not today\r\n"

        account.server.faults.hook = hook
        report = account.run()
        account.server.faults.hook = None
        assert report.exit_status in {ExitStatus.OK, ExitStatus.PROTOCOL}
        account.sync()
        account.assert_same()

    def test_expunge_before_closed_is_about_the_mailbox_before(self, account: World) -> None:
        account.store.create("Third")
        account.server.faults.before_answer = b""
        account.sync()
        account.store.append(FIRST)
        account.store.append(FIRST, "Archive")
        account.sync()
        account.assert_same("Archive")


@pytest.mark.parametrize("capabilities", [ALL, ALL - {"SASL-IR"}, BARE])
@pytest.mark.parametrize("tagged", [True, False])
def test_a_server_that_echoes_the_login(tmp_path: Path, capabilities: frozenset[str], *, tagged: bool) -> None:
    store = Store(password="hunter2hunter2")

    def hook(line: str, connection: Connection) -> bytes | None:
        if not line.startswith(("LOGIN", "AUTHENTICATE")):
            return None
        if line == "AUTHENTICATE PLAIN":
            connection.send(b"+ \r\n")
            line = connection.line().decode()
        number = b"F2" if capabilities is BARE else b"F1"
        return b"%s%s\r\n" % (number + b" NO what is " if tagged else b"? ", line.encode())

    server = ImapServer(store, capabilities=capabilities)
    server.faults.hook = hook
    with world(tmp_path, store, server, timeout=5.0) as found:
        failure = found.run().failure
        assert failure is not None
        shown = f"{failure.detail} {getattr(failure, 'data', b'')!r} {getattr(failure, 'text', '')}"
        assert "hunter2" not in shown
        assert "aHVudGVyMmh1bnRlcjI" not in shown
        if not tagged:
            assert isinstance(failure, ProtocolError)
