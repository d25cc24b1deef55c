"""No conversation with what answers at a port: the sentence names host, port and cause, the remedy names the setting."""

from __future__ import annotations

import re
import socket
import ssl
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
import trustme

from fetchmail_py.cli.explain import explain
from fetchmail_py.errors import (
    CertificateError,
    ConnectionLost,
    ExitStatus,
    FetchmailError,
    ServerUnreachable,
    TlsError,
    WrongService,
)
from fetchmail_py.session.endpoint import Endpoint
from fetchmail_py.session.imap import ImapSession
from fetchmail_py.session.login import Login
from fetchmail_py.session.pop3 import Pop3Session
from tests.servers.base import Tls
from tests.servers.imap import ImapServer
from tests.servers.mailbox import Store
from tests.servers.pop3 import Pop3Server
from tests.session.peer import CUT, Authority, Peer, authority
from tests.session.test_transport import issue, refuse_handshake

LOGIN = Login("ann", "auto", lambda: "secret")
OPEN: dict[str, Callable[[Endpoint], object]] = {
    "IMAP": lambda endpoint: ImapSession.open(endpoint, LOGIN),
    "POP3": lambda endpoint: Pop3Session.open(endpoint, LOGIN),
}
PAST, SINCE = datetime(2000, 1, 1, tzinfo=UTC), datetime(2001, 1, 1, tzinfo=UTC)
LATER, THEN = datetime(2090, 1, 1, tzinfo=UTC), datetime(2091, 1, 1, tzinfo=UTC)


def failure(endpoint: Endpoint, protocol: str, kind: type[FetchmailError]) -> FetchmailError:
    """The error, which names host and port once, and has a remedy; both are one line each."""
    with pytest.raises(kind) as caught:
        OPEN[protocol](endpoint)
    error = caught.value
    assert type(error) is kind
    assert error.detail.count(f"{endpoint.host} port {endpoint.port}") == 1
    sentence, remedy = explain(error)
    assert remedy is not None
    assert sentence == error.detail
    assert not re.search(r"[\r\n]", sentence + remedy)
    return error


@pytest.mark.parametrize("protocol", ["IMAP", "POP3"])
class TestACertificate:
    def refused(
        self, protocol: str, shown: Authority, change: Callable[[Endpoint], Endpoint] = lambda found: found
    ) -> FetchmailError:
        with Peer(refuse_handshake, CUT, tls=shown) as peer:
            error = failure(change(peer.endpoint("implicit")), protocol, CertificateError)
        assert error.exit_status is ExitStatus.REFUSED_LOGIN
        assert "tls_fingerprint" in (error.hint or "")
        return error

    def test_expired(self, protocol: str, tmp_path: Path) -> None:
        error = self.refused(protocol, issue(("127.0.0.1",), tmp_path, not_before=PAST, not_after=SINCE))
        assert error.detail.endswith("has expired")
        assert "renew" in (error.hint or "")

    def test_not_yet_valid(self, protocol: str, tmp_path: Path) -> None:
        error = self.refused(protocol, issue(("127.0.0.1",), tmp_path, not_before=LATER, not_after=THEN))
        assert error.detail.endswith("is not yet valid")
        assert "clock" in (error.hint or "")

    @pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
    def test_for_another_name(self, protocol: str, host: str, tmp_path: Path) -> None:
        shown = issue(("mail.example.org",), tmp_path)
        error = self.refused(protocol, shown, lambda endpoint: endpoint._replace(host=host))
        assert f"is not for {host}" in error.detail
        assert "set `host`" in (error.hint or "")

    def test_of_a_ca_that_nobody_knows(self, protocol: str, tmp_path: Path) -> None:
        error = self.refused(protocol, authority(tmp_path), lambda endpoint: endpoint._replace(ca_file=None))
        assert "this machine does not know who signed it" in error.detail
        assert "ca_file" in (error.hint or "")

    def test_of_another_ca_than_the_named_one(self, protocol: str, tmp_path: Path) -> None:
        other = issue(("127.0.0.1",), tmp_path)
        error = self.refused(protocol, authority(tmp_path), lambda endpoint: endpoint._replace(ca_file=other.ca_file))
        assert f"neither this machine nor {other.ca_file} knows who signed it" in error.detail

    def test_signed_by_itself(self, protocol: str, tmp_path: Path) -> None:
        shown = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        ca = trustme.CA()
        ca.private_key_pem.write_to_path(str(tmp_path / "key.pem"))
        ca.cert_pem.write_to_path(str(tmp_path / "certificate.pem"))
        shown.load_cert_chain(tmp_path / "certificate.pem", tmp_path / "key.pem")
        error = self.refused(protocol, Authority(shown, ""), lambda endpoint: endpoint._replace(ca_file=None))
        assert "(self-signed certificate" in error.detail


SERVICES = [
    ("IMAP", b"* OK IMAP4rev1 ready\r\n"),
    ("POP3", b"+OK POP3 ready <1@example.org>\r\n"),
    ("POP3", b"-ERR no\r\n"),
    ("SMTP", b"220 smtp.example.org ESMTP\r\n"),
    ("SMTP", b"220-smtp.example.org ESMTP\r\n220 ready\r\n"),
    ("HTTP", b"HTTP/1.1 400 Bad Request\r\nServer: x\r\n\r\n"),
    ("SSH", b"SSH-2.0-OpenSSH_9.2\r\n"),
]


@pytest.mark.parametrize(("service", "said"), SERVICES)
@pytest.mark.parametrize("protocol", ["IMAP", "POP3"])
class TestAnotherService:
    def wrong(self, protocol: str, service: str, endpoint: Endpoint) -> None:
        error = failure(endpoint, protocol, WrongService)
        assert error.exit_status is ExitStatus.PROTOCOL
        assert error.detail.endswith(f"speaks {service}, not {protocol}")
        assert "set `port`" in (error.hint or "")
        assert ('protocol = "' in (error.hint or "")) == (service in {"IMAP", "POP3"})

    def test_in_the_clear(self, protocol: str, service: str, said: bytes) -> None:
        if service == protocol:
            return
        with Peer(said) as peer:
            self.wrong(protocol, service, peer.endpoint())
        assert peer.received == b""

    def test_within_tls(self, protocol: str, service: str, said: bytes, tmp_path: Path) -> None:
        if service == protocol:
            return
        with Peer(said, tls=authority(tmp_path), implicit=True) as peer:
            self.wrong(protocol, service, peer.endpoint("implicit"))

    def test_where_tls_should_be(self, protocol: str, service: str, said: bytes, tmp_path: Path) -> None:
        del service

        def answer(peer: Peer) -> None:
            peer.send(said)
            while peer._receive():
                peer._buffer = b""

        with Peer(answer, tls=authority(tmp_path)) as peer:
            error = failure(peer.endpoint("implicit"), protocol, TlsError)
        assert error.exit_status is ExitStatus.PROTOCOL
        assert error.detail.endswith("answers without TLS")
        assert 'tls = "starttls"' in (error.hint or "")
        assert "993" in (error.hint or "")


@pytest.mark.parametrize("protocol", ["IMAP", "POP3"])
class TestNothing:
    def test_the_embedded_servers_without_tls(self, protocol: str) -> None:
        kind = ImapServer if protocol == "IMAP" else Pop3Server
        with kind(Store()) as server:
            error = failure(Endpoint("localhost", server.port, timeout=20), protocol, TlsError)
        assert error.detail.endswith("answers without TLS")

    def test_a_server_that_waits_for_tls(self, protocol: str) -> None:
        kind = ImapServer if protocol == "IMAP" else Pop3Server
        with kind(Store(), Tls(), implicit=True) as server:
            error = failure(Endpoint("localhost", server.port, "starttls", 0.1), protocol, ConnectionLost)
        assert error.exit_status is ExitStatus.TRY_AGAIN
        assert 'tls = "implicit"' in (error.hint or "")

    def test_one_that_says_so(self, protocol: str) -> None:
        with Peer(b"\x15\x03\x01\x00\x02\x02\x16") as peer:
            error = failure(peer.endpoint("starttls"), protocol, WrongService)
        assert error.detail.endswith("wants TLS from the first octet")
        assert 'tls = "implicit"' in (error.hint or "")

    @pytest.mark.parametrize("tls", ["implicit", "none"])
    def test_one_that_hangs_up_or_is_silent(self, protocol: str, tls: str, tmp_path: Path) -> None:
        for steps, timeout in (((CUT,), 20.0), ((), 0.1)):
            with Peer(*steps, tls=authority(tmp_path), implicit=tls == "implicit") as peer:
                error = failure(peer.endpoint(tls)._replace(timeout=timeout), protocol, ConnectionLost)
            assert "does not greet" in error.detail

    def test_nobody(self, protocol: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
        error = failure(Endpoint("127.0.0.1", port, timeout=20), protocol, ServerUnreachable)
        assert "refused" in error.detail
        assert "`port`" in (explain(error)[1] or "")
