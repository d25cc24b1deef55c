"""`check`: is everything as it should be, and if not, what to do."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import typer

from fetchmail_py.cli.explain import explain
from fetchmail_py.cli.invocation import Invocation, app, usage
from fetchmail_py.credentials import secret_for
from fetchmail_py.errors import ConfigError, ExitStatus


@app.command()
def check(
    context: typer.Context,
    accounts: Annotated[list[str] | None, typer.Argument(metavar="[ACCOUNT]...", help="None: all accounts.")] = None,
) -> int:
    """Check configuration, name, connection, TLS, login, capabilities, Maildir and state, one line each."""
    invocation: Invocation = context.obj
    console = invocation.console
    config = invocation.load()
    try:
        chosen = config.targets(accounts or (), whole=True)
    except ConfigError as error:
        raise usage(error) from error
    from fetchmail_py.sync.check import check_account  # noqa: PLC0415

    status = ExitStatus.OK
    for target in chosen:
        account = target.account
        secret = secret_for(account, interactive=console.stderr_is_terminal)
        ended = check_account(
            account, secret, on_line=partial(console.check_line, account.name), words=partial(explain, host=account.host)
        )
        status = status or ended
    return status
