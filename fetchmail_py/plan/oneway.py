"""The one-way modes of IMAP: what one mailbox needs, and the plan of a whole account from that.

`backup` adds and follows flags, and keeps what the server deletes; `mirror` makes the local side the server's;
`offline` downloads, then deletes at the server (RFC 1733). Nothing of these is sent but the deletions of `offline`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from fetchmail_py.model import Flags, MailboxName, MessageKey, Pair, RemoteSnapshot, Stage, Uid, count_of
from fetchmail_py.plan import guard
from fetchmail_py.plan.actions import (
    Action,
    DeleteLocal,
    DeleteRemote,
    Download,
    Forget,
    Keep,
    MoveLocal,
    Recognise,
    SetLocalFlags,
)

BACKUP = "backup"
MIRROR = "mirror"
OFFLINE = "offline"


class FlagChange(NamedTuple):
    """A pair whose local file must get other flags."""

    pair: Pair
    flags: Flags


class Delta:
    """What differs in one mailbox between the server, the state and, where it was looked at, the local side."""

    def __init__(self, mailbox: MailboxName, known: int, *, exempt: bool = False) -> None:
        self.mailbox = mailbox
        self.known = known
        """How many messages both sides had: what the guard measures deletions against."""
        self.exempt = exempt
        """The guard does not watch it: its special use is \\Trash or \\Junk."""
        self.new: list[Uid] = []
        """At the server and wanted here."""
        self.gone: list[Pair] = []
        """No longer at the server, but here."""
        self.lost: list[Pair] = []
        """On neither side any more."""
        self.returned: list[Pair] = []
        """Kept here as gone, and at the server after all."""
        self.reflag: list[FlagChange] = []
        self.pull_only = False
        """Its UIDs mean nothing from one look to the next: nothing may be deleted by them."""
        self.stored: list[Uid] = []
        """Stored here and still at the server (mode offline)."""


def compare(
    mode: str,
    mailbox: MailboxName,
    remote: RemoteSnapshot | None,
    pairs: Mapping[Uid, Pair],
    local: Mapping[MessageKey, Flags] | None,
    *,
    known: int,
    retry: Collection[Uid] = (),
    exempt: bool = False,
) -> Delta:
    """What one mailbox needs.

    `remote` is None where the server has nothing new, `local` None where nothing changed here since the last look. `pairs` holds
    at least the pairs that `remote` names, and all of them where `local` is given. `retry` are UIDs set aside earlier.
    """
    delta = Delta(mailbox, known, exempt=exempt)
    changed = remote.changed if remote is not None else {}
    gone = remote.gone if remote is not None else frozenset()
    new: set[Uid] = {uid for uid in retry if uid not in pairs and (remote is None or uid not in gone)}
    for uid, message in changed.items():
        pair = pairs.get(uid)
        if pair is None:
            new.add(uid)
        elif pair.stage == Stage.KEPT:
            if local is None or pair.key in local:
                delta.returned.append(pair._replace(flags=message.flags))
            else:
                new.add(uid)
        elif mode == OFFLINE:
            delta.stored.append(uid)
        elif local is None or pair.key in local:
            flags_here = pair.flags if local is None or mode != MIRROR else local[pair.key]
            if pair.flags != message.flags or flags_here != message.flags:
                delta.reflag.append(FlagChange(pair, message.flags))
    for uid in sorted(gone):
        pair = pairs[uid]
        # What we told the server to delete is gone because of us: that says nothing about the copy here.
        here = pair.stage != Stage.DELETING and (local is None or pair.key in local)
        (delta.gone if here else delta.lost).append(pair)
    if mode == OFFLINE and remote is None:
        # The server shows what it showed last time: what we had told it to delete is still there.
        delta.stored.extend(uid for uid, pair in pairs.items() if uid > 0 and pair.stage in {Stage.PAIRED, Stage.DELETING})
    if local is not None:
        _compare_local(mode, delta, pairs, local, changed, gone, new)
    delta.new = sorted(new, reverse=True)
    return delta


def _compare_local(
    mode: str,
    delta: Delta,
    pairs: Mapping[Uid, Pair],
    local: Mapping[MessageKey, Flags],
    changed: Mapping[Uid, object],
    gone: Collection[Uid],
    new: set[Uid],
) -> None:
    for uid, pair in pairs.items():
        if uid in gone:
            continue
        flags = local.get(pair.key)
        if flags is None:
            if uid < 0 or (pair.stage == Stage.KEPT and uid not in changed):
                delta.lost.append(pair)
            elif (pair.stage == Stage.PAIRED and (mode != OFFLINE or uid in delta.stored)) or (
                pair.stage == Stage.DELETING and mode != OFFLINE
            ):
                # Stored once, but its file is no longer here: the server still has it, and nothing deletes it now.
                new.add(uid)
                if mode == OFFLINE:
                    delta.stored.remove(uid)
        elif mode == MIRROR and pair.stage == Stage.PAIRED and uid not in changed and flags != pair.flags:
            delta.reflag.append(FlagChange(pair, pair.flags))


class Stop(NamedTuple):
    """A mailbox left as it is because its deletions need the user's word."""

    mailbox: MailboxName
    deletions: int
    known: int
    uids: tuple[Uid, ...]
    at_server: bool = False
    """The messages were deleted here, and would be deleted at the server; else the other way round."""
    marked: int = 0
    """So many of them were not deleted anywhere, but are marked \\Deleted where that means the same."""

    @property
    def text(self) -> str:
        """What happened to them, and what was not done."""
        done, left = ("were deleted here", "at the server") if self.at_server else ("are gone from the server", "here")
        if self.marked:
            done = "are marked \\Deleted" if self.marked == self.deletions else f"{done} or are marked \\Deleted ({self.marked})"
        return f"{self.deletions} of {count_of(self.known, 'message')} {done}; none of them was deleted {left}"


class Plan(NamedTuple):
    """Ordered actions, and what was left alone."""

    actions: tuple[Action, ...]
    stops: tuple[Stop, ...] = ()
    notices: tuple[tuple[MailboxName, str], ...] = ()


class Move(NamedTuple):
    """A message gone from one mailbox that is the same as a new one in another."""

    mailbox: MailboxName
    pair: Pair
    to: MailboxName
    to_uid: Uid
    flags: Flags
    here: Flags | None = None
    """What the file gets, where that is not `flags`: changes made here that are yet to go up."""


def plan_account(
    mode: str,
    deltas: Sequence[Delta],
    *,
    moves: Sequence[Move] = (),
    recognised: Sequence[Recognise] = (),
    max_delete: float = 0.5,
    may_delete: bool = True,
    announced: Mapping[MailboxName, guard.Announced] = MappingProxyType({}),
    allowed: bool = False,
) -> Plan:
    """The plan of an account: recognise, move, download, flags, deletions last; within that, mailboxes in the order given.

    `may_delete` is False in a run that must not trust its state. `announced` are, by mailbox, the deletions that wait for the
    user's word; `allowed` lets them through, and anything more asks again. A mailbox that waits is left as it is.
    """
    moved_away = {(move.mailbox, move.pair.uid) for move in moves}
    moved_in = {(move.to, move.to_uid) for move in moves}
    seen = {(action.mailbox, action.uid) for action in recognised}
    actions: list[Action] = list(recognised)
    actions += [MoveLocal(m.mailbox, m.pair.uid, m.pair.key, m.to, m.to_uid, m.flags) for m in moves]
    downloads: list[Action] = []
    flags: list[Action] = []
    deletions: list[Action] = []
    stops: list[Stop] = []
    notices: list[tuple[MailboxName, str]] = []
    for delta in deltas:
        name = delta.mailbox
        gone = [pair for pair in delta.gone if (name, pair.uid) not in moved_away]
        uids = tuple(pair.uid for pair in gone)
        share = 1.0 if delta.exempt or mode != MIRROR or not may_delete else max_delete
        if guard.stops(uids, delta.known, share, announced.get(name), allowed=allowed):
            stops.append(Stop(name, len(gone), delta.known, uids))
            continue
        new = tuple(uid for uid in delta.new if (name, uid) not in moved_in and (name, uid) not in seen)
        if new:
            downloads.append(Download(name, new))
        flags += [Recognise(name, pair.uid, pair.uid, pair.flags) for pair in delta.returned]
        flags += [SetLocalFlags(name, change.pair.uid, change.pair.key, change.flags) for change in delta.reflag]
        if delta.lost:
            deletions.append(Forget(name, tuple(pair.uid for pair in delta.lost)))
        if mode == OFFLINE:
            if gone:
                deletions.append(Forget(name, tuple(pair.uid for pair in gone)))
            remove = sorted({*delta.stored, *new})
            if remove and may_delete and not delta.pull_only:
                deletions.append(DeleteRemote(name, tuple(remove)))
            elif remove:
                notices.append((name, f"{count_of(len(remove), 'message')} left at the server in this run"))
        elif mode == BACKUP:
            kept = tuple(pair.uid for pair in gone if pair.stage != Stage.KEPT)
            if kept:
                deletions.append(Keep(name, kept))
        elif gone and not may_delete:
            notices.append((name, f"{count_of(len(gone), 'message')} gone from the server, and not deleted here in this run"))
        else:
            deletions += [DeleteLocal(name, pair.uid, pair.key) for pair in gone]
    return Plan(tuple(actions + downloads + flags + deletions), tuple(stops), tuple(notices))
