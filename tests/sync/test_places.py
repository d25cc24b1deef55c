"""The place on this machine: wiped, unmounted, restored, damaged, full, locked; another server behind the same name."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from fetchmail_py.config import Account
from fetchmail_py.errors import ExitStatus, Interrupted, Locked, SafetyStop, StoreError
from fetchmail_py.report import Progress
from fetchmail_py.store import delivery, durable
from fetchmail_py.store.durable import write_all
from fetchmail_py.store.state import FILE_NAME
from fetchmail_py.sync.options import Options, StopFlag
from fetchmail_py.sync.run import run_account
from tests.servers.imap import ImapServer
from tests.servers.mailbox import Store
from tests.servers.mails import mails
from tests.servers.pop3 import Pop3Server
from tests.sync.world import World, world

PATIENCE = 20.0
"""Seconds that only a failing test waits."""


@pytest.fixture(params=["imap", "pop3"])
def account(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[World]:
    """25 messages, by either protocol, which stay at the server."""
    store = Store()
    for data in mails(25):
        store.append(data)
    server = ImapServer(store) if request.param == "imap" else Pop3Server(store)
    with world(tmp_path, store, server, keep=None, mode="mirror" if request.param == "imap" else "backup") as found:
        yield found


class TestGone:
    @pytest.mark.parametrize("left", ["nothing", "an empty directory"])
    def test_a_maildir_that_was_there_stops_the_run(self, account: World, left: str) -> None:
        account.sync()
        shutil.rmtree(account.maildir)
        if left != "nothing":
            account.maildir.mkdir()
        report = account.run()
        assert isinstance(report.failure, SafetyStop)
        assert report.exit_status is ExitStatus.SAFETY
        assert "25 messages" in report.failure.detail
        assert len(account.store.contents()) == 25
        assert account.sync(fresh=True).downloaded == 25
        assert account.sync().downloaded == 0

    def test_another_empty_place_stops_too(self, account: World) -> None:
        account.sync()
        account.settings(maildir=str(account.root / "elsewhere"))
        assert isinstance(account.run().failure, SafetyStop)


class TestState:
    @pytest.mark.parametrize("how", ["removed", "truncated", "not a database", "bits turned"])
    def test_lost_or_damaged_is_rebuilt_by_content(self, account: World, how: str) -> None:
        account.sync()
        state = account.maildir / FILE_NAME
        data = bytearray(state.read_bytes())
        match how:
            case "removed":
                state.unlink()
            case "truncated":
                state.write_bytes(data[:5000])
            case "not a database":
                state.write_bytes(b"hello" * 1000)
            case _:
                data[4096:] = bytes(octet ^ 0x55 for octet in data[4096:])
                state.write_bytes(data)
        account.store.expunge([3])
        report = account.sync()
        assert report.downloaded == 0
        assert report.deleted_local == report.deleted_remote == 0
        assert len(account.files()) == 25
        assert bool(list(account.maildir.glob("*.damaged-*"))) is (how != "removed")
        account.store.append(b"Subject: after\r\n\r\n")
        assert account.sync().downloaded == 1

    def test_a_lost_state_is_trusted_again_once_all_has_been_compared(self, account: World) -> None:
        """Also where that run found nothing to do: state and memory must not stay apart for ever."""
        account.sync()
        (account.maildir / FILE_NAME).unlink()
        assert account.sync().downloaded == 0
        assert account.sync().notices == []

    def test_older_than_the_last_run_deletes_nothing(self, account: World) -> None:
        account.sync()
        shutil.copy(account.maildir / FILE_NAME, account.root / "older")
        for data in mails(5, seed=7):
            account.store.append(data)
        account.sync()
        shutil.copy(account.root / "older", account.maildir / FILE_NAME)
        account.store.expunge([1, 2])
        report = account.sync()
        assert report.downloaded == 0, "what the state does not know is recognised by content"
        assert report.deleted_local == 0
        assert len(account.files()) == 30

    def test_newer_version_is_left_alone(self, account: World) -> None:
        account.sync()
        with sqlite3.connect(account.maildir / FILE_NAME) as db:
            db.execute("PRAGMA user_version = 999")
        db.close()
        before = (account.maildir / FILE_NAME).read_bytes()
        assert account.run().exit_status is ExitStatus.CONFIG
        assert (account.maildir / FILE_NAME).read_bytes() == before


class TestLock:
    def test_a_second_run_ends_at_once(self, account: World) -> None:
        account.sync()
        script = (
            "import sys; from fetchmail_py.store.lock import Lock; Lock.acquire(sys.argv[1]); "
            "print('held', flush=True); sys.stdin.read()"
        )
        with subprocess.Popen(
            [sys.executable, "-c", script, str(account.maildir)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as other:
            assert other.stdout is not None
            assert other.stdout.readline() == b"held\n"
            report = account.run()
            assert isinstance(report.failure, Locked)
            assert report.failure.pid == other.pid
            assert report.exit_status is ExitStatus.TRY_AGAIN
            other.communicate()
        account.sync()


class TestDisk:
    @pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
    @pytest.mark.parametrize("where", ["write", "sync"])
    def test_an_error_loses_nothing(
        self, account: World, monkeypatch: pytest.MonkeyPatch, number: int, where: str
    ) -> None:
        account.settings(keep=0.0)
        calls = iter(range(1000))

        def fail(*_: object) -> None:
            if next(calls) >= (11 if where == "write" else 0):
                raise OSError(number, os.strerror(number))

        if where == "write":
            def write(fd: int, data: bytes | memoryview) -> None:
                fail()
                write_all(fd, data)

            monkeypatch.setattr(delivery, "write_all", write)
        else:

            def files(_: object, paths: object) -> None:
                raise StoreError.from_os_error(OSError(number, os.strerror(number)), "syncing", str(paths)[:40])

            monkeypatch.setattr(durable.Barrier, "files", files)
        report = account.run()
        assert isinstance(report.failure, StoreError)
        assert report.failure.errno == number
        assert report.exit_status is ExitStatus.DISK
        assert len(account.store.contents()) == 25, "nothing was deleted at the server"
        monkeypatch.undo()
        os.environ["XDG_STATE_HOME"] = str(account.root / "state")
        contents = sorted(account.store.contents().values())
        account.sync()
        assert sorted(account.wire().elements()) == contents
        assert account.in_tmp() == []

    def test_a_file_removed_from_tmp_in_the_middle(self, account: World, monkeypatch: pytest.MonkeyPatch) -> None:
        original = durable.Barrier.files

        def files(self: durable.Barrier, paths: list[str]) -> None:
            original(self, paths)
            os.unlink(paths[3])

        monkeypatch.setattr(durable.Barrier, "files", files)
        report = account.run()
        assert report.exit_status is ExitStatus.DISK
        monkeypatch.undo()
        os.environ["XDG_STATE_HOME"] = str(account.root / "state")
        account.sync()
        account.assert_same()

    def test_maildir_that_is_a_file(self, account: World) -> None:
        account.maildir.write_text("no")
        report = account.run()
        assert isinstance(report.failure, StoreError)
        assert account.commands == [], "nothing was asked of the server"


class TestSignal:
    @pytest.mark.parametrize("tls", ["implicit", "none"])
    @pytest.mark.parametrize("protocol", ["imap", "pop3"])
    def test_a_server_that_says_nothing_is_not_waited_for(self, tmp_path: Path, protocol: str, tls: str) -> None:
        """Neither for its part of the handshake nor for its greeting."""
        with socket.create_server(("127.0.0.1", 0)) as listener:
            account = Account(
                name="mute", protocol=protocol, host="127.0.0.1", port=listener.getsockname()[1], tls=tls, user="u",
                maildir=str(tmp_path / "mail"), timeout=PATIENCE,
            )  # fmt: skip
            stop, done = StopFlag(), threading.Event()

            def stops() -> None:
                connection, _ = listener.accept()
                stop.set(signal.SIGTERM)
                done.wait(PATIENCE)
                with connection:
                    connection.recv(1)  # the client's part of the handshake, if it has one

            thread = threading.Thread(target=stops)
            thread.start()
            try:
                report = run_account(account, lambda: "secret", Options(), on_event=lambda _: None, stop=stop)
            finally:
                done.set()
                thread.join()
                for connecting in threading.enumerate():
                    if connecting.name == "connect":
                        connecting.join()
        assert isinstance(report.failure, Interrupted), report.failure
        assert report.exit_status == 128 + signal.SIGTERM
        assert report.seconds < PATIENCE / 2

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_what_has_come_in_is_stored_and_the_rest_comes_later(self, account: World, number: int) -> None:
        for data in mails(600, seed=5):
            account.store.append(data)
        contents = sorted(account.store.contents().values())
        stop = StopFlag()

        def on_event(event: object) -> None:
            if isinstance(event, Progress) and event.done >= 1:
                stop.set(number)

        report = account.run(stop=stop, on_event=on_event)
        assert isinstance(report.failure, Interrupted)
        assert report.exit_status == 128 + number
        first = report.downloaded
        assert first < 625
        assert sorted(account.store.contents().values()) == contents
        assert account.sync().downloaded == 625 - first
        assert sorted(account.wire().elements()) == contents
        assert account.in_tmp() == []


class TestAnotherServer:
    def test_with_nothing_in_common_is_refused(self, account: World) -> None:
        if account.account.protocol == "pop3":
            pytest.skip("a maildrop has no UIDVALIDITY: its mail is recognised by content")
        account.sync()
        account.settings(user="bob")
        account.store.user = "bob"
        account.store.new_uidvalidity()
        report = account.run()
        assert isinstance(report.failure, SafetyStop)
        assert report.downloaded == 0
        report = account.sync(fresh=True)
        assert report.downloaded == 0, "it is the same mail: recognised by content"
        account.assert_same()


class TestAnotherOwner:
    """The mail of two people, or of two protocols, is not mixed in one Maildir."""

    def test_another_maildrop(self, tmp_path: Path) -> None:
        store = Store()
        store.append(b"Subject: one\r\n\r\n")
        with world(tmp_path, store, Pop3Server(store), keep=None) as found:
            found.sync()
            user = found.account.user
            found.settings(user="somebody.else")
            report = found.run()
            assert report.exit_status is ExitStatus.SAFETY
            assert f"{user}@" in str(report.failure)
            found.settings(user=user)
            found.sync()
            store.user = "new.name"
            found.settings(user=store.user)
            found.sync(fresh=True)
            found.sync()
            assert len(found.files()) == 1

    @pytest.mark.parametrize("first", ["pop3", "imap"])
    def test_the_other_protocol(self, tmp_path: Path, first: str) -> None:
        store = Store()
        store.append(b"Subject: one\r\n\r\n")
        with ImapServer(store) as imap, world(tmp_path, store, Pop3Server(store), keep=None) as found:
            settings = {
                "pop3": {"protocol": "pop3", "port": found.account.port},
                "imap": {"protocol": "imap", "port": imap.port, "mode": "backup"},
            }
            found.settings(**settings[first])
            found.sync()
            found.settings(**settings["imap" if first == "pop3" else "pop3"])
            assert found.run().exit_status is ExitStatus.SAFETY
            found.settings(**settings[first])
            found.sync()

    def test_a_wrong_name_before_the_first_mail_is_no_matter(self, tmp_path: Path) -> None:
        store = Store()
        with world(tmp_path, store, Pop3Server(store), keep=None) as found:
            found.sync()
            store.user = "right"
            found.settings(user="right")
            found.sync()
