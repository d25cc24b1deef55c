"""The two-way mode's changes at the server: moves, copies, uploads, flags, deletions; what became of each goes into the state.

What a cut leaves is found again by looking: a message sent whose answer never came is recognised by its content, a deletion
whose row is left shows as a message gone from both sides.
"""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from functools import partial
from hashlib import sha256
from typing import NamedTuple

from fetchmail_py.errors import ServerBusy, ServerRefused, StoreError
from fetchmail_py.model import (
    FLAG_TO_LETTER,
    NO_FLAGS,
    Delivered,
    Flags,
    LineEnds,
    MailboxName,
    MessageKey,
    Pair,
    Stage,
    Uid,
    count_of,
)
from fetchmail_py.plan import push, twoway
from fetchmail_py.plan.actions import Action
from fetchmail_py.session import imap_store
from fetchmail_py.store import content
from fetchmail_py.store.maildir import LocalFile, letters_of
from fetchmail_py.store.state_base import StateDamaged
from fetchmail_py.sync.imap_boxes import Box
from fetchmail_py.sync.imap_deletions import Deletions
from fetchmail_py.sync.imap_trash import Trash
from fetchmail_py.sync.imap_work import Work
from fetchmail_py.wire.utf7 import printable

WHOLE = 1024 * 1024
"""Octets up to which a message is read before it is sent, so that it is certain what is sent."""
DELETE_AT_ONCE = 1000
REFUSALS = 10
"""Messages tried alone that are refused one after the other: then it is not for one of them."""
_TRANSIENT = {"UNAVAILABLE", "INUSE", "LIMIT", "THROTTLED", "SERVERBUG", "OVERQUOTA"}


class _Outgoing(NamedTuple):
    """A message on its way up."""

    row: Uid
    key: MessageKey
    flags: Flags


class Push:
    """One plan's changes at the server."""

    def __init__(self, work: Work, deletions: Deletions) -> None:
        self._work = work
        self._deletions = deletions
        self._trash = Trash(work, deletions)
        self._merged: set[tuple[MailboxName, Uid]] = set()

    # -- before downloads: moves and copies --------------------------------------------------------------------------

    def moves(self, actions: Sequence[Action]) -> None:
        """Messages that were moved or copied here."""
        flags: dict[MailboxName, list[push.MergeFlags]] = defaultdict(list)
        for action in actions:
            if isinstance(action, push.MergeFlags):
                flags[action.mailbox].append(action)
        # What is copied and moved as well can be copied only while it is where it was.
        for action in actions:
            if isinstance(action, push.CopyRemote):
                source, target = self._work.boxes[action.mailbox], self._work.boxes[action.to]
                self._guarded(target, partial(self._copy, action), source)
        for action in actions:
            if isinstance(action, push.MoveRemote):
                source, target = self._work.boxes[action.mailbox], self._work.boxes[action.to]
                going = set(action.uids)
                changes = [change for change in flags[action.mailbox] if change.uid in going]
                self._guarded(source, partial(self._merge, source, changes), target)
                self._guarded(source, partial(self._move, action), target)

    def _guarded(self, box: Box, work: Callable[[], None], other: Box | None = None) -> None:
        """Does it; a refusal stops this mailbox only, and the `other` one that has part in it."""
        try:
            work()
        except ServerBusy:
            raise
        except ServerRefused as error:
            if error.status == "BYE":
                raise
            self._work.run_of.fail(box, error)
            if other is not None:
                _undone(box, other)

    def _open(self, box: Box) -> bool:
        """Selects the mailbox for changes; where nothing may be changed, the next round plans with that."""
        opened = imap_store.open_for_changes(self._work.session, box.name, box.uidvalidity)
        if opened.read_only:
            box.row.read_only = True
            self._work.state.save_mailbox(box.row)
        if opened.reason is not None:
            box.unfinished = True
            self._work.run_of.again = True
            return False
        if opened.look is not None and opened.look.permanent_flags is not None:
            box.row.permanent_flags = " ".join(sorted(opened.look.permanent_flags))
        return True

    def _move(self, action: push.MoveRemote) -> None:
        box, target = self._work.boxes[action.mailbox], self._work.boxes[action.to]
        if not self._open(box):
            _undone(box, target)
            return
        self._work.home.commit()
        left: set[Uid] = set()
        moved = self._moved(box, action.uids, target, left)
        pairs = self._work.state.pairs_of(box.row.id, action.uids)
        taken = self._work.state.pairs_of(target.row.id, [new for new in moved.values() if new is not None])
        arrived: list[Uid] = []
        for uid, key, flags in zip(action.uids, action.keys, action.flags, strict=True):
            pair = pairs.get(uid)
            if pair is None or uid not in moved:
                continue
            new = moved[uid] if moved[uid] not in taken else None
            if uid in left:
                self._copied_over(box, uid, target, new, key, pair.flags)
                self._work.report.uploaded += 1
            elif new is not None:
                self._work.state.rebind(box.row.id, uid, target.row.id, new, pair.flags)
                self._work.state.set_key(target.row.id, new, key)
            else:
                self._work.state.send_over(box.row.id, uid, target.row.id, key, pair.flags)
            if new is not None:
                arrived.append(new)
            else:
                self._sent(target, key)  # not told where: the next look recognises it
            file = target.strangers.pop(key, None) or self._work.find(target, key, None)
            if file is not None:
                self._letters(target, key, file, flags)
            self._work.report.moved_remote += uid not in left
        target.touched = True
        self._work.home.save_keywords()
        self._work.home.commit()
        if not self._confirm(target, arrived) or imap_store.quirk_gmail_keeps(self._work.session):
            box.unfinished = True  # perhaps they are where they were

    def _copied_over(self, box: Box, uid: Uid, target: Box, new: Uid | None, key: MessageKey, flags: Flags) -> None:
        """A message that was to move is in both mailboxes now: its file has a row of its own where it lies."""
        known = self._work.state.known_message(box.row.id, uid)
        assert known is not None
        ((_, _, wire, size, digest, line_ends, date),) = self._work.state.upload_facts(box.row.id, [uid])
        row = self._work.state.next_unpaired_uid(target.row.id) if new is None else new
        facts = Delivered(key, wire, size, digest, line_ends, known.identity)
        self._work.state.add_arriving(
            target.row.id, [(row, flags, date, facts)], stage=Stage.SENT if new is None else Stage.PAIRED
        )
        self._deletions.original_stays(box, uid)

    def _moved(self, box: Box, uids: Sequence[Uid], target: Box, left: set[Uid]) -> dict[Uid, Uid | None]:
        """Moves messages: their old UIDs, and the new ones where they are told. What is left out has not been moved.

        What could only be copied is added to `left`.
        A server may refuse all for one of them: then each is tried alone. What is not moved must be seen again in both mailboxes:
        a file of which only the absence from its old place is known would count as deleted.
        """
        moved: dict[Uid, Uid | None] = {}
        failed: ServerRefused | None = None
        lots = [tuple(uids)]
        in_a_row = 0
        why = self._deletions.forbidden(box)
        may_delete = not why
        while lots and in_a_row < REFUSALS:
            lot = lots.pop(0)
            try:
                if may_delete:
                    copied = imap_store.move(self._work.session, box.name, box.uidvalidity, lot, target.name)
                else:
                    copied = imap_store.copy(self._work.session, lot, target.name)._replace(left=lot)
            except ServerRefused as error:
                if isinstance(error, ServerBusy) or error.status == "BYE":
                    raise
                if error.code == "NOPERM" and may_delete:
                    # Which of the two mailboxes it is about, a copy tells.
                    may_delete, why = False, error.detail
                    lots.insert(0, lot)
                elif len(lot) > 1:
                    lots = [(uid,) for uid in lot]
                else:
                    failed = error
                    in_a_row += 1
                continue
            in_a_row = 0
            left.update(copied.left)
            self._deletions.hold(box, copied.left, copied.reason or why)
            if copied.uids and copied.uidvalidity == target.uidvalidity:
                # What is not among them was gone before it could be moved.
                moved |= {uid: copied.uids[uid] for uid in lot if uid in copied.uids}
            elif len(uids) == 1 or len(lot) > 1 or not imap_store.has_uidplus(self._work.session):
                moved |= dict.fromkeys(lot)
        if len(moved) < len(uids):
            _undone(box, target)
            self._work.run_of.again = self._work.run_of.again or len(moved) + in_a_row < len(uids)
        if failed is not None:
            self._work.run_of.fail(box, failed)
        return moved

    def _sent(self, box: Box, key: MessageKey) -> None:
        """The server has the message, or says so, and has not told where: the next look shows it."""
        self._work.run_of.sent.add((box.row.id, key))
        box.unfinished = self._work.run_of.again = True

    def _confirm(self, box: Box, uids: Sequence[Uid]) -> bool:
        """Looks at the UIDs that the server told of messages it took: one that is not there would count as deleted next time.

        Returns whether all are there.
        """
        if not uids:
            return True
        there = imap_store.present(self._work.session, box.name, box.uidvalidity, uids)
        pairs = self._work.state.pairs_of(box.row.id, uids)
        missing = {uid: pair for uid, pair in pairs.items() if uid not in there}
        for uid, pair in pairs.items():
            if uid in missing:
                self._sent(box, pair.key)
            else:
                self._work.no_longer_aside(box, pair.key, uid)
        if missing:
            self._work.state.unpair(box.row.id, missing, Stage.SENT)
        self._work.home.commit()
        return not missing

    def _letters(self, box: Box, key: MessageKey, file: LocalFile, flags: Flags) -> None:
        """Exactly these flags, with the letters that keywords have in this mailbox."""
        wanted = letters_of(flags, self._work.home.keyword_letters(box.row, flags))
        self._work.home.save_keywords()
        remove = "".join(letter for letter in file.letters if letter not in wanted and (letter.islower() or letter in "DFPRST"))
        if box.maildir.set_flags(key, file, add=wanted, remove=remove) is not None:
            box.touched = True
            self._work.home.barrier.created((box.maildir.new, box.maildir.cur))

    def _copy(self, action: push.CopyRemote) -> None:
        source, target = self._work.boxes[action.mailbox], self._work.boxes[action.to]
        if not imap_store.open_to_read(self._work.session, source.name, source.uidvalidity):
            _undone(source, target)
            self._work.run_of.again = True
            return
        self._work.home.commit()
        uids = list(dict.fromkeys(action.uids))
        self._begin(target, action.rows)
        copied = imap_store.copy(self._work.session, uids, target.name)
        known = bool(copied.uids) and copied.uidvalidity == target.uidvalidity
        base = self._work.state.pairs_of(source.row.id, uids)
        arrived: list[Uid] = []
        for uid, row in zip(action.uids, action.rows, strict=True):
            new = copied.uids.get(uid) if known else None
            mine = self._work.state.pairs_of(target.row.id, [row]).get(row)
            if mine is None:
                continue
            # A keyword's letter means something in one mailbox only: a copied file has those of its original.
            if uid not in base:
                self._work.run_of.again = target.unfinished = True  # its row has gone: it goes up
                continue
            before = base[uid].flags
            changed = source.snapshot.changed.get(uid) if source.snapshot is not None else None
            there = before if changed is None else changed.flags
            here = frozenset(mine.flags & FLAG_TO_LETTER.keys()) | frozenset(before - FLAG_TO_LETTER.keys())
            flags = twoway.merge(before, here, there)
            if known and new is None:
                self._work.run_of.again = True  # the original was gone before it could be copied: it goes up
                continue
            if new is None or self._work.state.pairs_of(target.row.id, [new]):
                self._work.state.set_stage(target.row.id, [row], Stage.SENT)
                self._sent(target, mine.key)
            else:
                self._work.state.rebind(target.row.id, row, target.row.id, new, there)
                arrived.append(new)
            file = self._work.find(target, mine.key, mine)
            if file is not None:
                self._letters(target, mine.key, file, flags)
            if flags != there:
                self._work.run_of.again = True
            self._work.report.uploaded += 1
        target.touched = True
        self._work.home.save_keywords()
        self._work.home.commit()
        self._confirm(target, arrived)

    # -- uploads -----------------------------------------------------------------------------------------------------

    def uploads(self, actions: Sequence[Action]) -> None:
        """Messages that only this side has."""
        rows: dict[MailboxName, list[Uid]] = defaultdict(list)
        for action in actions:
            if isinstance(action, push.UploadAgain):
                box = self._work.boxes[action.mailbox]
                if ("raised", box.row.id, action.uid) not in self._work.run_of.once:
                    # It may have been moved to where we had looked already: a second look tells.
                    self._work.run_of.once.add(("raised", box.row.id, action.uid))
                    box.unfinished = self._work.run_of.again = True
                    continue
                rows[action.mailbox] += self._work.state.unpair(box.row.id, [action.uid], Stage.NEW).values()
            elif isinstance(action, push.Upload):
                rows[action.mailbox] += action.rows
        self._work.home.commit()
        for name, uids in rows.items():
            box = self._work.boxes[name]
            self._guarded(box, partial(self._upload, box, uids))

    def _upload(self, box: Box, rows: Sequence[Uid]) -> None:
        # What was recognised meanwhile, in a download, has a UID by now.
        pairs = {uid: pair for uid, pair in self._work.state.pairs_of(box.row.id, rows).items() if pair.stage != Stage.SENT}
        if not pairs:
            return
        if not box.uidvalidity:
            box.unfinished = self._work.run_of.again = True
            return
        waiting = [uid for uid, pair in pairs.items() if box.doubtful and pair.stage != Stage.NEW]
        if waiting:
            box.unfinished = True
            self._work.run_of.note(
                f"{printable(box.name)}: {count_of(len(waiting), 'message')} here may be at the server already, which does not "
                "show all it has: not uploaded in this run"
            )
            pairs = {uid: pair for uid, pair in pairs.items() if uid not in waiting}
        self._begin(box, pairs)
        told: list[Uid] = []
        sent: dict[int, _Outgoing] = {}
        uploads = self._outgoing(box, pairs, sent)
        for lot in imap_store.append(self._work.session, box.name, uploads):
            taken: list[Uid] = []
            for upload, outcome in lot:
                message = sent.pop(id(upload))
                if outcome.refused is not None:
                    self._refused(box, message, outcome.refused)
                    continue
                self._work.report.uploaded += 1
                new = outcome.uid if outcome.uidvalidity == box.uidvalidity else None
                if new is not None and new not in taken and not self._work.state.pairs_of(box.row.id, [new]):
                    taken.append(new)
                    self._work.state.rebind(box.row.id, message.row, box.row.id, new, message.flags)
                else:
                    self._work.state.set_stage(box.row.id, [message.row], Stage.SENT)
                    self._sent(box, message.key)
            self._work.home.commit()
            told += taken
            self._work.run_of.stop.check()
        self._confirm(box, told)

    def _begin(self, box: Box, rows: Iterable[Uid]) -> None:
        """The intent, before the effect: from here on the server may have these, whatever becomes of its answer."""
        self._work.state.set_stage(box.row.id, rows, Stage.KEPT)
        self._work.home.commit()

    def _outgoing(self, box: Box, pairs: dict[Uid, Pair], sent: dict[int, _Outgoing]) -> Iterator[imap_store.Upload]:
        limit = _append_limit(self._work.session.capabilities)
        storable = storable_flags(box.row.permanent_flags)
        for row, key, wire, size, digest, line_ends, date in self._work.state.upload_facts(box.row.id, pairs):
            pair = pairs[row]
            file = self._work.find(box, key, pair)
            path = "" if file is None else box.maildir.path_of(file)
            try:
                if file is None:
                    raise FileNotFoundError(path)
                if line_ends == LineEnds.AS_RECEIVED:
                    bare = content.bare_line_feeds(path)
                    if bare:
                        # Servers refuse these, or mend them themselves: then nobody knows what they made of it.
                        wire, line_ends = size + bare, LineEnds.MIXED  # noqa: PLW2901
                        self._work.state.set_wire(box.row.id, row, wire, line_ends)
                        self._work.home.commit()
                if date is None:
                    date = int(os.stat(path).st_mtime)  # noqa: PLW2901
                upload = self._prepared(path, wire, size, digest, line_ends)
            except FileNotFoundError:
                # Removed, or renamed to where the next look finds it.
                self._work.state.forget(box.row.id, [row])
                self._work.run_of.again = True
                continue
            if upload is None:
                self._work.state.forget(box.row.id, [row])  # edited since it was read: the next look reads it anew
                self._work.run_of.again = True
                continue
            if limit is not None and wire > limit:
                box.unfinished = True
                reason = f"{wire} octets are more than the server takes ({limit})"
                self._work.state.defer(box.row.id, f"file:{key}", reason, time.time())
                continue
            flags = self._work.home.flags_known(box.row, file, pair.flags)
            flags = frozenset(flag for flag in flags if storable is None or flag in storable)
            ready = imap_store.Upload(flags, date, wire, upload.chunks)
            sent[id(ready)] = _Outgoing(row, key, flags)
            yield ready

    def _prepared(self, path: str, wire: int, size: int, digest: bytes, line_ends: int) -> content.WireSource | None:
        """Where the octets come from; None if the file is not what was read before."""
        if size > WHOLE:
            return content.WireSource(path, line_ends) if os.stat(path).st_size == size else None
        with open(content.open_message(path), "rb") as file:
            data = file.read()
        if sha256(data).digest() != digest:
            return None
        source = content.WireSource(path, line_ends, data)
        return source if sum(map(len, source.chunks())) == wire else None

    def _refused(self, box: Box, message: _Outgoing, error: ServerRefused) -> None:
        if isinstance(error, ServerBusy) or error.code in _TRANSIENT:
            if error.code == "OVERQUOTA":
                # It lasts until somebody makes room: `status` names where it stopped.
                reason = f"not uploaded, nor what would come after it: the server has no room: {error.words}"
                self._work.state.defer(box.row.id, f"file:{message.key}", reason, time.time())
                self._work.home.commit()
            raise error
        if error.code in {"TRYCREATE", "NONEXISTENT", "NOPERM", "READ-ONLY"}:
            if error.code in {"NOPERM", "READ-ONLY"}:
                box.row.read_only = True
                self._work.run_of.again = box.unfinished = True
                return
            raise error
        box.unfinished = True
        self._work.state.defer(box.row.id, f"file:{message.key}", f"not uploaded: {error.detail}", time.time())

    # -- flags -------------------------------------------------------------------------------------------------------

    def flags_here(self, actions: Iterable[Action]) -> None:
        """Flags that only the files are to have: the connection may be busy with something else.

        A folder that fails must not keep new mail from coming in: it gets another try with the other flags, and is told of then.
        """
        mine = [action for action in actions if isinstance(action, push.MergeFlags) and not (action.add or action.remove)]
        merged = set(self._merged)
        self._work.home.commit()
        try:
            self.flags(mine)
        except StateDamaged:
            raise
        except StoreError:
            self._work.state.rollback()
            # A keyword's name that cannot be written, say: nobody has its letter yet.
            self._work.home.forget_keywords({self._work.boxes[action.mailbox].row.id for action in mine})
            self._merged = merged

    def flags(self, actions: Iterable[Action]) -> None:
        """Flags, both ways."""
        by_box: dict[MailboxName, list[push.MergeFlags]] = defaultdict(list)
        for action in actions:
            if isinstance(action, push.MergeFlags) and (action.mailbox, action.uid) not in self._merged:
                by_box[action.mailbox].append(action)
        for name, changes in by_box.items():
            box = self._work.boxes[name]
            self._guarded(box, partial(self._merge, box, changes))

    def _merge(self, box: Box, changes: Sequence[push.MergeFlags]) -> None:
        if not changes:
            return
        self._merged.update((box.name, change.uid) for change in changes)
        groups: dict[tuple[Flags, Flags], list[Uid]] = defaultdict(list)
        for change in changes:
            if change.add or change.remove:
                groups[change.add, change.remove].append(change.uid)
        failed: set[Uid] = set()
        unstorable: Flags = NO_FLAGS
        if groups:
            if not self._open(box):
                return
            storable = storable_flags(box.row.permanent_flags)
            if storable is not None:
                unstorable = frozenset().union(*(add for add, _ in groups)) - storable
                groups = _without(groups, unstorable)
            stores = [imap_store.FlagStore(tuple(uids), add, remove) for (add, remove), uids in groups.items()]
            for store, error in imap_store.store_flags(self._work.session, box.name, stores):
                if error is None:
                    self._work.report.flags_pushed += len(store.uids)
                    continue
                failed.update(store.uids)
                box.unfinished = True
                if isinstance(error, ServerBusy):
                    raise error
                if error.code in {"NOPERM", "READ-ONLY"}:
                    box.row.read_only = True
                count = count_of(len(store.uids), "message")
                self._work.run_of.note(f"{printable(box.name)}: flags of {count} not taken: {error.detail}")
        pairs = self._work.state.pairs_of(box.row.id, [change.uid for change in changes])
        agreed = []
        for change in changes:
            pair = pairs.get(change.uid)
            if pair is None or change.uid in failed:
                continue
            if change.pull and self._work.set_flags(box, pair, change.here):
                self._work.report.flags_pulled += 1
            agreed.append((change.uid, change.agreed - (change.add & unstorable)))
        self._work.state.set_flags(box.row.id, agreed)
        # The names first: a row must never say what the directory does not have.
        self._work.home.barrier.directories(())
        self._work.home.commit()

    # -- deletions ---------------------------------------------------------------------------------------------------

    def deletions(self, actions: Iterable[Action]) -> None:
        """What was deleted here goes at the server, to its trash or for good: all of a mailbox's at once."""
        groups: dict[tuple[MailboxName, MailboxName | None], tuple[set[Uid], set[Uid]]] = {}
        for action in actions:
            if isinstance(action, push.DeleteAtServer | push.TrashAtServer):
                for trash, going in self._trash.ways(action):
                    uids, also_here = groups.setdefault((action.mailbox, trash), (set(), set()))
                    uids.update(going)
                    also_here.update(going if action.also_here else ())
        for (name, trash), (uids, also_here) in groups.items():
            self._work.run_of.stop.check()
            box = self._work.boxes[name]
            self._guarded(box, partial(self._delete, box, uids, also_here, trash))

    def _delete(self, box: Box, uids: set[Uid], also_here: set[Uid], trash: MailboxName | None) -> None:
        going = self._deletions.untried(box, sorted(uids))
        forbidden = self._deletions.forbidden(box)
        if forbidden or not going:
            self._deletions.hold(box, going, forbidden)
            return
        if trash is None:
            self._expunge(box, going, also_here)
            return
        self._trash.expect(box, going, trash)
        for lot in self._lots(box, going):
            try:
                taken = self._trash.take(box, lot, also_here, trash)
            except ServerRefused as error:
                if error.code != "NOPERM":
                    raise
                self._deletions.hold(box, lot, f"the server does not allow it: {error.detail}")
                return
            gone = [uid for uid in lot if taken.gone.get(uid)]
            followed = self._trash.follow(box, also_here.intersection(gone), taken, trash)
            self._deleted(box, gone, also_here.intersection(taken.gone))
            for uid in taken.gone.keys() - gone:
                self._deletions.original_stays(box, uid)
            self._trash.settle(box, taken.gone)
            if followed:
                self._confirm(self._work.boxes[trash], followed)
            self._work.home.commit()
            if not gone:
                break  # nor will the rest
        if not imap_store.has_uidplus(self._work.session):
            self._expunge(box, (), set())

    def _expunge(self, box: Box, going: Sequence[Uid], also_here: set[Uid]) -> None:
        if not imap_store.has_uidplus(self._work.session):
            # A plain EXPUNGE takes all that is marked or nothing: what moves have left over goes with it.
            going = sorted({*going, *self._deletions.left_over(box)})
        for lot in self._lots(box, going):
            gone = self._deletions.delete(box, lot).uids
            self._deleted(box, gone, also_here.intersection(gone))
            if not gone:
                return  # nor will the rest

    def _lots(self, box: Box, uids: Sequence[Uid]) -> Iterator[list[Uid]]:
        """What is deleted between two commits, as long as the mailbox can be changed."""
        at_once = DELETE_AT_ONCE if imap_store.has_uidplus(self._work.session) else max(1, len(uids))
        for start in range(0, len(uids), at_once):
            if not self._open(box):
                return
            lot = self._work.without_others(box, uids[start : start + at_once])
            if lot:
                yield lot

    def _deleted(self, box: Box, uids: Collection[Uid], files: Iterable[Uid]) -> None:
        """These are gone from where they were at the server; and so go these `files`."""
        self._files(box, files)
        self._work.state.forget(box.row.id, uids)
        self._work.state.put(f"announced-there:{box.row.id}", None)
        self._work.report.deleted_remote += len(uids)
        self._work.home.barrier.directories(())
        self._work.home.commit()

    def _files(self, box: Box, uids: Iterable[Uid]) -> None:
        for pair in self._work.state.pairs_of(box.row.id, uids).values():
            file = self._work.find(box, pair.key, pair)
            if file is not None:
                self._work.remove(box, pair.uid, pair.key, file)


def _undone(*boxes: Box) -> None:
    """What was to be done there has not been done: the next look must see all of it again, here as at the server."""
    for box in boxes:
        box.unfinished = box.touched = True


def _without(groups: dict[tuple[Flags, Flags], list[Uid]], flags: Flags) -> dict[tuple[Flags, Flags], list[Uid]]:
    """The same without adding these flags."""
    found: dict[tuple[Flags, Flags], list[Uid]] = defaultdict(list)
    for (add, remove), uids in groups.items():
        if add - flags or remove:
            found[add - flags, remove] += uids
    return found


def storable_flags(permanent: str | None) -> Flags | None:
    """The flags a mailbox can store, from its PERMANENTFLAGS; None: any, or not known."""
    if permanent is None:
        return None
    words = frozenset(permanent.split())
    return None if "\\*" in words or not words else words


def _append_limit(capabilities: Iterable[str]) -> int | None:
    """APPENDLIMIT (RFC 7889), where it is one for all mailboxes."""
    for name in capabilities:
        word, _, number = name.partition("=")
        if word == "APPENDLIMIT" and number.isascii() and number.isdigit():
            return int(number)
    return None


__all__ = ["Push", "storable_flags"]
