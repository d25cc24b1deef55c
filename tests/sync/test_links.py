"""Links that break at any octet, servers that fall silent, ways in, and several connections."""

from __future__ import annotations

import random
import threading
from pathlib import Path

import pytest

from fetchmail_py.errors import AuthenticationFailed, CertificateError, ConnectionLost, ExitStatus, ProtocolError, TlsError
from fetchmail_py.session import imap_fetch
from fetchmail_py.sync import imap, imap_execute
from tests.servers.base import Connection, Cut, Server, Tls
from tests.servers.imap import ALL, BARE, ImapOptions, ImapServer
from tests.servers.mailbox import Store
from tests.servers.mails import mails
from tests.servers.pop3 import Pop3Server
from tests.sync.world import world


def some_mail() -> Store:
    """Small messages, one that is streamed, one without CRLF line ends."""
    store = Store()
    for data in mails(6):
        store.append(data)
    store.append(b"Subject: large\r\n\r\n" + b"0123456789abcdef\r\n" * 20_000)
    store.append(b"Subject: bare\n\n" + b"0123456789abcdef\n" * 20_000 + b"\r\n")
    return store


@pytest.mark.parametrize("kind", ["imap", "bare imap", "imap, compressed", "pop3"])
def test_cut_at_any_octet(tmp_path: Path, kind: str) -> None:
    """Each cut run ends with 75 or is complete; after the last, everything is here, once."""
    store = some_mail()
    octets = sum(map(len, store.contents().values()))
    chance = random.Random(kind)
    points = sorted({*range(0, 2500, 100), *(chance.randrange(octets + 4000) for _ in range(25))})
    for number, point in enumerate(points):
        server = Pop3Server(store) if kind == "pop3" else ImapServer(store, capabilities=BARE if kind == "bare imap" else ALL)
        compress = True if kind == "imap, compressed" else None
        (tmp_path / f"{number}").mkdir()
        with world(tmp_path / f"{number}", store, server, keep=None, compress=compress) as found:
            server.faults.cut_after = point
            report = found.run()
            assert report.exit_status in {ExitStatus.OK, ExitStatus.TRY_AGAIN}, (point, report.failure)
            if report.failure is not None:
                assert isinstance(report.failure, ConnectionLost)
            server.faults.cut_after = None
            found.sync()
            found.assert_same()


@pytest.mark.parametrize("capabilities", [ALL, ALL - {"QRESYNC"}, BARE | {"COMPRESS=DEFLATE", "CONDSTORE"}])
def test_far_and_cut_at_any_octet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capabilities: frozenset[str]) -> None:
    """A second run over a far link asks for all it can at once, and compresses what follows."""
    monkeypatch.setattr(imap, "AHEAD_FROM", 0.0)
    store = Store()
    server = ImapServer(store, capabilities=capabilities)
    with world(tmp_path, store, server, mode="disconnected") as found:
        for number, data in enumerate(mails(40)):
            store.append(data)
            store.set_flags(store.mailboxes["INBOX"].messages[0].uid, {f"$Label{number}"})
            server.faults.cut_after = 150 * number
            report = found.run()
            assert report.exit_status in {ExitStatus.OK, ExitStatus.TRY_AGAIN}, (number, report.failure)
        server.faults.cut_after = None
        found.sync()
        store.append(b"Subject: last\r\n\r\n")
        server.log.clear()
        found.sync()
        found.assert_same()
        assert any("COMPRESS" in line for line in server.log)
        listed, *rest = [line for line in server.log if "LIST" in line or "EXAMINE" in line][:2]
        assert "LIST" in listed
        assert "EXAMINE" in rest[0]


class Silent(Server):
    """Says so many lines of a dialogue that may be anything, then nothing, until the client leaves."""

    def __init__(self, lines: list[bytes], said: int, *, trickle: bool = False) -> None:
        super().__init__()
        self._lines = lines[:said]
        self._trickle = trickle
        self._over = threading.Event()

    def serve(self, connection: Connection) -> None:
        """One client."""
        for line in self._lines:
            connection.send(line)
        while self._trickle:
            connection.send(b"x")
            if self._over.wait(0.05):
                raise Cut
        while True:
            connection.line()

    def __exit__(self, *arguments: object) -> None:
        self._over.set()
        super().__exit__(*arguments)


IMAP_LINES = [
    b"* OK [CAPABILITY IMAP4rev1] hi\r\n",
    b"F1 OK [CAPABILITY IMAP4rev1] in\r\n",
    b'* LIST () "/" INBOX\r\n',
    b"F2 OK\r\n",
    b"* STATUS INBOX (MESSAGES 1 UIDNEXT 2 UIDVALIDITY 3)\r\nF3 OK\r\n",
    b"* 1 EXISTS\r\n* OK [UIDVALIDITY 3]\r\nF4 OK\r\n",
]


@pytest.mark.parametrize("trickle", [False, True])
@pytest.mark.parametrize("said", range(len(IMAP_LINES) + 1))
def test_silence_meets_the_timeout(tmp_path: Path, said: int, *, trickle: bool) -> None:
    server = Silent(IMAP_LINES, said, trickle=trickle)
    with world(tmp_path, Store(), server, protocol="imap", timeout=1.0) as found:
        report = found.run()
        assert isinstance(report.failure, ConnectionLost)
        assert report.failure.timed_out
        assert report.exit_status is ExitStatus.TRY_AGAIN


class TestWaysIn:
    @pytest.mark.parametrize("tls", ["implicit", "starttls"])
    def test_tls(self, tmp_path: Path, tls: str) -> None:
        store, authority = some_mail(), Tls()
        server = ImapServer(store, authority, implicit=tls == "implicit")
        ca = authority.write_ca(str(tmp_path / "ca.pem"))
        with world(tmp_path, store, server, tls=tls, ca_file=ca) as found:
            found.sync()
            found.assert_same()
        with world(tmp_path, store, ImapServer(store, Tls(), implicit=tls == "implicit"), tls=tls, ca_file=ca) as found:
            report = found.run()
            assert isinstance(report.failure, CertificateError)
            assert not [line for line in found.commands if line.startswith(("LOGIN", "AUTHENTICATE"))]

    def test_starttls_that_is_not_offered_ends_the_run(self, tmp_path: Path) -> None:
        store = some_mail()
        with world(tmp_path, store, ImapServer(store), tls="starttls") as found:
            report = found.run()
            assert isinstance(report.failure, TlsError)
            assert report.exit_status is ExitStatus.PROTOCOL
            assert found.commands in ([], ["CAPABILITY"])

    def test_preauth_does_not_skip_starttls(self, tmp_path: Path) -> None:
        store = some_mail()
        server = ImapServer(store, Tls(), options=ImapOptions(preauth=True))
        with world(tmp_path, store, server, tls="starttls") as found:
            report = found.run()
            assert isinstance(report.failure, ProtocolError)
            assert found.commands == []

    def test_what_is_said_before_tls_ends_the_run(self, tmp_path: Path) -> None:
        store, authority = some_mail(), Tls()
        server = ImapServer(store, authority)
        server.faults.hook = lambda line, _: b"F1 OK begin\r\n* CAPABILITY EVIL\r\n" if line == "STARTTLS" else None
        ca = authority.write_ca(str(tmp_path / "ca.pem"))
        with world(tmp_path, store, server, tls="starttls", ca_file=ca) as found:
            report = found.run()
            assert isinstance(report.failure, ProtocolError)
            assert report.exit_status is ExitStatus.PROTOCOL

    def test_preauth(self, tmp_path: Path) -> None:
        store = some_mail()
        with world(tmp_path, store, ImapServer(store, options=ImapOptions(preauth=True))) as found:
            found.sync()
            assert not [line for line in found.commands if line.startswith(("LOGIN", "AUTHENTICATE"))]

    @pytest.mark.parametrize("auth", ["auto", "plain", "login"])
    def test_login_command_and_plain(self, tmp_path: Path, auth: str) -> None:
        store = some_mail()
        store.password = 'pass"w\\örd'
        with world(tmp_path, store, ImapServer(store, capabilities=ALL - {"SASL-IR"}), auth=auth) as found:
            found.sync()

    def test_logindisabled(self, tmp_path: Path) -> None:
        store = some_mail()
        options = ImapOptions(logindisabled=True)
        with world(tmp_path, store, ImapServer(store, capabilities=BARE, options=options)) as found:
            report = found.run()
            assert isinstance(report.failure, AuthenticationFailed)
            assert found.commands in ([], ["CAPABILITY"])

    @pytest.mark.parametrize(
        ("text", "status"),
        [
            ("[AUTHENTICATIONFAILED] no", ExitStatus.REFUSED_LOGIN),
            ("no", ExitStatus.REFUSED_LOGIN),
            ("[UNAVAILABLE] later", ExitStatus.TRY_AGAIN),
        ],
    )
    def test_refused(self, tmp_path: Path, text: str, status: ExitStatus) -> None:
        store = some_mail()
        with world(tmp_path, store, ImapServer(store, options=ImapOptions(refuse_login=text))) as found:
            report = found.run()
            assert report.exit_status is status
            assert store.password not in str(report.failure)


class TestSeveralConnections:
    def test_they_share_the_work(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(imap_execute, "WINDOW", 3)
        monkeypatch.setattr(imap_fetch, "AHEAD", 1)
        store = Store()
        store.create("Other")
        for number, data in enumerate(mails(120)):
            store.append(data, "Other" if number % 3 else "INBOX")
        with world(tmp_path, store, ImapServer(store), connections=4) as found:
            found.sync()
            assert found.server.connections_made == 4
            found.assert_same()
            found.assert_same("Other")

    def test_a_server_that_allows_one_only(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(imap_execute, "WINDOW", 3)
        store = some_mail()
        server = ImapServer(store)
        logins = iter([None, b"F1 NO [LIMIT] too many connections\r\n", b"F1 NO [LIMIT] too many connections\r\n"])

        def hook(line: str, _: Connection) -> bytes | None:
            return next(logins) if line.startswith("AUTHENTICATE") else None

        server.faults.hook = hook
        with world(tmp_path, store, server, connections=3) as found:
            found.sync()
            found.assert_same()

    def test_one_that_breaks_fails_the_run_and_loses_nothing(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(imap_execute, "WINDOW", 2)
        store = Store()
        for data in mails(80):
            store.append(data)
        server = ImapServer(store)
        server.faults.cut_after = 60_000
        with world(tmp_path, store, server, connections=3) as found:
            assert found.run().exit_status is ExitStatus.TRY_AGAIN
            found.sync()
            found.assert_same()


def test_answers_that_belong_to_the_next_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server may work on two FETCHes at once: what the second asked for comes before the answer to the first."""
    monkeypatch.setattr(imap_execute, "WINDOW", 1)
    store = Store()
    one, two = b"Subject: one\r\n\r\n", b"Subject: two\r\n\r\n"
    for data in (one, two):
        store.append(data)
    server = ImapServer(store)
    held: list[str] = []

    def hook(line: str, connection: Connection) -> bytes | None:
        if "BODY.PEEK[]" not in line:
            return None
        held.append(line)
        if len(held) == 1:
            return b""
        body = b"* 1 FETCH (UID 1 FLAGS () BODY[] {%d}\r\n%s)\r\n* 2 FETCH (UID 2 FLAGS () BODY[] {%d}\r\n%s)\r\n"
        tags = [b"F%d OK done\r\n" % number for number in range(5, 10)]
        del connection
        return body % (len(one), one, len(two), two) + tags[0] + tags[1]

    server.faults.hook = hook
    with world(tmp_path, store, server, timeout=5.0) as found:
        report = found.run()
        assert report.downloaded == 2, (held, report.failure, found.commands)
        found.assert_same()
