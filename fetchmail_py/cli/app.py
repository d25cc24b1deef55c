"""The command line: the commands, and the one place that turns what is raised into an exit status."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import NoReturn

import typer

from fetchmail_py.cli.console import Console
from fetchmail_py.cli.explain import explain
from fetchmail_py.cli.invocation import WrongUsage, app
from fetchmail_py.errors import ExitStatus, FetchmailError, StoreError, UsageError
from fetchmail_py.report import status_of_error

_GLOBAL = {"-v", "--verbose", "-q", "--quiet", "--json"}


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Runs the program and ends the process with the exit status."""
    # Each registers its command with `app`.
    from fetchmail_py.cli import adopt, backup, check, login, status, sync  # noqa: F401, PLC0415

    words = globals_first(list(sys.argv[1:] if arguments is None else arguments))
    _exit(_run(words))


def _run(words: list[str]) -> int:
    verbose = bool({"-v", "--verbose"} & set(words))
    console = Console(verbose=verbose, quiet=False, as_json=False)
    try:
        result = app(args=words, prog_name="fetchmail-py", standalone_mode=False)
        return result if isinstance(result, int) else 0
    except typer.Exit as done:
        return done.exit_code
    except typer.Abort:
        return ExitStatus.SIGINT
    except WrongUsage as wrong:
        message, hint = explain(wrong.error)
        _tell_as_json(words, console, UsageError.kind, message, hint)
        console.error(wrong.error)
        return ExitStatus.USAGE
    except FetchmailError as error:
        _tell_as_json(words, console, error.kind, *explain(error))
        console.error(error)
        return status_of_error(error)
    except KeyboardInterrupt:
        return ExitStatus.SIGINT
    except Exception as defect:  # noqa: BLE001 - the last line: everything else is a defect, and says so
        return _usage_or_defect(defect, console, words)


def _usage_or_defect(defect: Exception, console: Console, words: list[str]) -> int:
    # Typer carries its own copy of Click, whose base exception it does not export: all of them know how to show themselves.
    show = getattr(defect, "show", None)
    if callable(show) and hasattr(defect, "exit_code"):
        _tell_as_json(words, console, UsageError.kind, getattr(defect, "message", "") or str(defect), None)
        show()
        return ExitStatus.USAGE
    console.defect(defect)
    return ExitStatus.DEFECT


def _tell_as_json(words: list[str], console: Console, kind: str, message: str, hint: str | None) -> None:
    """With --json, whoever reads standard output learns of what kept every account from its turn there."""
    if "--json" in words:
        shown = {"kind": kind, "message": message, "hint": hint, "mailbox": None}
        with suppress(StoreError):  # where nothing can be written there, standard error tells it all the same
            console.json({"account": None, "ok": False, "error": shown})


def globals_first(words: list[str]) -> list[str]:
    """Moves -v, -q, --json and --config in front of the command, so that they may stand behind it too."""
    end = words.index("--") if "--" in words else len(words)
    front, rest = [], []
    of_config = False
    for number, word in enumerate(words[:end], start=1):
        of_config, is_value = word == "--config" and number < end, of_config
        if is_value or of_config or word in _GLOBAL or word.startswith("--config="):
            front.append(word)
        else:
            rest.append(word)
    return front + rest + words[end:]


def _exit(status: int) -> NoReturn:
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            try:
                stream.flush()
            except (OSError, ValueError):
                # Whoever read it has gone: nothing can be said, and the interpreter must not try again at its end.
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    sys.exit(status)
