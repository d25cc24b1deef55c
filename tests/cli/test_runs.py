"""Accounts side by side: whose status counts, what is told, and when a failure is not worth a word yet."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from fetchmail_py import hooks
from fetchmail_py.cli import runs
from fetchmail_py.cli.console import Console, summary_line
from fetchmail_py.cli.explain import explain
from fetchmail_py.cli.runs import Job, run_jobs
from fetchmail_py.config import Account
from fetchmail_py.errors import AuthenticationFailed, ConnectionLost, FetchmailError, Interrupted, SafetyStop, StoreError
from fetchmail_py.hooks import run_on_new
from fetchmail_py.report import Arrival, Progress, Report
from fetchmail_py.sync.options import Options

ACCOUNT = Account(name="a", protocol="imap", host="h", port=993, tls="implicit", user="ann", maildir="/m")
LOST = ConnectionLost("the server went silent")


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def tell(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Runs accounts whose reports, or defects, are given, in the order given."""

    def run(*ends: Report | Exception, report_after: int = 1, as_json: bool = False, width: int | None = None) -> int:
        by_name = {f"a{number}": end for number, end in enumerate(ends)}

        def fake(account: Account, *_: object, **__: object) -> Report:
            end = by_name[account.name]
            if isinstance(end, Exception):
                raise end
            return end

        monkeypatch.setattr(runs, "run_account", fake)
        jobs = [Job(ACCOUNT._replace(name=name, report_after=report_after), Options()) for name in by_name]
        return run_jobs(jobs, Console(verbose=False, quiet=False, as_json=as_json), width)

    return run


def failed(error: FetchmailError | None, failures: int = 1, stops: tuple[SafetyStop, ...] = ()) -> Report:
    return Report("a0", error=error, failures=failures, stops=list(stops))


@pytest.mark.parametrize("width", [1, None])
def test_the_first_failing_account_decides_and_all_are_told(
    tell: Callable[..., int], capsys: pytest.CaptureFixture[str], width: int | None
) -> None:
    status = tell(
        Report("a0"),
        Report("a1", error=AuthenticationFailed("LOGIN", "NO", "no")),
        Report("a2", deferred=2),
        Report("a3", error=StoreError("writing", errno=28)),
        width=width,
    )
    assert status == 77
    told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("fetchmail-py: ")]
    assert [line.split(": ")[1] for line in told] == ["a1", "a2", "a3"]


@pytest.mark.parametrize(
    ("report", "report_after", "status"),
    [
        (failed(LOST, 1), 1, 75),
        (failed(LOST, 2), 3, 0),
        (failed(LOST, 3), 3, 75),
        (failed(StoreError("full"), 1), 3, 74),
        (failed(Interrupted(signal.SIGTERM), 1), 3, 143),
        (failed(LOST, 1, (SafetyStop("INBOX: 500 messages"),)), 3, 75),
        (failed(None, 1, (SafetyStop("INBOX: 500 messages"),)), 3, 3),
    ],
)
def test_what_report_after_keeps_quiet(
    tell: Callable[..., int], capsys: pytest.CaptureFixture[str], report: Report, report_after: int, status: int
) -> None:
    assert tell(report, report_after=report_after) == status
    assert bool(capsys.readouterr().err) == bool(status)


def test_a_defect_in_one_account_is_its_own(tell: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    assert tell(ZeroDivisionError("\x1b[2J"), Report("a1", downloaded=3), as_json=True) == 1
    out, err = capsys.readouterr()
    first, second = map(json.loads, out.splitlines())
    assert (first["account"], first["ok"], first["error"]["kind"]) == ("a0", False, "defect")
    assert second["downloaded"] == 3
    assert "a0: a defect in the program: ZeroDivisionError: \\x1b[2J" in err


@pytest.mark.parametrize(
    ("host", "words"), [("imap.gmx.net", "switched on"), ("imap.gmail.com", "gmail needs an app password"), ("h", "many providers")]
)
def test_a_refused_login_says_what_the_provider_wants(host: str, words: str) -> None:
    message, hint = explain(AuthenticationFailed("login", "NO", "no"), host)
    assert message == "the server refused the login: no"
    assert words in str(hint)


def test_json_is_ascii(capsys: pytest.CaptureFixture[str]) -> None:
    Console(verbose=False, quiet=False, as_json=True).json({"name": "\u202eü\x9b\udcff"})
    out = capsys.readouterr().out
    assert out.isascii()
    assert json.loads(out) == {"name": "\u202eü\x9b\udcff"}


def test_what_is_not_remembered_is_counted_all_the_same(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "m").write_bytes(b"Subject: hello\n\n")
    console = Console(verbose=True, quiet=False, as_json=False)
    report = Report("test", downloaded=5726, arrivals=[Arrival("INBOX", str(tmp_path / "m"), 16)])
    console.report(report, dry_run=False, silent=False)
    assert "… and 5,725 more" in capsys.readouterr().err


def test_a_terminal_sees_bars_a_summary_and_the_newest_arrivals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", Terminal())
    arrivals = []
    for number in range(13):
        path = tmp_path / f"{number}"
        path.write_bytes(b"From: Ann\x1b[2J <a@x>\nSubject: \xe2\x80\xaemail %d\n\n" % number)
        arrivals.append(Arrival("[/b]oxen\x1b[2J", str(path), 1234))
    (tmp_path / "12").unlink()
    console = Console(verbose=False, quiet=False, as_json=False)
    for done in (1, 2):
        console.event(Progress("a", "[/b]oxen\x1b]0;title\x07", done, 13, 5000))
    console.report(Report("a", mailboxes=1, downloaded=13, downloaded_bytes=16042, arrivals=arrivals), dry_run=False, silent=False)
    console.close()
    assert isinstance(sys.stderr, Terminal)
    shown = sys.stderr.getvalue()
    assert "[/b]oxen\\x1b]0;title\\x07" in shown
    assert "a: 13 new messages (16.0 KB); 1 mailbox" in shown
    assert [line.partition("mail ")[2].split()[0] for line in shown.splitlines() if "1.2 KB" in line] == [
        str(number) for number in range(11, 2, -1)
    ]
    assert "… and 3 more" in shown
    assert "\x1b[2J" not in shown
    assert "\u202e" not in shown


def test_the_summary_names_all_that_was_done() -> None:
    report = Report("a", mailboxes=1, uploaded=2, flags_pushed=3, flags_pulled=4, moved_local=5, moved_remote=6)
    report.deleted_local, report.deleted_remote = 7, 8
    assert summary_line(report) == (
        "a: 2 uploaded, 4 with new flags, 3 with new flags at the server, 5 moved here, 6 moved at the server, 7 deleted here, "
        "8 deleted at the server; 1 mailbox, 0.0 s"
    )
    assert summary_line(Report("a", mailboxes=2)) == "a: nothing new; 2 mailboxes, 0.0 s"


class TestOnNew:
    def run(self, command: tuple[str, ...] | str, add_waker: Callable[..., Callable[[], None]] | None = None) -> str | None:
        return run_on_new(ACCOUNT._replace(on_new=command, password_env="P"), 7, add_waker or (lambda _: lambda: None))

    def test_what_it_is_told(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("P", "secret")
        line = f'echo "$FETCHMAIL_PY_ACCOUNT $FETCHMAIL_PY_MAILDIR $FETCHMAIL_PY_NEW $P" > {tmp_path}/out'
        assert self.run(line) is None
        assert (tmp_path / "out").read_text() == "a /m 7 \n"

    @pytest.mark.parametrize(
        ("command", "words"),
        [("exit 3", "status 3"), (("/nonexistent/program",), "could not be run"), ("kill -9 $$", "signal 9")],
    )
    def test_what_went_wrong(self, command: tuple[str, ...] | str, words: str) -> None:
        assert words in str(self.run(command))

    def test_one_that_hangs(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(hooks, "TIMEOUT", 0.1)
        assert "did not end" in str(self.run("tail -f /dev/null & tail -f /dev/null"))

    def test_a_signal_ends_it_too(self) -> None:
        removed = []

        def add_waker(wake: Callable[[], None]) -> Callable[[], None]:
            wake()
            return lambda: removed.append(wake)

        assert "signal 15" in str(self.run(("tail", "-f", "/dev/null"), add_waker))
        assert len(removed) == 1


def test_with_all_streams_closed_a_command_cannot_write_into_a_message(tmp_path: Path) -> None:
    if not os.path.exists("/proc/self/fd"):
        pytest.skip("no /proc")
    program = (
        "import os; from fetchmail_py import __main__; __main__._fill_standard_descriptors();"
        f"os.system('readlink /proc/self/fd/0 /proc/self/fd/2 > {tmp_path}/fds')"
    )
    words = ["/bin/sh", "-c", f'exec {sys.executable} -c "$0" <&- >&- 2>&-', program]
    subprocess.run(words, env={"PYTHONPATH": str(Path(__file__).parent.parent.parent)}, check=True)
    assert (tmp_path / "fds").read_text() == "/dev/null\n/dev/null\n"
