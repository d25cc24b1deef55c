"""Connections read while the disk is being flushed: messages travel in whole batches from threads to the account's own.

Each source runs in a thread of its own and yields what it has put into `tmp/`. The account's thread takes the batches, one
after the other, and makes them durable. The queue between them is bounded, so that a fast server waits for a slow disk.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Generic, TypeVar

from fetchmail_py.errors import ConnectionLost, FetchmailError

BATCH_MESSAGES = 256
BATCH_OCTETS = 32 * 1024 * 1024
BATCH_SECONDS = 0.5
WAITING_BATCHES = 2
"""Batches that may wait for the disk, however many connections fill them."""

T = TypeVar("T")


class _End:
    """A source has ended; `error` is what ended it early."""

    def __init__(self, error: BaseException | None) -> None:
        self.error = error


class Pump(Generic[T]):
    """Runs sources side by side and hands over what they yield in batches."""

    def __init__(self, size_of: Callable[[T], int], give_up: Callable[[], None]) -> None:
        """`size_of` tells an item's octets; `give_up` wakes sources that wait for a server (called once, on an error)."""
        self._size_of = size_of
        self._give_up = give_up
        self._queue: queue.Queue[list[T] | _End] = queue.Queue(WAITING_BATCHES)
        self._stopping = threading.Event()
        self.left: list[T] = []
        """What had come in when the account's thread gave up, and was not handed over."""

    def run(self, sources: Sequence[Iterator[T]]) -> Generator[list[T], None, None]:
        """Yields batches until every source has ended. What was complete before an error comes before the error is raised.

        The first error stops the other sources too. Closing this generator stops them as well, and waits for them.
        """
        threads = [
            threading.Thread(target=self._fill, args=(source,), name=f"connection-{number}")
            for number, source in enumerate(sources, start=1)
        ]
        for thread in threads:
            thread.start()
        running = len(threads)
        errors: list[BaseException] = []
        try:
            while running:
                taken = self._queue.get()
                if not isinstance(taken, _End):
                    yield taken
                    continue
                running -= 1
                if taken.error is not None:
                    errors.append(taken.error)
                    self._stop()
        finally:
            if running:
                self._stop()
            while running:
                taken = self._queue.get()
                if isinstance(taken, _End):
                    running -= 1
                else:
                    self.left += taken
            for thread in threads:
                thread.join()
        if errors:
            raise _first(errors)

    def _stop(self) -> None:
        if not self._stopping.is_set():
            self._stopping.set()
            self._give_up()

    def _fill(self, source: Iterator[T]) -> None:
        batch: list[T] = []
        octets = 0
        since = 0.0
        error: BaseException | None = None
        try:
            for item in source:
                if not batch:
                    since = time.monotonic()
                batch.append(item)
                octets += self._size_of(item)
                if (
                    len(batch) >= BATCH_MESSAGES
                    or octets >= BATCH_OCTETS
                    or time.monotonic() - since >= BATCH_SECONDS
                ):
                    self._queue.put(batch)
                    batch, octets = [], 0
                if self._stopping.is_set():
                    break
        except BaseException as raised:  # noqa: BLE001 - carried to the account's thread and raised there
            error = raised
        finally:
            close = getattr(source, "close", None)
            if close is not None:
                close()
        if batch:
            self._queue.put(batch)
        self._queue.put(_End(error))


def _first(errors: Sequence[BaseException]) -> BaseException:
    """The error that tells most: a defect, then what is not merely the loss of a connection that we gave up ourselves."""
    for error in errors:
        if not isinstance(error, FetchmailError):
            return error
    return next((error for error in errors if not isinstance(error, ConnectionLost)), errors[0])
