"""Deletions at the server: only what is really gone there counts; what stays is set aside, told once, and tried by the next run."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence

from fetchmail_py.identity import NO_IDENTITY
from fetchmail_py.model import DELETED, NO_FILE, NO_FLAGS, Delivered, LineEnds, MailboxName, Stage, Uid
from fetchmail_py.plan import push
from fetchmail_py.plan.actions import Action, DeleteRemote, messages
from fetchmail_py.session import imap_store
from fetchmail_py.sync.imap_boxes import Box
from fetchmail_py.sync.imap_work import Work
from fetchmail_py.wire.utf7 import printable

SET_ASIDE = "delete:"
"""What names a message that is set aside because it cannot be deleted, before its UID."""


class Deletions:
    """What becomes of one plan's deletions at the server."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._held: dict[MailboxName, dict[Uid, str]] = defaultdict(dict)

    def begin(self, actions: Iterable[Action]) -> None:
        """What was set aside and is no longer to be deleted is forgotten."""
        aside: dict[int, set[str]] = defaultdict(set)
        for mailbox, ident in self._work.run_of.aside:
            if ident.startswith(SET_ASIDE):
                aside[mailbox].add(ident)
        if not aside:
            return
        for action in actions:
            if isinstance(action, DeleteRemote | push.DeleteAtServer | push.TrashAtServer):
                aside[self._work.boxes[action.mailbox].row.id].difference_update(_idents(action.uids))
        for box in self._work.boxes.values():
            if box.delta is not None:
                self._work.state.undefer(box.row.id, aside[box.row.id])
        if self._work.home.covers_all:
            covered = {box.row.id for box in self._work.boxes.values()}
            for mailbox in aside.keys() - covered:
                self._work.state.undefer(mailbox, aside[mailbox])

    def forbidden(self, box: Box) -> str:
        """Why nothing can be deleted in this mailbox; "" where the user's rights allow it, or are not known."""
        return "" if box.rights is None or imap_store.may_delete(box.rights) else _want_of(box.rights)

    def left_over(self, box: Box) -> list[Uid]:
        """What moves and earlier deletions left at the server: there is no file of it."""
        pairs = self._work.state.pairs_at(box.row.id, Stage.DELETING)
        return [uid for uid, pair in pairs.items() if pair.key == NO_FILE]

    def untried(self, box: Box, uids: Collection[Uid]) -> list[Uid]:
        """Those that this run has not tried in vain."""
        found = [uid for uid in uids if ("delete", box.row.id, uid) not in self._work.run_of.once]
        box.unfinished = box.unfinished or len(found) < len(uids)
        return found

    def delete(self, box: Box, uids: Sequence[Uid]) -> imap_store.Deleted:
        """Deletes messages by UID; what stays is held. Raises ServerRefused."""
        looked = box.look.messages if box.look is not None else {}
        held = self._held[box.name]
        marked = {uid for uid in uids if uid in held or (uid in looked and DELETED in looked[uid].flags)}
        deleted = imap_store.delete(self._work.session, box.name, box.uidvalidity, tuple(uids), marked)
        for uid in deleted.uids:
            held.pop(uid, None)
        self._work.state.undefer(box.row.id, _idents(deleted.uids))
        if not deleted.read_only:
            self.hold(box, deleted.left, deleted.reason or "")
        return deleted

    def hold(self, box: Box, uids: Iterable[Uid], reason: str) -> None:
        """These are still there: this run does not try again, and says so at its end."""
        for uid in uids:
            self._held[box.name][uid] = reason
            self._work.run_of.once.add(("delete", box.row.id, uid))
            box.unfinished = True

    def original_stays(self, box: Box, uid: Uid) -> None:
        """A message was moved and is still where it was too: what is left to do is to delete it there.

        Its row must not claim a file: one that comes back under the name is another message.
        """
        if not self._work.state.pairs_of(box.row.id, [uid]):
            nothing = Delivered(NO_FILE, 0, 0, b"", LineEnds.AS_RECEIVED, NO_IDENTITY)  # marked there, and never here
            self._work.state.add_arriving(box.row.id, [(uid, NO_FLAGS, None, nothing)])
        self._work.state.set_stage(box.row.id, [uid], Stage.DELETING)
        self._work.state.set_key(box.row.id, uid, NO_FILE)

    def tell(self) -> None:
        """Sets aside what is held, and says why, once for each mailbox."""
        for name, held in self._held.items():
            box = self._work.boxes[name]
            if held and box.rights is None:
                box.rights = imap_store.my_rights(self._work.session, [name]).get(name)
            for reason in dict.fromkeys(held.values()):
                uids = [uid for uid, why in held.items() if why == reason]
                why = self.forbidden(box) or reason
                for ident in _idents(uids):
                    self._work.state.defer(box.row.id, ident, f"not deleted at the server: {why}", time.time())
                stay = "stays" if len(uids) == 1 else "stay"
                self._work.run_of.note(f"{printable(name)}: {messages(len(uids))} to be deleted {stay} at the server: {why}")
        self._held.clear()


def _idents(uids: Iterable[Uid]) -> list[str]:
    return [f"{SET_ASIDE}{uid}" for uid in uids]


def _want_of(rights: str) -> str:
    return (
        f"you have no right to delete there (MYRIGHTS {rights or 'none'}; it takes t and e): "
        "have it granted, or leave the mailbox out with `mailboxes`"
    )
