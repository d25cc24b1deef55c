"""The command line as a process: exit statuses, streams, JSON, silence, what it imports."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fetchmail_py.cli.app import globals_first
from fetchmail_py.cli.console import safe, size_of
from fetchmail_py.cli.explain import explain
from fetchmail_py.credentials import LOGIN_OR_SOURCE
from fetchmail_py.errors import CertificateError, CredentialError
from tests.servers.imap import ImapServer
from tests.servers.mailbox import Store
from tests.servers.mails import mails
from tests.servers.pop3 import Pop3Server


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """A home with two accounts that work, and one behind a closed port."""
    store = Store()
    for data in mails(12):
        store.append(data)
    with socket.socket() as closed, ImapServer(store) as imap, Pop3Server(store) as pop3:
        closed.bind(("127.0.0.1", 0))
        (tmp_path / "c.toml").write_text(
            f'[defaults]\nhost = "localhost"\ntls = "none"\npassword_env = "P"\n'
            f'[accounts.work]\nport = {imap.port}\nuser = "ann"\nmode = "backup"\nmaildir = "{tmp_path}/work"\n'
            f'[accounts.isp]\nprotocol = "pop3"\nport = {pop3.port}\nuser = "ann"\nkeep = "forever"\nmaildir = "{tmp_path}/isp"\n'
            f'[accounts.down]\nport = {closed.getsockname()[1]}\nuser = "ann"\nmode = "backup"\nmaildir = "{tmp_path}/down"\n'
            f'[accounts.patient]\nport = {closed.getsockname()[1]}\nuser = "ann"\nmode = "backup"\nmaildir = "{tmp_path}/patient"\n'
            "report_after = 3\n"
        )
        yield tmp_path


def run(home: Path, *words: str, **options: object) -> subprocess.CompletedProcess[str]:
    environment = {
        "PATH": os.environ["PATH"],
        "P": "secret",
        "FETCHMAIL_PY_CONFIG": str(home / "c.toml"),
        "XDG_STATE_HOME": str(home / "state"),
        "PYTHONPATH": str(Path(__file__).parent.parent.parent),
        "PYTHON_KEYRING_BACKEND": "keyring.backends.null.Keyring",
    }
    command = [sys.executable, *(["-X", "importtime"] if options.get("importtime") else []), "-m", "fetchmail_py", *words]
    return subprocess.run(command, env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)


def test_a_cron_job_that_succeeds_says_nothing(home: Path) -> None:
    for words in (("sync", "work", "isp"), ("sync", "work"), ("-q", "sync", "isp")):
        done = run(home, *words)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_what_went_wrong_is_said_with_account_and_remedy(home: Path) -> None:
    done = run(home, "sync")
    assert done.returncode == 69
    assert done.stdout == ""
    first, second = done.stderr.splitlines()
    assert first.startswith("fetchmail-py: down: cannot connect to localhost port ")
    assert second == "  check `host`, `port` and the network"
    assert len(list((home / "work/INBOX/new").iterdir())) == 12, "the others are done all the same"


def test_json(home: Path) -> None:
    done = run(home, "sync", "--json", "--jobs", "1")
    reports = [json.loads(line) for line in done.stdout.splitlines()]
    assert [report["account"] for report in reports] == ["work", "isp", "down", "patient"]
    assert [report["ok"] for report in reports] == [True, True, False, False]
    assert reports[2]["error"].keys() == {"kind", "message", "hint", "mailbox"}
    assert reports[0].keys() >= {
        "account", "ok", "error", "mailboxes", "downloaded", "downloaded_bytes", "uploaded", "flags_pushed", "flags_pulled",
        "moved_local", "moved_remote", "deleted_local", "deleted_remote", "deferred", "seconds",
    }  # fmt: skip
    status = [json.loads(line) for line in run(home, "status", "--json").stdout.splitlines()]
    assert [account["messages"] for account in status] == [12, 12, 0, 0]


def test_status_and_check_tell_of_a_maildir_that_is_gone(home: Path) -> None:
    run(home, "sync", "work", "isp")
    shutil.rmtree(home / "work")
    for command in ("status", "check", "sync"):
        done = run(home, command, "work")
        assert done.returncode == 3
        assert "but it had 12 messages when it was last seen" in done.stdout + done.stderr
        assert "--fresh" in done.stdout + done.stderr
    done = run(home, "status", "--json")
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 3
    assert [len(account["stops"]) for account in found] == [1, 0, 0, 0]
    assert found[0]["stops"][0].keys() == {"kind", "message", "hint", "mailbox"}


def test_report_after(home: Path) -> None:
    assert [run(home, "sync", "patient").returncode for _ in range(4)] == [0, 0, 69, 69]


@pytest.mark.parametrize(
    ("words", "status", "says"),
    [
        (["sync", "nobody"], 2, "no account or group 'nobody'"),
        (["sync", "isp/INBOX"], 2, "no mailboxes"),
        (["sync", "--no-such-option"], 2, "No such option"),
        (["nonsense"], 2, "No such command"),
        (["-v", "-q", "sync"], 2, "exclude each other"),
        (["backup", "http://x@y", "HOME/d"], 2, "no source"),
        (["backup", "imaps://x:secret@y", "HOME/d"], 2, "can be read by everybody"),
        (["backup", "imaps://x@y", "HOME/work/below"], 2, "inside the maildir of account work"),
        (["backup", "imaps://x@y", "HOME/d", "--tls-fingerprint", "x"], 2, "--tls-fingerprint: must be"),
        (["backup", "imaps://x%00@y", "HOME/d"], 2, "the user in the URL: holds a control character"),
        (["backup", "work", "HOME/work"], 2, "the maildir of account work"),
        (["--config", "/nonexistent/config.toml", "sync"], 78, "no configuration"),
        (["sync", "work/Nope"], 2, "the server has no mailbox 'Nope'\n  there are: INBOX"),
        (["status", "nobody"], 2, "no account or group 'nobody'"),
        (["login", "work"], 78, "c.toml: accounts.work: has password_env"),
        (["--config", "", "sync"], 78, "--config names no file"),
        (["sync", "--config", "/nonexistent/config.toml"], 78, "no configuration"),
        (["status", "work/INBOX"], 2, "whole accounts"),
        (["check", "work/INBOX"], 2, "whole accounts"),
        (["backup", "work", "HOME/d", "--auth", "plain"], 2, " --auth is for a URL"),
        (["backup", "imaps://x@y", ""], 2, "DIR: must not be empty"),
        (["backup", "work", ""], 2, "DIR: must be a directory"),
        (["backup", "imaps://x@y:0", "HOME/d"], 2, "the port in the URL: must be"),
        (["backup", "imaps://x@y/a%0Ab", "HOME/d"], 2, "fetchmail-py: the mailbox in the URL: holds a control"),
        (["backup", "imaps://x@y z", "HOME/d"], 2, "the host in the URL: 'y z'"),
        (["backup", "imaps://x@y", "HOME/d", "--auth", "external"], 2, "--auth: "),
        (["backup", "imaps://x@y", "HOME/d", "--password-env", "P", "--password-file", "x"], 2, "-file and --password-env are"),
        (["backup", "imaps://x@localhost:1", "HOME/d"], 69, "check the URL's host, the URL's port and the network"),
        (["backup", "imap://x@localhost:IMAP", "HOME/d"], 76, "write imaps://"),
        (["backup", "imaps://x@localhost:IMAP", "HOME/d", "--ca-file", "HOME/no.pem"], 78, "--ca-file: cannot read certificates"),
        (["backup", "imaps://x@localhost:IMAP", "HOME/d", "--ca-file", "HOME/c.toml"], 78, "holds no certificates as PEM text"),
    ],
)
def test_wrong_usage_and_configuration(home: Path, words: list[str], status: int, says: str) -> None:
    port = re.findall(r"port = (\d+)", (home / "c.toml").read_text())[0]
    done = run(home, *[word.replace("HOME", str(home)).replace("IMAP", port) for word in words])
    assert done.returncode == status, done.stderr
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize("command", ["adopt", "backup", "sync", "status", "check", "login", "logout"])
def test_a_name_that_is_no_account_is_told_with_the_file_and_the_names_there_are(home: Path, command: str) -> None:
    done = run(home, command, "wrok", *(["d"] if command == "backup" else []))
    assert done.returncode == 2
    assert f"{home}/c.toml: there is no account" in done.stderr
    assert "there are: work, isp, down, patient" in done.stderr
    assert 'did you mean "work"?' in done.stderr


def test_a_password_that_is_nowhere_is_told_in_the_words_of_a_url(home: Path) -> None:
    port = re.findall(r"port = (\d+)", (home / "c.toml").read_text())[0]
    (home / "c.toml").write_text(f'[accounts.work]\nhost="localhost"\ntls="none"\nport={port}\nuser="ann"\nmaildir="{home}/work"\n')
    for words, says in ((["sync"], "set password_command,"), (["backup", "work", str(home / "d")], "set password_command,")):
        done = run(home, *words)
        assert done.returncode == 78
        assert says in done.stderr
    message, remedy = explain(CredentialError("no password", hint=LOGIN_OR_SOURCE.format(account="backup")), from_url=True)
    assert message == "no password"
    assert str(remedy).startswith("give --password-command,")
    message, _ = explain(CertificateError("the certificate is not the one that tls_fingerprint names"), from_url=True)
    assert message.endswith("that --tls-fingerprint names")


def test_a_maildir_that_cannot_be(home: Path) -> None:
    (home / "file").write_text("x")
    (home / "link").symlink_to(home / "nowhere")
    text = (home / "c.toml").read_text()
    no_directory = "file is not a directory"
    for place, says in (("file", no_directory), ("file/below", no_directory), ("link", "link is a link to no directory")):
        (home / "c.toml").write_text(text.replace(f'"{home}/work"', f'"{home}/{place}"'))
        for words in (["sync"], ["sync", "-n"], ["status"], ["check"]):
            done = run(home, *words, "work")
            assert done.returncode == 74, done.stderr
            assert says in done.stdout + done.stderr
            assert "`maildir`" in done.stdout + done.stderr
            assert (done.stdout + done.stderr).count(says) == 1


def test_what_is_in_the_way_of_a_backup_is_its_directory(home: Path) -> None:
    done = run(home, "backup", "work", str(home / "c.toml"))
    assert done.returncode == 74
    assert done.stderr.endswith("c.toml is not a directory\n  move it out of the way, or choose another DIR\n")


def test_a_damaged_state_and_an_unreadable_memory_are_told_with_what_comes_of_it(home: Path) -> None:
    run(home, "sync", "work")
    (home / "work/.fetchmail-py.sqlite3").write_bytes(b"garbage" * 999)
    for words in (["status"], ["check"], ["sync", "-n"]):
        done = run(home, *words, "work")
        assert done.returncode == 74
        assert "rebuilds it from the Maildir and the server" in done.stdout + done.stderr
    assert run(home, "sync", "work").returncode == 0
    (home / "state/fetchmail-py/work.json").unlink()
    (home / "state/fetchmail-py/work.json").mkdir()
    done = run(home, "sync", "work")
    assert done.returncode == 74
    assert "XDG_STATE_HOME" in done.stderr


def test_a_mailbox_that_is_not_there_is_no_error_of_the_account(home: Path) -> None:
    run(home, "sync", "work")
    assert run(home, "sync", "work/Nope").returncode == 2
    assert "Nope" not in run(home, "status", "work").stdout


def test_two_configurations_with_an_account_of_the_same_name(home: Path) -> None:
    run(home, "sync", "work")
    text = (home / "c.toml").read_text()
    (home / "c.toml").write_text(text.replace(f'"{home}/work"', f'"{home}/other"'))
    done = run(home, "sync", "work")
    assert done.returncode == 3
    assert f"then in {home}/work" in done.stderr
    assert "another configuration has an account of the same name: give one of the two another name" in done.stderr
    assert run(home, "sync", "work", "--fresh").returncode == 0
    (home / "c.toml").write_text(text)
    for words in (["status"], ["check"], ["-v", "sync"]):
        done = run(home, *words, "work")
        assert f"is of {home}/other" in done.stdout + done.stderr
        assert "give one of the two another name" in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("words", "status", "kind"),
    [
        (["status", "nobody"], 2, "usage"),
        (["check", "nobody"], 2, "usage"),
        (["sync", "isp/INBOX"], 2, "usage"),
        (["sync", "--no-such-option"], 2, "usage"),
        (["nonsense"], 2, "usage"),
        (["--config", "/nonexistent/config.toml", "status"], 78, "config"),
        (["sync", "work/Nope"], 2, "usage"),
    ],
)
def test_whatever_goes_wrong_is_an_object_too(home: Path, words: list[str], status: int, kind: str) -> None:
    done = run(home, "--json", *words)
    assert done.returncode == status, done.stderr
    (shown,) = (json.loads(line) for line in done.stdout.splitlines())
    assert shown["ok"] is False
    assert shown["account"] == ("work" if "work/Nope" in words else None)
    assert shown["error"].keys() == {"kind", "message", "hint", "mailbox"}
    assert shown["error"]["kind"] == kind
    assert shown["error"]["message"]


def test_version_and_help(home: Path) -> None:
    assert run(home, "--version").stdout.startswith("fetchmail-py ")
    helped = run(home, "--help")
    assert helped.returncode == 0
    for command in ("sync", "backup", "status", "check", "login", "logout"):
        assert command in helped.stdout


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-", "> /dev/full", "2> /dev/full"])
def test_streams_that_are_closed_or_full(home: Path, closed: str) -> None:
    script = f"exec {sys.executable} -m fetchmail_py sync work isp --json {closed}"
    environment = {"P": "secret", "FETCHMAIL_PY_CONFIG": str(home / "c.toml"), "XDG_STATE_HOME": str(home / "state")}
    environment["PYTHONPATH"] = str(Path(__file__).parent.parent.parent)
    done = subprocess.run(["/bin/sh", "-c", script], env=environment, capture_output=True, check=False)
    assert done.returncode == (74 if closed == "> /dev/full" else 0), done.stderr
    assert b"Traceback" not in done.stderr
    assert len(list((home / "work/INBOX/new").iterdir())) == 12


def test_what_is_wrong_is_told_where_the_result_cannot_be(home: Path) -> None:
    script = f"exec {sys.executable} -m fetchmail_py sync nobody --json > /dev/full"
    environment = {"FETCHMAIL_PY_CONFIG": str(home / "c.toml"), "XDG_STATE_HOME": str(home / "state")}
    environment["PYTHONPATH"] = str(Path(__file__).parent.parent.parent)
    done = subprocess.run(["/bin/sh", "-c", script], env=environment, capture_output=True, check=False)
    assert done.returncode == 2, done.stderr
    assert b"Traceback" not in done.stderr
    assert b"nobody" in done.stderr


def test_a_run_imports_only_what_it_needs(home: Path) -> None:
    run(home, "sync", "work", "isp")
    done = run(home, "sync", "work", "isp", importtime=True)
    assert done.returncode == 0
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()}
    assert "typer" in imported
    assert not imported & {"rich", "mailparser", "keyring", "pydantic", "email_validator", "asyncio", "tempfile"}


def test_options_may_stand_behind_the_command() -> None:
    assert globals_first(["sync", "a", "-v", "--json"]) == ["-v", "--json", "sync", "a"]
    assert globals_first(["backup", "--", "-v", "d"]) == ["backup", "--", "-v", "d"]
    assert globals_first(["sync", "--config", "-v", "a"]) == ["--config", "-v", "sync", "a"]
    assert globals_first(["sync", "--config=f", "--config"]) == ["--config=f", "sync", "--config"]


def test_nothing_steers_the_terminal() -> None:
    assert safe("a\x1b[2Jb\r\n\u202ec\udcff") == "a\\x1b[2Jb\\r\\n\\u202ec\\udcff"
    assert safe("Grüße 日本") == "Grüße 日本"


@pytest.mark.parametrize(("octets", "text"), [(0, "0 B"), (999, "999 B"), (1000, "1.0 KB"), (123456, "123 KB"), (5e9, "5.0 GB")])
def test_sizes(octets: float, text: str) -> None:
    assert size_of(octets) == text
