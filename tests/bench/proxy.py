"""A loopback proxy that adds to the round trip and counts the times a client waited for an answer.

`python -m tests.bench.proxy PORT MILLISECONDS [MEGABITS]` listens on a port of its own, which it prints. For each line on standard
input it prints the count of the last connection's round trips, and the octets of all connections both ways.
"""

from __future__ import annotations

import contextlib
import queue
import socket
import sys
import threading
import time


class Link:
    """One connection, each direction delayed by half of what is added."""

    octets = 0
    """Of all connections."""

    def __init__(self, client: socket.socket, port: int, delay: float, rate: float) -> None:
        self._rate = rate
        """Octets a second each way; 0: as many as will go."""
        self.turns = 1
        """The connection itself is one round trip."""
        self._waiting = False
        self._server = socket.create_connection(("127.0.0.1", port))
        self._client = client
        for sock in (self._client, self._server):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for source, sink, speaks in ((self._client, self._server, True), (self._server, self._client, False)):
            pipe: queue.Queue[tuple[float, bytes]] = queue.Queue()
            threading.Thread(target=self._read, args=(source, pipe, delay, speaks), daemon=True).start()
            threading.Thread(target=self._write, args=(sink, pipe), daemon=True).start()

    def _read(self, source: socket.socket, pipe: queue.Queue[tuple[float, bytes]], delay: float, speaks: bool) -> None:
        data = b"."
        while data:
            try:
                data = source.recv(1 << 18 if not self._rate else 8192)
            except OSError:
                data = b""
            if speaks and data:
                self._waiting = True
            elif data and self._waiting:
                self.turns += 1
                self._waiting = False
            Link.octets += len(data)
            pipe.put((time.monotonic() + delay, data))

    def _write(self, sink: socket.socket, pipe: queue.Queue[tuple[float, bytes]]) -> None:
        while True:
            when, data = pipe.get()
            time.sleep(max(0.0, when - time.monotonic()))
            with contextlib.suppress(OSError):
                if not data:
                    sink.shutdown(socket.SHUT_WR)
                    return
                sink.sendall(data)
                if self._rate:
                    time.sleep(len(data) / self._rate)


def main() -> None:
    """Serves until standard input ends."""
    port, milliseconds = int(sys.argv[1]), float(sys.argv[2])
    rate = float(sys.argv[3]) * 1e6 / 8 if len(sys.argv) > 3 else 0.0
    links: list[Link] = []
    listener = socket.create_server(("127.0.0.1", 0), backlog=64)
    print(listener.getsockname()[1], flush=True)

    def accept() -> None:
        while True:
            client, _ = listener.accept()
            links.append(Link(client, port, milliseconds / 2000, rate))

    threading.Thread(target=accept, daemon=True).start()
    for _ in sys.stdin:
        print(links[-1].turns if links else 0, Link.octets, flush=True)


if __name__ == "__main__":
    main()
