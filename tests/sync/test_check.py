"""`check` and `status`: a certificate that is not trusted, a Maildir that is not what it was, a disk without room."""

from __future__ import annotations

import hashlib
import os
import shutil
import ssl
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fetchmail_py.config import Account
from fetchmail_py.errors import ExitStatus, StoreError
from fetchmail_py.report import CheckLine
from fetchmail_py.store.state import FILE_NAME
from fetchmail_py.sync import check
from fetchmail_py.sync.check import check_account
from fetchmail_py.sync.status import status_of
from tests.servers.base import Tls
from tests.servers.imap import ImapServer
from tests.servers.mailbox import Store
from tests.servers.mails import mails
from tests.servers.pop3 import Pop3Server
from tests.sync.test_folders import make_anew
from tests.sync.world import World, world


@pytest.mark.parametrize("protocol", ["imap", "pop3"])
@pytest.mark.parametrize("how", ["implicit", "starttls"])
def test_the_fingerprint_of_a_certificate_that_nobody_trusts(tmp_path: Path, protocol: str, how: str) -> None:
    kind = ImapServer if protocol == "imap" else Pop3Server
    tls, lines = Tls(), list[CheckLine]()
    certificate = ssl.PEM_cert_to_DER_cert(tls.certificate.cert_chain_pems[0].bytes().decode())
    with kind(Store(), tls, implicit=how == "implicit") as server:
        account = Account("a", protocol, "127.0.0.1", server.port, how, "ann", str(tmp_path / "mail"))
        status = check_account(account, lambda: "correct horse", on_line=lines.append)
    assert status is ExitStatus.REFUSED_LOGIN
    assert [line for line in lines if hashlib.sha256(certificate).hexdigest() in line.text]
    assert not [line for line in server.log if line.startswith(("LOGIN", "AUTH", "USER"))]


@pytest.fixture(params=["imap", "pop3"])
def account(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    """An account with four messages, run once."""
    store = Store()
    for data in mails(4):
        store.append(data)
    server = ImapServer(store) if request.param == "imap" else Pop3Server(store)
    with world(tmp_path, store, server, mode="disconnected", keep=None) as found:
        found.sync()
        yield found


def checked(found: World) -> tuple[ExitStatus, dict[str, CheckLine]]:
    """The exit status of `check`, and its last line of each kind."""
    lines = list[CheckLine]()
    status = check_account(found.account, lambda: found.store.password, on_line=lines.append)
    return status, {line.what: line for line in lines}


def is_gone(found: World) -> None:
    shutil.rmtree(found.maildir)


def is_wiped(found: World) -> None:
    shutil.rmtree(found.maildir)
    found.maildir.mkdir()


def is_replaced(found: World) -> None:
    is_wiped(found)
    for name in ("tmp", "new", "cur"):
        (found.maildir / name).mkdir()
        (found.maildir / "INBOX" / name).mkdir(parents=True)


class TestAPlaceThatIsNotWhatItWas:
    """What stops a run is told by `check` and `status` too, in the same words."""

    @pytest.mark.parametrize("event", [is_gone, is_wiped, is_replaced])
    def test_the_maildir(self, account: World, event: Callable[[World], None]) -> None:
        event(account)
        stopped = account.run().failure
        assert stopped is not None
        assert stopped.exit_status is ExitStatus.SAFETY
        status, lines = checked(account)
        assert status is ExitStatus.SAFETY
        assert (lines["Maildir"].ok, lines["Maildir"].text, lines["Maildir"].remedy) == (False, stopped.detail, stopped.hint)
        assert "it had 4 messages when it was last seen on" in stopped.detail
        assert "state" not in lines
        assert [(stop.detail, stop.hint) for stop in status_of(account.account).stops] == [(stopped.detail, stopped.hint)]

    def test_a_folder_made_anew(self, account: World) -> None:
        if account.account.protocol == "pop3":
            return  # what becomes of files that POP3 has brought is their reader's affair
        make_anew(account.maildir / "INBOX")
        status, lines = checked(account)
        stopped = account.run().stops[0]
        assert status is ExitStatus.SAFETY
        assert (lines["folder"].ok, lines["folder"].text, lines["folder"].remedy) == (False, stopped.detail, stopped.hint)
        assert [stop.detail for stop in status_of(account.account).stops] == [stopped.detail]

    def test_a_folder_that_is_gone_may_have_been_renamed(self, account: World) -> None:
        if account.account.protocol == "pop3":
            return
        shutil.rmtree(account.maildir / "INBOX")
        assert checked(account)[0] is ExitStatus.OK
        found = status_of(account.account)
        assert found.stops == []
        assert "--fresh" in (found.mailboxes[0].last_error or "")

    def test_nothing_is_wrong_with_what_is_as_it_was(self, account: World) -> None:
        status, lines = checked(account)
        assert status is ExitStatus.OK
        assert lines["state"].text.startswith("4 messages in 1 mailbox, last sync 2")
        assert status_of(account.account).stops == []

    def test_mail_without_a_state(self, account: World) -> None:
        for path in account.maildir.glob(f"{FILE_NAME}*"):
            path.unlink()
        status, lines = checked(account)
        assert status is ExitStatus.OK
        assert "the next sync matches it" in lines["state"].text


    def test_a_state_from_a_copy(self, account: World, tmp_path: Path) -> None:
        shutil.copytree(account.maildir, tmp_path / "copy")
        for data in mails(3, seed=8):
            account.store.append(data)
            account.sync()
        assert not status_of(account.account).restored
        shutil.rmtree(account.maildir)
        shutil.copytree(tmp_path / "copy", account.maildir)
        assert status_of(account.account).restored
        status, lines = checked(account)
        assert status is ExitStatus.OK
        assert "deletes nothing" in lines["state"].text

    def test_a_first_run_that_failed_leaves_no_restored_state(self, account: World) -> None:
        account.settings(name="another", maildir=str(account.root / "another"), port=1)
        assert account.run().exit_status is ExitStatus.UNAVAILABLE
        assert not status_of(account.account).restored

    def test_the_maildir_of_another_account(self, account: World) -> None:
        protocol = "imap" if account.account.protocol == "pop3" else "pop3"
        other = account.account._replace(name="other", protocol=protocol)
        (stop,) = status_of(other).stops
        assert "holds the mail of" in stop.detail


class TestADiskWithoutRoom:
    @pytest.mark.parametrize("there", [True, False])
    def test_it_fails(self, account: World, monkeypatch: pytest.MonkeyPatch, *, there: bool) -> None:
        if not there:
            account.settings(name="another", maildir=str(account.root / "another"))
        monkeypatch.setattr(check, "ROOM", 1e18)
        status, lines = checked(account)
        assert status is ExitStatus.DISK
        assert lines["Maildir"].ok is False
        assert "free" in lines["Maildir"].text
        assert lines["Maildir"].remedy is not None

    def test_little_room_is_told_in_megabytes(self) -> None:
        assert [check._room(octets) for octets in (3_400_000, 999e6, 1e9, 52.34e9)] == ["3 MB", "999 MB", "1.0 GB", "52.3 GB"]


@contextmanager
def nobody(*ours: Path) -> Iterator[None]:
    """As a user without privileges; root becomes another one for as long, and what is `ours` is that user's."""
    if os.geteuid() != 0:
        yield
        return
    for path in ours:
        os.chown(path, 65534, -1)
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def open_path() -> Iterator[Path]:
    """A directory that everybody may look into; pytest's own are private."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.mark.parametrize("what", ["Maildir", "state"])
@pytest.mark.parametrize("whose", ["root's", "ours"])
def test_a_place_that_may_not_be_read(open_path: Path, what: str, whose: str) -> None:
    if whose == "root's" and os.geteuid() != 0:
        pytest.skip("only root can give a file to somebody else")
    store = Store()
    store.append(next(mails(1)))
    with world(open_path, store, Pop3Server(store), keep=None) as found:
        found.sync()
        state, memory = found.maildir / FILE_NAME, open_path / "state"
        (memory / "fetchmail-py").chmod(0o755)
        memory.chmod(0o755)
        for path in (memory / "fetchmail-py").iterdir():
            path.chmod(0o644)
        place = found.maildir if what == "Maildir" else state
        found.maildir.chmod(0o777)
        if what == "Maildir" and whose == "root's":
            place.chmod(0o700)
        elif whose == "ours":
            place.chmod(0)
        try:
            with nobody(*([] if whose == "root's" else [found.maildir, state])):
                status, lines = checked(found)
                assert status is ExitStatus.DISK
                assert lines[what].ok is False
                assert (f"{place} belongs to root" in lines[what].text) == (whose == "root's")
                remedy = "run it as root" if whose == "root's" else f"chmod u+rwX {place}"
                assert (lines[what].remedy or "").startswith(remedy)
                with pytest.raises(StoreError):
                    status_of(found.account)
        finally:
            found.maildir.chmod(0o700)


@pytest.mark.parametrize("below", ["", "/below/it"])
@pytest.mark.parametrize("whose", ["root's", "ours"])
def test_a_run_says_of_a_place_that_it_may_not_write_to_what_check_says(open_path: Path, whose: str, below: str) -> None:
    if whose == "root's" and os.geteuid() != 0:
        pytest.skip("only root can give a file to somebody else")
    store = Store()
    with world(open_path, store, Pop3Server(store), keep=None) as found:
        (open_path / "state").mkdir()
        (open_path / "state").chmod(0o777)
        found.maildir.mkdir()
        found.maildir.chmod(0o555)
        place = found.maildir
        found.settings(maildir=f"{place}{below}")
        with nobody(*([place] if whose == "ours" else [])):
            report = found.run()
            _, lines = checked(found)
        assert report.exit_status is ExitStatus.DISK
        assert isinstance(report.error, StoreError)
        assert (report.error.detail, report.error.hint) == (lines["Maildir"].text, lines["Maildir"].remedy)
        assert (f"{place} belongs to root" in report.error.detail) == (whose == "root's")
