"""A connection that is made ahead: it is whoever's asks first, and nobody's who does not."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable

import pytest

from fetchmail_py.errors import ConnectionLost, ServerUnreachable
from fetchmail_py.session.early import EarlyConnection
from fetchmail_py.session.endpoint import Endpoint
from tests.session.peer import CUT, Peer


def nobody(wake: Callable[[], None]) -> Callable[[], None]:
    """Nobody asks anything to stop."""
    del wake
    return lambda: None


def test_the_first_who_asks_gets_it_and_the_next_one_of_their_own() -> None:
    with Peer(b"one\r\n", CUT) as peer, Peer(b"two\r\n", CUT) as other:
        early = EarlyConnection(peer.endpoint(), nobody)
        first = early.connect(peer.endpoint())
        assert first.receive() == b"one\r\n"
        second = early.connect(other.endpoint())
        assert second.receive() == b"two\r\n"
        early.close()
        first.send(b"still there\r\n")
        first.close()
        second.close()


def test_its_error_is_raised_where_it_is_needed() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    early = EarlyConnection(Endpoint("127.0.0.1", port, "none"), nobody)
    with pytest.raises(ServerUnreachable, match=f"port {port}"):
        early.connect(early.endpoint)
    early.close()


def test_what_nobody_asked_for_is_closed() -> None:
    def ended(peer: Peer) -> None:
        assert peer.read_line() == b""

    with Peer(ended) as peer:
        EarlyConnection(peer.endpoint(), nobody).close()


def test_whoever_is_to_stop_waits_for_no_handshake() -> None:
    waiting: list[Callable[[], None]] = []

    def add_waker(wake: Callable[[], None]) -> Callable[[], None]:
        waiting.append(wake)
        wake()
        return waiting.clear

    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        early = EarlyConnection(Endpoint("127.0.0.1", port, "implicit"), add_waker)
        for _ in range(2):
            with pytest.raises(ConnectionLost, match="given up"):
                early.connect(early.endpoint)
            assert waiting == []
        early.close()
        for _ in range(2):
            connection, _ = listener.accept()
            with connection:
                assert connection.recv(1) == b"\x16", "the client's part of the handshake"
    for thread in threading.enumerate():
        if thread.name == "connect":
            thread.join()
