"""`backup`: a copy of a whole remote account, also without any configuration."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from typing import Annotated

import typer

from fetchmail_py.cli.invocation import Invocation, app, usage
from fetchmail_py.cli.runs import Job, run_jobs
from fetchmail_py.cli.sources import account_from_url, as_backup, in_words_of_a_url, is_url, key_of_a_url
from fetchmail_py.config import Account, overlap
from fetchmail_py.errors import ConfigError
from fetchmail_py.sync.options import Options


@app.command()
def backup(
    context: typer.Context,
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="An account, or imaps://USER@HOST[:PORT][/MAILBOX], imap:// (STARTTLS), pop3s://, pop3:// (STLS).",
        ),
    ],
    directory: Annotated[str, typer.Argument(metavar="DIR", help="Where the copy is, or goes on.")],
    dry_run: Annotated[bool, typer.Option("-n", "--dry-run", help="Print the plan, change nothing.")] = False,
    full: Annotated[bool, typer.Option("--full", help="Look at every message on both sides.")] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="DIR is meant to be empty: download everything again.")] = False,
    password_command: Annotated[
        str | None, typer.Option("--password-command", metavar="LINE", help="A line for the shell that prints the password.")
    ] = None,
    password_file: Annotated[str | None, typer.Option("--password-file", metavar="FILE", help="Its first line.")] = None,
    password_env: Annotated[str | None, typer.Option("--password-env", metavar="NAME", help="A variable that has it.")] = None,
    auth: Annotated[str | None, typer.Option("--auth", help="How to log in, as in the configuration.")] = None,
    ca_file: Annotated[str | None, typer.Option("--ca-file", metavar="FILE", help="Trust this CA too.")] = None,
    tls_fingerprint: Annotated[
        str | None, typer.Option("--tls-fingerprint", metavar="sha256:…", help="Accept exactly this certificate.")
    ] = None,
    timeout: Annotated[str | None, typer.Option("--timeout", help='Silence after which the server is lost, "60s".')] = None,
) -> int:
    """Copy a whole remote account into DIR. Changes nothing at the server, deletes nothing here, goes on where it was cut."""
    invocation: Invocation = context.obj
    settings = {
        "password_command": password_command, "password_file": password_file, "password_env": password_env, "auth": auth,
        "ca_file": ca_file, "tls_fingerprint": tls_fingerprint, "timeout": timeout,
    }  # fmt: skip
    mailbox: str | None = None
    try:
        if is_url(source):
            account, mailbox = account_from_url(source, directory, **settings)
            _refuse_place(_accounts_beside(invocation), account, directory)
        else:
            account = _configured(invocation, source, directory, settings)
    except ConfigError as error:
        if error.file is None:
            raise usage(_as_option(error)) from error
        raise
    options = Options(dry_run=dry_run, full=full, fresh=fresh, mailboxes=None if mailbox is None else (mailbox,))
    place = hashlib.sha256(os.fsencode(os.path.realpath(account.maildir))).hexdigest()[:16]
    job = Job(account, options, remember_as=f"backup-{place}", from_url=is_url(source))
    return run_jobs([job], invocation.console, 1)


def _configured(invocation: Invocation, name: str, directory: str, settings: dict[str, str | None]) -> Account:
    config = invocation.load()
    try:
        found = config.account(name, hint="or name a URL: imaps://USER@HOST")
    except ConfigError as error:
        raise usage(error) from error
    given = [f"--{key.replace('_', '-')}" for key, value in settings.items() if value is not None]
    if given:
        raise ConfigError(f"{given[0]} is for a URL: account {name} has its settings in the configuration")
    account = as_backup(found, directory)
    _refuse_place(config.accounts.values(), account, directory)
    return account


def _accounts_beside(invocation: Invocation) -> Iterable[Account]:
    """The accounts of the configuration. A URL needs none, so one that is missing or wrong is no obstacle, unless it was named."""
    try:
        return invocation.load().accounts.values()
    except ConfigError:
        if invocation.config_file is not None:
            raise
        return ()


def _refuse_place(accounts: Iterable[Account], account: Account, directory: str) -> None:
    """Two accounts in one place, or one inside the other, would take each other's mail for their own."""
    for other in accounts:
        where = overlap(account.maildir, other.maildir)
        if where is not None:
            raise ConfigError(f"{directory} is {where} the maildir of account {other.name}", hint="choose another directory")


def _as_option(error: ConfigError) -> ConfigError:
    """The error with the command line's names for what the configuration has under keys."""
    key = None if error.key is None else key_of_a_url(error.key)
    return ConfigError(in_words_of_a_url(error.detail), key=key, hint=None if error.hint is None else in_words_of_a_url(error.hint))
