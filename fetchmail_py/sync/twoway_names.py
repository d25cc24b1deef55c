"""Folders whose names were exchanged here, or handed on in a chain: the mailboxes at the server are renamed accordingly.

Where each folder is now is recorded first, and what its mailbox is to be called; from then on nothing depends on when a run is
cut: the next one renames what is not called so yet. Names cannot be exchanged at a server but through a third one.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Collection, Container, Iterable, Mapping, Sequence

from fetchmail_py.errors import ServerRefused
from fetchmail_py.model import MailboxName, RemoteMailbox
from fetchmail_py.plan import renames
from fetchmail_py.plan.actions import Action
from fetchmail_py.plan.push import RenameRemoteMailbox
from fetchmail_py.session import imap_store
from fetchmail_py.session.imap import ImapSession
from fetchmail_py.store.state import MailboxRow
from fetchmail_py.sync import local
from fetchmail_py.sync.imap import ImapRun
from fetchmail_py.sync.layout_change import path_of_name, settings_of
from fetchmail_py.sync.renaming import Following, record
from fetchmail_py.wire.utf7 import printable

_OPEN = "names-to-give"
"""There are mailboxes with a fact `wanted:ID`, what each is to be called, and `was:ID`, what it was."""
_STEP = "renaming-there"
"""The RENAME under way: [old, new, delimiter]."""


class TwoWayNames(ImapRun):
    """What a run in mode disconnected does about names before it looks into mailboxes."""

    def before_names(self, listed: Sequence[RemoteMailbox]) -> None:
        """Settles a RENAME that was cut; then finds out which folders have each other's names here."""
        self._settle_step(listed)
        if self.options.mailboxes is not None or self.options.adopt or not os.path.isdir(self.home.root):
            return
        moved = self._handed_on(listed)
        if not moved:
            return
        self.home.begin_effects()
        for row, _, name in moved:
            if self.home.state.get(f"was:{row.id}") is None:
                self.home.state.put(f"was:{row.id}", row.name)
            self.home.state.put(f"wanted:{row.id}", name)
        self.home.state.put(_OPEN, "1")
        record(self.home.state, [Following(row, row.name, row.delimiter, path) for row, path, _ in moved])
        self.home.commit()
        self.home.forget_keywords(row.id for row, *_ in moved)

    def _handed_on(self, listed: Sequence[RemoteMailbox]) -> list[tuple[MailboxRow, str, MailboxName]]:
        """Mailboxes whose folder is where another's was: with the path, and the name that goes with it.

        Whoever has taken the place of one that is nowhere to be found has not been renamed: that one may come back.
        """
        rows = self.home.state.mailboxes()
        by_path = {row.path: row for row in rows.values()}
        found = {row.path: (row, place) for row, place in local.elsewhere(self.home, rows.values())}
        if not found:
            return []
        # The name that goes with a place is its mailbox's, unless that is called otherwise than its folder.
        of_rows = {path: self._wanted(row) or (row.name if self._alike(row, rows) else None) for path, row in by_path.items()}
        names, _ = local.server_names(
            self.home, [place for _, place in found.values() if of_rows.get(place.path) is None], delimiter_of(listed)
        )
        names |= {path: name for path, name in of_rows.items() if name is not None}
        taken = {box.name for box in listed} | set(rows)
        # An earlier run was cut, which was to give these other names.
        promised = {row.name for row in rows.values() if self._wanted(row) not in {None, row.name}}
        while True:
            free = {row.name for row, _ in found.values()} | promised
            bad = [
                path
                for path, (_, place) in found.items()
                if (place.path in by_path and place.path not in found)
                or place.path not in names
                or names[place.path] in taken - free
            ]
            if not bad:
                break
            for path in bad:
                del found[path]
        if not any(place.path in found for _, place in found.values()):
            return []  # each has a name of its own, and is dealt with by itself
        return [(row, place.path, names[place.path]) for row, place in found.values()]

    def _settle_step(self, listed: Sequence[RemoteMailbox]) -> None:
        """Whether a RENAME whose answer nobody has read was made is told by the names that are there."""
        step = self.home.state.get(_STEP)
        if step is None:
            return
        old, new, delimiter = json.loads(step)
        there = {box.name for box in listed}
        if old not in there and new in there:
            self._called(MailboxName(old), MailboxName(new), delimiter)
        self.home.state.put(_STEP, None)
        self.home.commit()

    def names(self, session: ImapSession, listed: list[RemoteMailbox], first: list[Action]) -> list[RemoteMailbox]:
        """Renames mailboxes until each is called as its folder; returns what is listed then."""
        if self.home.state.get(_OPEN) is None:
            return listed
        delimiter = delimiter_of(listed)
        rows = self.home.state.mailboxes()
        for row in rows.values():
            if self._wanted(row) is not None and self._alike(row, rows):
                self._agreed(row)  # somebody has given the one the other's name
        failed: set[tuple[MailboxName, MailboxName]] = set()
        while True:
            rows = self.home.state.mailboxes()
            wanted = {row.name: name for row in rows.values() if (name := self._wanted(row)) is not None}
            if not wanted:
                self.home.state.put(_OPEN, None)
                self.home.commit()
                return listed
            if self.options.dry_run:
                first += [RenameRemoteMailbox(old, new) for old, new in wanted.items() if old != new]
                return listed
            there = {box.name for box in listed}
            todo = {old: new for old, new in wanted.items() if old in there and (old, new) not in failed}
            step = renames.next_rename(todo, there | set(rows), delimiter)
            if step is None or step in failed:
                if self._ended([rows[name] for name in wanted], there):
                    return listed
            elif self._rename_by_step(session, rows, *step, delimiter):
                listed = [box._replace(name=renames.renamed(box.name, *step, delimiter)) for box in listed]
            else:
                failed.add(step)

    def _alike(self, row: MailboxRow, rows: Mapping[MailboxName, MailboxRow]) -> bool:
        """Whether a mailbox is called as its folder."""
        return path_of_name(row, rows.values(), settings_of(self.account)) is None

    def _wanted(self, row: MailboxRow) -> MailboxName | None:
        """What a mailbox is to be called at the server, if another name than it had."""
        name = self.home.state.get(f"wanted:{row.id}")
        return None if name is None else MailboxName(name)

    def _rename_by_step(
        self, session: ImapSession, rows: Mapping[MailboxName, MailboxRow], old: MailboxName, new: MailboxName, delimiter: str
    ) -> bool:
        """One RENAME, which the state knows of before it is sent. False where it was refused, or cannot be."""
        state, row = self.home.state, rows[old]
        along = {name for name in rows if renames.renamed(name, old, new, delimiter) != name}
        if any(renames.renamed(name, old, new, delimiter) in rows.keys() - along for name in along):
            self._not_so(row, rows)  # there would be two of a name below it
            return False
        self.home.begin_effects()
        state.put(_STEP, json.dumps([old, new, delimiter]))
        self.home.commit()
        try:
            imap_store.rename(session, old, new)
        except ServerRefused as error:
            self.refused(error, old)
            state.put(_STEP, None)
            self._not_so(row, rows)
            return False
        self._called(old, new, delimiter)
        state.put(_STEP, None)
        self.home.commit()
        if new == self._wanted(row):
            self.report.moved_remote += 1
        return True

    def _not_so(self, row: MailboxRow, taken: Container[MailboxName]) -> bool:
        """A mailbox cannot be called as its folder: it keeps its name, or gets it back. False: the next run has to try again."""
        state = self.home.state
        was = MailboxName(state.get(f"was:{row.id}") or row.name)
        if row.name == was:
            self.note(f"{printable(row.name)}: it cannot be renamed at the server as here; its folder is {row.path}")
            self._agreed(row)
        elif was in taken or self._wanted(row) == was:
            # It is tried in each run, and told once: `status` shows it until it is solved.
            if state.get(f"told-name:{row.id}") is None:
                state.put(f"told-name:{row.id}", "1")
                taken_there = f"it was {printable(was)} at the server, which is taken there"
                self.note(f"{printable(row.name)}: {taken_there}; its folder is {row.path}")
            return False
        else:
            state.put(f"wanted:{row.id}", was)
        self.home.commit()
        return True

    def _agreed(self, row: MailboxRow) -> None:
        self.home.state.put(f"wanted:{row.id}", None)
        self.home.state.put(f"was:{row.id}", None)
        self.home.state.put(f"told-name:{row.id}", None)

    def _ended(self, rows: Iterable[MailboxRow], there: Collection[MailboxName]) -> bool:
        """Nothing can be renamed any more: whether that is the end, and no mailbox is on its way back to its old name."""
        left = []
        for row in rows:
            if row.name == self._wanted(row) or row.name not in there:
                self._agreed(row)
            else:
                left.append(row)
        taken = {*there, *self.home.state.mailboxes()}
        again = [self._not_so(row, taken) for row in left]
        self.home.commit()
        return not any(again)

    def _called(self, old: MailboxName, new: MailboxName, delimiter: str) -> None:
        """The state has the names that the server has now."""
        called = [(row, renames.renamed(row.name, old, new, delimiter)) for row in self.home.state.mailboxes().values()]
        record(self.home.state, [Following(row, name, row.delimiter, row.path) for row, name in called if name != row.name])

    def refused(self, error: ServerRefused, name: MailboxName) -> None:
        """A mailbox that cannot be made or renamed stays as it is; the others go on."""
        if error.status == "BYE":
            raise error
        error.mailbox = printable(name)
        self.report.error = self.report.error or error


def delimiter_of(listed: Sequence[RemoteMailbox]) -> str:
    """What separates the levels of names at the server."""
    delimiters = Counter(box.delimiter for box in listed if box.delimiter)
    return delimiters.most_common(1)[0][0] if delimiters else "/"
