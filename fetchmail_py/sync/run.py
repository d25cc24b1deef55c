"""One run of one account: open its place here, do the protocol's work, record how it ended. The one place that catches."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import NamedTuple

from fetchmail_py.config import Account
from fetchmail_py.errors import ConnectionLost, FetchmailError, Interrupted
from fetchmail_py.model import EMPTY_FILE
from fetchmail_py.report import Event, Notice, Report
from fetchmail_py.store.state import StateDamaged, StateDb
from fetchmail_py.sync.home import Home


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

    def check(self) -> None:
        """Raises Interrupted once the signal has come."""
        if self.signal is not None:
            raise Interrupted(self.signal)


def run_account(
    account: Account,
    secret: Callable[[], str],
    options: Options,
    *,
    on_event: Callable[[Event], None],
    stop: StopFlag,
    remember_as: str | None = None,
) -> Report:
    """Fetches or synchronises one account. Every FetchmailError ends up in the report; anything else is a defect.

    `remember_as` is the name under which the Maildir is remembered, if not the account's. `on_event` is called from this
    thread and from the connections' threads.
    """
    report = Report(account.name)
    started = time.monotonic()

    def note(text: str) -> None:
        report.notices.append(text)
        on_event(Notice(account.name, text))

    name = remember_as or account.name
    try:
        try:
            _open_and_work(account, name, secret, options, report, on_event, note, stop)
        except StateDamaged as error:
            if options.dry_run:
                raise
            # It may show at the first look, or only when a page is needed. What was in it lies in the Maildir and at the
            # server too, so the run begins once more, without it.
            aside = StateDb.set_aside(error.path or "")
            note(f"{error.detail}; it was moved aside to {aside}, and is rebuilt from the Maildir and the server")
            _open_and_work(account, name, secret, options, report, on_event, note, stop)
    except FetchmailError as error:
        report.error = _meant(error, stop)
        report.failures = max(1, report.failures)
    report.seconds = time.monotonic() - started
    return report


def _open_and_work(
    account: Account,
    name: str,
    secret: Callable[[], str],
    options: Options,
    report: Report,
    on_event: Callable[[Event], None],
    note: Callable[[str], None],
    stop: StopFlag,
) -> None:
    stop.check()
    home = Home.open(account, remember_as=name, dry_run=options.dry_run, fresh=options.fresh, note=note)
    try:
        _work(home, secret, options, report, on_event, note, stop)
    finally:
        home.close()


def _work(
    home: Home,
    secret: Callable[[], str],
    options: Options,
    report: Report,
    on_event: Callable[[Event], None],
    note: Callable[[str], None],
    stop: StopFlag,
) -> None:
    # Imported here: an account has one of the two protocols, and the other's code is start-up time.
    try:
        home.check_owner(fresh=options.fresh)
        if home.account.protocol == "pop3":
            from fetchmail_py.sync.pop3 import Pop3Run  # noqa: PLC0415

            Pop3Run(home, secret, options, report, on_event, note, stop).run()
        else:
            from fetchmail_py.sync.imap import ImapRun  # noqa: PLC0415

            kind: type[ImapRun] = ImapRun
            if home.account.mode == "disconnected":
                from fetchmail_py.sync.twoway import TwoWayRun  # noqa: PLC0415

                kind = TwoWayRun
            kind(home, secret, options, report, on_event, note, stop).run()
    except StateDamaged:
        raise
    except FetchmailError as error:
        report.error = _meant(error, stop)
        home.state.rollback()
    _record(home, report)


def _meant(error: FetchmailError, stop: StopFlag) -> FetchmailError:
    """A connection that we gave up because of a signal is not a lost one."""
    if stop.signal is not None and isinstance(error, ConnectionLost):
        return Interrupted(stop.signal)
    return error


def _record(home: Home, report: Report) -> None:
    """How the run ended, for `status` and for `report_after`."""
    state = home.state
    failure = report.failure
    if failure is None:
        report.failures = 0
        state.put("last_sync", repr(time.time()))
        state.put("last_error", None)
    else:
        report.failures = state.number("failures") + 1 if failure.retryable else 1
        state.put("last_error", failure.detail)
    state.put("failures", str(report.failures))
    report.deferred = sum(not row.ident.startswith(EMPTY_FILE) for row in state.deferred())
    home.finish(clean=failure is None)
