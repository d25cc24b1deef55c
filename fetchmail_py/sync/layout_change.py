"""`layout` or `map` say something else than when the mailboxes were put where they are: the directories follow, all or none.

The state knows where each mailbox lies, and goes on with that; but what is new would come to lie in the other way beside it, and
what other programs have made would mean another mailbox. Where the directories cannot follow, nothing is done at all.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Container, Mapping, Sequence
from typing import NamedTuple

from fetchmail_py.config import Account
from fetchmail_py.errors import ConfigError
from fetchmail_py.model import MailboxName, RemoteMailbox, count_of
from fetchmail_py.plan import patterns
from fetchmail_py.store.layout import FS, MAILDIRPP, path_for
from fetchmail_py.store.state import MailboxRow, StateDb
from fetchmail_py.sync import local
from fetchmail_py.sync.home import Home
from fetchmail_py.sync.renaming import Following, can_follow
from fetchmail_py.wire.utf7 import encode_mailbox

_FACT = "places"


class Settings(NamedTuple):
    """What says where a mailbox lies."""

    layout: str
    map: Mapping[str, str]


def follow_settings(home: Home, note: Callable[[str], None]) -> None:
    """Moves the directories where `layout` and `map` want them now. Raises ConfigError where that is not safe."""
    state, account = home.state, home.account
    now = settings_of(account)
    before = settings_before(state, now)
    if before == now and state.get(_FACT) is not None:
        return
    rows = state.mailboxes()
    moving = [row for row in rows.values() if _path(home, row, before) != _path(home, row, now)]
    if not moving:
        state.put(_FACT, json.dumps(now))
        return
    # Until they have followed, the folders are to be read by the settings of before.
    home.account = account._replace(layout=before.layout, map=before.map)
    leaving = {row.path for row in moving}
    taken = set(rows_paths := [row.path for row in rows.values()]) - leaving
    following = []
    for row in moving:
        path = _path(home, row, now, taken=taken)
        taken.add(path)
        following.append(Following(row, row.name, row.delimiter, path))
    _refuse_unsafe(home, before, now, following, set(rows_paths))
    count = sum(home.maildir(row).has_a_part() for row in moving)
    told = f"{_what(before, now)}: {count_of(count, 'folder')} here"
    if home.dry_run:
        if count:
            note(f"{told} would follow; this is what is done besides")
        return
    home.account = account
    home.begin_effects()
    state.put(_FACT, json.dumps(now))
    home.rename_mailboxes(following)
    if count:
        note(f"{told} followed")


def settings_of(account: Account) -> Settings:
    """The settings that count now."""
    return Settings(account.layout, dict(account.map))


def settings_before(state: StateDb, now: Settings) -> Settings:
    """The settings by which the mailboxes were put where they are."""
    fact = state.get(_FACT)
    if fact is not None:
        layout, mapping = json.loads(fact)
        return Settings(layout, mapping)
    # An earlier version did not keep them: the paths tell the layout.
    paths = [row.path for row in state.mailboxes().values()]
    if not paths:
        return now
    return now._replace(layout=MAILDIRPP if any(not path or path.startswith(".") for path in paths) else FS)


def path_of_name(row: MailboxRow, rows: Collection[MailboxRow], settings: Settings) -> str | None:
    """Where a mailbox's folder would lie by its name, if it lies elsewhere. None: the two are called alike."""
    local = patterns.local_name(row.name, row.delimiter, settings.map)
    path = path_for(local, row.delimiter, layout=settings.layout)
    wire = MailboxName(encode_mailbox(local, utf8=False).decode("ascii", "replace"))  # as mbsync and Dovecot have it
    if row.path in {path, path_for(wire, row.delimiter, layout=settings.layout)}:
        return None
    beside = path_for(local, row.delimiter, layout=settings.layout, taken={path})
    if row.path == beside and any(other.path.casefold() == path.casefold() for other in rows):
        return None  # its place is another's
    return path


def _path(home: Home, row: MailboxRow, settings: Settings, taken: set[str] | None = None) -> str:
    name = patterns.local_name(row.name, row.delimiter, settings.map)
    return path_for(name, row.delimiter, layout=settings.layout, taken=taken or (), fold_case=home.fold_case)


def _refuse_unsafe(home: Home, before: Settings, now: Settings, following: list[Following], known: set[str]) -> None:
    """Only what is as the last run left it can follow: else a folder that is new here, or was renamed, would be lost sight of."""
    leaving = {row.path for row, *_ in following}
    reason = next((
        f"{path} is there already, or on another disk, or a link" for row, _, _, path in following
        if not can_follow(home.root, row.path, path, leaving)
    ), None)  # fmt: skip
    hint = "put that right"
    if reason is None and before.layout != now.layout:
        # What the server has no more, and is gone here too, nobody asks about.
        gone = [row for row, *_ in following if row.listed and row.inode is not None and not home.maildir(row).has_a_part()]
        new = _new_folders(home, [row for row, *_ in following], known)
        if gone:
            reason = f"{home.maildir(gone[0]).path} is gone from where it was"
            hint = "put it back, or download it again with --fresh"
        elif new:
            reason = f"{home.root}/{new[0]} is not known yet"
            hint = "if it is still not known then, move it out of the maildir"
    if reason is not None:
        key = "layout" if before.layout != now.layout else "map"
        was = before.layout if key == "layout" else json.dumps(dict(before.map), ensure_ascii=False)
        raise ConfigError(
            f"{_what(before, now)}, and the folders cannot follow: {reason}",
            key=key,
            hint=f"set {key} back to {was} and sync once, {hint}, then change it again; or give the account a new maildir",
        )


def _new_folders(home: Home, rows: Sequence[MailboxRow], known: Container[str]) -> list[str]:
    """Folders that a run would make mailboxes of, or take for renamed ones; not those that it would leave alone."""
    places = [place for place in local.places(home.root, home.account.layout) if place.path not in known]
    delimiter = next((row.delimiter for row in rows if row.delimiter), "/")
    names, _ = local.server_names(home, places, delimiter)
    boxes = {path: RemoteMailbox(name, delimiter, frozenset()) for path, name in names.items()}
    lost = any(not home.maildir(row).has_a_part() for row in rows)
    return [
        place.path
        for place in places
        if lost or (place.path in boxes and patterns.wanted(boxes[place.path], home.account.mailboxes))
    ]


def _what(before: Settings, now: Settings) -> str:
    if before.layout != now.layout:
        return f'layout was "{before.layout}" and is "{now.layout}"'
    old, new = (json.dumps(dict(settings.map), ensure_ascii=False) for settings in (before, now))
    return f"map was {old} and is {new}"
