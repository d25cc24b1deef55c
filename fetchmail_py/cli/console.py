"""The only code that prints. Results go to standard output, all else to standard error; Rich comes in only for a terminal."""

from __future__ import annotations

import json
import os
import re
import sys
import threading
from collections.abc import Callable
from typing import IO, TYPE_CHECKING, TypeAlias

from fetchmail_py.cli.explain import explain
from fetchmail_py.errors import FetchmailError, StoreError
from fetchmail_py.model import count_of
from fetchmail_py.report import Alert, Arrival, CheckLine, Event, Notice, Progress, Report

if TYPE_CHECKING:
    from fetchmail_py.cli.progress import Bars

Words: TypeAlias = Callable[[FetchmailError], tuple[str, str | None]]
"""What tells an error's message and remedy."""
PROGRAM = "fetchmail-py"
SHOWN = 10
"""Arrivals that are shown without -v."""

# Control characters, and those that change the direction of what follows: a server or a mail must not steer the terminal.
_UNSAFE = re.compile("[\0-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def safe(text: str) -> str:
    """The text with everything escaped that is not to be shown as it is."""
    return _UNSAFE.sub(lambda found: found[0].encode("unicode_escape", "surrogatepass").decode("ascii"), text)


def size_of(octets: float) -> str:
    """Octets for people: 1.2 MB."""
    for unit in ("B", "KB", "MB", "GB"):
        if octets < 1000 or unit == "GB":
            return f"{octets:.0f} {unit}" if unit == "B" or octets >= 100 else f"{octets:.1f} {unit}"
        octets /= 1000
    raise AssertionError


class Console:
    """Prints, one line at a time, from whichever thread."""

    def __init__(self, *, verbose: bool, quiet: bool, as_json: bool) -> None:
        self.verbose = verbose
        self.quiet = quiet
        self.as_json = as_json
        self.stderr_is_terminal = _is_terminal(sys.stderr)
        self.stdout_is_terminal = _is_terminal(sys.stdout)
        self.talkative = verbose or (self.stderr_is_terminal and not quiet)
        """Whether to say more than what went wrong."""
        self._lock = threading.RLock()
        self._bars: Bars | None = None

    # -- lines -------------------------------------------------------------------------------------------------------

    def out(self, text: str) -> None:
        """A line of the result."""
        with self._lock:
            self._without_bars()
            _write(sys.stdout, text + "\n")

    def err(self, text: str) -> None:
        """A line for whoever runs the program."""
        with self._lock:
            self._without_bars()
            _write(sys.stderr, text + "\n")

    def json(self, document: object) -> None:
        """One object on a line of its own."""
        # In ASCII: valid in every locale, and nothing in it steers a terminal.
        self.out(json.dumps(document))

    def error(self, error: FetchmailError, account: str | None = None, words: Words = explain) -> None:
        """What went wrong, and what to do about it, as `words` has it."""
        message, hint = words(error)
        self.problem(message, hint, account)

    def problem(self, message: str, hint: str | None = None, account: str | None = None) -> None:
        """The same in words of ours."""
        where = f"{PROGRAM}: {account}: " if account else f"{PROGRAM}: "
        self.err(where + safe(message))
        if hint:
            self.err(f"  {safe(hint)}")

    def defect(self, error: BaseException, account: str | None = None) -> None:
        """What should not have happened. Without local variables, which hold passwords."""
        if self.verbose:
            import traceback  # noqa: PLC0415

            for line in "".join(traceback.format_exception(error)).splitlines():
                self.err(safe(line))
        message = f"a defect in the program: {type(error).__name__}: {error}"
        hint = "please report the lines above" if self.verbose else "run it again with -v and report what it says"
        if self.as_json and account is not None:
            shown = {"kind": "defect", "message": message, "hint": hint, "mailbox": None}
            self.json({"account": account, "ok": False, "error": shown})
        self.problem(message, hint, account)

    # -- a run -------------------------------------------------------------------------------------------------------

    def event(self, event: Event) -> None:
        """Something on the way."""
        match event:
            case Progress():
                if self.stderr_is_terminal and not self.quiet and not self.as_json:
                    with self._lock:
                        self._progress(event)
            case Notice(account=account, text=text) | Alert(account=account, text=text):
                if self.talkative:
                    says = "the server says: " if isinstance(event, Alert) else ""
                    self.err(f"{account}: {says}{safe(text)}")

    def _progress(self, event: Progress) -> None:
        if self._bars is None:
            from fetchmail_py.cli.progress import Bars  # noqa: PLC0415

            self._bars = Bars()
        self._bars.show(event._replace(mailbox=safe(event.mailbox)))

    def _without_bars(self) -> None:
        if self._bars is not None:
            self._bars.pause()

    def end_progress(self, account: str) -> None:
        """The account has no more to show."""
        with self._lock:
            if self._bars is not None:
                self._bars.remove(account)

    def close(self) -> None:
        """Takes the bars away."""
        with self._lock:
            if self._bars is not None:
                self._bars.close()
                self._bars = None

    def report(self, report: Report, *, dry_run: bool, silent: bool, words: Words = explain, backup: bool = False) -> None:
        """How one account ended. `silent`: a failure that is not to be told yet (`report_after`)."""
        self.end_progress(report.account)
        if self.as_json:
            self.json(report.to_json(words))
            return
        if dry_run:
            for action in report.plan:
                self.out(f"{report.account}: {safe(str(action))}")
            if not report.plan and report.failure is None and self.talkative:
                self.err(f"{report.account}: nothing to do")
        elif self.talkative and (report.failure is None or report.downloaded):
            self.err(summary_line(report))
            self._arrivals(report.arrivals, report.downloaded)
        if silent:
            return
        if report.error is not None:
            self.error(report.error, report.account, words)
        for stop in report.stops:
            self.error(stop, report.account, words)
        if report.deferred and report.error is None:
            self.problem(
                f"{count_of(report.deferred, 'message')} set aside; tried again with the next run",
                None if backup else f"{PROGRAM} status {report.account} lists them with the reason",
                report.account,
            )

    def _arrivals(self, arrivals: list[Arrival], total: int) -> None:
        """The newest messages by name, newest first, and how many of the `total` there were besides: not all are remembered."""
        if not arrivals:
            return
        from rich.cells import cell_len  # noqa: PLC0415

        from fetchmail_py.message import summary_of_file  # noqa: PLC0415

        shown = arrivals if self.verbose else arrivals[-SHOWN:]
        width = _columns()
        place = min(24, max(cell_len(safe(arrival.mailbox)) for arrival in shown))
        for arrival in reversed(shown):
            summary = summary_of_file(arrival.path)
            if summary is None:
                continue
            tail = f"  {size_of(arrival.size):>8}  {_fit(safe(arrival.mailbox), place)}".rstrip()
            sender = _fit(safe(summary.sender) or "(no sender)", 24)
            subject = safe(summary.subject) or "(no subject)"
            self.err(f"  {sender}  {_fit(subject, max(10, width - 42 - place))}{tail}")
        if total > len(shown):
            self.err(f"  … and {total - len(shown):,} more")

    def check_line(self, account: str, line: CheckLine) -> None:
        """One line of `check`, as soon as it is known."""
        if self.as_json:
            self.json(
                {"account": account, "what": line.what, "ok": line.ok, "text": line.text, "remedy": line.remedy}
            )
            return
        mark = {True: "ok  ", False: "FAIL", None: "    "}[line.ok]
        self.out(f"{account}: {mark} {line.what}: {safe(line.text)}")
        if line.remedy:
            self.out(f"{' ' * len(account)}       → {safe(line.remedy)}")


def summary_line(report: Report) -> str:
    """What a run did, on one line."""
    done = []
    if report.downloaded:
        done.append(f"{count_of(report.downloaded, 'new message')} ({size_of(report.downloaded_bytes)})")
    for number, words in (
        (report.uploaded, "uploaded"),
        (report.flags_pulled, "with new flags"),
        (report.flags_pushed, "with new flags at the server"),
        (report.moved_local, "moved here"),
        (report.moved_remote, "moved at the server"),
        (report.deleted_local, "deleted here"),
        (report.deleted_remote, "deleted at the server"),
    ):
        if number:
            done.append(f"{number:,} {words}")
    what = ", ".join(done) or "nothing new"
    return f"{report.account}: {what}; {count_of(report.mailboxes, 'mailbox')}, {report.seconds:.1f} s"


def _fit(text: str, width: int) -> str:
    """The text in exactly so many columns of a terminal."""
    from rich.cells import cell_len, set_cell_size  # noqa: PLC0415

    if cell_len(text) <= width:
        return set_cell_size(text, width)
    return set_cell_size(text, width - 1) + "…"


def _columns() -> int:
    try:
        return os.get_terminal_size(2).columns or 100  # some terminals do not know, and say 0
    except OSError:
        return 100


def _is_terminal(stream: IO[str] | None) -> bool:
    return stream is not None and stream.isatty()


def _write(stream: IO[str] | None, text: str) -> None:
    """Cron jobs run with streams closed, readers go away: neither is a reason to stop fetching mail."""
    if stream is None:
        return
    try:
        stream.write(text)
        stream.flush()
    except UnicodeEncodeError:
        stream.write(text.encode("ascii", "backslashreplace").decode("ascii"))
        stream.flush()
    except (BrokenPipeError, ValueError):
        return
    except OSError as error:
        # What is still in its buffer cannot be written either: the interpreter must not try again at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        if stream is sys.stdout:
            raise StoreError.from_os_error(error, "writing the result", "standard output") from error


