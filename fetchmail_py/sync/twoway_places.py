"""The two-way mode's mailboxes and directories: made or renamed here, read where they changed, gone, or made anew."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence

from fetchmail_py.errors import SafetyStop, ServerRefused
from fetchmail_py.model import MailboxName, RemoteMailbox, count_of
from fetchmail_py.plan import patterns, twoway
from fetchmail_py.plan.actions import Action
from fetchmail_py.plan.push import CreateRemoteMailbox, RenameRemoteMailbox
from fetchmail_py.session import imap_store
from fetchmail_py.session.imap import ImapSession
from fetchmail_py.store.maildir import Maildir, Signature
from fetchmail_py.sync import local, place
from fetchmail_py.sync.imap import INBOX
from fetchmail_py.sync.imap_boxes import Box
from fetchmail_py.sync.twoway_names import TwoWayNames, delimiter_of
from fetchmail_py.wire.utf7 import printable


class TwoWayPlaces(TwoWayNames):
    """What a run in mode disconnected does before any message is looked at one by one."""

    _levels: dict[str, list[object]]
    """Folders whose name the server has only as a level of names, and does not make a mailbox: what was last told of each."""
    _not_there: set[MailboxName]
    """Dry run: mailboxes that are yet to be made at the server."""

    # -- mailboxes ---------------------------------------------------------------------------------------------------

    def places(self, session: ImapSession, listed: Sequence[RemoteMailbox], boxes: list[Box]) -> list[Action]:
        """Mailboxes made or renamed here: the server follows, at once, so that they can be looked at as all others."""
        if self.account.expunge and self.home.state.get("expunge") is None:
            self.options = self.options._replace(full=True)
        self._not_there = set()
        if self.options.mailboxes is not None or self.options.adopt or not os.path.isdir(self.home.root):
            return []
        account, state = self.account, self.home.state
        rows = state.mailboxes()
        paths = {row.path for row in rows.values()} | {box.row.path for box in boxes}
        unknown = [found for found in local.places(self.home.root, account.layout) if found.path not in paths]
        self._levels = {}
        try:
            return self._follow(session, listed, boxes, unknown)
        finally:
            if not self.options.dry_run:
                state.put(place.LEVELS, json.dumps(self._levels) if self._levels else None)

    def _follow(
        self, session: ImapSession, listed: Sequence[RemoteMailbox], boxes: list[Box], unknown: Sequence[local.Place]
    ) -> list[Action]:
        """The server gets what these directories are, which belong to no mailbox that is known."""
        if not unknown:
            return []
        account, state = self.account, self.home.state
        delimiter = delimiter_of(listed)
        names, odd = local.server_names(self.home, unknown, delimiter)
        for path in odd:
            self.note(f"{path}: this folder's name is not that of a mailbox: it is left alone")
        actions: list[Action] = []
        there = {box.name for box in listed}
        hollow = {box.name for box in listed if not box.selectable}
        mine = [box.row for box in boxes if not box.new and not box.vanished]
        known = sorted(mine, key=lambda row: row.name)  # what is below comes after
        renamed: dict[str, str] = {}
        for entry in local.renamed_here(self.home, known, unknown, names):
            old = entry.row.name
            if entry.name in there and entry.name != old:
                continue
            names.pop(entry.path)
            went_along = old == entry.name or any(
                old.startswith(was + delimiter) and entry.name == now + old[len(was) :] for was, now in renamed.items()
            )
            if not went_along:
                actions.append(RenameRemoteMailbox(old, entry.name))
            if self._rename_there(session, entry, boxes, delimiter, went_along=went_along):
                there.add(entry.name)
                renamed[old] = entry.name
        for path, name in names.items():
            found = RemoteMailbox(name, delimiter, frozenset())
            if name in there - hollow or not patterns.wanted(found, account.mailboxes):
                continue
            if self._create_there(session, name, path, hollow=name in hollow):
                actions.append(CreateRemoteMailbox(name))
                row = state.add_mailbox(name, delimiter, path)
                boxes.append(Box(found, row, self.home.maildir(row), new=True))
        return actions

    def _rename_there(
        self, session: ImapSession, entry: local.RenamedHere, boxes: list[Box], delimiter: str, *, went_along: bool
    ) -> bool:
        old, row, state = entry.row.name, entry.row, self.home.state
        if not self.options.dry_run and not went_along:
            self.home.begin_effects()
            try:
                imap_store.rename(session, old, entry.name)
            except ServerRefused as error:
                self.refused(error, old)
                return False
            self.report.moved_remote += 1
            for box in boxes:
                if box.row.id == row.id:
                    box.remote = box.remote._replace(name=entry.name)
                elif box.row.name.startswith(old + delimiter):
                    # What is below it has another name at the server too.
                    box.row.name = MailboxName(entry.name + box.row.name[len(old) :])
                    box.remote = box.remote._replace(name=box.row.name)
                    state.save_mailbox(box.row)
            row.name = entry.name
        row.path = entry.path
        state.save_mailbox(row)
        for box in boxes:
            if box.row.id == row.id:
                box.row = row
                box.maildir = self.home.maildir(row)
        self.home.commit()
        return True

    def _create_there(self, session: ImapSession, name: MailboxName, path: str, *, hollow: bool) -> bool:
        """Makes a mailbox; `hollow`: the server has the name already, as a level of names that holds no messages."""
        if self.options.dry_run:
            self._not_there.add(name)
            return True
        self.home.begin_effects()
        try:
            imap_store.create(session, name)
        except ServerRefused as error:
            if hollow and error.status == "NO":
                self._only_a_level(name, path, error.text)
            else:
                self.refused(error, name)
            return False
        return True

    def _only_a_level(self, name: MailboxName, path: str, said: str) -> None:
        """The server has the name and holds no messages there: told once, and again when the folder or its answer changes."""
        maildir = Maildir(f"{self.home.root}/{path}", self.home.barrier)
        now: list[object] = [said, *maildir.signature()[:2]]
        if json.loads(self.home.state.get(place.LEVELS) or "{}").get(name) != now:
            self.note(f"{printable(name)}: it holds no messages at the server ({said}): what is in its folder stays here")
        self._levels[name] = now

    # -- looking -----------------------------------------------------------------------------------------------------

    def look_here(self, box: Box) -> None:
        """Reads the mailbox's directory, unless nothing in it has changed since it was last read."""
        row, maildir = box.row, box.maildir
        if self.options.full:
            row.read_only = False  # asked again
        if (box.new and not maildir.has_a_part()) or row.id in self.home.between_places:
            return
        if not maildir.exists() and not self._may_be_made(box):
            return
        contents = self.by_content(box)
        if row.signature is not None and not contents and maildir.unchanged_since(Signature(*row.signature)):
            return
        local.look(self.home, box, contents=contents)
        self._made_anew(box)

    def by_content(self, box: Box) -> bool:
        """Whether the mailbox's files are looked at one by one, for edits.

        Drafts are edited under their names. And a state that was restored may be of before an edit: the file is then what has
        gone up since, not what the state says. So may a folder be.
        """
        if self.options.full or not self.home.trusted or local.is_a_copy(box):
            return True
        row = box.row
        drafts = "\\drafts" in box.remote.attributes or row.name.rpartition(box.remote.delimiter or "/")[2].lower() == "drafts"
        return drafts and self.home.state.count_present(row.id) <= local.EDITED_AMONG

    def _made_anew(self, box: Box) -> None:
        """A directory that is another than before, and has nothing of what it had, is no deletion of everything."""
        assert box.here is not None
        row = box.row
        paired = [uid for uid in box.here.missing if uid > 0]
        if row.inode is None or not paired or self.options.allow_mass_delete:
            return
        if box.maildir.inode() == row.inode and row.born in {None, box.maildir.born()}:
            return
        known = self.home.state.count_present(row.id)
        if not place.is_another(len(paired), known):
            # A copy that was restored, say: what it lacks is fetched again.
            box.another_folder = True
            return
        if self.options.fresh:
            self.home.state.forget(row.id, list(self.home.state.pairs(row.id)))
            row.highestmodseq, row.settled = 0, False
            box.pairs = {}
            local.look(self.home, box, contents=False)
            return
        box.vanished = True
        # Whatever else is in it waits as well, and the next run asks again.
        box.signature = row.signature = None
        box.unfinished = True
        stop = place.made_anew(self.account.name, len(paired), known)
        stop.mailbox = printable(box.name)
        self.report.stops.append(stop)

    def _may_be_made(self, box: Box) -> bool:
        """Whether what is missing of a mailbox's directory may be made, so that it can be read now."""
        row, maildir, state = box.row, box.maildir, self.home.state
        known = state.count_present(row.id)
        if box.new or (not known and row.inode is None):
            if maildir.has_a_part() and not self.options.dry_run:
                self.home.begin_effects()
                maildir.create()
            return maildir.exists()
        if self.options.fresh:
            state.forget(row.id, list(state.pairs(row.id)))
            row.highestmodseq, row.settled, row.signature, row.inode = 0, False, None, None
            state.save_mailbox(row)
            if maildir.has_a_part() and not self.options.dry_run:
                self.home.begin_effects()
                maildir.create()
            return maildir.exists()
        if maildir.has_a_part() and local.part_has_all(self.home, box):
            # Some tools leave empty directories out when they copy: new/ is missing, and cur/ has everything.
            if not self.options.dry_run:
                self.home.begin_effects()
                maildir.create()
            return maildir.exists()
        box.vanished = True
        if maildir.has_a_part():
            self.report.stops.append(
                SafetyStop(
                    f"half of its folder is missing: of new/ and cur/ there is only one; it had {count_of(known, 'message')}",
                    hint=f"restore {maildir.path}; or download it again: fetchmail-py sync {self.account.name} --fresh",
                    mailbox=printable(box.name),
                )
            )
            return False
        if box.name == INBOX and known:
            # Nobody gives up their INBOX by removing its folder: new mail would stay out, and a cron job say nothing of it.
            self.report.stops.append(
                SafetyStop(
                    f"its folder is gone here, which had {count_of(known, 'message')}; nothing is deleted at the server, and "
                    "no new mail comes in",
                    hint=f"restore {maildir.path}; or download it again: fetchmail-py sync {self.account.name} --fresh",
                    mailbox=printable(box.name),
                )
            )
        else:
            self.note(
                f"{printable(box.name)}: its folder is gone here; nothing is deleted at the server, and the mailbox is left alone "
                "(--fresh downloads it again)"
            )
        # Its messages may lie in another mailbox now.
        box.pairs = state.pairs(row.id)
        box.here = twoway.Here(missing=frozenset(box.pairs))
        return False

    def looked_here(self, boxes: list[Box]) -> None:
        """A file moved while we read may have been seen in neither place: what has changed meanwhile is read again."""
        if not any(box.here is not None and box.here.missing and not box.vanished for box in boxes):
            return
        for box in boxes:
            if box.vanished or not box.maildir.exists():
                continue
            if box.here is None and not box.row.settled and not box.new:
                # Something was left undone there: what is missing elsewhere may be what it was about.
                local.look(self.home, box, contents=self.by_content(box))
                continue
            seen = box.signature or (None if box.row.signature is None else Signature(*box.row.signature))
            if seen is None or box.maildir.signature()[:2] != seen[:2]:
                box.pairs = {}
                local.look(self.home, box, contents=self.by_content(box))

    def unchanged(self, box: Box) -> bool:
        """What is yet to be made at the server cannot be looked at there."""
        return box.name in self._not_there or super().unchanged(box)
