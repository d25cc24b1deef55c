"""The user's own command after new mail (`on_new`)."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from contextlib import suppress

from fetchmail_py.config import Account

TIMEOUT = 600.0
"""Seconds the command may take."""


def run_on_new(
    account: Account, downloaded: int, add_waker: Callable[[Callable[[], None]], Callable[[], None]]
) -> str | None:
    """Runs the command once, with FETCHMAIL_PY_ACCOUNT, FETCHMAIL_PY_MAILDIR and FETCHMAIL_PY_NEW (a count) in its environment.

    What it prints goes to standard error. `add_waker` has a function called when a signal asks the run to end, and returns what
    takes that off again: the command is then asked to end too. Returns what went wrong, or None. The mail is stored already,
    whatever the command does.
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
            stdout=2,
            env=environment,
            start_new_session=True,
        )
    except OSError as error:
        return f"on_new could not be run: {error.strerror}"

    def tell(number: int) -> None:
        # The whole group: a line for the shell may have started several.
        if process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, number)

    remove_waker = add_waker(lambda: tell(signal.SIGTERM))
    try:
        status = process.wait(TIMEOUT)
    except subprocess.TimeoutExpired:
        tell(signal.SIGKILL)
        process.wait()
        return f"on_new did not end in {TIMEOUT:.0f} seconds and was stopped"
    finally:
        remove_waker()
    if status < 0:
        return f"on_new was ended by signal {-status}"
    return None if status == 0 else f"on_new ended with status {status}"
