"""What the local state says of an account, without the network and without changing anything."""

from __future__ import annotations

import json
from contextlib import closing

from fetchmail_py.config import Account
from fetchmail_py.model import MailboxName
from fetchmail_py.report import AccountStatus, Deferred, MailboxStatus
from fetchmail_py.store import memory
from fetchmail_py.store.durable import Barrier
from fetchmail_py.store.state import FILE_NAME, StateDb
from fetchmail_py.sync import place
from fetchmail_py.sync.layout_change import path_of_name, settings_before, settings_of
from fetchmail_py.wire.utf7 import printable


def status_of(account: Account) -> AccountStatus:
    """The account's status. Raises StoreError where there is a state that cannot be read."""
    path = f"{account.maildir}/{FILE_NAME}"
    remembered, _ = memory.load(account.name)
    stop = place.gone(account.maildir, remembered)
    if not place.has_state(account.maildir):
        if stop is None:
            place.nearest(account.maildir)
        return AccountStatus(account.name, [], 0, 0, None, None, [], 0, [] if stop is None else [stop], restored=False)
    with closing(StateDb.open_to_read(path)) as state, closing(Barrier(account.maildir)) as barrier:
        last_sync = _time(state.get("last_sync"))
        deferred = state.deferred()
        totals = state.totals()
        names = {0: "maildrop"}
        mailboxes = []
        stop = place.of_another(account, state)
        stops = [] if stop is None else [stop]
        if account.protocol == "pop3":
            totals = {0: (state.number("fetched_messages"), state.number("fetched_bytes"))}
            count = sum(1 for row in deferred if row.mailbox == 0)
            mailboxes.append(MailboxStatus("maildrop", *totals[0], last_sync, None, count))
        else:
            rows = state.mailboxes().values()
            settings = settings_before(state, settings_of(account))
            for row in rows:
                name = names[row.id] = printable(row.name)
                messages, octets = totals.get(row.id, (0, 0))
                count = sum(1 for entry in deferred if entry.mailbox == row.id)
                # A mailbox in which nothing was new is not written to: the account's last run vouches for it.
                synced = last_sync if row.settled and last_sync is not None else row.last_sync
                wrong = row.last_error if row.listed else "no longer at the server: what is here stays, and goes nowhere"
                if account.mode == "disconnected":
                    lost = place.lost_folder(account.maildir, account.name, state, row, barrier)
                    if lost is not None and lost.stop is not None:
                        lost.stop.mailbox = name
                        stops.append(lost.stop)
                    wrong = wrong if lost is None else lost.text
                    other = path_of_name(row, rows, settings) if row.listed else None
                    if other is not None:
                        was = state.get(f"was:{row.id}") if state.get(f"told-name:{row.id}") is not None else None
                        wrong = "; ".join(filter(None, (_named_apart(row.path, other, was), wrong)))
                mailboxes.append(MailboxStatus(name, messages, octets, synced, wrong, count))
        restored = remembered is not None and place.is_another_copy(state, remembered)
        for name, (said, *_) in json.loads(state.get(place.LEVELS) or "{}").items():
            level = f"it holds no messages at the server ({said}): what is in its folder stays here"
            mailboxes.append(MailboxStatus(printable(MailboxName(name)), 0, 0, None, level, 0))
        return AccountStatus(
            account=account.name,
            mailboxes=mailboxes,
            messages=sum(entry.messages for entry in mailboxes),
            bytes=sum(entry.bytes for entry in mailboxes),
            last_sync=last_sync,
            last_error=state.get("last_error"),
            deferred=[Deferred(names.get(row.mailbox, "?"), row.ident, row.reason) for row in deferred],
            failures=state.number("failures"),
            stops=stops,
            restored=restored,
            namesake=place.namesake(account.maildir, remembered) if restored else None,
        )


def _named_apart(path: str, other: str, was: str | None) -> str:
    """Both sides have renamed it, say, or the name it has here is taken at the server; and so is what it `was` there."""
    before = "" if was is None else f"it was {printable(was)} at the server, which is taken there; "
    return f"{before}its folder is {path}: rename that to {other} here, or the mailbox at the server, so that both have one name"


def _time(text: str | None) -> float | None:
    return None if text is None else float(text)
