"""Bars with rate and time left, one for each account at work. Imported only where there is a terminal to show them."""

from __future__ import annotations

import time

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from fetchmail_py import report

PERIOD = 0.1
"""Seconds between two drawings: whoever looks sees no more."""


class Bars:
    """The bars of all accounts. The caller sees to it that one thread at a time is here, and that names are safe to show."""

    def __init__(self) -> None:
        self._tasks: dict[str, TaskID] = {}
        self._drawn = 0.0
        self._progress = Progress(
            # Not as markup: "[Gmail]/All Mail" is a name.
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("{task.fields[size]}"),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(compact=True),
            console=Console(stderr=True),
            transient=True,
            auto_refresh=False,
        )
        self._started = False

    def show(self, event: report.Progress) -> None:
        """Where an account is; drawn if the last drawing is not too recent."""
        task = self._tasks.get(event.account)
        if task is None:
            task = self._tasks[event.account] = self._progress.add_task(
                event.account, total=event.total, size="", rate=""
            )
        if not self._started:
            self._progress.start()
            self._started = True
        elapsed = self._progress.tasks[self._progress.task_ids.index(task)].elapsed or 0.0
        rate = f"{event.octets / elapsed / 1e6:.1f} MB/s" if elapsed > 0.2 else ""
        now = time.monotonic()
        due = now - self._drawn >= PERIOD
        if due:
            self._drawn = now
        where = f"{event.account}/{event.mailbox}" if event.mailbox else event.account
        self._progress.update(
            task,
            completed=event.done,
            total=event.total,
            description=where[:40],
            size=f"{event.octets / 1e6:.1f} MB",
            rate=rate,
            refresh=due,
        )

    def pause(self) -> None:
        """Takes the bars off the screen, for a line of text; the next event brings them back."""
        if self._started:
            self._progress.stop()
            self._started = False

    def remove(self, account: str) -> None:
        """An account has ended."""
        task = self._tasks.pop(account, None)
        if task is not None:
            self._progress.remove_task(task)
        if not self._tasks:
            self.pause()

    def close(self) -> None:
        """The end."""
        self.pause()
