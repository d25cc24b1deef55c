"""An account's place on this machine, opened for one run: lock, memory of earlier runs, state, and what a killed run left.

Here is decided whether the place may be trusted (README, Safety): a Maildir that is suddenly empty stops the account, and a
state that is not the one of the last run deletes nothing.
"""

from __future__ import annotations

import errno
import json
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Self
from uuid import uuid4

from fetchmail_py.config import Account
from fetchmail_py.errors import StoreError
from fetchmail_py.model import FLAG_TO_LETTER, LETTER_TO_FLAG, NO_FLAGS, Flags, LineEnds, MessageKey, Stage, count_of
from fetchmail_py.session.endpoint import Endpoint
from fetchmail_py.store import memory
from fetchmail_py.store.durable import Barrier, make_directories
from fetchmail_py.store.keywords import KeywordTable
from fetchmail_py.store.lock import Lock
from fetchmail_py.store.maildir import LocalFile, Maildir, letters_of
from fetchmail_py.store.state import FILE_NAME, MailboxRow, StateDb
from fetchmail_py.sync import place, renaming

REMEMBER_EVERY = 24 * 3600
"""Seconds after which a run without effects renews the memory all the same, so that "last seen" stays true enough."""


class Home:
    """The account's directory, state and memory, held by this run alone."""

    def __init__(self, account: Account, remember_as: str, *, dry_run: bool, note: Callable[[str], None]) -> None:
        self.account = account
        self.root = account.maildir
        self.dry_run = dry_run
        self.trusted = True
        """False: this state may not have seen what the last run did. Nothing is deleted, messages are paired by content."""
        self.restored = False
        """The state contradicts what is remembered of the last run: it, or the Maildir, is an older copy."""
        self.new = False
        """There was no state: this is the first run, or the state was lost."""
        self.had_effects = False
        self.covers_all = True
        """This run looks at everything the account has; else a distrust stays for the rest."""
        self.fold_case = False
        self.between_places: set[int] = set()
        """Dry run: mailboxes whose folder is in two places, since the run that moved it was cut."""
        self.state: StateDb
        self.barrier: Barrier
        self._name = remember_as
        self.note = note
        self._remembered: memory.Remembered | None = None
        self._keywords: dict[int, KeywordTable] = {}
        self._open: list[StateDb | Barrier | Lock] = []

    @classmethod
    def open(
        cls, account: Account, *, remember_as: str, dry_run: bool, fresh: bool, note: Callable[[str], None]
    ) -> Self:
        """Opens the account's place; the caller closes it. Raises Locked, SafetyStop, StoreError."""
        home = cls(account, remember_as, dry_run=dry_run, note=note)
        try:
            home._enter(fresh=fresh)
        except BaseException:
            home.close()
            raise
        return home

    # -- opening -----------------------------------------------------------------------------------------------------

    def _enter(self, *, fresh: bool) -> None:
        remembered, damaged = memory.load(self._name)
        if damaged:
            self.note("what was remembered about this Maildir could not be read; nothing is deleted in this run")
        self._remembered = remembered
        if not os.path.isdir(self.root):
            if not fresh:
                self._refuse_if_gone()
            if not self.dry_run:
                self._make_root()
        existing = self.root
        if os.path.isdir(self.root):
            try:
                self._open.append(Lock.acquire(self.root, create=not self.dry_run))
            except StoreError as error:
                raise place.with_rights(self.root, error) from error
        else:
            # A dry run of a first run: there is nothing here to look at, and nothing will be written.
            existing = place.nearest(self.root)
        self.barrier = Barrier(existing)
        self._open.append(self.barrier)
        path = f"{self.root}/{FILE_NAME}"
        if not fresh and os.path.isdir(self.root):
            self._refuse_if_gone()
        self.state = self._open_state(path)
        self._open.append(self.state)
        if self.state.get("store_id") is None:
            self.new = True
            self.state.put("store_id", uuid4().hex)
            self.trusted = not place.has_mail(self.root)
            if not self.trusted:
                self.note("there is mail but no state: it is matched with the server; nothing is deleted in this run")
        elif remembered is None:
            # The very first run may have been cut before it could be remembered: that state has seen everything there was.
            self.trusted = not damaged and self.state.number("run") <= 1
        elif place.is_another_copy(self.state, remembered):
            self.trusted = False
            self.restored = True
            other = place.namesake(self.root, remembered)
            why = f"; {other}" if other else ""
            self.note(f"the state is not that of the last run (restored?): nothing is deleted in this run{why}")
        if not self.trusted:
            self.state.put("distrust", "1")
        elif self.state.get("distrust") is not None:
            self.trusted = False
        # A file system that takes one case for the other finds our own file under another spelling.
        self.fold_case = os.path.lexists(f"{self.root}/{FILE_NAME.upper()}")
        self._settle()

    def _make_root(self) -> None:
        place.nearest(self.root)
        try:
            changed = make_directories(self.root)
        except StoreError as error:
            if error.errno in {errno.ENOENT, errno.ENOTDIR}:
                error.hint = "no directory can be made there: choose another `maildir`"
            raise place.with_rights(self.root, error) from error
        with Barrier(os.path.dirname(self.root) or "/") as above:
            above.directories(changed)

    def _refuse_if_gone(self) -> None:
        stop = place.gone(self.root, self._remembered)
        if stop is not None:
            raise stop

    def _open_state(self, path: str) -> StateDb:
        if self.dry_run:
            return StateDb.open_copy(path)
        return StateDb.open(path)

    # -- what a killed run left --------------------------------------------------------------------------------------

    def _settle(self) -> None:
        """Completes what was on its way into the Maildir when a run ended, and removes what was not."""
        if self.dry_run:
            cut, self.between_places = renaming.under_way(self.state, self.root)
            if cut:
                self.note(f"a renaming of {count_of(cut, 'folder')} here was cut: the next run completes it first")
        else:
            renaming.finish(self.state, self.root, self.barrier)
        mailboxes = {row.id: row for row in self.state.mailboxes().values()}
        open_intents: dict[int, dict[MessageKey, Flags]] = {}
        uids: dict[tuple[int, MessageKey], int] = {}
        for mailbox, uid, key, flags in self.state.arriving():
            open_intents.setdefault(mailbox, {})[key] = flags
            uids[mailbox, key] = uid
        for mailbox, keys in open_intents.items():
            row = mailboxes[mailbox]
            lost = self._settle_mailbox(self.maildir(row), {key: (f, self.keyword_letters(row, f)) for key, f in keys.items()})
            for key in list(lost):
                # A move between mailboxes that was recorded but not made.
                if self._finish_move(key, keys[key], row, uids[mailbox, key], mailboxes):
                    lost.remove(key)
            self.state.forget(mailbox, [uids[mailbox, key] for key in lost])
            for key in keys:
                self.end_move(row, uids[mailbox, key])
        drop = {row.key: row.id for row in self.state.maildrop() if row.stage == Stage.ARRIVING} if self._is_pop3 else {}
        if drop:
            lost = self._settle_mailbox(self.inbox(), dict.fromkeys(drop, (NO_FLAGS, "")))
            self.state.forget_maildrop([drop[key] for key in lost])
        if open_intents or drop:
            if not self.dry_run:
                self.barrier.directories(())
            self.state.arrived()
            self.state.maildrop_arrived()
            self.commit()
        if self.state.number("unclean") and not self.dry_run:
            for row in mailboxes.values():
                if place.linked(self.root, row.path) is None:
                    self.maildir(row).leftovers(())
            if self._is_pop3:
                self.inbox().leftovers(())

    def _settle_mailbox(self, maildir: Maildir, keys: dict[MessageKey, tuple[Flags, str]]) -> set[MessageKey]:
        """Publishes what still lies in `tmp/`; returns the keys of which there is no file."""
        located = maildir.locate(keys)
        waiting = [(key, *keys[key]) for key, file in located.items() if file.subdir == "tmp"]
        if waiting and not self.dry_run:
            self.barrier.files([f"{maildir.tmp}/{key}" for key, _, _ in waiting])
            self.barrier.created(maildir.publish(waiting))
        elif located and not self.dry_run:
            self.barrier.created((maildir.new, maildir.cur))
        return set(keys) - set(located)

    def begin_move(self, target: MailboxRow, uid: int, source: MailboxRow, key: MessageKey, letters: str) -> None:
        """Where the file is that goes to `target` as `uid`, and its key there: another folder may have a file of that key too.

        `letters` are those it gets: they may tell of changes made here, which its row does not know.
        """
        self.state.put(f"moving:{target.id}:{uid}", f"{source.id} {key.encode('utf-8', 'surrogatepass').hex()} {letters}")

    def end_move(self, target: MailboxRow, uid: int) -> None:
        """It is there, or gone."""
        self.state.put(f"moving:{target.id}:{uid}", None)

    def _finish_move(
        self, key: MessageKey, flags: Flags, target: MailboxRow, uid: int, rows: Mapping[int, MailboxRow]
    ) -> bool:
        letters = letters_of(flags, self.keyword_letters(target, flags))
        begun = (self.state.get(f"moving:{target.id}:{uid}") or "").split(" ")
        # A state of an earlier version does not tell where it is, or with which letters it goes.
        sources = [row for row in rows.values() if row.id != target.id and begun[0] in {"", str(row.id)}]
        old_key = MessageKey(bytes.fromhex(begun[1]).decode("utf-8", "surrogatepass")) if len(begun) > 1 else key
        letters = begun[2] if len(begun) > 2 else letters
        for row in sources:
            source = self.maildir(row)
            file = source.locate([old_key]).get(old_key)
            if file is not None and file.subdir != "tmp":
                if not self.dry_run:
                    source.move(old_key, file, self.maildir(target), letters, key)
                    self.barrier.created((source.new, source.cur, self.maildir(target).new, self.maildir(target).cur))
                return True
        return False

    # -- places ------------------------------------------------------------------------------------------------------

    @property
    def _is_pop3(self) -> bool:
        return self.account.protocol == "pop3"

    def maildir(self, row: MailboxRow) -> Maildir:
        """The Maildir of a mailbox."""
        return Maildir(f"{self.root}/{row.path}" if row.path else self.root, self.barrier)

    def inbox(self) -> Maildir:
        """A POP3 account's only Maildir."""
        return Maildir(self.root, self.barrier)

    def keyword_letters(self, row: MailboxRow, flags: Flags) -> str:
        """The letters a mailbox has for the keywords among the flags; a keyword it has not seen gets the next free one."""
        words = [flag for flag in flags if flag not in FLAG_TO_LETTER]
        if not words:
            return ""
        letters = (self._table(row).letter_for(word) for word in words)
        return "".join(letter for letter in letters if letter is not None)

    def flags_of_file(self, row: MailboxRow, file: LocalFile) -> Flags:
        """The flags that a file's name tells."""
        flags = (LETTER_TO_FLAG.get(letter) or self._table(row).name_of(letter) for letter in file.letters)
        return frozenset(flag for flag in flags if flag is not None)

    def flags_known(self, row: MailboxRow, file: LocalFile, base: Flags) -> Flags:
        """The flags that a file's name tells, and those of `base` that a name cannot tell here: keywords without a letter."""
        table = self._table(row)
        return self.flags_of_file(row, file) | {
            flag for flag in base if flag not in FLAG_TO_LETTER and table.find(flag) is None
        }

    def letters_known(self, row: MailboxRow, flags: Flags) -> str:
        """The letters a file with these flags has now; none is given to a keyword that has none."""
        words = [flag for flag in flags if flag not in FLAG_TO_LETTER]
        return letters_of(flags, "".join(self._table(row).find(word) or "" for word in words))

    def _table(self, row: MailboxRow) -> KeywordTable:
        table = self._keywords.get(row.id)
        if table is None:
            table = self._keywords[row.id] = KeywordTable.load(self.maildir(row).path)
            words = self.state.get(f"keywords:{row.id}")
            table.recall({} if words is None else dict(json.loads(words)))
            self._note_keywords(row.id, table)
        return table

    def _note_keywords(self, mailbox: int, table: KeywordTable) -> None:
        words = json.dumps(sorted(table.names.items()))
        if words != (self.state.get(f"keywords:{mailbox}") or "[]"):
            self.state.put(f"keywords:{mailbox}", words)

    def save_keywords(self) -> None:
        """Writes the names of new keyword letters: before a file bears such a letter."""
        if not self.dry_run:
            for mailbox, table in self._keywords.items():
                if table.save():
                    self._note_keywords(mailbox, table)

    def rename_mailboxes(self, following: Sequence[renaming.Following]) -> None:
        """Mailboxes have other names at the server: their directories follow. Recorded first, so that a cut leaves a plan."""
        renaming.begin(self.state, following)
        self.commit()
        self.forget_keywords(row.id for row, *_ in following)
        renaming.finish(self.state, self.root, self.barrier)

    def forget_keywords(self, mailboxes: Iterable[int]) -> None:
        """The directories of these mailboxes are others now: what the keyword letters mean there is read again."""
        for mailbox in mailboxes:
            self._keywords.pop(mailbox, None)

    # -- effects -----------------------------------------------------------------------------------------------------

    def check_owner(self, *, fresh: bool) -> None:
        """Raises SafetyStop where the state belongs to an account of the other protocol, or to another maildrop."""
        stop = place.of_another(self.account, self.state)
        if stop is not None and not fresh:
            raise stop
        self.state.put("maildrop_of", f"{self.account.user}@{self.account.host}" if self._is_pop3 else None)
        if self._is_pop3:
            self.state.put("server", None)

    def begin_effects(self) -> None:
        """Before the first change of this run on either side: the run gets its number, in the state and in the memory.

        Whoever finds the two apart by more than this run knows that one of them was restored.
        """
        if self.had_effects or self.dry_run:
            return
        self.had_effects = True
        self.state.put("run", str(self.state.number("run") + 1))
        self.state.put("unclean", "1")
        self.state.commit()
        self.remember()

    def commit(self) -> None:
        """Makes the changes to the state lasting; a dry run has none."""
        if not self.dry_run:
            self.state.commit()

    def remember(self) -> None:
        """Writes what this Maildir is into the small file outside of it."""
        if self.dry_run:
            return
        messages = self.state.number("fetched_messages") + self.state.count_messages()
        memory.save(
            self._name,
            memory.Remembered(
                store_id=self.state.get("store_id") or "",
                run=self.state.number("run"),
                maildir=self.root,
                last_seen=time.time(),
                messages=messages,
            ),
        )

    def finish(self, *, clean: bool) -> None:
        """The end of a run: `clean` says that nothing of it is left half done."""
        if self.dry_run:
            return
        if clean and self.had_effects:
            self.state.put("unclean", None)
        agreed = clean and self.covers_all
        if agreed:
            self.state.put("distrust", None)
        self.state.commit()
        stale = self._remembered is None or time.time() - self._remembered.last_seen > REMEMBER_EVERY
        # What could not be trusted has been compared with everything there is: from now on, this is the state of the last run.
        if self.had_effects or stale or (agreed and not self.trusted):
            self.remember()

    def close(self) -> None:
        """Lets go of everything, in the opposite order."""
        while self._open:
            self._open.pop().close()


def endpoint_of(account: Account) -> Endpoint:
    """The account's server."""
    return Endpoint(
        host=account.host,
        port=account.port,
        tls=account.tls,
        timeout=account.timeout,
        ca_file=account.ca_file,
        fingerprint=account.tls_fingerprint,
        client_cert=account.client_cert,
        client_key=account.client_key,
        cleartext=account.allow_cleartext,
    )


def line_ends_of(size: int, lf_count: int, *, has_cr: bool) -> tuple[int, int]:
    """(size on the wire, `LineEnds`) of a file of which nothing is known: its LFs were CRLFs, unless it has a CR."""
    if has_cr or not lf_count:
        return size, LineEnds.AS_RECEIVED
    return size + lf_count, LineEnds.CRLF

