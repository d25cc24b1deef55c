"""The user's own command after new mail (`on_new`)."""

from __future__ import annotations

import os
import signal
import subprocess
from contextlib import suppress

from fetchmail_py.config import Account

TIMEOUT = 600.0
"""Seconds the command may take."""


def run_on_new(account: Account, downloaded: int) -> str | None:
    """Runs the command once, with FETCHMAIL_PY_ACCOUNT, FETCHMAIL_PY_MAILDIR and FETCHMAIL_PY_NEW (a count) in its environment.

    What it prints goes to standard error. Returns what went wrong, or None. The mail is stored already, whatever it does.
    """
    command = account.on_new
    if command is None:
        return None
    environment = {key: value for key, value in os.environ.items() if key != account.password_env}
    environment |= {
        "FETCHMAIL_PY_ACCOUNT": account.name,
        "FETCHMAIL_PY_MAILDIR": account.maildir,
        "FETCHMAIL_PY_NEW": str(downloaded),
    }
    try:
        process = subprocess.Popen(
            command,
            shell=isinstance(command, str),
            stdin=subprocess.DEVNULL,
            stdout=2 if _is_open(2) else subprocess.DEVNULL,
            env=environment,
            start_new_session=True,
        )
    except OSError as error:
        return f"on_new could not be run: {error.strerror}"
    try:
        status = process.wait(TIMEOUT)
    except subprocess.TimeoutExpired:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return f"on_new did not end in {TIMEOUT:.0f} seconds and was stopped"
    return None if status == 0 else f"on_new ended with status {status}"


def _is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True
