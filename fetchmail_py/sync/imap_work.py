"""What the parts of an IMAP run share: the run as all of them know it, and the plan that is being carried out."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Sequence

from fetchmail_py.errors import FetchmailError, ServerBusy, ServerRefused, StoreError
from fetchmail_py.identity import NO_IDENTITY, identity
from fetchmail_py.model import NO_FILE, Flags, MailboxName, MessageKey, Pair, Uid, UidSet
from fetchmail_py.plan import oneway, twoway
from fetchmail_py.plan.actions import MoveLocal
from fetchmail_py.report import Alert
from fetchmail_py.session.imap import ImapSession
from fetchmail_py.session.imap_fetch import identify
from fetchmail_py.session.login import Login
from fetchmail_py.store import content
from fetchmail_py.store.delivery import new_key
from fetchmail_py.store.maildir import EditedError, LocalFile, letters_of
from fetchmail_py.sync.context import RunContext
from fetchmail_py.sync.home import endpoint_of
from fetchmail_py.sync.imap_boxes import Box
from fetchmail_py.sync.trashed import Trashed
from fetchmail_py.wire.utf7 import printable

MOVES_AT_ONCE = 256
"""Files that are moved between two commits."""
_MEANWHILE = {"EXPUNGEISSUED", "NONEXISTENT", "TRYCREATE"}
"""Refusals that tell of another client at work (RFC 5530)."""


class ImapAccount:
    """One run of one IMAP account, as far as whoever has part in it needs to know it."""

    def __init__(self, context: RunContext) -> None:
        self.home = context.home
        self.account = self.home.account
        mechanism = self.home.state.get("mechanism") or ""
        self.login = Login(self.account.user, self.account.auth, context.secret, mechanism)
        self.endpoint = endpoint_of(self.account)
        self.options = context.options
        self.report = context.report
        self.on_event = context.on_event
        self.note = context.note
        self.stop = context.stop
        self._connect = context.connect
        self.retry: dict[int, list[Uid]] = defaultdict(list)
        """UIDs set aside by earlier runs, by mailbox."""
        self.aside: set[tuple[int, str]] = set()
        """All that was set aside by earlier runs: mailbox, and what names the message."""
        self.sent: set[tuple[int, MessageKey]] = set()
        """What this run has sent to a server that does not tell UIDs: a later look must show it, in this run or the next."""
        self.renumbered_again: set[MailboxName] = set()
        """Mailboxes whose UIDVALIDITY has changed while this run was at work on them."""
        self.again = False
        """What was done is not yet seen on both sides: another look, another plan."""
        self.rounds_left = 0
        self.once: set[tuple[str, int, int]] = set()
        """What this run has done, told or begun to wait for, and does not do twice: what it is, mailbox, UID."""

    def connect(self) -> ImapSession:
        """A logged-in session."""
        with self.stop.heeded(self._connect) as connect:
            return ImapSession.open(
                self.endpoint,
                self.login,
                compress=self.account.compress is True,
                on_alert=lambda text: self.on_event(Alert(self.account.name, text)),
                connect=connect,
            )

    def fail(self, box: Box, error: FetchmailError) -> None:
        """A mailbox that could not be dealt with: the others go on, the account has failed.

        What somebody else has removed or renamed meanwhile is no failure before the last look has met it too.
        """
        if isinstance(error, ServerRefused) and error.code in _MEANWHILE and box.row.uidvalidity:
            if self.rounds_left and not self.options.dry_run and not self.options.adopt:
                box.unfinished = self.again = True
                return
            error = ServerBusy(error.command, error.status, error.text, code=error.code)
        error.mailbox = printable(box.name)
        box.row.last_error = error.detail
        box.unfinished = True
        if self.report.error is None:
            self.report.error = error


class Work:
    """A plan under way: where it works, and what its parts do to one message."""

    def __init__(self, run: ImapAccount, session: ImapSession, boxes: Sequence[Box]) -> None:
        self.run_of = run
        self.home = run.home
        self.state = run.home.state
        self.report = run.report
        self.session = session
        self.boxes = {box.name: box for box in boxes}
        self.files: dict[int, dict[MessageKey, LocalFile]] = {}
        """Directories that were read since the look, by mailbox."""
        self.fetched: set[tuple[MailboxName, Uid]] = set()
        """What came in during this run, where it is to be deleted at the server afterwards."""
        self.trashed = Trashed(run.home.state)
        self._keys: dict[int, set[MessageKey]] = {}
        """Every key that a file or a row has, of the mailboxes that files are moved into."""

    def create(self, box: Box) -> None:
        """Makes a mailbox's directory, as far as it is not there."""
        subfolder = self.run_of.account.layout == "maildir++" and bool(box.row.path)
        if not box.maildir.exists() or not os.path.isdir(box.maildir.tmp) or box.new:
            box.maildir.create(subfolder=subfolder)
        if box.look is not None:
            box.row.uidvalidity = box.look.uidvalidity
        box.row.settled = False
        self.state.save_mailbox(box.row)

    def no_longer_aside(self, box: Box, key: MessageKey, uid: Uid) -> None:
        """A message is on both sides. Nearly always nothing is set aside, and a question for each has its price."""
        if self.run_of.aside:
            idents = (f"file:{key}", str(uid))
            self.state.undefer(box.row.id, [ident for ident in idents if (box.row.id, ident) in self.run_of.aside])

    def find(self, box: Box, key: MessageKey, pair: Pair | None) -> LocalFile | None:
        """Where a message's file is: as its row suggests, else after one scan of the mailbox for all that are asked for."""
        if key == NO_FILE:
            return None
        if pair is not None and box.files is None and box.row.id not in self.files:
            letters = letters_of(pair.flags, self.home.keyword_letters(box.row, pair.flags))
            guesses = [LocalFile("cur", f"{key}:2,{letters}", letters)]
            if not pair.flags:
                guesses.insert(0, LocalFile("new", key, ""))
            for guess in guesses:
                if box.maildir.is_there(guess):
                    return guess
        files = box.files if box.files is not None else self.files.get(box.row.id)
        if files is None:
            files = self.files[box.row.id] = box.maildir.scan() if box.maildir.exists() else {}
        return files.get(key)

    def remove(self, box: Box, uid: Uid, key: MessageKey, file: LocalFile) -> None:
        """Removes a message's file, unless somebody has edited it: that is a message of its own, and stays."""
        box.touched = True
        known = self.state.known_message(box.row.id, uid)
        try:
            removed = box.maildir.remove(key, file, None if known is None else (known.size, known.sha256))
        except EditedError:
            if self.run_of.account.mode == twoway.DISCONNECTED:
                self.run_of.again = True  # once its old row is gone, it is new, and goes up
            else:
                self.run_of.note(f"{printable(box.name)}: {key} was edited here: deleted at the server, it is left alone here")
            return
        if removed:
            self.report.deleted_local += 1
            self.home.barrier.created((box.maildir.new, box.maildir.cur))

    def move(self, actions: Sequence[MoveLocal]) -> None:
        """Files go to other mailboxes. Their rows go first, as arrivals there: a cut in between leaves moves to be finished."""
        for start in range(0, len(actions), MOVES_AT_ONCE):
            begun = []
            for action in actions[start : start + MOVES_AT_ONCE]:
                going = self._moving(action)
                if going is not None:
                    begun.append((action, going))
            if not begun:
                continue
            self.home.save_keywords()
            self.home.commit()
            for action, going in begun:
                self._move(action, *going)
            self.home.barrier.directories(())
            self.state.arrived()
            for action, _ in begun:
                self.home.end_move(self.boxes[action.to].row, action.to_uid)
            self.home.commit()

    def _moving(self, action: MoveLocal) -> tuple[LocalFile, MessageKey, str] | None:
        """The intent to move a file: where it is, its key and its letters in the new place. None where it cannot be moved."""
        owner, target = self.boxes[action.mailbox], self.boxes[action.to]
        box = self.boxes[action.found_in or action.mailbox]
        two_way = self.run_of.account.mode == twoway.DISCONNECTED
        file = self.find(box, action.key, self.state.pairs_of(owner.row.id, [action.uid]).get(action.uid))
        if file is None and two_way:
            # Moved here too, since we looked: the next look finds out where to.
            for other in (owner, target, box):
                other.unfinished = other.touched = True
            self.run_of.again = True
            return None
        if file is None or (two_way and not self._as_stored(owner, box, action.uid, file)):
            # Gone or edited here: then it is simply new over there, and what was edited is a new message here.
            target.unfinished = box.touched = True
            self.run_of.again = True
            self.state.forget(owner.row.id, [action.uid])
            return None
        self.create(target)
        key = action.key if box is target else self._free_key(target, action.key)
        self.state.move(owner.row.id, action.uid, target.row.id, action.to_uid, action.flags)
        self.state.set_key(target.row.id, action.to_uid, key)
        flags = action.flags if action.here is None else action.here
        letters = letters_of(flags, self.home.keyword_letters(target.row, flags))
        self.home.begin_move(target.row, action.to_uid, box.row, action.key, letters)
        return file, key, letters

    def _move(self, action: MoveLocal, file: LocalFile, key: MessageKey, letters: str) -> None:
        target, box = self.boxes[action.to], self.boxes[action.found_in or action.mailbox]
        if box is target:
            # It was brought there by hand already.
            self.report.moved_local += 1
        elif box.maildir.move(action.key, file, target.maildir, letters, key) is None:
            self.state.forget(target.row.id, [action.to_uid])
            target.unfinished = True
        else:
            self.report.moved_local += 1
        if action.here is not None:
            self.run_of.again = True
        self.home.barrier.created((box.maildir.new, box.maildir.cur, target.maildir.new, target.maildir.cur))
        box.touched = target.touched = True

    def _free_key(self, target: Box, key: MessageKey) -> MessageKey:
        """The key that a file gets in the mailbox that it is moved to: its own, unless a message there has the same.

        `cp` keeps a file's name, and so its key: two messages of one key in one mailbox could not be told apart.
        """
        taken = self._keys.get(target.row.id)
        if taken is None:
            rows = self.state.rows(target.row.id)
            known = {MessageKey(octets.decode("utf-8", "surrogatepass")) for _, octets, _, _ in rows}
            taken = self._keys[target.row.id] = target.maildir.every_key() | known
        if key in taken:
            key = new_key()
        taken.add(key)
        return key

    def _as_stored(self, owner: Box, box: Box, uid: Uid, file: LocalFile) -> bool:
        """Whether a file, which lies in `box`, has the content that was stored: nobody has edited it, as far as can be told."""
        known = self.state.known_message(owner.row.id, uid)
        try:
            return known is None or not content.is_edited(
                box.maildir.path_of(file), known.size, known.sha256, known.internaldate
            )
        except (FileNotFoundError, StoreError):
            return True

    def set_flags(self, box: Box, pair: Pair, flags: Flags) -> bool:
        """Gives the file the flags: all of them in mode mirror, else those that changed at the server."""
        file = self.find(box, pair.key, pair)
        if file is None:
            return False
        new = letters_of(flags, self.home.keyword_letters(box.row, flags))
        old = letters_of(pair.flags, self.home.keyword_letters(box.row, pair.flags))
        if self.run_of.account.mode == oneway.MIRROR:
            old = file.letters
        self.home.save_keywords()
        remove = "".join(letter for letter in old if letter not in new)
        add = "".join(letter for letter in new if letter not in old) if self.run_of.account.mode != oneway.MIRROR else new
        changed = box.maildir.set_flags(pair.key, file, add=add, remove=remove)
        box.touched = True
        if changed is None or changed == file:
            return False
        if box.files is not None:
            box.files[pair.key] = changed
        self.home.barrier.created((box.maildir.new, box.maildir.cur))
        return True

    def without_others(self, box: Box, uids: Sequence[Uid]) -> list[Uid]:
        """These UIDs without those that name another message now: a server that gives UIDs again must not delete by ours.

        Another is one of another size and another header (some servers are wrong about one of them). Its row goes, so that the
        message is a new one. What this run has fetched has been seen under its UID just now.
        """
        known = {uid: self.state.known_message(box.row.id, uid) for uid in uids if (box.name, uid) not in self.fetched}
        told = {uid: message for uid, message in known.items() if message is not None and message.identity != NO_IDENTITY}
        if not told:
            return list(uids)
        others = set()
        for seen in identify(self.session, box.name, box.uidvalidity, UidSet.of(told)) or ():
            found = identity(seen.header)
            if found not in {NO_IDENTITY, told[seen.uid].identity} and seen.size != told[seen.uid].wire_size:
                others.add(seen.uid)
        if others:
            self.state.forget(box.row.id, others)
            box.row.highestmodseq = 0
            box.unfinished = self.run_of.again = True
            what = f"the server has other messages under {len(others)} UIDs that were to be deleted"
            self.run_of.note(f"{printable(box.name)}: {what}: they stay")
        return [uid for uid in uids if uid not in others]
