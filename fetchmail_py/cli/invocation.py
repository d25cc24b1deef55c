"""What stands before the command, and the application that the commands register with."""

from __future__ import annotations

import os
from typing import Annotated, NamedTuple

import typer

from fetchmail_py import __version__
from fetchmail_py.cli.console import Console
from fetchmail_py.config import Config, load
from fetchmail_py.errors import ConfigError, FetchmailError


class Invocation(NamedTuple):
    """What stands before the command."""

    config_file: str | None
    console: Console

    def load(self) -> Config:
        """The configuration. Raises ConfigError."""
        return load(self.config_file, os.environ)


class WrongUsage(Exception):
    """The command line asks for what there is not."""

    def __init__(self, error: FetchmailError) -> None:
        super().__init__(error.detail)
        self.error = error


app = typer.Typer(
    name="fetchmail-py",
    help="Fetch mail from POP3 and IMAP servers, durably, into a local Maildir: nothing lost, nothing twice.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"fetchmail-py {__version__}")
        raise typer.Exit


@app.callback()
def _globals(
    context: typer.Context,
    config: Annotated[
        str | None, typer.Option("--config", metavar="FILE", help="Configuration to use instead of the usual one.")
    ] = None,
    verbose: Annotated[bool, typer.Option("-v", "--verbose", help="Say more; show the traceback of a defect.")] = False,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Say only what went wrong, also on a terminal.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object per line.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and end.")
    ] = False,
) -> None:
    del version
    if verbose and quiet:
        raise typer.BadParameter("-v and -q exclude each other")
    context.obj = Invocation(config, Console(verbose=verbose, quiet=quiet, as_json=as_json))


def usage(error: ConfigError) -> WrongUsage:
    """A name on the command line that the configuration does not have."""
    return WrongUsage(error)
