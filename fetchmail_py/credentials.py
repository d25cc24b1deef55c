"""Where passwords come from: the configured source, else systemd credentials, the keyring, a prompt on a terminal."""

from __future__ import annotations

import os
import stat
import sys
import threading
import time
from collections.abc import Callable, Mapping

from fetchmail_py.config import Account
from fetchmail_py.errors import CredentialError

SERVICE = "fetchmail-py"
COMMAND_TIMEOUT = 60.0
"""Seconds a password command may take: time to unlock a password store by hand."""
POLL = 0.05
"""Seconds between two looks whether the command has ended."""
KEYRING_TIMEOUT = 10.0
"""Seconds a keyring may take where there is nobody to unlock it."""
UNLOCK_TIMEOUT = 120.0
"""Seconds it may take where there is a person."""
MAX_SECRET = 65536

LOGIN_OR_SOURCE = "set password_command, password_file or password_env, or store it with: fetchmail-py login {account}"
"""The remedy where nothing says where the password is."""
_FIRST_LINE = "its first line must be the password"
_BY_HAND = "try it in a shell: it must end with status 0 and print the password on its first line; nothing can be typed in here"


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


def may_ask(account: Account) -> bool:
    """Whether the account's password may have to be asked for: the configuration does not say where it is."""
    sources = (account.password, account.password_command, account.password_file, account.password_env)
    return account.auth != "external" and all(source is None for source in sources)


def _find(account: Account, interactive: bool, environ: Mapping[str, str]) -> str:
    if account.password is not None:
        return account.password
    if account.password_command is not None:
        return _from_command(account.password_command)
    if account.password_file is not None:
        return _from_file(account.password_file, "password_file", check_mode=True)
    if account.password_env is not None:
        name = account.password_env
        how = f"set it where fetchmail-py is started (export {name}; a cron job or a service has none of your shell's variables)"
        if name not in environ:
            raise CredentialError(f"password_env: the environment variable {name} is not set", source="password_env", hint=how)
        return _checked(environ[name], f"password_env, the variable {name},", how)
    found = _from_systemd(account, environ)
    if found is None:
        found, trouble = _from_keyring(account, interactive=interactive)
        if found is None and interactive:
            found = _from_terminal(account)
        if found is None:
            raise CredentialError(
                f"no password for {account.user} at {account.host}{trouble}", hint=LOGIN_OR_SOURCE.format(account=account.name)
            )
    return found


def _checked(secret: str, source: str, hint: str) -> str:
    """The first line, which must be something."""
    if "\0" in secret:
        raise CredentialError(f"the password from {source} contains a NUL character", source=source, hint=hint)
    first = secret.split("\n", 1)[0].removesuffix("\r")
    if not first:
        what = "begins with an empty line" if secret else "is empty"
        raise CredentialError(f"the password from {source} {what}", source=source, hint=hint)
    return first


def _from_command(command: tuple[str, ...] | str) -> str:
    # Of a line for the shell nothing is shown: the password may stand in it.
    shown = "the command" if isinstance(command, str) else command[0]
    status, output, complaint = _run(command, shown)
    if status != 0:
        lines = complaint.decode("utf-8", "replace").strip().splitlines()
        said = f": {lines[-1][:200]}" if lines else ""
        how = f"status {status}" if status > 0 else f"signal {-status}"
        raise CredentialError(f"password_command: {shown} ended with {how}{said}", source="password_command", hint=_BY_HAND)
    return _checked(output.decode("utf-8", "surrogateescape"), "password_command", _BY_HAND)


def _run(command: tuple[str, ...] | str, shown: str) -> tuple[int, bytes, bytes]:
    """Exit status, standard output, and the end of standard error.

    What the command leaves running, such as an agent, may hold both open: it counts as done when its own process has ended.
    """
    import contextlib  # noqa: PLC0415
    import selectors  # noqa: PLC0415
    import signal  # noqa: PLC0415
    import subprocess  # noqa: PLC0415

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
        raise CredentialError(
            f"password_command: cannot run {shown}: {error.strerror}",
            source="password_command",
            hint="a list is run as it stands, the program first, without ~ and $: write its whole path, or a text for the shell",
        ) from error
    assert process.stdout is not None
    assert process.stderr is not None
    said = {process.stdout: b"", process.stderr: b""}
    deadline = time.monotonic() + COMMAND_TIMEOUT
    try:
        with selectors.DefaultSelector() as selector:
            for stream in said:
                selector.register(stream, selectors.EVENT_READ, stream)
            while selector.get_map() or process.poll() is None:
                if time.monotonic() > deadline:
                    raise CredentialError(
                        f"password_command: no answer in {COMMAND_TIMEOUT:g} seconds", source="password_command", hint=_BY_HAND
                    )
                ended = process.poll() is not None
                ready = selector.select(0 if ended else POLL)
                for key, _ in ready:
                    octets = os.read(key.fd, MAX_SECRET)
                    said[key.data] = (said[key.data] + octets)[-MAX_SECRET - 1 :]
                    if not octets:
                        selector.unregister(key.fileobj)
                if len(said[process.stdout]) > MAX_SECRET:
                    raise CredentialError(
                        "password_command: it printed more than a password", source="password_command", hint=_BY_HAND
                    )
                if ended and not ready:
                    break
        return process.wait(), said[process.stdout], said[process.stderr]
    finally:
        if process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        process.stdout.close()
        process.stderr.close()


def _from_file(path: str, source: str, *, check_mode: bool) -> str:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            if check_mode and os.fstat(file.fileno()).st_mode & (stat.S_IRGRP | stat.S_IROTH):
                raise CredentialError(f"{source}: {path} can be read by others", source=source, hint=f"chmod 600 {path}")
            return _checked(file.read(MAX_SECRET), f"{source}, {path},", _FIRST_LINE)
    except OSError as error:
        hint = f"write the password into that file, as its first line, and chmod 600 it; or correct {source}"
        if isinstance(error, PermissionError):
            hint = f"let whoever runs fetchmail-py own it: chown, then chmod 600 {path}"
        raise CredentialError(f"{source}: cannot read {path}: {error.strerror}", source=source, hint=hint) from error


def _from_systemd(account: Account, environ: Mapping[str, str]) -> str | None:
    """systemd's LoadCredential= and SetCredential= (systemd.exec(5)): a file named for the account."""
    directory = environ.get("CREDENTIALS_DIRECTORY")
    if directory:
        for name in (account.name, f"{SERVICE}.{account.name}"):
            path = f"{directory}/{name}"
            if os.path.exists(path):
                return _from_file(path, "CREDENTIALS_DIRECTORY", check_mode=False)
    return None


def keyring_name(account: Account) -> str:
    """The name under which the keyring has the password."""
    return f"{account.user}@{account.host}"


def _from_keyring(account: Account, *, interactive: bool) -> tuple[str | None, str]:
    """The password, and what kept us from looking, if something did."""
    import keyring  # noqa: PLC0415 - takes longer to import than all the rest
    from keyring.errors import NoKeyringError  # noqa: PLC0415

    patience = UNLOCK_TIMEOUT if interactive else KEYRING_TIMEOUT
    try:
        return _in_time(lambda: keyring.get_password(SERVICE, keyring_name(account)), patience) or None, ""
    except NoKeyringError:
        return None, ""
    except TimeoutError:
        return None, f" (the keyring: no answer in {patience:g} seconds; is it locked?)"
    except Exception as error:  # noqa: BLE001 - backends let through whatever their libraries raise
        return None, f" (the keyring: {str(error) or type(error).__name__})"


def _in_time(call: Callable[[], str | None], seconds: float) -> str | None:
    """What the call gives or raises; TimeoutError. A locked keyring waits for a person, who may not be there."""
    done: list[tuple[str | None, Exception | None]] = []

    def work() -> None:
        try:
            done.append((call(), None))
        except Exception as error:  # noqa: BLE001 - raised where it was asked for
            done.append((None, error))

    thread = threading.Thread(target=work, name="keyring", daemon=True)
    thread.start()
    thread.join(seconds)
    if not done:
        raise TimeoutError
    found, error = done[0]
    if error is not None:
        raise error
    return found


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
    from keyring.errors import NoKeyringError  # noqa: PLC0415

    checked = _checked(password, "the terminal or standard input", "it is asked for on a terminal, else read from standard input")
    try:
        keyring.set_password(SERVICE, keyring_name(account), checked)
    except NoKeyringError as error:
        raise CredentialError(
            "this machine has no keyring", source="keyring", hint="use password_command, password_file or password_env"
        ) from error
    except Exception as error:  # backends let through whatever their libraries raise
        raise CredentialError(f"the keyring refused: {str(error) or type(error).__name__}", source="keyring") from error


def remove_password(account: Account) -> bool:
    """Takes the password out of the keyring; False if there was none. Raises CredentialError."""
    import keyring  # noqa: PLC0415
    from keyring.errors import NoKeyringError, PasswordDeleteError  # noqa: PLC0415

    try:
        keyring.delete_password(SERVICE, keyring_name(account))
    except (PasswordDeleteError, NoKeyringError):
        return False
    except Exception as error:  # backends let through whatever their libraries raise
        raise CredentialError(f"the keyring refused: {str(error) or type(error).__name__}", source="keyring") from error
    return True
