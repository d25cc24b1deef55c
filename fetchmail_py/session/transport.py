"""The octets of one connection: TCP, TLS verified always, STARTTLS, DEFLATE, and a timeout on every wait.

The only place that knows sockets. Errors are ours: ServerUnreachable before there is a connection, TlsError and
CertificateError while it becomes a private one, ConnectionLost afterwards.
"""

from __future__ import annotations

import contextlib
import hashlib
import select
import socket
import ssl
import time
import zlib
from typing import Final

from fetchmail_py.errors import (
    CertificateError,
    ConnectionLost,
    ProtocolError,
    ServerUnreachable,
    TlsError,
)
from fetchmail_py.session.endpoint import Endpoint
from fetchmail_py.session.trust import context_for

RECEIVE: Final = 256 * 1024
"""Octets taken from the network at a time."""
RECORD: Final = 16 * 1024
"""Octets that TLS has to give at a time, at most (RFC 8446, 5.1): a larger buffer would be allocated for nothing each time."""
INFLATE: Final = 1024 * 1024
"""Octets inflated at a time, however much a few compressed ones would give."""
KEEPALIVE_IDLE: Final = 60


class Transport:
    """One connection. Used by one thread, except `abort`."""

    def __init__(self, sock: socket.socket, endpoint: Endpoint) -> None:
        """Takes over a connected socket; `connect` is the usual way."""
        self.endpoint = endpoint
        self.timeout = endpoint.timeout
        self.round_trip = float("inf")
        """The shortest time between a question and the first octet of its answer so far, in seconds: an upper bound
        of the link's round trip, so the more was asked, the truer."""
        self.encrypted = False
        self._socket: socket.socket = sock
        self._asked_at: float | None = None
        self._inflate: zlib._Decompress | None = None
        self._deflate: zlib._Compress | None = None
        self._inflated = b""
        self._aborted = False
        sock.settimeout(endpoint.timeout)
        with contextlib.suppress(OSError):  # a socket that is no TCP socket has neither option
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_IDLE)

    @classmethod
    def connect(cls, endpoint: Endpoint) -> Transport:
        """Connects, and starts TLS where it is implicit.

        Raises ServerUnreachable, ConnectionLost (no answer to the handshake in time), TlsError, CertificateError.
        """
        try:
            address = (_name(endpoint.host), endpoint.port)
            sock = socket.create_connection(address, timeout=endpoint.timeout)  # type: ignore[arg-type]
        except socket.gaierror as error:
            raise ServerUnreachable(f"cannot find {endpoint.host}: {error.strerror}") from error
        except UnicodeError as error:
            raise ServerUnreachable(f"{endpoint.host!r} is not a host name: {error}") from error
        except TimeoutError as error:
            raise ServerUnreachable(
                f"no answer from {endpoint.host} port {endpoint.port} in {endpoint.timeout:.0f} seconds"
            ) from error
        except OSError as error:
            raise ServerUnreachable(
                f"cannot connect to {endpoint.host} port {endpoint.port}: {error.strerror or error}"
            ) from error
        transport = cls(sock, endpoint)
        if endpoint.tls == "implicit":
            try:
                transport._handshake()
            except BaseException:
                transport.close()
                raise
        else:
            transport._asked_at = time.monotonic()
        return transport

    @property
    def loopback(self) -> bool:
        """Whether the other end is this machine."""
        import ipaddress  # noqa: PLC0415 - only a connection without TLS asks

        try:
            return ipaddress.ip_address(self._socket.getpeername()[0]).is_loopback
        except (OSError, ValueError, IndexError):
            return False

    @property
    def confidential(self) -> bool:
        """Whether a secret may be shown to this connection."""
        return self.encrypted or self.loopback or self.endpoint.cleartext

    # -- octets ------------------------------------------------------------------------------------------------------

    def send(self, data: bytes, *, secret: bool = False) -> None:  # noqa: ARG002 - says so to whoever traces
        """Sends all of `data`. `secret` marks what must never be shown. Raises ConnectionLost."""
        if self._asked_at is None:
            self._asked_at = time.monotonic()
        if self._deflate is not None:
            data = self._deflate.compress(data) + self._deflate.flush(zlib.Z_SYNC_FLUSH)
        try:
            self._socket.sendall(data)
        except OSError as error:
            raise self._lost(error, "sending") from error

    def receive(self) -> bytes:
        """At least one octet. Raises ConnectionLost at the end of the connection, or after `timeout` of silence."""
        while True:
            if self._inflated and self._inflate is not None:
                return self._take_inflated(b"")
            try:
                data = self._socket.recv(RECORD if self.encrypted else RECEIVE)
                if data and self.encrypted:
                    data = self._with_more(data)
            except OSError as error:
                raise self._lost(error, "waiting for the server") from error
            if self._aborted:
                raise ConnectionLost("the connection was given up")
            if not data:
                raise ConnectionLost("the server closed the connection")
            if self._asked_at is not None:
                self.round_trip = min(self.round_trip, time.monotonic() - self._asked_at)
                self._asked_at = None
            if self._inflate is None:
                return data
            inflated = self._take_inflated(data)
            if inflated:
                return inflated

    def _with_more(self, data: bytes) -> bytes:
        """What has come with what is there already behind it: TLS gives one record at a time, and some servers make small ones."""
        pieces = [data]
        size = len(data)
        self._socket.settimeout(0)
        try:
            while size < RECEIVE:
                more = self._socket.recv(RECORD)
                if not more:
                    break  # the end: the next wait meets it again
                pieces.append(more)
                size += len(more)
        except ssl.SSLWantReadError:
            pass
        finally:
            self._socket.settimeout(self.timeout)
        return b"".join(pieces) if len(pieces) > 1 else data

    def _take_inflated(self, data: bytes) -> bytes:
        assert self._inflate is not None
        try:
            inflated = self._inflate.decompress(self._inflated + data, INFLATE)
        except zlib.error as error:
            raise ProtocolError(f"the compressed stream is damaged: {error}", data=data) from error
        if self._inflate.eof:
            raise ProtocolError("the compressed stream has ended while the connection goes on", data=data)
        self._inflated = self._inflate.unconsumed_tail
        return inflated

    def _lost(self, error: OSError, doing: str) -> ConnectionLost:
        if self._aborted:
            return ConnectionLost("the connection was given up")
        if isinstance(error, TimeoutError):
            return ConnectionLost(f"the server was silent for {self.timeout:.0f} seconds", timed_out=True)
        if isinstance(error, ssl.SSLEOFError):
            return ConnectionLost("the server closed the connection without ending TLS")
        return ConnectionLost(f"the connection was lost while {doing}: {error.strerror or error}")

    def first_words(self, protocol: str) -> bytes:
        """What a server that has just accepted the connection says first; it should be one of this protocol.

        Raises WrongService where it is plainly another's, ConnectionLost with the likely cause where it says nothing.
        """
        try:
            said = self.receive()
        except ConnectionLost as error:
            if self._aborted:
                raise
            from fetchmail_py.session import diagnosis  # noqa: PLC0415

            raise diagnosis.no_greeting(self.endpoint, protocol, error) from error
        if said.startswith(b"* " if protocol == "IMAP" else b"+OK"):
            return said
        from fetchmail_py.session import diagnosis  # noqa: PLC0415

        wrong = diagnosis.another_service(self.endpoint, protocol, said)
        if wrong is not None:
            raise wrong
        return said

    # -- TLS ---------------------------------------------------------------------------------------------------------

    def start_tls(self, leftover: int) -> None:
        """Makes the connection private after the server has agreed to STARTTLS or STLS.

        `leftover` is how many octets came behind the server's agreement: whoever sits on the line can put commands' answers
        there that would be taken for the server's, so anything at all ends the connection with a ProtocolError.
        """
        try:
            waiting = leftover > 0 or bool(select.select([self._socket], [], [], 0)[0])
        except (OSError, ValueError) as error:
            raise ConnectionLost(f"the connection was lost before TLS: {error}") from error
        if waiting and (leftover or self._plaintext_waits()):
            raise ProtocolError("the server sent something between its agreement to TLS and the handshake")
        self._handshake()

    def _plaintext_waits(self) -> bool:
        """Whether there is an octet to be read; the end of the connection is for the handshake to find."""
        try:
            return bool(self._socket.recv(1, socket.MSG_PEEK))
        except OSError:
            return False

    def _handshake(self) -> None:
        endpoint = self.endpoint
        context = context_for(endpoint)
        asked = time.monotonic()
        try:
            # The host name is checked against the certificate even where it is an address (RFC 9525).
            secure = context.wrap_socket(self._socket, server_hostname=_name(endpoint.host))
        except ssl.SSLCertVerificationError as error:
            from fetchmail_py.session import diagnosis  # noqa: PLC0415 - only a failure needs it

            raise diagnosis.untrusted(endpoint, error.verify_code, error.verify_message) from error
        except TimeoutError as error:
            raise ConnectionLost(
                f"no answer to the TLS handshake in {self.timeout:.0f} seconds", timed_out=True
            ) from error
        except (ssl.SSLEOFError, ConnectionError) as error:
            raise ConnectionLost(f"the connection was lost during the TLS handshake: {error.strerror or error}") from error
        except ssl.SSLError as error:
            reason = getattr(error, "reason", None) or error.strerror or str(error)
            from fetchmail_py.session import diagnosis  # noqa: PLC0415

            raise diagnosis.no_tls(endpoint, reason) from error
        except (ValueError, UnicodeError) as error:
            raise TlsError(f"{endpoint.host!r} is not a name TLS can check: {error}") from error
        except OSError as error:
            raise ConnectionLost(f"the connection was lost during the TLS handshake: {error}") from error
        self._socket = secure
        # One round trip and some arithmetic with TLS 1.3: as good an estimate as there is before the first question.
        self.round_trip = min(self.round_trip, time.monotonic() - asked)
        if endpoint.fingerprint is not None:
            import hmac  # noqa: PLC0415 - few accounts name a certificate

            seen = self.fingerprint()
            if seen is None or not hmac.compare_digest(seen, endpoint.fingerprint):
                raise CertificateError(
                    f"the certificate of {endpoint.host} is not the one that tls_fingerprint names", fingerprint=seen
                )
        self.encrypted = True
        self._asked_at = None

    def fingerprint(self) -> bytes | None:
        """SHA-256 of the server's certificate, once TLS is on."""
        if isinstance(self._socket, ssl.SSLSocket):
            certificate = self._socket.getpeercert(binary_form=True)
            if certificate:
                return hashlib.sha256(certificate).digest()
        return None

    def describe_tls(self) -> str | None:
        """Protocol version and cipher, such as "TLSv1.3, TLS_AES_256_GCM_SHA384"; None without TLS."""
        if isinstance(self._socket, ssl.SSLSocket):
            cipher = self._socket.cipher()
            return f"{self._socket.version()}, {cipher[0] if cipher else 'no cipher'}"
        return None

    def certificate_ends(self) -> float | None:
        """When the server's certificate runs out, POSIX seconds; None where it was not verified, but pinned."""
        if isinstance(self._socket, ssl.SSLSocket):
            facts = self._socket.getpeercert()
            if facts and "notAfter" in facts:
                return float(ssl.cert_time_to_seconds(str(facts["notAfter"])))
        return None

    # -- DEFLATE -----------------------------------------------------------------------------------------------------

    def start_deflate(self, leftover: bytes) -> None:
        """Both directions are raw DEFLATE from here on (RFC 4978); `leftover` is what has come of that already."""
        self._deflate = zlib.compressobj(wbits=-15)
        self._inflate = zlib.decompressobj(wbits=-15)
        self._inflated = leftover

    # -- the end -----------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Closes without any farewell."""
        with contextlib.suppress(OSError):
            self._socket.close()

    def abort(self) -> None:
        """From another thread: wakes whoever waits here, who gets ConnectionLost."""
        self._aborted = True
        with contextlib.suppress(OSError):
            # Not SSLSocket.shutdown: that one takes TLS off first, and the other thread would go on to read ciphertext.
            socket.socket.shutdown(self._socket, socket.SHUT_RDWR)


def _name(host: str) -> str | bytes:
    """The host's name as the libraries want it: text would go through the IDNA codec, which takes 3 ms to load."""
    return host.encode("ascii") if host.isascii() else host
