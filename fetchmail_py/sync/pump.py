"""Connections read while the disk is being flushed: messages travel in whole batches from threads to the account's own.

Each source runs in a thread of its own and yields what it has put into `tmp/`. The account's thread makes durable whatever has
come since it did so last: a slow disk has few large batches, a fast one many small ones, and neither waits for the other. What may
wait is bounded, so that a fast server waits for a slow disk.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Generic, TypeVar

from fetchmail_py.errors import ConnectionLost, FetchmailError

LOT_MESSAGES = 256
LOT_OCTETS = 32 * 1024 * 1024
LOT_SECONDS = 0.5
"""What a source collects before it hands it over. Fewer would make a fast disk flush for too little."""
WAITING_MESSAGES = 8 * LOT_MESSAGES
WAITING_OCTETS = 2 * LOT_OCTETS
"""So much may wait for the disk, however many connections bring it."""

T = TypeVar("T")


class Pump(Generic[T]):
    """Runs sources side by side and hands over what they yield in batches. For one use."""

    def __init__(self, size_of: Callable[[T], int], give_up: Callable[[], None]) -> None:
        """`size_of` tells an item's octets; `give_up` wakes sources that wait for a server (called once, on an error)."""
        self._size_of = size_of
        self._give_up = give_up
        self._changed = threading.Condition()
        self._waiting: list[T] = []
        self._octets = 0
        """Of what is waiting."""
        self._running = 0
        self._errors: list[BaseException] = []
        self._stopping = False
        self.left: list[T] = []
        """What had come in when the account's thread gave up, and was not handed over."""

    def run(
        self, sources: Sequence[Iterator[T]], meanwhile: Callable[[], None] = lambda: None
    ) -> Generator[list[T], None, None]:
        """Yields batches until every source has ended. What was complete before an error comes before the error is raised.

        The first error stops the other sources too. Closing this generator stops them as well, and waits for them.
        `meanwhile` is what this thread has to do anyhow: it does it while the servers work on the first answers.
        """
        self._running = len(sources)
        threads = [
            threading.Thread(target=self._fill, args=(source,), name=f"connection-{number}")
            for number, source in enumerate(sources, start=1)
        ]
        for thread in threads:
            thread.start()
        try:
            meanwhile()
            while batch := self._take():
                yield batch
        finally:
            self._stop()
            for thread in threads:
                thread.join()
            self.left += self._waiting
        if self._errors:
            raise _first(self._errors)

    def _take(self) -> list[T]:
        """All that has come; waits for some. Nothing once every source has ended."""
        with self._changed:
            while self._running and not self._waiting:
                self._changed.wait()
            taken, self._waiting, self._octets = self._waiting, [], 0
            self._changed.notify_all()
        return taken

    def _stop(self) -> None:
        with self._changed:
            if self._stopping:
                return
            self._stopping = True
            running = self._running
            self._changed.notify_all()
        if running:
            self._give_up()

    def _fill(self, source: Iterator[T]) -> None:
        lot: list[T] = []
        octets = 0
        since = 0.0
        error: BaseException | None = None
        try:
            try:
                for item in source:
                    if not lot:
                        since = time.monotonic()
                    lot.append(item)
                    octets += self._size_of(item)
                    if len(lot) >= LOT_MESSAGES or octets >= LOT_OCTETS or time.monotonic() - since >= LOT_SECONDS:
                        self._put(lot, octets)
                        lot, octets = [], 0
                    if self._stopping:
                        break
            finally:
                close = getattr(source, "close", None)
                if close is not None:
                    close()
        except BaseException as raised:  # noqa: BLE001 - carried to the account's thread, which waits for every source's end
            error = raised
        if error is not None:
            self._stop()
        with self._changed:
            self._waiting += lot
            self._running -= 1
            if error is not None:
                self._errors.append(error)
            self._changed.notify_all()

    def _put(self, lot: list[T], octets: int) -> None:
        """Hands over what one source has collected; waits while too much is waiting already, unless nobody takes it any more."""
        with self._changed:
            while not self._stopping and (len(self._waiting) >= WAITING_MESSAGES or self._octets >= WAITING_OCTETS):
                self._changed.wait()
            self._waiting += lot
            self._octets += octets
            self._changed.notify_all()


def _first(errors: Sequence[BaseException]) -> BaseException:
    """The error that tells most: a defect, then what is not merely the loss of a connection that we gave up ourselves."""
    for error in errors:
        if not isinstance(error, FetchmailError):
            return error
    return next((error for error in errors if not isinstance(error, ConnectionLost)), errors[0])
