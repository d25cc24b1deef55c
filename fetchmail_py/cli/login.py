"""`login` and `logout`: passwords in the keyring."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from fetchmail_py.cli.invocation import Invocation, app, usage
from fetchmail_py.config import Account
from fetchmail_py.credentials import remove_password, store_password
from fetchmail_py.errors import ConfigError, CredentialError


def _account(invocation: Invocation, name: str) -> Account:
    config = invocation.load()
    try:
        return config.account(name)
    except ConfigError as error:
        raise usage(error) from error


@app.command()
def login(context: typer.Context, account: Annotated[str, typer.Argument(metavar="ACCOUNT")]) -> int:
    """Store an account's password in the keyring: asked for on a terminal, else read from standard input."""
    invocation: Invocation = context.obj
    found = _account(invocation, account)
    configured = [name for name in ("password", "password_command", "password_file", "password_env") if getattr(found, name)]
    if configured:
        raise ConfigError(
            f"has {configured[0]}: a password in the keyring would not be looked for",
            file=invocation.load().file, key=f"accounts.{account}",
            hint=f"take {configured[0]} out of the configuration first",
        )  # fmt: skip
    if sys.stdin is not None and sys.stdin.isatty():
        import getpass  # noqa: PLC0415

        password = getpass.getpass(f"Password for {found.user} at {found.host}: ")
    elif sys.stdin is not None:
        password = sys.stdin.readline()
    else:
        raise CredentialError("no terminal to ask on, and no standard input", source="the terminal")
    store_password(found, password)
    if invocation.console.talkative:
        invocation.console.err(f"{account}: the password is in the keyring; try it: fetchmail-py check {account}")
    return 0


@app.command()
def logout(context: typer.Context, account: Annotated[str, typer.Argument(metavar="ACCOUNT")]) -> int:
    """Remove an account's password from the keyring."""
    invocation: Invocation = context.obj
    removed = remove_password(_account(invocation, account))
    if invocation.console.talkative:
        invocation.console.err(f"{account}: {'removed' if removed else 'there was no password in the keyring'}")
    return 0
