"""Giving a connection up from another thread: whoever reads gets ConnectionLost, and never an octet of ciphertext."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from fetchmail_py.errors import ConnectionLost
from fetchmail_py.session.endpoint import Endpoint
from fetchmail_py.session.transport import Transport
from tests.servers.base import Connection, Server, Tls

LETTERS = b"only these letters\r\n" * 100


class Chatterbox(Server):
    """Sends for as long as it is listened to."""

    def serve(self, connection: Connection) -> None:
        """One listener."""
        while True:
            connection.send(LETTERS)


@pytest.mark.parametrize("implicit", [True, False])
def test_no_ciphertext_is_ever_taken_for_text(tmp_path: Path, *, implicit: bool) -> None:
    tls = Tls()
    ca = tls.write_ca(str(tmp_path / "ca.pem"))
    for _ in range(30):
        with Chatterbox(tls, implicit=implicit) as server:
            transport = Transport.connect(
                Endpoint("localhost", server.port, "implicit" if implicit else "none", 20, ca_file=ca)
            )
            received = bytearray()
            enough = threading.Event()
            lost: list[ConnectionLost] = []

            def read(transport: Transport, received: bytearray, enough: threading.Event, lost: list[ConnectionLost]) -> None:
                try:
                    while True:
                        received += transport.receive()
                        enough.set()
                except ConnectionLost as error:
                    lost.append(error)

            reader = threading.Thread(target=read, args=(transport, received, enough, lost))
            reader.start()
            enough.wait()
            transport.abort()
            reader.join()
            transport.close()
        assert set(received) <= set(LETTERS)
        assert len(lost) == 1
