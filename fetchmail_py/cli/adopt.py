"""`adopt`: take over a Maildir that another program has filled."""

from __future__ import annotations

from typing import Annotated

import typer

from fetchmail_py.cli.invocation import Invocation, app, usage
from fetchmail_py.cli.runs import Job, run_jobs
from fetchmail_py.errors import ConfigError
from fetchmail_py.sync.options import Options


@app.command()
def adopt(
    context: typer.Context,
    account: Annotated[str, typer.Argument(metavar="ACCOUNT", help="An IMAP account of the configuration.")],
) -> int:
    """Match the mail that is here with the server's: nothing is transferred or deleted; `sync` then does the rest."""
    invocation: Invocation = context.obj
    config = invocation.load()
    try:
        chosen = config.account(account)
    except ConfigError as error:
        raise usage(error) from error
    if chosen.protocol != "imap":
        raise usage(ConfigError(f"{account} is a POP3 account: what is in its Maildir is recognised by `sync`"))
    return run_jobs([Job(chosen, Options(adopt=True, full=True))], invocation.console, None)
