"""What is asked of a run: by the command line when it begins, and by a signal that ends it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from fetchmail_py.errors import Interrupted

if TYPE_CHECKING:
    from fetchmail_py.session.endpoint import Endpoint
    from fetchmail_py.session.transport import Transport


class Options(NamedTuple):
    """What the command line asks of a run."""

    dry_run: bool = False
    """Plan, and change nothing on either side."""
    full: bool = False
    """Look at every message on both sides, whatever seems unchanged."""
    allow_mass_delete: bool = False
    """Let through the deletions that were announced."""
    fresh: bool = False
    """An empty place is meant to be empty: download everything again."""
    adopt: bool = False
    """Only match what is here with what the server has: nothing is transferred, changed or deleted."""
    mailboxes: tuple[str, ...] | None = None
    """Only these, by name; None: what the configuration says."""


class StopFlag:
    """A signal asks the run to end: whatever waits for a server is woken."""

    def __init__(self) -> None:
        self.signal: int | None = None
        self._wakers: list[Callable[[], None]] = []
        self._lock = threading.RLock()

    def set(self, signal_number: int) -> None:
        """The first signal counts. Safe in a signal handler of the main thread."""
        with self._lock:
            if self.signal is None:
                self.signal = signal_number
            wakers = list(self._wakers)
        for wake in wakers:
            wake()

    def add_waker(self, wake: Callable[[], None]) -> Callable[[], None]:
        """Calls `wake` when the signal comes, or now if it has come; returns what takes it off again."""
        with self._lock:
            self._wakers.append(wake)
            late = self.signal is not None
        if late:
            wake()

        def remove() -> None:
            with self._lock:
                self._wakers.remove(wake)

        return remove

    @contextmanager
    def heeded(self, connect: Callable[[Endpoint], Transport]) -> Iterator[Callable[[Endpoint], Transport]]:
        """Connects as `connect` does; what waits there for a greeting or a login is woken by the signal too."""
        removers: list[Callable[[], None]] = []

        def connecting(endpoint: Endpoint) -> Transport:
            transport = connect(endpoint)
            removers.append(self.add_waker(transport.abort))
            return transport

        try:
            yield connecting
        finally:
            for remove in removers:
                remove()

    def check(self) -> None:
        """Raises Interrupted once the signal has come."""
        if self.signal is not None:
            raise Interrupted(self.signal)
