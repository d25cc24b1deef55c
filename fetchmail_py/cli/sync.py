"""`sync`: the main job."""

from __future__ import annotations

from typing import Annotated

import typer

from fetchmail_py.cli.invocation import Invocation, app, usage
from fetchmail_py.cli.runs import Job, run_jobs
from fetchmail_py.errors import ConfigError
from fetchmail_py.sync.options import Options


@app.command()
def sync(
    context: typer.Context,
    targets: Annotated[
        list[str] | None, typer.Argument(metavar="[TARGET]...", help="ACCOUNT, ACCOUNT/MAILBOX or a group; none: all accounts.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("-n", "--dry-run", help="Print the plan, change nothing on either side.")] = False,
    full: Annotated[bool, typer.Option("--full", help="Look at every message on both sides.")] = False,
    allow_mass_delete: Annotated[
        bool, typer.Option("--allow-mass-delete", help="Let through the deletions that were announced.")
    ] = False,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="The Maildir is meant to be empty: download everything again.")
    ] = False,
    jobs: Annotated[int | None, typer.Option("--jobs", min=1, max=64, help="Accounts side by side (4).")] = None,
) -> int:
    """Fetch POP3 accounts, synchronise IMAP accounts."""
    invocation: Invocation = context.obj
    config = invocation.load()
    try:
        chosen = config.targets(targets or ())
    except ConfigError as error:
        raise usage(error) from error
    work = [
        Job(
            target.account,
            Options(
                dry_run=dry_run,
                full=full,
                allow_mass_delete=allow_mass_delete,
                fresh=fresh,
                mailboxes=target.mailboxes,
            ),
        )
        for target in chosen
    ]
    for target in chosen:
        if target.mailboxes is not None and target.account.protocol == "pop3":
            raise usage(ConfigError(f"{target.account.name} is a POP3 account: it has no mailboxes"))
    return run_jobs(work, invocation.console, jobs)
