"""A connection that is being made while something else is done: the code that will speak over it takes as long to load.

Nor does a server that does not answer keep whoever is told to stop: only a thread that nobody waits for any longer.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeAlias

from fetchmail_py.errors import ConnectionLost
from fetchmail_py.session.endpoint import Endpoint
from fetchmail_py.session.transport import Transport

AddWaker: TypeAlias = Callable[[Callable[[], None]], Callable[[], None]]
"""Has something called when the run is to stop; returns what takes it off again."""


class EarlyConnection:
    """Connects in a thread of its own, from now on. To be closed when no more connections are needed."""

    def __init__(self, endpoint: Endpoint, add_waker: AddWaker) -> None:
        self.endpoint = endpoint
        self._add_waker = add_waker
        self._lock = threading.Lock()
        self._first: _Attempt | None = _Attempt(endpoint)

    def connect(self, endpoint: Endpoint) -> Transport:
        """This connection, once it is made; whoever asks again gets one of their own. Raises as `Transport.connect` does, and
        ConnectionLost at once when the run is to stop."""
        with self._lock:
            first, self._first = self._first, None
        return (first or _Attempt(endpoint)).wait(self._add_waker)

    def close(self) -> None:
        """Closes what nobody asked for, without waiting for a server that does not answer."""
        with self._lock:
            first, self._first = self._first, None
        if first is not None:
            first.give_up()


class _Attempt:
    """One connection in the making."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._transport: Transport | None = None
        self._error: BaseException | None = None
        self._wanted = True
        self._lock = threading.Lock()
        self._settled = threading.Event()
        threading.Thread(target=self._connect, name="connect", daemon=True).start()

    def _connect(self) -> None:
        try:
            transport = Transport.connect(self._endpoint)
        except BaseException as error:  # noqa: BLE001 - raised in the thread that needs the connection
            self._error = error
        else:
            with self._lock:
                wanted = self._wanted
                if wanted:
                    self._transport = transport
            if not wanted:
                transport.close()
        self._settled.set()

    def wait(self, add_waker: AddWaker) -> Transport:
        """The connection."""
        remove = add_waker(self._settled.set)
        try:
            self._settled.wait()
        finally:
            remove()
        if self._error is not None:
            raise self._error
        with self._lock:
            transport, self._transport = self._transport, None
            self._wanted = False
        if transport is None:
            raise ConnectionLost("the connection was given up")
        return transport

    def give_up(self) -> None:
        """Closes it, now or as soon as it is made."""
        with self._lock:
            self._wanted = False
            transport, self._transport = self._transport, None
        if transport is not None:
            transport.close()
