"""An IMAP account in its one-way modes: look at both sides, plan the whole account, carry the plan out (RFC 4549).

Looking comes first, for all mailboxes, in a few pipelined exchanges; then one pure plan; then its execution in
`imap_execute`, downloads before deletions. What a run saw of a mailbox is recorded only when all of it has been carried out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain

from fetchmail_py.errors import ProtocolError, SafetyStop, ServerRefused
from fetchmail_py.identity import NO_IDENTITY, identity
from fetchmail_py.model import (
    NO_FLAGS,
    Coverage,
    Flags,
    Look,
    MailboxName,
    MessageKey,
    Pair,
    RemoteMailbox,
    Stage,
    Uid,
    UidSet,
    count_of,
)
from fetchmail_py.plan import guard, oneway, snapshot
from fetchmail_py.plan.actions import Action, CreateMailbox, Download, Recognise, RenameMailbox
from fetchmail_py.plan.matching import LocalCandidate, RemoteCandidate, match
from fetchmail_py.plan.push import Upload
from fetchmail_py.session import imap_look
from fetchmail_py.session.imap import ImapSession
from fetchmail_py.session.imap_fetch import Identified, identify
from fetchmail_py.store.maildir import Signature
from fetchmail_py.store.state import MailboxRow
from fetchmail_py.store.state_pairs import KnownMessage
from fetchmail_py.sync import gone_mailboxes, rebuild
from fetchmail_py.sync.imap_boxes import PULL_ONLY, Box, Renamed, can_rename, check_same_account, choose, place, renamed_there
from fetchmail_py.sync.imap_deletions import SET_ASIDE
from fetchmail_py.sync.imap_execute import Execution
from fetchmail_py.sync.imap_work import ImapAccount
from fetchmail_py.sync.place import linked
from fetchmail_py.sync.renaming import Following, can_follow, record
from fetchmail_py.wire.utf7 import printable

ROUNDS = 3
"""Looks in one run: what the first has changed may show more to do, such as a message that is in the trash now."""
MOVES_AMONG = 10
"""A gone message is looked for among new ones only while these are at most so many times as many (and 1,000 in any case)."""

EXEMPT = {"\\trash", "\\junk"}
_MAY_MOVE = {Stage.PAIRED, Stage.SENT}
INBOX = MailboxName("INBOX")
AHEAD_FROM = 0.020
"""Seconds of round trip from which a look at INBOX goes with the first question, and what follows is compressed."""


class ImapRun(ImapAccount):
    """One run of one IMAP account."""

    def run(self) -> None:
        """Does it. Raises FetchmailError for what stops the account; what stops one mailbox ends up in the report."""
        session = self.connect()
        if session.mechanism != self.login.likely:
            self.home.state.put("mechanism", session.mechanism)  # for the next login
        remove = self.stop.add_waker(session.abort)
        try:
            for self.rounds_left in reversed(range(ROUNDS)):
                self.again = False
                self._round(session)
                if not self.again or self.options.dry_run or self.options.adopt:
                    break
            session.logout()
        finally:
            remove()
            session.close()

    def _round(self, session: ImapSession) -> None:
        """One look at both sides, one plan, carried out."""
        self.report.stops.clear()  # each round finds them again
        self.retry.clear()
        self.aside.clear()
        for deferred in self.home.state.deferred():
            self.aside.add((deferred.mailbox, deferred.ident))
            if deferred.ident.isdigit():
                self.retry[deferred.mailbox].append(Uid(int(deferred.ident)))
        ahead = self._ahead(session)
        listed, seen = imap_look.survey(session, ahead, compress=ahead is not None and self.account.compress is None)
        self._check_listed(listed)
        check_same_account(self.home, listed, session, fresh=self.options.fresh)
        self.home.covers_all = self.options.mailboxes is None
        for mailbox in gone_mailboxes.forget(self.home, listed, self.note):
            self.retry.pop(mailbox, None)
            self.aside = {known for known in self.aside if known[0] != mailbox}
        self.before_names(listed)
        renamed = renamed_there(self.home, listed, session, self.note)
        first: list[Action] = [RenameMailbox(entry.row.name, entry.remote.name) for entry in renamed]
        self._rename(renamed)
        listed = self.names(session, listed, first)
        boxes = choose(self.home, listed, self.options.mailboxes)
        self._refuse_links(boxes)
        self.stop.check()
        first += [CreateMailbox(box.name) for box in boxes if box.new]
        first += self.places(session, listed, boxes)
        self.report.mailboxes = len(boxes)
        self._look(session, boxes, {} if seen is None or ahead is None else {ahead: seen})
        if self.options.mailboxes is not None and any(self.left(box) for box in boxes):
            self.note("messages are gone from one side: they may have been moved, so all mailboxes are looked at")
            self.options = self.options._replace(mailboxes=None)
            self._round(session)
            return
        plan = self.plan(session, boxes)
        self.stop.check()
        if self.options.adopt:
            plan = self._only_recognised(boxes, plan)
        if self.options.dry_run:
            self.report.plan.extend((*first, *plan.actions))
        else:
            Execution(self, session, boxes, plan).run()

    def _refuse_links(self, boxes: Iterable[Box]) -> None:
        """A mailbox whose folder is a link is left alone, and the others go on."""
        for box in boxes:
            link = linked(self.home.root, box.row.path)
            if link is not None:
                box.vanished, box.new = True, False
                self.fail(box, link)

    def _check_listed(self, listed: Sequence[RemoteMailbox]) -> None:
        """An account always has INBOX (RFC 9051, 5.1): a server that does not list it now has not told what there is."""
        if not any(box.selectable for box in listed):
            raise ProtocolError("the server lists no mailbox at all")
        inbox = self.home.state.mailboxes().get(INBOX)
        if inbox is not None and inbox.listed and not any(box.name == INBOX for box in listed):
            raise ProtocolError("the server no longer lists INBOX: what it lists is not all there is")

    def _only_recognised(self, boxes: Iterable[Box], plan: oneway.Plan) -> oneway.Plan:
        """What pairs messages, and no more; tells what is left for `sync`."""
        found = [action for action in plan.actions if isinstance(action, Recognise)]
        down = sum(len(action.uids) for action in plan.actions if isinstance(action, Download))
        up = sum(len(action.rows) for action in plan.actions if isinstance(action, Upload))
        recognised = f"{count_of(len(found), 'message')} here {'was' if len(found) == 1 else 'were'} recognised"
        self.note(f"{recognised}; {down} only at the server, {up} only here")
        for box in boxes:
            box.unfinished = True
        self.report.stops.clear()
        return oneway.Plan(tuple(found))

    def places(self, session: ImapSession, listed: Sequence[RemoteMailbox], boxes: list[Box]) -> list[Action]:
        """What was done to mailboxes here and is to be done at the server; nothing in the one-way modes."""
        del session, listed, boxes
        return []

    def before_names(self, listed: Sequence[RemoteMailbox]) -> None:
        """What is known of mailboxes, before it is asked which the server has renamed."""

    def names(self, session: ImapSession, listed: list[RemoteMailbox], first: list[Action]) -> list[RemoteMailbox]:
        """Names that were exchanged here are exchanged at the server; returns what is listed then."""
        del session, first
        return listed

    def _is_to_be_renamed(self, row: MailboxRow) -> bool:
        """Whether a mailbox is to be called at the server as its folder, which was renamed here, and can be as far as is known."""
        state = self.home.state
        return state.get(f"wanted:{row.id}") is not None and state.get(f"told-name:{row.id}") is None

    def _rename(self, renamed: Sequence[Renamed]) -> None:
        """Folders follow mailboxes that were renamed at the server. In a dry run only the name is another."""
        if not renamed:
            return
        root, state = self.home.root, self.home.state
        # A folder that was given the name of another one here stays: its mailbox is to have that name too.
        stays = {entry.row.id for entry in renamed if self.options.dry_run or self._is_to_be_renamed(entry.row)}
        leaving = {entry.row.path for entry in renamed if entry.row.id not in stays}
        taken = {row.path for row in state.mailboxes().values()} - leaving
        for entry in renamed:
            if entry.row.id not in stays and not can_follow(root, entry.row.path, place(self.home, entry.remote, taken), leaving):
                stays.add(entry.row.id)
                taken.add(entry.row.path)
        following = []
        for entry in renamed:
            path = entry.row.path if entry.row.id in stays else place(self.home, entry.remote, taken)
            taken.add(path)
            following.append(Following(entry.row, entry.remote.name, entry.remote.delimiter, path))
        if self.options.dry_run:
            record(state, following)
            return
        self.home.begin_effects()
        self.home.rename_mailboxes(following)
        self.report.moved_local += len(following)

    # -- looking -----------------------------------------------------------------------------------------------------

    def _ahead(self, session: ImapSession) -> imap_look.Known | None:
        """INBOX, in which most things happen: over a far link it is looked at in the exchange that lists the mailboxes."""
        row = self.home.state.mailboxes().get(INBOX)
        if row is None or not row.settled or self.options.mailboxes is not None or session.transport.round_trip < AHEAD_FROM:
            return None
        known = self._known(row)
        return None if known.everything or not known.modseq else known

    def _look(self, session: ImapSession, boxes: list[Box], seen: Mapping[imap_look.Known, Look]) -> None:
        """Looks at both sides of every mailbox that may have changed, and compares them with what we knew.

        `seen` are looks that were had with the listing.
        """
        state = self.home.state
        for box in boxes:
            if not box.vanished:
                self.look_here(box)
        self.looked_here(boxes)
        for box in boxes:
            if box.odd:
                self._note_once("odd", box, box.odd_words)
        known = {box.name: box for box in boxes if not self.unchanged(box)}
        again: list[Box] = []
        wanted = [self._known(box.row) for box in known.values()]
        had = [(asked, seen[asked]) for asked in wanted if asked in seen]
        for asked, found in chain(had, imap_look.look(session, [asked for asked in wanted if asked not in seen])):
            if not self._take(known[asked.name], found, everything=asked.everything):
                again.append(known[asked.name])
        # What does not add up is looked at once more, in full, before anything is made of it.
        full = [imap_look.Known(box.name, everything=True) for box in again]
        for asked, found in imap_look.look(session, full):
            self._take(known[asked.name], found, everything=True)
        self.looked(session, boxes)
        for box in boxes:
            if box.vanished:
                continue
            if box.snapshot is None and box.files is None and box.here is None and not self.retry.get(box.row.id):
                continue  # nothing new on either side
            if box.files is not None and not box.pairs:
                box.pairs = state.pairs(box.row.id)
            self.compare(box)

    def _note_once(self, what: str, box: Box, text: str) -> None:
        if (what, box.row.id, 0) not in self.once:
            self.once.add((what, box.row.id, 0))
            self.note(f"{printable(box.name)}: {text}")

    def looked_here(self, boxes: list[Box]) -> None:
        """Every directory that may have changed has been read."""

    def looked(self, session: ImapSession, boxes: list[Box]) -> None:
        """Both sides of every mailbox have been looked at, and nothing is compared yet."""

    def compare(self, box: Box) -> None:
        """What the mailbox needs."""
        box.delta = oneway.compare(
            self.account.mode,
            box.name,
            box.snapshot,
            box.pairs,
            None if box.files is None else self._flags_here(box),
            known=self.home.state.count_present(box.row.id),
            retry=self.still_there(box),
            exempt=bool(box.remote.attributes & EXEMPT),
        )
        box.delta.pull_only = box.pull_only

    def _known(self, row: MailboxRow) -> imap_look.Known:
        # What is to be deleted after a download is looked for in full: nothing tells that an old deletion failed.
        everything = self.options.full or not self.home.trusted or self.account.mode == oneway.OFFLINE
        # Nor does it tell that a message that was set aside, and so is not known, has gone.
        everything = everything or bool(self.retry.get(row.id))
        return imap_look.Known(row.name, row.uidvalidity, row.highestmodseq, everything=everything)

    def still_there(self, box: Box) -> list[Uid]:
        """The messages set aside earlier that are to be tried again; those that have gone meanwhile are forgotten."""
        uids = self.retry.get(box.row.id, [])
        if box.look is None or box.snapshot is None or not box.snapshot.complete or box.look.coverage is not Coverage.ALL:
            return uids
        listed = box.look.messages
        self.home.state.undefer(box.row.id, [str(uid) for uid in uids if uid not in listed])
        return [uid for uid in uids if uid in listed]

    def unchanged(self, box: Box) -> bool:
        """Whether the server's STATUS is what we know, so that the mailbox need not even be selected."""
        row, remote = box.row, box.remote
        if box.vanished:
            return True  # nothing is done about it, whatever the server has
        if self.options.full or not self.home.trusted or not row.settled or self.retry.get(row.id):
            return False
        same = (remote.uidvalidity, remote.uidnext, remote.messages) == (row.uidvalidity, row.uidnext, row.messages)
        # Without MODSEQ a flag may have changed unseen, unless there is no message that could have one.
        return same and row.uidvalidity > 0 and (row.messages == 0 or (remote.highestmodseq or 0) == row.highestmodseq > 0)

    def look_here(self, box: Box) -> None:
        """Reads the mailbox's directory, unless nothing in it has changed since it was last read."""
        row, maildir = box.row, box.maildir
        emptied = self.account.mode == oneway.OFFLINE and not self.home.state.count_at(row.id, Stage.PAIRED)
        if emptied and self.home.trusted and not box.new:
            # The server was told to delete all there was, once it was here. What its reader did with it since is no matter.
            return
        if (box.new and not maildir.has_a_part()) or row.id in self.home.between_places:
            return
        if not maildir.exists():
            if not maildir.has_a_part():
                box.files = {}
                return
            # Some tools leave empty directories out when they copy: new/ is missing, and cur/ is full.
            if self.options.dry_run:
                box.files, box.pairs = maildir.scan_part(), self.home.state.pairs(row.id)
                return
            self.home.begin_effects()
            maildir.create()
        skip = row.signature is not None and self.home.trusted and not self.options.full
        if skip and row.signature is not None and maildir.unchanged_since(Signature(*row.signature)):
            return
        box.signature = maildir.signature()
        box.files = maildir.scan(box.odd)
        box.pairs = self.home.state.pairs(row.id)
        if any(pair.key not in box.files for pair in box.pairs.values()):
            # A mail reader renames while we read: what was not seen twice is absent.
            box.files |= maildir.scan()

    def _flags_here(self, box: Box) -> dict[MessageKey, Flags]:
        assert box.files is not None
        cache: dict[str, Flags] = {}
        found: dict[MessageKey, Flags] = {}
        for key, file in box.files.items():
            flags = cache.get(file.letters)
            if flags is None:
                flags = cache[file.letters] = self.home.flags_of_file(box.row, file)
            found[key] = flags
        return found

    def _take(self, box: Box, found: Look | ServerRefused, *, everything: bool) -> bool:
        """Makes a snapshot of what the session saw; False if it must be looked at in full."""
        if isinstance(found, ServerRefused):
            self.fail(box, found)
            return True
        state, row = self.home.state, box.row
        box.look = found
        if not found.uidvalidity:
            self._note_once("pull only", box, PULL_ONLY)
        another = row.uidvalidity != found.uidvalidity and bool(row.uidvalidity or state.count_present(row.id))
        if another or not found.uidvalidity:
            if found.uidvalidity:
                lost = sum(mailbox == row.id and ident.startswith(SET_ASIDE) for mailbox, ident in self.aside)
                forgotten = f", and {count_of(lost, 'deletion')} set aside forgotten: what was to go stays" if lost else ""
                self.note(f"{printable(box.name)}: its UIDVALIDITY has changed; its messages are recognised by content{forgotten}")
            if not row.uidvalidity:
                row.read_only = False  # it had none before, and was pulled only
            state.renumber(row.id)
            for fact in ("announced", "announced-there", "to-trash"):
                state.put(f"{fact}:{row.id}", None)
            state.undefer(row.id, [str(uid) for uid in self.retry.pop(row.id, [])])
            row.highestmodseq = 0
            row.signature = None
            box.pairs = {}
            self.renumbered(box)
        row.uidvalidity = found.uidvalidity
        row.read_only = row.read_only or not found.uidvalidity
        if found.coverage is Coverage.CHANGES and self._doubtful(box, found):
            return False
        if found.coverage is Coverage.CHANGES and found.present is None:
            gone = state.known_within(row.id, found.vanished)
            changed = state.pairs_of(row.id, found.messages)
            known = {uid for uid, pair in changed.items() if pair.stage != Stage.KEPT}
            box.snapshot = snapshot.from_changes(found, state.count_present(row.id), known, gone)
            if box.files is None:
                box.pairs = box.pairs | changed | state.pairs_of(row.id, gone)
        else:
            box.pairs = state.pairs(row.id)
            present = [uid for uid, pair in box.pairs.items() if uid > 0 and pair.stage != Stage.KEPT]
            box.snapshot = snapshot.from_listing(found, present)
        if not box.snapshot.complete:
            box.unfinished = True
            if everything:
                listed = len(found.messages) if found.present is None else len(found.present)
                count = f"{count_of(found.exists, 'message')}, but lists {listed}"
                self.fail(box, ProtocolError(f"the server counts {count}: nothing counts as deleted"))
            return everything
        box.unfinished = False
        return True

    def renumbered(self, box: Box) -> None:
        """The mailbox's rows have other numbers now."""

    @staticmethod
    def _doubtful(box: Box, found: Look) -> bool:
        """Whether changes since a MODSEQ cannot be all: it went backwards (a restored server), or new UIDs are not among them."""
        row = box.row
        grown = row.uidnext > 0 and found.uidnext > row.uidnext
        return found.highestmodseq < row.highestmodseq or (grown and not any(uid >= row.uidnext for uid in found.messages))

    # -- planning ----------------------------------------------------------------------------------------------------

    def plan(self, session: ImapSession, boxes: list[Box]) -> oneway.Plan:
        account = self.account
        for box in boxes:
            # A mailbox that no run has looked at may lie here all the same: after a lost state, or an earlier configuration.
            if (not self.home.trusted or box.row.last_sync is None) and not box.vanished:
                rebuild.unknown_files(self.home, box)
        recognised: list[Recognise] = []
        for box in boxes:
            recognised += self.recognise(session, box)
        deltas = [box.delta for box in boxes if isinstance(box.delta, oneway.Delta)]
        moves = self.moves(session, boxes, recognised) if account.mode == oneway.MIRROR else []
        plan = oneway.plan_account(
            account.mode,
            deltas,
            moves=moves,
            recognised=recognised,
            max_delete=account.max_delete,
            may_delete=self.home.trusted,
            announced=self.announced(boxes, "announced"),
            allowed=self.options.allow_mass_delete,
        )
        self.stopped(boxes, plan)
        return plan

    def announced(self, boxes: Iterable[Box], fact: str) -> dict[MailboxName, guard.Announced]:
        """The deletions that were announced and wait for the user's word, by mailbox."""
        found = {}
        for box in boxes:
            known, _, uids = (self.home.state.get(f"{fact}:{box.row.id}") or "").rpartition(":")
            if uids:
                # What an earlier version wrote has no count: it measures by what is there now.
                count = int(known) if known else self.home.state.count_present(box.row.id)
                found[box.name] = guard.Announced(count, frozenset(Uid(int(uid)) for uid in uids.split(",")))
        return found

    def stopped(self, boxes: Iterable[Box], plan: oneway.Plan) -> None:
        """Tells of mailboxes that the guard leaves alone, and of what else the plan has to say."""
        account, state = self.account, self.home.state
        by_name = {box.name: box for box in boxes}
        waiting = {(stop.mailbox, stop.at_server) for stop in plan.stops}
        for box in boxes:
            for fact, at_server in (("announced", False), ("announced-there", True)):
                if box.delta is not None and (box.name, at_server) not in waiting:
                    # Carried out now, or no longer meant: the next ones are announced anew.
                    state.put(f"{fact}:{box.row.id}", None)
        for stop in plan.stops:
            box = by_name[stop.mailbox]
            box.unfinished = True
            fact = f"announced{'-there' if stop.at_server else ''}:{box.row.id}"
            # The count of the first time: what came since makes the deletions no smaller.
            before = (state.get(fact) or "").rpartition(":")[0]
            known = min(stop.known, int(before)) if before else stop.known
            state.put(fact, f"{known}:{','.join(map(str, stop.uids))}")
            found = SafetyStop(
                stop.text,
                hint=f"if that is meant: fetchmail-py sync {account.name} --allow-mass-delete",
                mailbox=printable(box.name),
            )
            self.report.stops.append(found)
        for name, text in plan.notices:
            by_name[name].unfinished = True
            self.note(f"{printable(name)}: {text}")

    def recognise(self, session: ImapSession, box: Box) -> list[Recognise]:
        """Messages here without a UID that the server lists as new: after a changed UIDVALIDITY or a lost state."""
        box.unidentified.clear()
        if box.delta is None or box.look is None or not box.delta.new:
            return []
        unpaired = self.home.state.known_messages(box.row.id, unpaired=True)
        if box.files is not None:
            unpaired = [message for message in unpaired if message.key in box.files]
        if box.here is not None:
            missing, apart = box.here.missing, box.apart
            unpaired = [message for message in unpaired if message.uid not in missing and message.key not in apart]
        if not unpaired:
            return []
        here = [
            LocalCandidate(message.uid, (message.wire_size, message.size), message.identity, -message.uid) for message in unpaired
        ]
        for message in unpaired:
            box.unpaired.setdefault(message.sha256, []).append(message.uid)
        for digest, uid in rebuild.digests_without_additions(box, unpaired):
            box.unpaired.setdefault(digest, []).append(uid)
        found = _identified(session, box)
        box.unidentified.update(box.delta.new)
        told_of: dict[Uid, tuple[int, int | None]] = {}
        there = []
        for seen in found:
            told_of[seen.uid] = seen.size, seen.internaldate
            there.append(RemoteCandidate(seen.uid, seen.size, identity(seen.header), seen.uid))
            if there[-1].identity != NO_IDENTITY:  # else only its whole content will tell
                box.unidentified.discard(seen.uid)
        matches = match(here, there)
        by_uid: dict[Uid, KnownMessage] = {message.uid: message for message in unpaired}
        pairs = list(matches.pairs)
        used = [{pair[side] for pair in pairs} for side in (0, 1)]
        rest = rebuild.with_additions(box, [message for message in unpaired if message.uid not in used[0]])
        pairs += match(rest, [candidate for candidate in there if candidate.handle not in used[1]]).pairs
        pairs += rebuild.sent(unpaired, there, pairs)
        if matches.ambiguous:
            count = count_of(len(matches.ambiguous), "message")
            self.note(f"{printable(box.name)}: {count} alike, but not in equal number: both sides' are kept")
        recognised = []
        for old, new in pairs:
            mine = by_uid.pop(old)
            rebuild.agree(self.home, mine, *told_of[new])
            # One that was set aside earlier may be missing among the changes.
            told = box.look.messages.get(new)
            recognised.append(Recognise(box.name, old, new, NO_FLAGS if told is None else told.flags))
            box.unpaired[mine.sha256].remove(old)
        taken = {action.uid for action in recognised}
        box.unidentified -= taken
        box.delta.new = [uid for uid in box.delta.new if uid not in taken]
        return recognised

    def moves(self, session: ImapSession, boxes: list[Box], recognised: list[Recognise]) -> list[oneway.Move]:
        """Messages gone from one mailbox and new in another are the same message: its file moves, nothing is fetched."""
        gone: dict[tuple[int, Uid], tuple[Box, Pair]] = {}
        for box in boxes:
            gone.update(((box.row.id, pair.uid), (box, pair)) for pair in self.may_have_moved(box) if pair.stage in _MAY_MOVE)
        new = [box for box in boxes if box.delta is not None and box.delta.new and box.look is not None]
        count = sum(len(box.delta.new) for box in new if box.delta is not None)
        if not gone or not new or count > max(1000, MOVES_AMONG * len(gone)):
            return []
        here = []
        for mailbox, uid in gone:
            known = self.home.state.known_message(mailbox, uid)
            if known is not None:
                like = _dated(known.identity, known.internaldate)
                here.append(LocalCandidate((mailbox, uid), (known.wire_size,), like, uid))
        there = []
        targets: dict[tuple[int, Uid], Box] = {}
        for box in new:
            assert box.delta is not None
            assert box.look is not None
            for message in _identified(session, box):
                handle = (box.row.id, message.uid)
                targets[handle] = box
                like = _dated(identity(message.header), message.internaldate)
                there.append(RemoteCandidate(handle, message.size, like, message.uid))
        moves = []
        pairs = match(here, there).pairs
        # Of a copy that is just made, the date is not known yet.
        undated = [candidate for candidate in here if len(candidate.identity) == len(NO_IDENTITY)]
        if undated:
            left = {handle for _, handle in pairs}
            plain = [c._replace(identity=c.identity[: len(NO_IDENTITY)]) for c in there if c.handle not in left]
            pairs += match(undated, plain).pairs
        for source, target in pairs:
            box, pair = gone[source]
            to = targets[target]
            assert to.look is not None
            uid = target[1]
            flags = to.look.messages[uid].flags if uid in to.look.messages else pair.flags
            if to is box:
                # Moved away and back: the same message under another UID.
                assert box.delta is not None
                self.settled(box, pair)
                box.delta.new.remove(uid)
                recognised.append(Recognise(box.name, pair.uid, uid, flags))
                continue
            if not can_rename(self.home, box, to):
                continue  # no rename can reach it: deleted here, and fetched there
            moves.append(oneway.Move(box.name, pair, to.name, uid, flags))
        return moves

    def left(self, box: Box) -> bool:
        """Whether messages are gone from the mailbox on one side, which means that they may be in another."""
        return isinstance(box.delta, oneway.Delta) and bool(box.delta.gone)

    def may_have_moved(self, box: Box) -> Iterable[Pair]:
        """Pairs gone from a mailbox at the server, whose files are here."""
        return box.delta.gone if box.delta is not None else ()

    def settled(self, box: Box, pair: Pair) -> None:
        """A pair that was gone is there again under another UID."""
        assert box.delta is not None
        box.delta.gone.remove(pair)


def _dated(like: bytes, internaldate: int | None) -> bytes:
    """What a moved message has in common with itself: MOVE and COPY keep the date of arrival (RFC 9051, 6.4.7).

    A draft that another client has saved anew may have the same header and the same size, and says something else.
    """
    return like if like == NO_IDENTITY or internaldate is None else b"%b%d" % (like, internaldate)


def _identified(session: ImapSession, box: Box) -> list[Identified]:
    """What recognises a mailbox's new messages; nothing where the server refuses to tell, and they are fetched instead."""
    assert box.look is not None
    assert box.delta is not None
    try:
        return list(identify(session, box.name, box.look.uidvalidity, UidSet.of(box.delta.new)) or ())
    except ServerRefused:
        return []
