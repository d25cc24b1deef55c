"""The command against Dovecot: every message octet for octet, every mode, both protocols, good days and bad."""

from __future__ import annotations

import hashlib
import itertools
import os
import signal
import subprocess
import time
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest

from fetchmail_py.model import MessageKey
from fetchmail_py.store.content import read_wire
from fetchmail_py.store.state import FILE_NAME, StateDb
from tests.live.conftest import Shell
from tests.live.dovecot import Dovecot, Mail
from tests.servers.mails import AWKWARD, mails

BOXES = ("INBOX", "Archive/2024.old", "Ünïcödé & mehr", "A%b 'c'", "[Gmail]/Sent Mail", "CUR", "a/b/c/d")
_users = (f"user{number}" for number in itertools.count())


@pytest.fixture
def user(dovecot: Dovecot) -> str:
    """A user with mail in every kind of mailbox, awkward mail included."""
    name = next(_users)
    for index, box in enumerate(BOXES):
        awkward = [data for data in AWKWARD.values() if data and b"\0" not in data] if index < 2 else []
        dovecot.deliver(
            name,
            box,
            [
                Mail(data, "S" if number % 2 else "", 1_700_000_000 + number)
                for number, data in enumerate([*mails(40, index), *awkward])
            ],
        )
    return name


def wire(root: Path) -> Counter[bytes]:
    """Every message below an account's directory, as it was on the wire."""
    with closing(StateDb.open_to_read(str(root / FILE_NAME))) as state:
        ends = state.line_ends()
    found: Counter[bytes] = Counter()
    for path in root.rglob("*"):
        if path.parent.name in {"new", "cur"} and path.is_file():
            key = MessageKey(path.name.partition(":")[0])
            found[b"".join(read_wire(str(path), ends[key]))] += 1
        assert path.parent.name != "tmp" or not path.is_file(), f"left in tmp: {path}"
    return found


def at_server(server: Dovecot, user: str) -> Counter[bytes]:
    """Every message at the server, by an independent client."""
    return Counter(data for box in BOXES for data in server.messages(user, box).values())


def imap(shell: Shell, user: str, mode: str, extra: str = "") -> Path:
    shell.configure(
        f'[accounts.work]\nport = IMAPS_PORT\nuser = "{user}"\nmode = "{mode}"\nmaildir = "~/Mail/work"\n{extra}\n'
    )
    return shell.root / "Mail/work"


@pytest.mark.parametrize("layout", ["fs", "maildir++"])
def test_backup_octet_for_octet(shell: Shell, user: str, layout: str) -> None:
    root = imap(shell, user, "backup", f'layout = "{layout}"')
    result = shell.run("sync")
    assert (result.status, result.out, result.err) == (0, "", "")
    assert wire(root) == at_server(shell.server, user)
    result = shell.run("sync", "--json")
    assert result.json["downloaded"] == 0
    assert result.json["mailboxes"] == len(BOXES)


def test_mirror_follows_everything(shell: Shell, user: str) -> None:
    root = imap(shell, user, "mirror")
    assert shell.run("sync").status == 0
    with shell.server.imap(user) as client:
        client.select("INBOX")
        client.store("1:5", "+FLAGS", r"(\Flagged $Work)")
        client.uid("MOVE", "10:14", '"Archive/2024.old"')
        client.store("20:22", "+FLAGS", r"(\Deleted)")
        client.expunge()
    shell.server.deliver(user, "INBOX", [Mail(b"Subject: new\r\n\r\nnew\r\n")])
    planned = shell.run("sync", "--dry-run")
    assert planned.status == 0
    assert planned.out.count("move UID") == 5
    report = shell.run("sync", "--json").json
    assert report["ok"]
    assert (report["downloaded"], report["moved_local"], report["deleted_local"], report["flags_pulled"]) == (1, 5, 3, 5)
    assert wire(root) == at_server(shell.server, user)
    flagged = [path for path in (root / "INBOX/cur").iterdir() if path.name.partition(":2,")[2].startswith("F")]
    assert len(flagged) == 5
    assert all("a" in path.name.partition(":2,")[2] for path in flagged)
    assert shell.run("sync", "--json").json["downloaded"] == 0


def test_offline_empties_the_server(shell: Shell, user: str) -> None:
    root = imap(shell, user, "offline")
    before = at_server(shell.server, user)
    report = shell.run("sync", "--json").json
    assert report["deleted_remote"] == before.total()
    assert at_server(shell.server, user).total() == 0
    assert wire(root) == before


@pytest.mark.parametrize("tls", ["implicit", "starttls"])
@pytest.mark.parametrize("auth", ["auto", "plain", "login", "cram-md5", "scram-sha-1", "scram-sha-256"])
def test_every_way_in(shell: Shell, tls: str, auth: str) -> None:
    user = "user39"
    ports = ("IMAPS_PORT", "POP3S_PORT") if tls == "implicit" else ("IMAP_PORT", "POP3_PORT")
    shell.configure(
        f'auth = "{auth}"\ntls = "{tls}"\n'
         f'[accounts.i]\nport = {ports[0]}\nuser = "{user}"\nmode = "backup"\nmaildir = "~/i"\n'
         f'[accounts.p]\nprotocol = "pop3"\nport = {ports[1]}\nuser = "{user}"\nmaildir = "~/p"\n'
    )
    result = shell.run("check")
    assert result.status == 0, result.out
    assert result.out.count("ok   login") == 2


def test_pop3_download_and_delete(shell: Shell, user: str) -> None:
    shell.configure(f'[accounts.isp]\nprotocol = "pop3"\nport = POP3S_PORT\nuser = "{user}"\nmaildir = "~/isp"\n')
    before = Counter(shell.server.messages(user).values())
    report = shell.run("sync", "--json").json
    assert (report["downloaded"], report["deleted_remote"]) == (before.total(), before.total())
    assert wire(shell.root / "isp") == Counter(
        {data if data.endswith(b"\r\n") else data + b"\r\n": count for data, count in before.items()}
    )
    assert shell.server.messages(user) == {}
    assert shell.run("sync", "--json").json["downloaded"] == 0


def test_pop3_keep(shell: Shell, user: str) -> None:
    shell.configure(
        f'[accounts.isp]\nprotocol = "pop3"\nport = POP3S_PORT\nuser = "{user}"\nmaildir = "~/isp"\nkeep = "forever"\n'
    )
    count = len(shell.server.messages(user))
    assert shell.run("sync", "--json").json["downloaded"] == count
    assert shell.run("sync", "--json").json["downloaded"] == 0
    assert len(shell.server.messages(user)) == count


def test_backup_of_a_url_goes_on_where_it_was_killed(shell: Shell, user: str) -> None:
    shell.server.deliver(user, "INBOX", [Mail(data) for data in mails(1500, seed=77)])
    url = f"imaps://{user}@localhost:{shell.server.imaps_port}"
    words = ("backup", url, "copy", "--password-env", "MAIL_PASSWORD", "--ca-file", str(shell.server.ca_file))
    for delay in (0.35, 0.5, 0.7, 0.9):
        process = subprocess.Popen(
            shell.command(*words), env=shell.environment, cwd=shell.root, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        try:
            process.wait(delay)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
        process.communicate()
    result = shell.run(*words)
    assert result.status == 0, result.err
    assert wire(shell.root / "copy") == at_server(shell.server, user)


def test_interrupted_run_says_so_and_ends_soon(shell: Shell, user: str) -> None:
    shell.server.deliver(user, "INBOX", [Mail(data) for data in mails(3000, seed=78)])
    root = imap(shell, user, "backup")
    process = subprocess.Popen(
        shell.command("sync"), env=shell.environment, cwd=shell.root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    while not any((root / "INBOX" / subdir).is_dir() and any((root / "INBOX" / subdir).iterdir()) for subdir in ("new", "cur")):
        if process.poll() is not None:
            break
        os.sched_yield()
    started = time.monotonic()
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate()
    assert time.monotonic() - started < 10
    if process.returncode == 0:
        pytest.skip("it was faster than the signal")
    assert process.returncode == 143, err
    assert "interrupted" in err
    assert shell.run("sync").status == 0
    assert wire(root) == at_server(shell.server, user)


def test_a_second_run_meanwhile_is_refused(shell: Shell, user: str) -> None:
    root = imap(shell, user, "backup")
    assert shell.run("sync").status == 0
    with subprocess.Popen(
        ["flock", "-x", str(root / ".fetchmail-py.lock"), "cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdin is not None
        assert holder.stdout is not None
        holder.stdin.write(b"x\n")
        holder.stdin.flush()
        assert holder.stdout.readline() == b"x\n"
        result = shell.run("sync")
        holder.communicate()
    assert result.status == 75
    assert "is at work on" in result.err


class TestRefusals:
    def test_wrong_password(self, shell: Shell, user: str) -> None:
        imap(shell, user, "backup")
        result = shell.run("sync", MAIL_PASSWORD="not this one")
        assert result.status == 77
        assert "refused the login" in result.err
        assert "not this one" not in result.err

    def test_untrusted_certificate(self, shell: Shell, user: str) -> None:
        imap(shell, user, "backup", 'ca_file = "/etc/ssl/certs/ca-certificates.crt"')
        result = shell.run("sync")
        assert result.status == 77
        assert "not trusted" in result.err

    def test_certificate_of_another_host(self, shell: Shell, user: str) -> None:
        imap(shell, user, "backup", 'host = "127.0.0.2"\nallow_cleartext = false')
        assert shell.run("sync").status in {69, 77}

    def test_fingerprint(self, shell: Shell, user: str) -> None:
        good = hashlib.sha256(shell.server.certificate).hexdigest()
        imap(shell, user, "backup", f'tls_fingerprint = "sha256:{good}"\nca_file = "/dev/null"')
        assert shell.run("sync").status == 0
        imap(shell, user, "backup", f'tls_fingerprint = "sha256:{"0" * 64}"')
        result = shell.run("sync")
        assert result.status == 77
        check = shell.run("check")
        assert f"sha256:{good}" in check.out

    def test_no_starttls(self, shell: Shell, user: str) -> None:
        imap(shell, user, "backup")
        shell.configure(
            '[accounts.x]\nport = IMAPS_PORT\ntls = "starttls"\ntimeout = "2s"\n'
            f'user = "{user}"\nmode = "backup"\nmaildir = "~/x"\n'
        )
        assert shell.run("sync").status in {75, 76}

    def test_nobody_listens(self, shell: Shell, user: str) -> None:
        imap(shell, user, "backup", 'host = "localhost"')
        shell.configure(
            f'[accounts.x]\nport = 1\nuser = "{user}"\nmode = "backup"\nmaildir = "~/x"\n'
            f'[accounts.work]\nport = IMAPS_PORT\nuser = "{user}"\nmode = "backup"\nmaildir = "~/w"\n'
        )
        result = shell.run("sync", "--json")
        assert result.status == 69, "the first failing account's"
        assert [line.count('"ok": true') for line in result.out.splitlines()] == [0, 1]


def test_status(shell: Shell, user: str) -> None:
    imap(shell, user, "backup")
    assert "never synchronised" in shell.run("status").out
    shell.run("sync")
    status = shell.run("status", "--json").json
    assert status["messages"] == at_server(shell.server, user).total()
    assert {mailbox["name"] for mailbox in status["mailboxes"]} == set(BOXES)
