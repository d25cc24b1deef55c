"""Messages coming in: the sink that puts them into a Maildir's `tmp/`, and the account of what has arrived."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable

from fetchmail_py.errors import StoreError
from fetchmail_py.model import Delivered, Flags
from fetchmail_py.report import Arrival, Event, Progress, Report
from fetchmail_py.store.delivery import Delivery
from fetchmail_py.store.maildir import Maildir, letters_of

EVERY = 0.1
"""Seconds between two reports of progress."""
REMEMBERED = 5000
"""Arrivals whose names are kept for the end of the run: the newest ones."""


class MaildirSink:
    """Takes messages for one Maildir. Several may be at work on one Maildir, each in its thread."""

    def __init__(self, maildir: Maildir) -> None:
        self._maildir = maildir

    def deliver(self, data: bytes, internaldate: int | None) -> Delivered:
        """A whole message."""
        return self._maildir.deliver(data, internaldate)

    def start(self, internaldate: int | None) -> Delivery:
        """A message in pieces."""
        return self._maildir.start(internaldate)

    def date(self, delivered: Delivered, internaldate: int | None) -> None:
        """The date came after the body."""
        if internaldate is not None:
            path = f"{self._maildir.tmp}/{delivered.key}"
            try:
                os.utime(path, (internaldate, internaldate))
            except OSError as error:
                raise StoreError.from_os_error(error, "dating the message", path) from error

    def discard(self, delivered: Delivered) -> None:
        """It is not wanted after all."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{self._maildir.tmp}/{delivered.key}")


class Arrivals:
    """Counts what comes in, tells of it now and then, and remembers the newest messages."""

    def __init__(self, account: str, report: Report, on_event: Callable[[Event], None]) -> None:
        self._account = account
        self._report = report
        self._on_event = on_event
        self._total = 0
        self._done = 0
        self._octets = 0
        self._told = 0.0
        self._newest: list[tuple[float, int, Arrival]] = []
        self._lock = threading.Lock()

    def expect(self, messages: int) -> None:
        """So many more are to come."""
        self._total += messages
        self._on_event(Progress(self._account, "", self._done, self._total, self._octets))

    def received(self, octets: int, mailbox: str) -> None:
        """One has come, from whichever connection."""
        with self._lock:
            self._done += 1
            self._octets += octets
            now = time.monotonic()
            if now - self._told < EVERY and self._done < self._total:
                return
            self._told = now
            event = Progress(self._account, mailbox, self._done, self._total, self._octets)
        self._on_event(event)

    def stored(
        self, mailbox: str, maildir: Maildir, delivered: Delivered, flags: Flags, keywords: str, internaldate: int | None
    ) -> None:
        """One is published, durable and recorded."""
        report = self._report
        report.downloaded += 1
        report.downloaded_bytes += delivered.wire_size
        letters = letters_of(flags, keywords)
        published = f"{maildir.cur}/{delivered.key}:2,{letters}" if letters or flags else f"{maildir.new}/{delivered.key}"
        arrival = Arrival(mailbox, published, delivered.size)
        # The count keeps arrivals of one second in the order in which they came.
        self._newest.append((internaldate or time.time(), report.downloaded, arrival))
        if len(self._newest) > 2 * REMEMBERED:
            self._shorten()

    def _shorten(self) -> None:
        self._newest.sort(key=lambda entry: entry[:2])
        del self._newest[:-REMEMBERED]

    def close(self) -> None:
        """The newest, newest last, into the report, behind what an earlier look of the run brought."""
        self._shorten()
        self._report.arrivals = [*self._report.arrivals, *(arrival for _, _, arrival in self._newest)][-REMEMBERED:]
