"""What was deleted here goes to the trash at the server. A cut there leaves neither two copies nor a deletion forgotten.

Without MOVE (RFC 6851) a message is copied first and deleted then; and what is marked \\Deleted is unmarked before, so that it
stays in the trash. So what is to go there, and what the trash had before, is in the state before the server is told anything.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import NamedTuple

from fetchmail_py.errors import ServerRefused
from fetchmail_py.identity import NO_IDENTITY, identity
from fetchmail_py.model import DELETED, NO_FLAGS, UID_MAX, MailboxName, RemoteMailbox, Uid, UidSet
from fetchmail_py.plan import patterns, push
from fetchmail_py.plan.actions import MoveLocal
from fetchmail_py.session import imap_store
from fetchmail_py.session.imap_fetch import Identified, identify
from fetchmail_py.session.imap_look import read_select, select_command
from fetchmail_py.sync.imap_boxes import Box, can_rename
from fetchmail_py.sync.imap_deletions import Deletions
from fetchmail_py.sync.imap_work import Work


class _Intent(NamedTuple):
    """Messages of one mailbox that are on their way to the trash."""

    uidvalidity: int
    """Of the mailbox they are in."""
    trash: str
    trash_uidvalidity: int
    """0: there was no trash."""
    since: int
    """The trash's UIDNEXT before: their copies have no lower UIDs."""
    uids: list[int]


class Taken(NamedTuple):
    """What is in the trash now."""

    gone: dict[Uid, bool]
    """Whether each is gone from where it was."""
    uids: dict[Uid, Uid]
    """Which UID each has in the trash, as far as the server tells."""
    uidvalidity: int
    """The trash's; 0: not told."""


class Trash:
    """One plan's way to the trash."""

    def __init__(self, work: Work, deletions: Deletions) -> None:
        self._work = work
        self._deletions = deletions
        self._atomic = bool(work.session.capabilities & {"MOVE", "IMAP4REV2"})

    def ways(self, action: push.DeleteAtServer | push.TrashAtServer) -> Iterator[tuple[MailboxName | None, Collection[Uid]]]:
        """Where the action's messages go: what an earlier run did not get into the trash still has to go there first."""
        if isinstance(action, push.TrashAtServer):
            yield action.to, action.uids
            return
        intent = self._intent(self._work.boxes[action.mailbox])
        pending = set() if intent is None else set(action.uids).intersection(intent.uids)
        if intent is not None and pending:
            yield MailboxName(intent.trash), pending
        yield None, [uid for uid in action.uids if uid not in pending]

    def expect(self, box: Box, uids: Collection[Uid], trash: MailboxName) -> None:
        """They are about to be moved there, and will come down again as what they were."""
        name = RemoteMailbox(trash, box.remote.delimiter, frozenset())
        if trash in self._work.boxes or patterns.wanted(name, self._work.run_of.account.mailboxes):
            known = [self._work.state.known_message(box.row.id, uid) for uid in uids]
            self._work.trashed.expect(trash, [message.sha256 for message in known if message is not None])
            self._work.home.commit()

    def take(self, box: Box, uids: Sequence[Uid], also_here: Collection[Uid], trash: MailboxName) -> Taken:
        """Moves messages of the mailbox selected for changes. Raises ServerRefused."""
        there = self._there_already(box, uids, trash)
        if self._work.run_of.account.expunge or not self._atomic:
            self._begin(box, uids, trash)
        opened = imap_store.open_for_changes(self._work.session, box.name, box.uidvalidity)
        if opened.reason is not None:
            box.unfinished = self._work.run_of.again = True
            return Taken({}, {}, 0)
        if self._work.run_of.account.expunge:
            self._unmark(box, uids, also_here)
        try:
            copied = imap_store.move(self._work.session, box.name, box.uidvalidity, uids, trash, there)
        except ServerRefused as error:
            if error.code not in {"TRYCREATE", "NONEXISTENT"}:
                raise
            imap_store.create(self._work.session, trash)
            copied = imap_store.move(self._work.session, box.name, box.uidvalidity, uids, trash, there)
        self._work.run_of.again = True
        self._deletions.hold(box, copied.left, copied.reason or "")
        # What is told as neither moved nor copied is not there.
        known = {*copied.uids, *there}
        gone = {uid: uid not in copied.left for uid in uids if uid not in copied.left or not copied.uids or uid in known}
        if trash in self._work.trashed:
            self._work.trashed.are(copied.uidvalidity, copied.uids.values())
        return Taken(gone, copied.uids, copied.uidvalidity)

    def follow(self, box: Box, uids: Iterable[Uid], taken: Taken, trash: MailboxName) -> list[Uid]:
        """Files that are still here go to the trash here too, rather than that they come down again; returns their UIDs there.

        Only where it is certain which message they are there, and where a rename reaches it.
        """
        target = self._work.boxes.get(trash)
        if target is None or target.vanished or taken.uidvalidity != target.uidvalidity:
            return []
        if not can_rename(self._work.home, box, target):
            return []
        known = self._work.state.pairs_of(target.row.id, taken.uids.values())
        moves = []
        for uid, pair in self._work.state.pairs_of(box.row.id, uids).items():
            file, new = self._work.find(box, pair.key, pair), taken.uids.get(uid)
            if file is not None and new is not None and new not in known:
                here = self._work.home.flags_known(box.row, file, pair.flags) - {DELETED}
                moves.append(MoveLocal(box.name, uid, pair.key, trash, new, pair.flags - {DELETED}, None, here))
        self._work.move(moves)
        return [move.to_uid for move in moves]

    def settle(self, box: Box, uids: Collection[Uid]) -> None:
        """These are in the trash."""
        intent = self._intent(box)
        if intent is not None:
            self._put(box, intent._replace(uids=[uid for uid in intent.uids if uid not in uids]))

    # -- the intent --------------------------------------------------------------------------------------------------

    def _intent(self, box: Box) -> _Intent | None:
        words = self._work.state.get(_fact(box))
        intent = None if words is None else _Intent(*json.loads(words))
        return intent if intent is not None and intent.uidvalidity == box.uidvalidity else None

    def _put(self, box: Box, intent: _Intent) -> None:
        self._work.state.put(_fact(box), json.dumps(intent) if intent.uids else None)

    def _begin(self, box: Box, uids: Sequence[Uid], trash: MailboxName) -> None:
        intent = self._intent(box)
        if intent is None or intent.trash != trash:
            intent = _Intent(box.uidvalidity, trash, *self._numbers(trash), [])
        self._put(box, intent._replace(uids=sorted({*intent.uids, *uids})))
        self._work.home.commit()

    def _numbers(self, trash: MailboxName) -> tuple[int, int]:
        """The trash's UIDVALIDITY and UIDNEXT, no later than now."""
        box = self._work.boxes.get(trash)
        if box is not None and box.remote.uidvalidity and box.remote.uidnext:
            return box.remote.uidvalidity, box.remote.uidnext
        opened = read_select(self._work.session, select_command(self._work.session, trash, read_only=True), trash)
        return (0, 1) if isinstance(opened, ServerRefused) else (opened.uidvalidity, opened.uidnext or 1)

    def _unmark(self, box: Box, uids: Sequence[Uid], also_here: Collection[Uid]) -> None:
        """Takes \\Deleted off: what lies in the trash with it would be removed from there at once.

        The mark may be all that tells of the deletion. So it is put on the file here first, where there is one.
        """
        pairs = self._work.state.pairs_of(box.row.id, uids)
        for uid in uids:
            if uid not in pairs:
                self._deletions.original_stays(box, uid)
        for uid in pairs.keys() & also_here:
            file = self._work.find(box, pairs[uid].key, pairs[uid])
            marked = None if file is None else box.maildir.set_flags(pairs[uid].key, file, add="T", remove="")
            if marked is not None and marked != file:
                files = box.files if box.files is not None else self._work.files.get(box.row.id, {})
                files[pairs[uid].key] = marked
                box.touched = True
                self._work.home.barrier.created((box.maildir.new, box.maildir.cur))
        self._work.state.set_flags(box.row.id, [(uid, pair.flags - {DELETED}) for uid, pair in pairs.items()])
        self._work.home.barrier.directories(())
        self._work.home.commit()
        unmark = imap_store.FlagStore(tuple(uids), NO_FLAGS, frozenset({DELETED}))
        list(imap_store.store_flags(self._work.session, box.name, [unmark]))

    def _there_already(self, box: Box, uids: Sequence[Uid], trash: MailboxName) -> set[Uid]:
        """Which of them an earlier run has copied to the trash: alike in size and header, and no older there than its intent.

        What has no Message-ID is like no other, and is copied again: better twice in the trash than not at all.
        """
        intent = self._intent(box)
        asked = [] if intent is None or intent.trash != trash else [uid for uid in uids if uid in set(intent.uids)]
        if intent is None or not asked or self._atomic:
            return set()
        seen = identify(self._work.session, box.name, box.uidvalidity, UidSet.of(asked)) or ()
        originals = {message.uid: _likeness(message) for message in seen}
        opened = read_select(self._work.session, select_command(self._work.session, trash, read_only=True), trash)
        if isinstance(opened, ServerRefused) or intent.trash_uidvalidity not in {0, opened.uidvalidity}:
            return set()
        since = UidSet([(intent.since, UID_MAX)])
        copies = Counter(map(_likeness, identify(self._work.session, trash, opened.uidvalidity, since) or ()))
        found = set()
        for uid, likeness in originals.items():
            if likeness[0] != NO_IDENTITY and copies[likeness]:
                copies[likeness] -= 1
                found.add(uid)
        return found


def _fact(box: Box) -> str:
    return f"to-trash:{box.row.id}"


def _likeness(seen: Identified) -> tuple[bytes, int]:
    return identity(seen.header), seen.size
