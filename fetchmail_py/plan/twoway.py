"""The two-way mode of IMAP (RFC 4549): what both sides changed since they last agreed, and the plan that brings them together.

| | here the same | changed here | gone here |
|---|---|---|---|
| the same there | nothing | flags go up | deleted there |
| changed there | flags come down | merged, flag by flag | fetched again; if only \\Seen or \\Deleted changed: deleted there |
| gone there | deleted here | uploaded again; if only \\Seen or \\Deleted changed: deleted here | forgotten |

"Changed" is about flags: the content of a message never changes. A deletion wins, except over somebody who meanwhile flagged,
answered, forwarded or labelled the message.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from fetchmail_py.model import (
    DELETED,
    NO_FILE,
    NO_FLAGS,
    SEEN,
    Flags,
    MailboxName,
    MessageKey,
    Pair,
    RemoteSnapshot,
    Stage,
    Uid,
    count_of,
)
from fetchmail_py.plan import guard
from fetchmail_py.plan.actions import Action, DeleteLocal, Download, Forget, MoveLocal, Recognise
from fetchmail_py.plan.oneway import Move, Plan, Stop
from fetchmail_py.plan.push import (
    CopyRemote,
    DeleteAtServer,
    MergeFlags,
    MoveRemote,
    TrashAtServer,
    Upload,
    UploadAgain,
)

DISCONNECTED = "disconnected"

_SLIGHT: Flags = frozenset({SEEN, DELETED})
"""Changes that do not speak against a deletion."""


def merge(base: Flags, here: Flags, there: Flags) -> Flags:
    """Three-way, flag by flag: what either side added or removed since `base`. No flag can be in conflict."""
    return ((here | there) - ((base - here) | (base - there))) if here != there else here


class Change(NamedTuple):
    """A pair's flags on both sides."""

    pair: Pair
    here: Flags
    there: Flags


class Unpaired(NamedTuple):
    """A message here without a counterpart: its row's number below zero, and its file."""

    uid: Uid
    key: MessageKey


class Here(NamedTuple):
    """What differs in a mailbox's directory from the state; what is not named is as it was."""

    flags: Mapping[Uid, Flags] = MappingProxyType({})
    """Files of pairs whose flags are not those agreed on."""
    missing: frozenset[Uid] = frozenset()
    """Pairs whose file was not there, twice."""
    edited: frozenset[Uid] = frozenset()
    """Pairs whose file has another content now."""


UNCHANGED = Here()


class Delta:
    """What one mailbox needs."""

    def __init__(self, mailbox: MailboxName, known: int, *, exempt: bool = False) -> None:
        self.mailbox = mailbox
        self.known = known
        self.exempt = exempt
        self.read_only = False
        self.storable: Flags | None = None
        """Flags that the server can store; None: any."""
        self.new: list[Uid] = []
        self.fetched_again: list[Uid] = []
        """Of these: deleted here, but wanted at the server."""
        self.changes: list[Change] = []
        self.gone: list[Pair] = []
        """Deleted at the server: to be deleted here."""
        self.removed: list[Pair] = []
        """Deleted here: to be deleted at the server."""
        self.expunged: list[Pair] = []
        """Marked \\Deleted, where marked messages are to be removed on both sides."""
        self.doomed: list[Uid] = []
        """Marked \\Deleted at the server and never here, where marked messages are to be removed."""
        self.lost: list[Pair] = []
        self.returned: list[Pair] = []
        self.raised: list[Pair] = []
        """Deleted at the server, wanted here."""
        self.unpaired: list[Unpaired] = []
        self.unsent: list[Unpaired] = []
        """Marked \\Deleted here and never at the server, where marked messages are to be removed."""


def compare(
    mailbox: MailboxName,
    remote: RemoteSnapshot | None,
    pairs: Mapping[Uid, Pair],
    here: Here,
    *,
    known: int,
    retry: Collection[Uid] = (),
    exempt: bool = False,
    trusted: bool = True,
    witness: bool = True,
    expunge: bool = False,
    unpaired: bool = False,
) -> Delta:
    """What one mailbox needs.

    `remote` is None where the server has nothing new; `pairs` holds at least the pairs that either side names. With a state that
    is not `trusted` nothing is taken for deleted: what one side lacks comes back from the other. A directory that is no `witness`
    is another than it was, such as a copy that was restored: what is missing in it was not deleted here. Where there are
    messages here without a counterpart (`unpaired`), what is new at the server may be one of them, whatever its marks.
    """
    missed = trusted and witness
    delta = Delta(mailbox, known, exempt=exempt)
    changed = remote.changed if remote is not None else {}
    gone = remote.gone if remote is not None else frozenset()
    new = {uid for uid in retry if uid not in pairs and uid not in gone}
    doomed: set[Uid] = set()
    for uid, message in changed.items():
        pair = pairs.get(uid)
        if pair is None:
            (doomed if expunge and DELETED in message.flags and trusted and not unpaired else new).add(uid)
        elif _left_over(pair) and trusted:
            delta.removed.append(pair)
        elif uid in here.missing:
            if not missed:
                new.add(uid)
            elif (message.flags ^ pair.flags) - _SLIGHT:
                new.add(uid)
                delta.fetched_again.append(uid)
            else:
                delta.removed.append(pair)
        elif pair.stage in {Stage.KEPT, Stage.DELETING}:
            delta.returned.append(pair._replace(flags=message.flags))
        else:
            _flags(delta, pair, here.flags.get(uid, pair.flags), message.flags, expunge=expunge and trusted)
    for uid in sorted(gone):
        pair = pairs[uid]
        wanted = _wanted_here(pair.flags, here.flags.get(uid, pair.flags), expunge=expunge)
        if uid in here.missing or uid in here.edited or _left_over(pair):  # an edited file is a message of its own
            delta.lost.append(pair)
        elif wanted or not trusted or pair.stage == Stage.DELETING:
            delta.raised.append(pair)
        else:
            delta.gone.append(pair)
    for uid, pair in pairs.items():
        if uid in changed or uid in gone:
            continue
        if _left_over(pair) and trusted:
            delta.removed.append(pair)
        elif uid in here.missing:
            if uid < 0 or pair.stage == Stage.KEPT:
                delta.lost.append(pair)
            elif missed:
                delta.removed.append(pair)
            else:
                new.add(uid)
        elif uid in here.flags and pair.stage == Stage.DELETING:
            delta.returned.append(pair)
        elif uid in here.flags and pair.stage == Stage.PAIRED and uid > 0:
            _flags(delta, pair, here.flags[uid], pair.flags, expunge=expunge and trusted)
    delta.new = sorted(new - doomed, reverse=True)
    delta.doomed = sorted(doomed)
    return delta


def _left_over(pair: Pair) -> bool:
    """Whether it is what a move or a deletion left at the server. With a file it is not: mode offline was to delete it there."""
    return pair.stage == Stage.DELETING and pair.key == NO_FILE


def _wanted_here(base: Flags, here: Flags, *, expunge: bool) -> bool:
    """Whether what was changed here speaks against a deletion at the server; being marked for it does not."""
    return bool((here ^ base) - _SLIGHT) and not (expunge and DELETED in here)


def _flags(delta: Delta, pair: Pair, here: Flags, there: Flags, *, expunge: bool) -> None:
    if expunge and DELETED in merge(pair.flags, here, there):
        delta.expunged.append(pair)
    elif here != pair.flags or there != pair.flags:
        delta.changes.append(Change(pair, here, there))


# -- the whole account ---------------------------------------------------------------------------------------------------


class Missing(NamedTuple):
    """A pair whose file is gone from its mailbox."""

    mailbox: MailboxName
    pair: Pair
    size: int
    """Octets as stored."""
    sha256: bytes
    internaldate: int | None = None


class NewFile(NamedTuple):
    """A file that no row knows. `sha256` is None where it has not been read: its name, its size and its time tell enough."""

    mailbox: MailboxName
    key: MessageKey
    flags: Flags
    size: int
    sha256: bytes | None = None


class LocalMove(NamedTuple):
    """A file that went from one mailbox to another, perhaps under another name."""

    source: Missing
    file: NewFile


def moved_here(missing: Sequence[Missing], new: Sequence[NewFile]) -> list[LocalMove]:
    """Which new files are missing ones: the same key and size in another mailbox, else the same digest; each once.

    A file that has been read is one of the same digest only, whatever its name.
    """
    by_key: dict[tuple[MessageKey, int], list[Missing]] = defaultdict(list)
    by_digest: dict[bytes, list[Missing]] = defaultdict(list)
    for gone in missing:
        by_key[gone.pair.key, gone.size].append(gone)
        by_digest[gone.sha256].append(gone)
    used: set[tuple[MailboxName, Uid]] = set()
    moves: list[LocalMove] = []

    def take(candidates: Sequence[Missing], file: NewFile) -> bool:
        for gone in candidates:
            handle = (gone.mailbox, gone.pair.uid)
            other_name = gone.mailbox != file.mailbox or gone.pair.key != file.key
            if handle not in used and file.sha256 in {None, gone.sha256} and other_name:
                used.add(handle)
                moves.append(LocalMove(gone, file))
                return True
        return False

    rest = [file for file in new if not take(by_key.get((file.key, file.size), ()), file)]
    for file in rest:
        if file.sha256 is not None:
            take(by_digest.get(file.sha256, ()), file)
    return moves


class LocalCopy(NamedTuple):
    """A file here, with a row of its own, whose content the server has in another place."""

    mailbox: MailboxName
    uid: Uid
    to: MailboxName
    row: Uid


def plan_account(
    deltas: Sequence[Delta],
    *,
    moves: Sequence[Move] = (),
    local_moves: Sequence[LocalMove] = (),
    copies: Sequence[LocalCopy] = (),
    recognised: Sequence[tuple[Recognise, Flags]] = (),
    max_delete: float = 0.5,
    announced_here: Mapping[MailboxName, guard.Announced] = MappingProxyType({}),
    announced_there: Mapping[MailboxName, guard.Announced] = MappingProxyType({}),
    allowed: bool = False,
    trash: MailboxName | None = None,
    expunge: bool = False,
) -> Plan:
    """The plan of an account: recognise, flags of what moves, moves, downloads, uploads, flags, deletions last.

    `moves` were made at the server, `local_moves` here; `recognised` comes with the flags of the file. `announced_…` are, by
    mailbox, the deletions that wait for the user's word; `allowed` lets them through, and anything more asks again. A mailbox that
    waits is left as it is, but for what was moved.
    """
    by_name = {delta.mailbox: delta for delta in deltas}
    moved_away = {(move.mailbox, move.pair.uid) for move in moves}
    moved_in = {(move.to, move.to_uid) for move in moves}
    seen = {(action.mailbox, action.uid) for action, _ in recognised}
    rows_used = {(action.mailbox, action.old_uid) for action, _ in recognised} | {(copy.to, copy.row) for copy in copies}
    notices: list[tuple[MailboxName, str]] = []
    first: list[Action] = []
    for action, flags in recognised:
        first.append(action)
        # Nothing tells what either side changed: nothing is taken away.
        both = action.flags | flags
        read_only = by_name[action.mailbox].read_only if action.mailbox in by_name else False
        if both != action.flags or both != flags:
            add = NO_FLAGS if read_only else _storable(by_name.get(action.mailbox), both - action.flags)
            first.append(
                MergeFlags(
                    action.mailbox, action.uid, MessageKey(""), both, add, NO_FLAGS, action.flags | add, pull=both != flags
                )
            )
    where = {(move.source.mailbox, move.source.pair.uid): move for move in local_moves}
    for move in moves:
        also = where.pop((move.mailbox, move.pair.uid), None)
        # Moved on both sides: the server's place counts, and the file goes there from wherever it is.
        source, key = (also.file.mailbox, also.file.key) if also is not None else (move.mailbox, move.pair.key)
        first.append(MoveLocal(move.mailbox, move.pair.uid, key, move.to, move.to_uid, move.flags, source, move.here))
    moving = set(where)
    before: list[Action] = []
    groups: dict[tuple[MailboxName, MailboxName], list[LocalMove]] = defaultdict(list)
    for local in where.values():
        groups[local.source.mailbox, local.file.mailbox].append(local)
    marked_there = {(d.mailbox, pair.uid) for d in deltas for pair in d.expunged}
    flags_there = {(d.mailbox, c.pair.uid): c.there for d in deltas for c in d.changes}
    for (source, target), group in groups.items():
        agreed: list[Flags] = []
        for local in group:
            pair, mine = local.source.pair, local.file.flags
            there = flags_there.get((source, pair.uid), pair.flags)
            if target == trash and expunge:
                # Whatever the mark was for has come about: in the trash it would mean for good.
                mine -= {DELETED}
                if (source, pair.uid) in marked_there or DELETED in there:
                    pair, there = pair._replace(flags=pair.flags | {DELETED}), there | {DELETED}
            change = _merge_action(by_name.get(source), source, Change(pair, mine, there))
            agreed.append(merge(pair.flags, mine, there))
            if change is not None and (change.add or change.remove):
                before.append(change._replace(pull=False))
        uids = tuple(m.source.pair.uid for m in group)
        before.append(MoveRemote(source, uids, target, tuple(m.file.key for m in group), tuple(agreed)))
    for (source, target), copied in _grouped(copies).items():
        before.append(CopyRemote(source, tuple(c.uid for c in copied), target, tuple(c.row for c in copied)))
    downloads: list[Action] = []
    uploads: list[Action] = []
    flag_actions: list[Action] = []
    deletions: list[Action] = []
    stops: list[Stop] = []
    for delta in deltas:
        name = delta.mailbox
        gone = [pair for pair in delta.gone if (name, pair.uid) not in moved_away]
        marked = {pair.uid for pair in delta.expunged if (name, pair.uid) not in moving}
        share = 1.0 if delta.exempt else max_delete
        unsent = {entry.uid for entry in delta.unsent}
        leaving = tuple(sorted({pair.uid for pair in gone} | marked | unsent))
        # What is left over of a move is no deletion: the message is in another place.
        left_over = {pair.uid for pair in delta.removed if _left_over(pair)}
        doomed = tuple(sorted({*(pair.uid for pair in delta.removed), *delta.doomed, *marked} - left_over))
        here = delta.known + (len(unsent) + len(delta.unpaired) if unsent else 0)
        waits = [
            Stop(name, len(uids), known, uids, at_server=at_server, marked=len(only_marked.intersection(uids)))
            for uids, known, announced, only_marked, at_server in (
                (leaving, here, announced_here, marked | unsent, False),
                (doomed, delta.known, announced_there, marked.union(delta.doomed), True),
            )
            if not (at_server and delta.read_only) and guard.stops(uids, known, share, announced.get(name), allowed=allowed)
        ]
        if waits:
            stops += waits
            continue
        again = len(delta.fetched_again)
        new = tuple(uid for uid in delta.new if (name, uid) not in moved_in and (name, uid) not in seen)
        if new:
            downloads.append(Download(name, new))
        if again:
            notices.append((name, f"{count_of(again, 'message')} deleted here, and changed at the server meanwhile: fetched again"))
        raised = [pair for pair in delta.raised if (name, pair.uid) not in moved_away]
        waiting = [entry for entry in delta.unpaired if (name, entry.uid) not in rows_used]
        if delta.read_only and (waiting or raised):
            notices.append((name, f"{count_of(len(waiting) + len(raised), 'message')} cannot go up: the mailbox is read-only"))
        elif not delta.read_only:
            if raised:
                count = count_of(len(raised), "message")
                notices.append((name, f"{count} deleted at the server, and changed here meanwhile: uploaded again"))
            uploads += [UploadAgain(name, pair.uid, pair.key) for pair in raised]
            if waiting:
                uploads.append(Upload(name, tuple(e.uid for e in waiting), tuple(e.key for e in waiting)))
        flag_actions += [Recognise(name, pair.uid, pair.uid, pair.flags) for pair in sorted(delta.returned)]
        stuck = 0
        for entry in sorted(delta.changes, key=lambda change: change.pair.uid):
            if (name, entry.pair.uid) in moving:
                continue
            found = _merge_action(delta, name, entry)
            if found is not None:
                flag_actions.append(found)
            stuck += delta.read_only and entry.there != merge(entry.pair.flags, entry.here, entry.there)
        if stuck:
            notices.append((name, f"flags of {count_of(stuck, 'message')} changed here cannot go up: the mailbox is read-only"))
        lost = sorted(pair.uid for pair in delta.lost if (name, pair.uid) not in moved_away)
        if lost:
            deletions.append(Forget(name, tuple(lost)))
        deletions += [DeleteLocal(name, pair.uid, pair.key) for pair in gone]
        deletions += [DeleteLocal(name, entry.uid, entry.key) for entry in delta.unsent]
        going = {*doomed} | left_over
        if going and delta.read_only:
            notices.append((name, f"{count_of(len(going), 'deletion')} cannot go up: the mailbox is read-only"))
        elif going:
            deletions += _at_server(name, going - marked - left_over, marked, left_over, None if name == trash else trash)
    ordered = (*first, *before, *downloads, *uploads, *flag_actions, *deletions)
    return Plan(ordered, tuple(stops), tuple(notices))


def _at_server(
    mailbox: MailboxName, removed: set[Uid], marked: set[Uid], left_over: set[Uid], trash: MailboxName | None
) -> list[Action]:
    """The deletions in a mailbox. What is left over of a move is in another place, and needs none in the trash."""
    if trash is None:
        chosen = ((removed | left_over, False), (marked, True))
        return [DeleteAtServer(mailbox, tuple(sorted(uids)), also_here) for uids, also_here in chosen if uids]
    actions: list[Action] = [DeleteAtServer(mailbox, tuple(sorted(left_over)))] if left_over else []
    chosen = ((removed, False), (marked, True))
    return actions + [TrashAtServer(mailbox, tuple(sorted(uids)), trash, also_here) for uids, also_here in chosen if uids]


def _grouped(copies: Sequence[LocalCopy]) -> dict[tuple[MailboxName, MailboxName], list[LocalCopy]]:
    groups: dict[tuple[MailboxName, MailboxName], list[LocalCopy]] = defaultdict(list)
    for copy in copies:
        groups[copy.mailbox, copy.to].append(copy)
    return groups


def _storable(delta: Delta | None, flags: Flags) -> Flags:
    return flags if delta is None or delta.storable is None else flags & delta.storable


def _merge_action(delta: Delta | None, mailbox: MailboxName, change: Change) -> MergeFlags | None:
    """The action for one message; None where nothing can be done, as with a flag the server cannot store."""
    pair, here, there = change
    merged = merge(pair.flags, here, there)
    if delta is not None and delta.read_only:
        add = remove = NO_FLAGS
    else:
        add, remove = _storable(delta, merged - there), there - merged
    agreed = (there | add) - remove
    if merged == here and not add and not remove and agreed == pair.flags:
        return None
    return MergeFlags(mailbox, pair.uid, pair.key, merged, add, remove, agreed, pull=merged != here)


