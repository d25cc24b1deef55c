"""A connection that is made ahead: it is whoever's asks first, and nobody's who does not."""

from __future__ import annotations

import socket

import pytest

from fetchmail_py.errors import ServerUnreachable
from fetchmail_py.session.early import EarlyConnection
from fetchmail_py.session.endpoint import Endpoint
from tests.session.peer import CUT, Peer


def test_the_first_who_asks_gets_it_and_the_next_one_of_their_own() -> None:
    with Peer(b"one\r\n", CUT) as peer, Peer(b"two\r\n", CUT) as other:
        early = EarlyConnection(peer.endpoint())
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
    early = EarlyConnection(Endpoint("127.0.0.1", port, "none"))
    with pytest.raises(ServerUnreachable, match=f"port {port}"):
        early.connect(early.endpoint)
    early.close()


def test_what_nobody_asked_for_is_closed() -> None:
    def ended(peer: Peer) -> None:
        assert peer.read_line() == b""

    with Peer(ended) as peer:
        EarlyConnection(peer.endpoint()).close()
