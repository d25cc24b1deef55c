"""`status`: what the local state says."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from fetchmail_py.cli.console import Console, safe, size_of
from fetchmail_py.cli.explain import explain
from fetchmail_py.cli.invocation import Invocation, app, usage
from fetchmail_py.errors import ConfigError, ExitStatus, FetchmailError
from fetchmail_py.model import count_of
from fetchmail_py.report import AccountStatus, error_json, status_of_error


@app.command()
def status(
    context: typer.Context,
    accounts: Annotated[list[str] | None, typer.Argument(metavar="[ACCOUNT]...", help="None: all accounts.")] = None,
) -> int:
    """Show mailboxes, messages, sizes, the last sync and what was set aside, without the network."""
    invocation: Invocation = context.obj
    console = invocation.console
    config = invocation.load()
    try:
        chosen = config.targets(accounts or (), whole=True)
    except ConfigError as error:
        raise usage(error) from error
    from fetchmail_py.sync.status import status_of  # noqa: PLC0415

    ended = ExitStatus.OK
    for target in chosen:
        try:
            found = status_of(target.account)
        except FetchmailError as error:
            console.error(error, target.account.name)
            ended = ended or status_of_error(error)
            continue
        if console.as_json:
            console.json(_document(found))
        else:
            _show(console, found)
        for stop in found.stops:
            console.error(stop, found.account)
            ended = ended or stop.exit_status
    return ended


def _document(found: AccountStatus) -> dict[str, object]:
    lists: dict[str, object] = {
        "mailboxes": [box._asdict() for box in found.mailboxes],
        "deferred": [one._asdict() for one in found.deferred],
        "stops": [error_json(stop, explain) for stop in found.stops],
    }
    return found._asdict() | lists


def _show(console: Console, found: AccountStatus) -> None:
    never = "nothing is here now" if found.stops else "never synchronised"
    synced = never if found.last_sync is None else f"last sync {_moment(found.last_sync)}"
    console.out(f"{found.account}: {count_of(found.messages, 'message')}, {size_of(found.bytes)}, {synced}")
    if found.restored:
        console.out("  the state is not that of the last run (restored?): the next sync compares everything, and deletes nothing")
        if found.namesake is not None:
            console.out(f"  {safe(found.namesake)}")
    if found.last_error is not None:
        again = f" ({found.failures} runs in a row)" if found.failures > 1 else ""
        console.out(f"  last error{again}: {safe(found.last_error)}")
    width = min(40, max((len(safe(mailbox.name)) for mailbox in found.mailboxes), default=0))
    for mailbox in found.mailboxes:
        aside = f"  {mailbox.deferred} set aside" if mailbox.deferred else ""
        wrong = f"  {safe(mailbox.last_error)}" if mailbox.last_error else ""
        console.out(f"  {safe(mailbox.name):<{width}}  {mailbox.messages:>9,}  {size_of(mailbox.bytes):>8}{aside}{wrong}")
    for message in found.deferred:
        console.out(f"  set aside: {safe(message.mailbox)} {safe(message.ident)}: {safe(message.reason)}")


def _moment(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))
