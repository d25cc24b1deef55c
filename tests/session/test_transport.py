"""The connection itself: certificates that must not pass, TLS that starts where it should, silence, and compressed bombs."""

from __future__ import annotations

import contextlib
import hashlib
import socket
import ssl
import zlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import trustme

from fetchmail_py.errors import (
    CertificateError,
    ConfigError,
    ConnectionLost,
    ExitStatus,
    ProtocolError,
    ServerUnreachable,
    TlsError,
)
from fetchmail_py.session import transport as module
from fetchmail_py.session.endpoint import Endpoint
from fetchmail_py.session.transport import Transport
from tests.session.peer import CUT, RESET, START_TLS, Authority, Event, Octets, Peer, Step, authority

HELLO = b"* OK hello\r\n"


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return authority(tmp_path_factory.mktemp("ca"))


def issue(names: tuple[str, ...], directory: Path, **options: Any) -> Authority:
    """A server that shows a certificate for `names`, and the file that trusts who signed it."""
    ca = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert(*names, **options).configure_cert(context)
    ca.cert_pem.write_to_path(str(directory / "other.pem"))
    return Authority(context, str(directory / "other.pem"))


@contextlib.contextmanager
def connected(*steps: Step, tls: Authority | None = None, timeout: float = 20.0) -> Iterator[tuple[Peer, Transport]]:
    """A connection that never was encrypted, to a peer that plays `steps`."""
    with Peer(*steps, tls=tls) as peer:
        transport = Transport.connect(peer.endpoint(timeout=timeout))
        try:
            yield peer, transport
        finally:
            transport.close()


def receive_all(transport: Transport) -> None:
    """Never ends but with an error."""
    while True:
        assert transport.receive()


def refuse_handshake(peer: Peer) -> None:
    """The server's side of a handshake that the client ends."""
    assert peer._socket is not None
    assert peer._tls is not None
    with contextlib.suppress(OSError), peer._tls.server.wrap_socket(peer._socket, server_side=True) as secure:
        # With TLS 1.3 the server may have finished before the client says no.
        assert secure.recv(100) == b"", "the client went on"


class TestCertificates:
    def test_a_trusted_one(self, tls: Authority) -> None:
        with Peer(HELLO, tls=tls, implicit=True) as peer:
            transport = Transport.connect(peer.endpoint("implicit"))
            assert transport.receive() == HELLO
            assert transport.encrypted
            assert transport.confidential
            assert transport.round_trip < 20
            assert (transport.describe_tls() or "").startswith("TLSv1.")
            assert (transport.certificate_ends() or 0) > 1e9
            transport.close()

    def test_a_connection_that_is_cut_in_the_handshake_is_a_lost_one(self) -> None:
        with Peer(CUT) as peer, pytest.raises(ConnectionLost) as caught:
            Transport.connect(Endpoint("127.0.0.1", peer.port, timeout=20))
        assert caught.value.exit_status == ExitStatus.TRY_AGAIN
        assert caught.value.retryable

    def refused(self, shown: Authority, endpoint: Callable[[Peer], Endpoint]) -> CertificateError:
        with Peer(refuse_handshake, CUT, tls=shown) as peer, pytest.raises(CertificateError) as caught:
            Transport.connect(endpoint(peer))
        assert caught.value.exit_status == ExitStatus.REFUSED_LOGIN
        assert not caught.value.retryable
        return caught.value

    def test_an_authority_nobody_knows(self, tls: Authority) -> None:
        error = self.refused(tls, lambda peer: Endpoint("127.0.0.1", peer.port, timeout=20))
        assert "not trusted" in error.detail

    def test_another_authority_than_the_named_one(self, tls: Authority, tmp_path: Path) -> None:
        other = issue(("127.0.0.1",), tmp_path)
        self.refused(tls, lambda peer: peer.endpoint("implicit")._replace(ca_file=other.ca_file))

    def test_another_host(self, tmp_path: Path) -> None:
        for names in (("mail.example.org",), ("127.0.0.2",), ("*.0.0.1",)):
            self.refused(issue(names, tmp_path), lambda peer: peer.endpoint("implicit"))

    def test_the_common_name_alone_is_no_name(self, tmp_path: Path) -> None:
        shown = issue(("mail.example.org",), tmp_path, common_name="127.0.0.1")
        self.refused(shown, lambda peer: peer.endpoint("implicit"))

    def test_an_expired_one(self, tmp_path: Path) -> None:
        long_ago, ago = datetime(2000, 1, 1, tzinfo=UTC), datetime(2001, 1, 1, tzinfo=UTC)
        shown = issue(("127.0.0.1",), tmp_path, not_before=long_ago, not_after=ago)
        assert "expired" in self.refused(shown, lambda peer: peer.endpoint("implicit")).detail

    def fingerprint(self, tls: Authority) -> bytes:
        with Peer(tls=tls, implicit=True) as peer:
            transport = Transport.connect(peer.endpoint("implicit"))
            seen = transport.fingerprint()
            transport.close()
        assert seen is not None
        return seen

    def test_exactly_the_named_one_whoever_signed_it(self, tls: Authority) -> None:
        pinned = self.fingerprint(tls)
        with Peer(HELLO, tls=tls, implicit=True) as peer:
            transport = Transport.connect(Endpoint("127.0.0.1", peer.port, "implicit", 20, fingerprint=pinned))
            assert transport.encrypted
            assert transport.receive() == HELLO
            assert transport.certificate_ends() is None
            transport.close()

    def test_the_named_one_for_another_host(self, tmp_path: Path) -> None:
        shown = issue(("mail.example.org",), tmp_path)
        with Peer(tls=shown, implicit=True) as peer, pytest.raises(CertificateError) as caught:
            Transport.connect(Endpoint("127.0.0.1", peer.port, timeout=20, fingerprint=bytes(32)))
        seen = caught.value.fingerprint
        assert seen is not None
        with Peer(tls=shown, implicit=True) as peer:
            Transport.connect(Endpoint("127.0.0.1", peer.port, timeout=20, fingerprint=seen)).close()

    def test_another_one_than_the_named_is_refused_even_if_trusted(self, tls: Authority) -> None:
        other = hashlib.sha256(b"another").digest()
        with Peer(tls=tls, implicit=True) as peer, pytest.raises(CertificateError) as caught:
            Transport.connect(peer.endpoint("implicit")._replace(fingerprint=other))
        assert caught.value.fingerprint == self.fingerprint(tls)

    def test_an_old_version_of_tls(self, tmp_path: Path) -> None:
        old = issue(("127.0.0.1",), tmp_path)
        with pytest.warns(DeprecationWarning, match="TLSv1"):
            old.server.minimum_version = ssl.TLSVersion.TLSv1
        with pytest.warns(DeprecationWarning, match="TLSv1"):
            old.server.maximum_version = ssl.TLSVersion.TLSv1_1
        with Peer(refuse_handshake, CUT, tls=old) as peer, pytest.raises(TlsError) as caught:
            Transport.connect(peer.endpoint("implicit"))
        assert not isinstance(caught.value, CertificateError)

    def test_files_that_are_none(self, tls: Authority, tmp_path: Path) -> None:
        broken = tmp_path / "broken.pem"
        broken.write_text("this is no certificate")
        for change in ({"ca_file": "/nonexistent"}, {"ca_file": str(broken)}, {"client_cert": str(broken)}):
            with connected(tls=tls) as (_, transport):
                transport.endpoint = transport.endpoint._replace(tls="implicit", **change)  # type: ignore[arg-type]
                with pytest.raises(ConfigError) as caught:
                    transport._handshake()
                assert caught.value.key == next(iter(change))

    def test_a_client_certificate(self, tls: Authority, tmp_path: Path) -> None:
        ca = trustme.CA()
        ca.issue_cert("ann@example.org").private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "ann.pem"))
        asking = issue(("127.0.0.1",), tmp_path)
        ca.configure_trust(asking.server)
        asking.server.verify_mode = ssl.CERT_REQUIRED
        with Peer(HELLO, tls=asking, implicit=True) as peer:
            transport = Transport.connect(peer.endpoint("implicit")._replace(client_cert=str(tmp_path / "ann.pem")))
            assert transport.receive() == HELLO
            transport.close()


class TestStartTls:
    def test_it_starts(self, tls: Authority) -> None:
        with connected(START_TLS, b"private", tls=tls) as (_, transport):
            assert not transport.encrypted
            transport.start_tls(0)
            assert transport.encrypted
            assert transport.receive() == b"private"

    def test_glued_to_the_agreement(self, tls: Authority) -> None:
        with connected(tls=tls) as (_, transport), pytest.raises(ProtocolError, match="between"):
            transport.start_tls(17)

    def test_in_the_socket_already(self, tls: Authority) -> None:
        with connected(b"go\r\n", b"* CAPABILITY AUTH=PLAIN\r\n", tls=tls) as (_, transport):
            received = b""
            while not received.endswith(b"go\r\n"):
                received += transport._socket.recv(1)
            while not transport._plaintext_waits():
                pass
            with pytest.raises(ProtocolError, match="between"):
                transport.start_tls(0)
            assert not transport.encrypted

    def test_late_it_breaks_the_handshake(self, tls: Authority) -> None:
        def inject(peer: Peer) -> None:
            peer.read(1)  # the handshake has begun
            peer.send(b"* CAPABILITY AUTH=PLAIN\r\n")
            peer._buffer = b""

        with Peer(inject, CUT, tls=tls) as peer:
            transport = Transport.connect(peer.endpoint())
            with pytest.raises(TlsError):
                transport.start_tls(0)
            assert not transport.encrypted
            transport.close()

    def test_the_server_hangs_up(self, tls: Authority) -> None:
        with connected(CUT, tls=tls) as (_, transport), pytest.raises((TlsError, ConnectionLost)):
            transport.start_tls(0)


class TestSilence:
    def test_no_octet_in_time(self) -> None:
        with connected(timeout=0.05) as (_, transport):
            with pytest.raises(ConnectionLost, match="silent") as caught:
                transport.receive()
            assert caught.value.timed_out
            assert caught.value.retryable

    def test_no_handshake_in_time(self, tls: Authority) -> None:
        def wait(peer: Peer) -> None:
            while peer._receive():
                pass
            peer._buffer = b""

        with Peer(wait, tls=tls) as peer, pytest.raises(ConnectionLost, match="handshake") as caught:
            Transport.connect(peer.endpoint("implicit")._replace(timeout=0.05))
        assert caught.value.timed_out

    def test_nobody_takes_what_is_sent(self) -> None:
        left, right = socket.socketpair()
        with left, right:
            transport = Transport(left, Endpoint("x", 1, timeout=0.05))
            with pytest.raises(ConnectionLost):
                transport.send(b"x" * 10_000_000)

    @pytest.mark.parametrize("end", [CUT, RESET])
    def test_the_end(self, end: Event) -> None:
        with connected(Octets(b"x"), b"bye", end) as (_, transport):
            transport.send(b"x")
            with pytest.raises(ConnectionLost) as caught:
                receive_all(transport)
            assert not caught.value.timed_out

    def test_tls_cut_without_farewell_is_an_end_like_any_other(self, tls: Authority) -> None:
        with Peer(b"half a messa", RESET, tls=tls, implicit=True) as peer:
            transport = Transport.connect(peer.endpoint("implicit"))
            with pytest.raises(ConnectionLost):
                receive_all(transport)
            transport.close()


class TestUnreachable:
    def test_nobody_listens(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
        with pytest.raises(ServerUnreachable, match=f"port {port}"):
            Transport.connect(Endpoint("127.0.0.1", port, "none", 20))

    @pytest.mark.parametrize("host", ["host.invalid", "a" * 64 + ".example", "a..b", ""])
    def test_no_such_host(self, host: str, monkeypatch: pytest.MonkeyPatch) -> None:
        def unknown(*_: object, **__: object) -> None:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

        if host == "host.invalid":
            monkeypatch.setattr(socket, "create_connection", unknown)
        with pytest.raises(ServerUnreachable) as caught:
            Transport.connect(Endpoint(host, 9, "none", 20))
        assert caught.value.exit_status == ExitStatus.UNAVAILABLE


class TestConfidential:
    def test_this_machine_is(self) -> None:
        with connected() as (_, transport):
            assert transport.loopback
            assert transport.confidential

    def test_others_are_not_unless_the_user_says_so(self) -> None:
        left, right = socket.socketpair()  # no address: not known to be this machine
        with left, right:
            assert not Transport(left, Endpoint("x", 1)).confidential
            assert Transport(left, Endpoint("x", 1, cleartext=True)).confidential


class TestDeflate:
    def compressed(self, data: bytes) -> bytes:
        deflate = zlib.compressobj(9, wbits=-15)
        return deflate.compress(data) + deflate.flush(zlib.Z_SYNC_FLUSH)

    def test_both_directions(self) -> None:
        answer = self.compressed(b"* OK compressed\r\n" * 100)

        def check(peer: Peer) -> None:
            inflate = zlib.decompressobj(wbits=-15)
            assert inflate.decompress(peer.read(len(self.compressed(b"F1 NOOP\r\n")))) == b"F1 NOOP\r\n"

        with connected(check, answer) as (_, transport):
            transport.start_deflate(b"")
            transport.send(b"F1 NOOP\r\n")
            received = b""
            while len(received) < 1700:
                received += transport.receive()
            assert received == b"* OK compressed\r\n" * 100

    def test_what_had_come_already_is_part_of_it(self) -> None:
        data = self.compressed(b"* OK compressed\r\n")
        with connected(data[5:]) as (_, transport):
            transport.start_deflate(data[:5])
            received = b""
            while len(received) < 17:
                received += transport.receive()
            assert received == b"* OK compressed\r\n"

    def test_a_bomb_comes_in_bounded_pieces(self) -> None:
        size = 50_000_000
        with connected(self.compressed(bytes(size))) as (_, transport):
            transport.start_deflate(b"")
            left = size
            while left:
                piece = transport.receive()
                assert 0 < len(piece) <= module.INFLATE
                left -= len(piece)

    @pytest.mark.parametrize("data", [b"\xff\xff\xff\xff\xff", b"\x07plain text"])
    def test_what_is_not_deflate(self, data: bytes) -> None:
        with connected(data) as (_, transport):
            transport.start_deflate(b"")
            with pytest.raises(ProtocolError, match="damaged"):
                transport.receive()

    def test_a_stream_that_ends(self) -> None:
        deflate = zlib.compressobj(wbits=-15)
        with connected(deflate.compress(b"bye") + deflate.flush(zlib.Z_FINISH)) as (_, transport):
            transport.start_deflate(b"")
            with pytest.raises(ProtocolError, match="ended"):
                transport.receive()
