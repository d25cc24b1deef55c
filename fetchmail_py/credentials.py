"""Where passwords come from: the configured source, else systemd credentials, the keyring, a prompt on a terminal."""

from __future__ import annotations

import os
import stat
import sys
import threading
from collections.abc import Callable, Mapping

from fetchmail_py.config import Account
from fetchmail_py.errors import CredentialError

SERVICE = "fetchmail-py"
COMMAND_TIMEOUT = 60.0
"""Seconds a password command may take: time to unlock a password store by hand."""
MAX_SECRET = 65536

_WAYS = "set password_command, password_file or password_env, or store it with: fetchmail-py login"


class _Once:
    """A password that is looked for when it is first needed, once, however many connections need it. Never shown."""

    def __init__(self, find: Callable[[], str]) -> None:
        self._find = find
        self._lock = threading.Lock()
        self._found: str | None = None
        self._error: CredentialError | None = None

    def __repr__(self) -> str:
        return "<password>"

    def __call__(self) -> str:
        with self._lock:
            if self._error is not None:
                raise self._error
            if self._found is None:
                try:
                    self._found = self._find()
                except CredentialError as error:
                    self._error = error
                    raise
            return self._found


def secret_for(
    account: Account, *, interactive: bool, environ: Mapping[str, str] = os.environ
) -> Callable[[], str]:
    """What gives the account's password; raises CredentialError when called. `interactive`: a person may be asked."""
    return _Once(lambda: _find(account, interactive, environ))


def _find(account: Account, interactive: bool, environ: Mapping[str, str]) -> str:
    if account.password is not None:
        return account.password
    if account.password_command is not None:
        return _from_command(account.password_command)
    if account.password_file is not None:
        return _from_file(account.password_file, check_mode=True)
    if account.password_env is not None:
        value = environ.get(account.password_env)
        if not value:
            raise CredentialError(f"the environment variable {account.password_env} is not set", source="password_env")
        return _checked(value, "password_env")
    found = _from_systemd(account, environ)
    if found is None:
        found, trouble = _from_keyring(account)
        if found is None and interactive:
            found = _from_terminal(account)
        if found is None:
            raise CredentialError(
                f"no password for {account.user} at {account.host}{trouble}", hint=f"{_WAYS} {account.name}"
            )
    return found


def _checked(secret: str, source: str) -> str:
    """The first line, which must be something."""
    if "\0" in secret:
        raise CredentialError(f"the password from {source} contains a NUL character", source=source)
    first = secret.split("\n", 1)[0].removesuffix("\r")
    if not first:
        raise CredentialError(f"the password from {source} is empty", source=source)
    return first


def _from_command(command: tuple[str, ...] | str) -> str:
    import contextlib  # noqa: PLC0415
    import signal  # noqa: PLC0415
    import subprocess  # noqa: PLC0415

    shown = command if isinstance(command, str) else command[0]
    try:
        process = subprocess.Popen(
            command,
            shell=isinstance(command, str),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    except OSError as error:
        raise CredentialError(f"password_command: cannot run {shown}: {error.strerror}", source="password_command") from error
    try:
        output, complaint = process.communicate(timeout=COMMAND_TIMEOUT)
    except subprocess.TimeoutExpired as error:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        raise CredentialError(
            f"password_command: no answer in {COMMAND_TIMEOUT:.0f} seconds", source="password_command"
        ) from error
    if process.returncode != 0:
        lines = complaint.decode("utf-8", "replace").strip().splitlines()
        said = f": {lines[-1][:200]}" if lines else ""
        how = f"status {process.returncode}" if process.returncode > 0 else f"signal {-process.returncode}"
        raise CredentialError(f"password_command: {shown.split()[0]} ended with {how}{said}", source="password_command")
    if len(output) > MAX_SECRET:
        raise CredentialError("password_command: it printed more than a password", source="password_command")
    return _checked(output.decode("utf-8", "surrogateescape"), "password_command")


def _from_file(path: str, *, check_mode: bool) -> str:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            if check_mode and os.fstat(file.fileno()).st_mode & (stat.S_IRGRP | stat.S_IROTH):
                raise CredentialError(
                    f"{path} can be read by others", source="password_file", hint=f"chmod 600 {path}"
                )
            return _checked(file.read(MAX_SECRET), path)
    except OSError as error:
        raise CredentialError(f"cannot read {path}: {error.strerror}", source="password_file") from error


def _from_systemd(account: Account, environ: Mapping[str, str]) -> str | None:
    """systemd's LoadCredential= and SetCredential= (systemd.exec(5)): a file named for the account."""
    directory = environ.get("CREDENTIALS_DIRECTORY")
    if directory:
        for name in (account.name, f"{SERVICE}.{account.name}"):
            path = f"{directory}/{name}"
            if os.path.exists(path):
                return _from_file(path, check_mode=False)
    return None


def keyring_name(account: Account) -> str:
    """The name under which the keyring has the password."""
    return f"{account.user}@{account.host}"


def _from_keyring(account: Account) -> tuple[str | None, str]:
    """The password, and what kept us from looking, if something did."""
    import keyring  # noqa: PLC0415 - takes longer to import than all the rest
    from keyring.errors import KeyringError, NoKeyringError  # noqa: PLC0415

    try:
        return keyring.get_password(SERVICE, keyring_name(account)), ""
    except NoKeyringError:
        return None, ""
    except (KeyringError, OSError, RuntimeError) as error:
        return None, f" (the keyring: {error})"


def _from_terminal(account: Account) -> str | None:
    import getpass  # noqa: PLC0415

    if sys.stdin is None or not sys.stdin.isatty():
        return None
    try:
        return getpass.getpass(f"Password for {account.user} at {account.host}: ") or None
    except EOFError:
        return None


def store_password(account: Account, password: str) -> None:
    """Puts a password into the keyring. Raises CredentialError."""
    import keyring  # noqa: PLC0415
    from keyring.errors import KeyringError, NoKeyringError  # noqa: PLC0415

    try:
        keyring.set_password(SERVICE, keyring_name(account), _checked(password, "the terminal"))
    except NoKeyringError as error:
        raise CredentialError(
            "this machine has no keyring", source="keyring", hint="use password_command, password_file or password_env"
        ) from error
    except (KeyringError, OSError, RuntimeError) as error:
        raise CredentialError(f"the keyring refused: {error}", source="keyring") from error


def remove_password(account: Account) -> bool:
    """Takes the password out of the keyring; False if there was none. Raises CredentialError."""
    import keyring  # noqa: PLC0415
    from keyring.errors import KeyringError, NoKeyringError, PasswordDeleteError  # noqa: PLC0415

    try:
        keyring.delete_password(SERVICE, keyring_name(account))
    except (PasswordDeleteError, NoKeyringError):
        return False
    except (KeyringError, OSError, RuntimeError) as error:
        raise CredentialError(f"the keyring refused: {error}", source="keyring") from error
    return True
