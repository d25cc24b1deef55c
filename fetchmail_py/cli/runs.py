"""Accounts side by side, each in its thread; signals; the reports in the order of the targets."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from types import FrameType

from fetchmail_py.cli.console import Console
from fetchmail_py.cli.explain import explain
from fetchmail_py.config import Account
from fetchmail_py.credentials import may_ask, secret_for
from fetchmail_py.errors import CredentialError, ExitStatus, Scope
from fetchmail_py.report import Report
from fetchmail_py.sync.options import Options, StopFlag
from fetchmail_py.sync.run import run_account

JOBS = 4
"""Accounts side by side, unless --jobs says otherwise."""


@contextmanager
def signals(stop: StopFlag) -> Iterator[None]:
    """SIGINT and SIGTERM ask the run to end, once; a second one ends the process at once."""
    asked = False

    def handle(number: int, _: FrameType | None) -> None:
        nonlocal asked
        if asked:
            os._exit(128 + number)
        asked = True
        # In a thread: the handler runs between two steps of this one, which may hold what a waker needs.
        threading.Thread(target=stop.set, args=(number,), name="stop", daemon=True).start()

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Job:
    """One account's run in this invocation."""

    def __init__(self, account: Account, options: Options, remember_as: str | None = None, *, from_url: bool = False) -> None:
        self.account = account
        self.options = options
        self.remember_as = remember_as
        """Of a backup: the name under which its directory is remembered."""
        self.words = partial(explain, host=account.host, from_url=from_url, backup=remember_as is not None)
        self.report: Report | None = None
        self.defect: BaseException | None = None
        self.done = threading.Event()


def run_jobs(jobs: Sequence[Job], console: Console, width: int | None) -> int:
    """Runs the jobs, `width` at a time, tells of each in order, and returns the first failing one's exit status."""
    stop = StopFlag()
    waiting = iter(jobs)
    lock = threading.Lock()
    secrets = {job: secret_for(job.account, interactive=console.stderr_is_terminal) for job in jobs}
    if console.stderr_is_terminal:
        # Here, and not when a connection wants it: bars, or another account's question, would be on the same terminal.
        for job in jobs:
            if may_ask(job.account):
                with suppress(CredentialError):  # the same one comes again, and is told, when the account logs in
                    secrets[job]()

    def work() -> None:
        while True:
            with lock:
                job = next(waiting, None)
            if job is None:
                return
            try:
                _run(job, console, stop, secrets[job])
            except BaseException as defect:  # noqa: BLE001 - told in its turn: the other accounts have nothing to do with it
                job.defect = defect
            finally:
                job.done.set()

    status = ExitStatus.OK
    with signals(stop):
        threads = [threading.Thread(target=work, name=f"account-{n}") for n in range(min(width or JOBS, len(jobs)))]
        for thread in threads:
            thread.start()
        try:
            for job in jobs:
                job.done.wait()
                ended = _tell(job, console)
                status = status or ended
        finally:
            for thread in threads:
                thread.join()
            console.close()
    return status


def _run(job: Job, console: Console, stop: StopFlag, secret: Callable[[], str]) -> None:
    account = job.account
    job.report = run_account(
        account, secret, job.options, on_event=console.event, stop=stop, remember_as=job.remember_as
    )
    if account.on_new is not None and job.report.downloaded and not job.options.dry_run:
        from fetchmail_py.hooks import run_on_new  # noqa: PLC0415

        trouble = run_on_new(account, job.report.downloaded, stop.add_waker)
        if trouble is not None:
            job.report.notices.append(trouble)
            console.problem(trouble, account=account.name)


def _tell(job: Job, console: Console) -> ExitStatus:
    report = job.report
    if job.defect is not None:
        console.defect(job.defect, job.account.name)
        return ExitStatus.DEFECT
    assert report is not None
    patient = _patient(report, job.account.report_after)
    console.report(report, dry_run=job.options.dry_run, silent=patient, words=job.words, backup=job.remember_as is not None)
    return ExitStatus.OK if patient else report.exit_status


def _patient(report: Report, report_after: int) -> bool:
    """Whether a failure is not worth a word yet: it may pass by itself, and has not come often enough."""
    error = report.error
    if error is None or report.stops or error.scope is Scope.RUN:  # whoever sent a signal is told that it was heeded
        return False
    return error.retryable and report.failures < report_after
