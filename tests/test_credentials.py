"""Passwords: every source, their order, once only, and never shown."""

from __future__ import annotations

import getpass
import io
import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keyring
import pytest
from keyring.backend import KeyringBackend
from keyring.errors import KeyringLocked, PasswordDeleteError

from fetchmail_py import credentials
from fetchmail_py.config import Account
from fetchmail_py.credentials import may_ask, remove_password, secret_for, store_password
from fetchmail_py.errors import CredentialError

ACCOUNT = Account(name="work", protocol="imap", host="h", port=993, tls="implicit", user="ann", maildir="/m")
SECRET = "correct horse"


class Drawer(KeyringBackend):
    """A keyring in memory."""

    priority = 1.0

    def __init__(self) -> None:
        self.passwords: dict[tuple[str, str], str] = {}
        self.locked = False
        self.answers = threading.Event()
        self.answers.set()

    def get_password(self, service: str, username: str) -> str | None:
        self.answers.wait()
        if self.locked:
            raise KeyringLocked("locked")
        return self.passwords.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        self.passwords[service, username] = password

    def delete_password(self, service: str, username: str) -> None:
        if self.passwords.pop((service, username), None) is None:
            raise PasswordDeleteError("none")


@pytest.fixture(autouse=True)
def drawer() -> Iterator[Drawer]:
    before = keyring.get_keyring()
    found = Drawer()
    keyring.set_keyring(found)
    yield found
    keyring.set_keyring(before)


def secret(account: Account, **environ: str) -> str:
    return secret_for(account, interactive=False, environ=environ)()


class TestCommand:
    @pytest.mark.parametrize(
        "command", [("printf", f"{SECRET}\\nsecond line\\n"), f"echo '{SECRET}' | cat", ("printf", f"{SECRET}\\r\\n")]
    )
    def test_first_line(self, command: tuple[str, ...] | str) -> None:
        assert secret(ACCOUNT._replace(password_command=command)) == SECRET

    @pytest.mark.parametrize(
        ("command", "words"),
        [
            (("false",), "status 1"),
            ("echo no such entry >&2; exit 3", "no such entry"),
            (("true",), "empty"),
            (("no-such-program-here",), "cannot run"),
            ("printf 'a\\0b'", "NUL"),
            ("yes | head -c 100000", "more than a password"),
        ],
    )
    def test_errors(self, command: tuple[str, ...] | str, words: str) -> None:
        with pytest.raises(CredentialError, match=words) as caught:
            secret(ACCOUNT._replace(password_command=command))
        remedy = "whole path" if words == "cannot run" else "try it in a shell"
        assert remedy in str(caught.value.hint)

    def test_one_that_hangs_is_killed_with_its_children(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(credentials, "COMMAND_TIMEOUT", 0.2)
        with pytest.raises(CredentialError, match="no answer"):
            secret(ACCOUNT._replace(password_command="cat < /dev/zero > /dev/null & cat < /dev/zero > /dev/null"))


    def test_what_it_leaves_running_is_not_waited_for(self, tmp_path: Path) -> None:
        line = f"tail -f /dev/null & echo $! > {tmp_path}/pid; echo '{SECRET}'"
        try:
            assert secret(ACCOUNT._replace(password_command=line)) == SECRET
        finally:
            os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)

    def test_a_line_for_the_shell_is_not_shown(self) -> None:
        with pytest.raises(CredentialError) as caught:
            secret(ACCOUNT._replace(password_command="TOKEN=hunter2 false"))
        assert "hunter2" not in str(caught.value)


def test_file(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text(SECRET + "\nnot this\n")
    file.chmod(0o644)
    account = ACCOUNT._replace(password_file=str(file))
    with pytest.raises(CredentialError, match="read by others") as caught:
        secret(account)
    assert "chmod 600" in str(caught.value.hint)
    file.chmod(0o600)
    assert secret(account) == SECRET
    with pytest.raises(CredentialError, match=r"^password_file: cannot read .*/no: No such file") as caught:
        secret(ACCOUNT._replace(password_file=str(tmp_path / "no")))
    assert "as its first line" in str(caught.value.hint)
    file.write_text("\n" + SECRET)
    with pytest.raises(CredentialError, match="begins with an empty line") as caught:
        secret(account)
    assert "first line must be the password" in str(caught.value.hint)


def test_environment() -> None:
    account = ACCOUNT._replace(password_env="MAIL")
    assert secret(account, MAIL=SECRET) == SECRET
    with pytest.raises(CredentialError, match="MAIL is not set") as caught:
        secret(account)
    assert "export MAIL" in str(caught.value.hint)
    with pytest.raises(CredentialError, match="MAIL, is empty"):
        secret(account, MAIL="")


def test_systemd_then_keyring_then_nothing(tmp_path: Path, drawer: Drawer) -> None:
    with pytest.raises(CredentialError, match="no password for ann at h") as caught:
        secret(ACCOUNT)
    assert "fetchmail-py login work" in str(caught.value.hint)
    store_password(ACCOUNT, SECRET)
    assert secret(ACCOUNT) == SECRET
    (tmp_path / "work").write_text("from systemd\n")
    assert secret(ACCOUNT, CREDENTIALS_DIRECTORY=str(tmp_path)) == "from systemd"
    assert remove_password(ACCOUNT)
    assert not remove_password(ACCOUNT)
    drawer.locked = True
    with pytest.raises(CredentialError, match="locked"):
        secret(ACCOUNT)


def test_a_keyring_that_waits_for_somebody_does_not_hang_a_cron_job(drawer: Drawer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(credentials, "KEYRING_TIMEOUT", 0.05)
    drawer.answers.clear()
    with pytest.raises(CredentialError, match="is it locked"):
        secret(ACCOUNT)
    drawer.answers.set()


def test_a_person_is_asked_last(drawer: Drawer, monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stdin", Terminal())
    monkeypatch.setattr(getpass, "getpass", lambda prompt: f"{prompt}?")
    assert secret_for(ACCOUNT, interactive=True, environ={})() == "Password for ann at h: ?"
    store_password(ACCOUNT, SECRET)
    assert secret_for(ACCOUNT, interactive=True, environ={})() == SECRET
    monkeypatch.setattr(sys, "stdin", None)
    drawer.passwords.clear()
    with pytest.raises(CredentialError, match="no password"):
        secret_for(ACCOUNT, interactive=True, environ={})()


@pytest.mark.parametrize(
    ("changes", "expected"),
    [({}, True), ({"auth": "external"}, False), ({"password_file": "/p"}, False), ({"password": ""}, False)],
)
def test_who_may_have_to_be_asked(changes: dict[str, Any], expected: bool) -> None:
    assert may_ask(ACCOUNT._replace(**changes)) is expected


def test_asked_for_once_by_many(tmp_path: Path) -> None:
    count = tmp_path / "count"
    found = secret_for(ACCOUNT._replace(password_command=f"echo x >> {count}; echo {SECRET}"), interactive=False)
    threads = [threading.Thread(target=found) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found() == SECRET
    assert count.read_text() == "x\n"


def test_never_shown() -> None:
    account = ACCOUNT._replace(password=SECRET)
    found = secret_for(account, interactive=False)
    assert found() == SECRET
    assert SECRET not in repr(found) + repr(account)
    with pytest.raises(CredentialError) as caught:
        secret(ACCOUNT._replace(password_command=f"echo {SECRET}; exit 1"))
    assert SECRET not in f"{caught.value.detail} {caught.value.hint}"
