"""One run of one account: open its place here, do the protocol's work, record how it ended. The one place that catches."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from contextlib import closing
from typing import TYPE_CHECKING

from fetchmail_py.config import Account
from fetchmail_py.errors import ConnectionLost, FetchmailError, Interrupted, UsageError
from fetchmail_py.model import EMPTY_FILE
from fetchmail_py.report import Event, Notice, Report
from fetchmail_py.session.early import EarlyConnection
from fetchmail_py.store.state import StateDb
from fetchmail_py.store.state_base import StateDamaged
from fetchmail_py.sync.context import RunContext
from fetchmail_py.sync.home import Home, endpoint_of
from fetchmail_py.sync.options import Options, StopFlag

if TYPE_CHECKING:
    from fetchmail_py.sync.imap import ImapRun
    from fetchmail_py.sync.pop3 import Pop3Run

GARBAGE_EVERY = 20_000
"""Objects made and not freed again before cycles are looked for among them."""


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
    report = Report(account.name, dry_run=options.dry_run)
    started = time.monotonic()

    def note(text: str) -> None:
        if text in report.notices:
            return  # a later look has found the same
        report.notices.append(text)
        on_event(Notice(account.name, text))

    def attempt() -> None:
        stop.check()
        name = remember_as or account.name
        with closing(Home.open(account, remember_as=name, dry_run=options.dry_run, fresh=options.fresh, note=note)) as home:
            _work(RunContext(home, secret, options, report, on_event, note, stop))

    try:
        try:
            attempt()
        except StateDamaged as error:
            if options.dry_run:
                raise
            # It may show at the first look, or only when a page is needed. What was in it lies in the Maildir and at the
            # server too, so the run begins once more, without it.
            aside = StateDb.set_aside(error.path or "")
            note(f"{error.detail}; it was moved aside to {aside}, and is rebuilt from the Maildir and the server")
            attempt()
    except FetchmailError as error:
        report.error = _meant(error, stop)
        report.failures = max(1, report.failures)
    report.seconds = time.monotonic() - started
    return report


def _work(context: RunContext) -> None:
    home, report, stop = context.home, context.report, context.stop
    try:
        home.check_owner(fresh=context.options.fresh)
        stop.check()
        with closing(EarlyConnection(endpoint_of(home.account), stop.add_waker)) as connection:
            if home.account.protocol == "imap":
                from fetchmail_py.sync.layout_change import follow_settings  # noqa: PLC0415 - a maildrop has no mailboxes

                follow_settings(home, context.note)
            kind = _kind(home.account)
            kind(context._replace(connect=connection.connect)).run()
    except StateDamaged:
        raise
    except FetchmailError as error:
        report.error = _meant(error, stop)
        home.state.rollback()
    _record(home, report)


def _kind(account: Account) -> type[ImapRun | Pop3Run]:
    """What does the account's work. An account has one of the two protocols, and the other's code is start-up time."""
    kind: type[ImapRun | Pop3Run]
    if account.protocol == "pop3":
        from fetchmail_py.sync.pop3 import Pop3Run  # noqa: PLC0415

        kind = Pop3Run
    elif account.mode == "disconnected":
        from fetchmail_py.sync.twoway import TwoWayRun  # noqa: PLC0415

        kind = TwoWayRun
    else:
        from fetchmail_py.sync.imap import ImapRun  # noqa: PLC0415

        kind = ImapRun
    # The last of the imports: see __main__. What comes by the thousand holds no cycles: to look for some with every 700th
    # object would take a twentieth of a first download.
    gc.set_threshold(GARBAGE_EVERY, 10, 10)
    gc.enable()
    return kind


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
        if not isinstance(failure, UsageError):  # a slip of the pen on the command line is no state of the account
            state.put("last_error", failure.detail)
    state.put("failures", str(report.failures))
    report.deferred = sum(not row.ident.startswith(EMPTY_FILE) for row in state.deferred())
    home.finish(clean=failure is None)
