"""What both test servers are made of: a listener on loopback, a thread for each connection, TLS, and faults on demand."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Self

import trustme

HOST = "localhost"


class Cut(Exception):
    """This connection is to end now, without a word."""


@dataclass
class Faults:
    """What goes wrong. All of it may be changed while the server runs."""

    cut_after: int | None = None
    """Cut a connection once it has been sent so many octets (counted from its beginning), in the middle of a line or not."""
    cut_once: bool = True
    """Only one connection is cut."""
    hook: Callable[[str, Connection], bytes | None] | None = None
    """Asked before each command with its line: raw octets to be sent in place of an answer, or None. May raise Cut."""
    before_answer: bytes = b""
    """Sent before every tagged or status answer, such as an unsolicited response."""


class Connection:
    """One client's connection, as the server sees it."""

    def __init__(self, sock: socket.socket, server: Server) -> None:
        self.server = server
        self.tag = ""
        """IMAP: of the command under way."""
        self._socket = sock
        self._buffer = b""
        self._sent = 0
        self._inflate: zlib._Decompress | None = None
        self._deflate: zlib._Compress | None = None

    def send(self, data: bytes) -> None:
        """Sends it, up to where the connection is to be cut."""
        faults = self.server.faults
        cut = faults.cut_after
        if cut is not None and self._sent + len(data) >= cut:
            if faults.cut_once:
                faults.cut_after = None
            self._write(data[: cut - self._sent])
            raise Cut
        self._sent += len(data)
        self.server.octets_sent += len(data)
        self._write(data)

    def _write(self, data: bytes) -> None:
        if self._deflate is not None:
            data = self._deflate.compress(data) + self._deflate.flush(zlib.Z_SYNC_FLUSH)
        self._socket.sendall(data)

    def _more(self) -> None:
        data = self._socket.recv(65536)
        if not data:
            raise Cut
        self._buffer += self._inflate.decompress(data) if self._inflate is not None else data

    def line(self) -> bytes:
        """The next line without its end."""
        while b"\n" not in self._buffer:
            self._more()
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line.removesuffix(b"\r")

    def octets(self, count: int) -> bytes:
        """Exactly so many octets."""
        while len(self._buffer) < count:
            self._more()
        data, self._buffer = self._buffer[:count], self._buffer[count:]
        return data

    @property
    def waiting(self) -> bool:
        """Whether a pipelining client has sent more already."""
        return bool(self._buffer)

    def start_tls(self) -> None:
        """After the go-ahead."""
        assert self.server.context is not None
        self._socket = self.server.context.wrap_socket(self._socket, server_side=True)

    def start_deflate(self) -> None:
        """After the go-ahead (RFC 4978)."""
        self._deflate = zlib.compressobj(wbits=-15)
        self._inflate = zlib.decompressobj(wbits=-15)
        self._buffer = self._inflate.decompress(self._buffer) if self._buffer else b""

    @property
    def encrypted(self) -> bool:
        """Whether TLS is on."""
        return isinstance(self._socket, ssl.SSLSocket)

    def close(self) -> None:
        """Ends it; wakes its thread."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


@dataclass
class Tls:
    """A certificate authority of our own, and a server certificate for localhost from it."""

    authority: trustme.CA = field(default_factory=trustme.CA)

    def __post_init__(self) -> None:
        self.certificate = self.authority.issue_cert(HOST, "127.0.0.1")

    def context(self) -> ssl.SSLContext:
        """For a server."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.certificate.configure_cert(context)
        return context

    def write_ca(self, path: str) -> str:
        """Writes what a client has to trust; returns the path."""
        self.authority.cert_pem.write_to_path(path)
        return path


class Server:
    """A listening server, as a context manager. `tls` alone offers STARTTLS or STLS, with `implicit` TLS from the first octet."""

    def __init__(self, tls: Tls | None = None, *, implicit: bool = False) -> None:
        self.context = tls.context() if tls is not None else None
        self.implicit = implicit
        self.faults = Faults()
        self.log: list[str] = []
        """Every command line, without its tag."""
        self.octets_sent = 0
        self.connections_made = 0
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port: int = self._listener.getsockname()[1]
        self._open: set[Connection] = set()
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()
        self._acceptor = threading.Thread(target=self._accept, name="test-server")

    def __enter__(self) -> Self:
        self._acceptor.start()
        return self

    def __exit__(self, *_: object) -> None:
        # A connection of our own wakes the acceptor on every system.
        self._closing = True
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=5):
            pass
        self._acceptor.join()
        self._listener.close()
        with self._lock:
            connections = list(self._open)
        for connection in connections:
            connection.close()
        for thread in self._threads:
            thread.join()

    _closing = False

    def _accept(self) -> None:
        while True:
            sock, _ = self._listener.accept()
            if self._closing:
                sock.close()
                return
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            thread = threading.Thread(target=self._run, args=(sock,), name="test-connection")
            self._threads.append(thread)
            self.connections_made += 1
            thread.start()

    def _run(self, sock: socket.socket) -> None:
        connection = Connection(sock, self)
        with self._lock:
            self._open.add(connection)
        try:
            if self.implicit:
                connection.start_tls()
            self.serve(connection)
        except (Cut, OSError, ValueError):
            pass  # the client has gone, or was meant to think so
        finally:
            with self._lock:
                self._open.discard(connection)
            connection.close()

    def serve(self, connection: Connection) -> None:
        """Speaks to one client until it leaves."""
        raise NotImplementedError

    def hooked(self, line: str, connection: Connection) -> bool:
        """Whether a fault has taken the command over."""
        self.log.append(line)
        if self.faults.hook is None:
            return False
        answer = self.faults.hook(line, connection)
        if answer is None:
            return False
        connection.send(answer)
        return True
