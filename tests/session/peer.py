"""A server that knows no protocol: it plays a script over a real loopback socket, and tells what differed.

    with Peer("S: +OK hello", "C: QUIT", "S: +OK bye") as peer:
        session = Pop3Session.open(peer.endpoint(), login)

Steps are played in order:
- text: a dialogue, one step a line. "C: ..." is what the client must send as its next line, "S: ..." is sent with CRLF. Blank
  lines and white space around lines do not count, "C:" and "S:" alone are empty lines. Characters are octets (Latin-1).
- bytes: sent exactly so.
- Octets(data): what the client must send next, exactly, where it is no line.
- a function: called with the peer, for what no table can hold; it uses `read_line`, `read` and `send`.
- START_TLS: the TLS handshake, with the certificate of `tls`.
- CUT: closes the connection.
- RESET: closes it so that the client sees a reset.

After the last step the client must close, saying nothing more. Leaving the `with` block joins the thread and raises
AssertionError where the client did something else than the script says.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import threading
from collections.abc import Callable
from enum import Enum
from types import TracebackType
from typing import Final, NamedTuple, Self, TypeAlias

import trustme

from fetchmail_py.session.endpoint import Endpoint

PATIENCE: Final = 20.0
"""Seconds after which a peer gives up waiting; only a failing test waits."""


class Octets(NamedTuple):
    """What the client must send, exactly."""

    data: bytes


class Event(Enum):
    """Steps without data."""

    START_TLS = "starts TLS"
    CUT = "closes"
    RESET = "resets"


START_TLS: Final = Event.START_TLS
CUT: Final = Event.CUT
RESET: Final = Event.RESET

Step: TypeAlias = "str | bytes | Octets | Event | Callable[[Peer], None]"


class Authority(NamedTuple):
    """A private CA: what the server shows, and the file the client trusts."""

    server: ssl.SSLContext
    ca_file: str


def authority(directory: object) -> Authority:
    """A CA and a certificate for 127.0.0.1, its file below `directory`."""
    ca = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("127.0.0.1", "localhost").configure_cert(context)
    ca_file = f"{directory}/ca.pem"
    ca.cert_pem.write_to_path(ca_file)
    return Authority(context, ca_file)


class Peer:
    """Plays its script to one connection. As a context manager: starts, joins, complains."""

    def __init__(self, *steps: Step, tls: Authority | None = None, implicit: bool = False) -> None:
        """`tls` is needed for START_TLS, and with `implicit` TLS starts before the script."""
        self.received = b""
        """Everything the client has sent."""
        self._steps: list[Step] = [START_TLS] if implicit else []
        for step in steps:
            self._steps += _dialogue(step) if isinstance(step, str) else [step]
        self._tls = tls
        self._buffer = b""
        self._difference: str | None = None
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(PATIENCE)
        self._socket: socket.socket | None = None
        self._thread = threading.Thread(target=self._run, name="peer", daemon=True)

    @property
    def port(self) -> int:
        """Where it listens, on 127.0.0.1."""
        port: int = self._listener.getsockname()[1]
        return port

    def endpoint(self, tls: str = "none", timeout: float = PATIENCE) -> Endpoint:
        """How a client reaches it, trusting its CA."""
        return Endpoint("127.0.0.1", self.port, tls, timeout, ca_file=self._tls.ca_file if self._tls else None)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # What differed before the client's error explains it; what differs afterwards follows from it.
        difference = self._difference
        if error is not None:
            self._wake()
        self._thread.join(2 * PATIENCE)
        assert not self._thread.is_alive(), "the script did not come to its end"
        self._listener.close()
        if error is None:
            difference = self._difference
        if difference is not None:
            raise AssertionError(difference) from error

    def _wake(self) -> None:
        for sock in (self._socket, self._listener):
            if sock is not None:
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)

    # -- for steps that are functions --------------------------------------------------------------------------------

    def send(self, data: bytes) -> None:
        """Sends exactly this."""
        assert self._socket is not None
        self._socket.sendall(data)

    def read_line(self) -> bytes:
        """The client's next line, without its CRLF; b"" at the end of the connection."""
        while b"\r\n" not in self._buffer:
            if not self._receive():
                line, self._buffer = self._buffer, b""
                return line
        line, _, self._buffer = self._buffer.partition(b"\r\n")
        return line

    def read(self, count: int) -> bytes:
        """The client's next octets; fewer at the end of the connection."""
        while len(self._buffer) < count and self._receive():
            pass
        data, self._buffer = self._buffer[:count], self._buffer[count:]
        return data

    def _receive(self) -> bool:
        assert self._socket is not None
        try:
            data = self._socket.recv(65536)
        except (ConnectionError, ssl.SSLError):
            data = b""
        self._buffer += data
        self.received += data
        return bool(data)

    # -- the thread --------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        number = 1
        try:
            self._socket, _ = self._listener.accept()
            self._socket.settimeout(PATIENCE)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for step in self._steps:
                self._play(step)
                if step in {CUT, RESET}:
                    return
                number += 1
            if self._buffer or self._receive():
                self._difference = f"after the script the client sent {self.received[-200:]!r}"
        except AssertionError as difference:
            self._difference = f"step {number}: {difference}"
        except OSError as error:
            self._difference = f"step {number}: {type(error).__name__}: {error}"
        finally:
            if self._socket is not None:
                self._socket.close()

    def _play(self, step: Step) -> None:
        if isinstance(step, bytes):
            # A client may close in the middle of an answer; if it should not have, a later step misses what it was to send.
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                self.send(step)
        elif isinstance(step, Octets):
            data = self.read(len(step.data))
            assert data == step.data, f"expected the octets {step.data!r}, the client sent {data!r}"
        elif isinstance(step, str):
            line = self.read_line()
            expected = step.encode("latin-1")
            assert line == expected, f"expected {expected!r}, the client sent {line!r}"
        elif isinstance(step, Event):
            self._do(step)
        else:
            step(self)

    def _do(self, event: Event) -> None:
        assert self._socket is not None
        if event is START_TLS:
            assert self._tls is not None, "the script starts TLS, and there is no certificate"
            self._socket = self._tls.server.wrap_socket(self._socket, server_side=True)
        else:
            if event is RESET:
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._socket.close()


def _dialogue(script: str) -> list[Step]:
    """The steps of a dialogue: `str` for a line that is expected, `bytes` for one that is sent."""
    steps: list[Step] = []
    for raw in script.split("\n"):
        line = raw.strip()
        text = line[3:]
        if line.startswith("C: ") or line == "C:":
            steps.append(text)
        elif line.startswith("S: ") or line == "S:":
            steps.append(text.encode("latin-1") + b"\r\n")
        elif line:
            raise ValueError(f"neither C: nor S: in the script: {line!r}")
    return steps
