"""A connection that is being made while something else is done: the code that will speak over it takes as long to load."""

from __future__ import annotations

import threading

from fetchmail_py.session.endpoint import Endpoint
from fetchmail_py.session.transport import Transport


class EarlyConnection:
    """Connects in a thread of its own, from now on. To be closed when no more connections are needed."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self._transport: Transport | None = None
        self._error: BaseException | None = None
        self._wanted = True
        self._asked = False
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._connect, name="connect", daemon=True)
        self._thread.start()

    def _connect(self) -> None:
        try:
            transport = Transport.connect(self.endpoint)
        except BaseException as error:  # noqa: BLE001 - raised in the thread that needs the connection
            self._error = error
            return
        with self._lock:
            if self._wanted:
                self._transport = transport
                return
        transport.close()

    def connect(self, endpoint: Endpoint) -> Transport:
        """This connection, once it is made; whoever asks again gets one of their own. Raises as `Transport.connect` does."""
        with self._lock:
            first, self._asked = not self._asked, True
        if not first:
            return Transport.connect(endpoint)
        self._thread.join()
        if self._error is not None:
            raise self._error
        transport, self._transport = self._transport, None
        assert transport is not None
        return transport

    def close(self) -> None:
        """Closes what nobody asked for, without waiting for a server that does not answer."""
        with self._lock:
            self._wanted = False
            transport, self._transport = self._transport, None
        if transport is not None:
            transport.close()
