"""The two-way mode of IMAP: mailboxes, moves and messages of both sides, brought together in one plan (RFC 4549)."""

from __future__ import annotations

import contextlib
import os
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

from fetchmail_py.errors import StoreError
from fetchmail_py.model import (
    DELETED,
    EMPTY_FILE,
    FLAG_TO_LETTER,
    FORWARDED,
    NO_FILE,
    Delivered,
    Flags,
    MailboxName,
    MessageKey,
    Pair,
    RemoteMailbox,
    Stage,
    Uid,
)
from fetchmail_py.plan import oneway, twoway
from fetchmail_py.plan.actions import Action, Recognise
from fetchmail_py.session import imap_store
from fetchmail_py.session.imap import ImapSession
from fetchmail_py.store.state_pairs import KnownMessage
from fetchmail_py.sync import local, same_key
from fetchmail_py.sync.imap import EXEMPT
from fetchmail_py.sync.imap_boxes import Box
from fetchmail_py.sync.imap_push import storable_flags
from fetchmail_py.sync.twoway_places import TwoWayPlaces
from fetchmail_py.wire.utf7 import printable

_KEYWORDLESS = frozenset(FLAG_TO_LETTER)


class TwoWayRun(TwoWayPlaces):
    """One run of one account in mode disconnected."""

    _local_moves: list[twoway.LocalMove]
    """Files moved here whose message is where it was at the server."""
    _orphans: dict[tuple[MailboxName, Uid], tuple[twoway.LocalMove, Uid]]
    """Files moved here whose message is gone from where it was: with the row that each has in its new place."""
    _tentative: list[tuple[twoway.LocalMove, Uid]]
    """Files moved here whose message may have been copied at the server by a run that was cut before it could delete the
    original; with the row that each has in its new place."""
    _either: list[tuple[twoway.LocalMove, Uid]]
    """Files moved here whose message has no UID that is known, and may be at the server where it was, or where the file is now;
    with the row that each has in its new place."""
    _coming_back: set[tuple[MailboxName, Uid]]
    """Files moved here out of a mailbox in which nothing may be changed: they were copied."""

    _recognised: set[tuple[MailboxName, Uid]]
    """Rows without a UID whose message has been found where they are."""

    _left: set[tuple[MailboxName, Uid]]
    """Files moved here whose message has left its mailbox at the server since that was looked at."""

    def places(self, session: ImapSession, listed: Sequence[RemoteMailbox], boxes: list[Box]) -> list[Action]:
        """A new look: nothing is known of moves yet."""
        self._local_moves, self._orphans, self._tentative, self._either, self._coming_back = [], {}, [], [], set()
        self._recognised, self._left = set(), set()
        return super().places(session, listed, boxes)

    # -- looking -----------------------------------------------------------------------------------------------------

    def renumbered(self, box: Box) -> None:
        """What was seen here was seen under the old numbers."""
        if box.maildir.exists():
            local.look(self.home, box, contents=False)

    def looked(self, session: ImapSession, boxes: list[Box]) -> None:
        """Files that are new here: moved, or to be recognised, or to go up."""
        # What was marked before this was switched on shows in a full look only; and one of a state that may be old deletes nothing.
        self.home.state.put("expunge", "1" if self.account.expunge and self.home.trusted else None)
        by_name = {box.name: box for box in boxes}
        missing = [entry for box in boxes if box.here is not None for entry in self._missing(box)]
        read: dict[tuple[MailboxName, MessageKey], tuple[Delivered, int]] = {}
        moves = twoway.moved_here(missing, self._new_files(boxes, missing, read))
        self._moved_out_of_reach(by_name, missing, moves)
        self._rights(session, boxes)
        staying: set[tuple[MailboxName, MessageKey]] = set()
        orphans = []
        atomic = bool(session.capabilities & {"MOVE", "IMAP4REV2"})
        tentative, either = [], []
        kept: Counter[tuple[MailboxName, MailboxName]] = Counter()
        for move in moves:
            source, target = by_name[move.source.mailbox], by_name[move.file.mailbox]
            pair = move.source.pair
            if source is target:
                self._renamed(source, pair, move.file)
                continue
            if pair.uid < 0 and not source.pull_only:
                # Moved on before it was recognised where it was, or was sent to. Once it is, the server's copy follows.
                self._without(source, [pair.uid])
                if pair.stage == Stage.KEPT and _has_new(target) and not target.vanished:
                    either.append(move)
                else:
                    staying.add((move.file.mailbox, move.file.key))
                source.unfinished = target.unfinished = target.touched = source.touched = self.again = True
                continue
            gone = _gone_there(source, pair.uid)
            if gone and target.vanished:
                continue  # gone from its mailbox on both sides; where it was put is left alone
            if source.row.read_only and not gone and not target.row.read_only and not target.vanished:
                self._coming_back.add((source.name, pair.uid))  # a copy: the server's stays where it is, and so comes back
            if not gone and (source.row.read_only or target.row.read_only or target.vanished):
                if target.row.read_only or target.vanished:
                    self._stays(source, pair.uid)
                    target.touched = True  # the next run has to see it there too, or it would be missing
                    if target.row.read_only:
                        kept[source.name, target.name] += 1
                    staying.add((move.file.mailbox, move.file.key))  # without a row, it is found to be this one in the next run too
                continue
            file = move.file._replace(flags=_flags_of_moved(move.file.flags, pair.flags))
            move = twoway.LocalMove(move.source, file)  # noqa: PLW2901
            if gone:
                orphans.append(move)
                continue
            self._without(source, [pair.uid])
            if not atomic and _has_new(target):
                tentative.append(move)
            else:
                self._local_moves.append(move)
                staying.add((file.mailbox, file.key))
        for (name, to), count in kept.items():
            what = f"{count} messages were moved there from {printable(name)}, and nothing can be changed there"
            self.note(f"{printable(to)}: {what}: the server's copies stay where they are")
        moved = {(move.file.mailbox, move.file.key) for move in (*orphans, *tentative, *either)}
        for box in boxes:
            if box.strangers and not box.vanished:
                keys = {key for key in box.strangers if (box.name, key) not in staying}
                self._register(box, keys, read, perhaps_there={key for name, key in moved if name == box.name})
        rows = {
            (name, known.key): known.uid
            for name in {move.file.mailbox for move in (*orphans, *tentative, *either)}
            for known in self.home.state.known_messages(by_name[name].row.id, unpaired=True)
        }
        for move in orphans:
            row = rows.get((move.file.mailbox, move.file.key))
            if row is not None:
                self._orphans[move.source.mailbox, move.source.pair.uid] = (move, row)
        for found, waiting in ((self._tentative, tentative), (self._either, either)):
            for move in waiting:
                row = rows.get((move.file.mailbox, move.file.key))
                if row is not None:
                    found.append((move, row))

    def _missing(self, box: Box) -> Iterable[twoway.Missing]:
        assert box.here is not None
        for uid in box.here.missing:
            pair = box.pairs[uid]
            if pair.stage == Stage.PAIRED or (uid < 0 and pair.stage in {Stage.SENT, Stage.KEPT}):
                known = self.home.state.known_message(box.row.id, uid)
                if known is not None:
                    yield twoway.Missing(box.name, pair, known.size, known.sha256, known.internaldate)

    def _moved_out_of_reach(
        self, by_name: Mapping[MailboxName, Box], missing: Sequence[twoway.Missing], moves: Sequence[twoway.LocalMove]
    ) -> None:
        """Files that were moved where a run does nothing, as for want of the mailbox at the server: the server's copies stay."""
        moved = {(move.source.mailbox, move.source.pair.uid) for move in moves}
        # Of what is gone from there too, no copy stays where it was: the server's is in another mailbox, or deleted.
        rest = [
            gone
            for gone in missing
            if (gone.mailbox, gone.pair.uid) not in moved and not _gone_there(by_name[gone.mailbox], gone.pair.uid)
        ]
        left_alone = {box.row.id for box in by_name.values() if box.vanished}
        rows = self.home.state.mailboxes().values() if rest else ()
        dead = [row for row in rows if not row.listed or row.id in left_alone]
        for row in dead:
            maildir = self.home.maildir(row)
            if not maildir.exists():
                continue
            count: Counter[MailboxName] = Counter()
            known = {pair.key for pair in self.home.state.pairs(row.id).values()}
            found = {key: file for key, file in maildir.scan().items() if key not in known}
            for gone in rest:
                file = found.get(gone.pair.key) or next(
                    (other for other in found.values() if local.is_same(maildir.path_of(other), gone.size, gone.sha256)), None
                )
                if file is not None:
                    self._stays(by_name[gone.mailbox], gone.pair.uid)
                    count[gone.mailbox] += 1
            for name, number in count.items():
                what, stays = "a message was", "copy stays where it is"
                if number > 1:
                    what, stays = f"{number} messages were", "copies stay where they are"
                moved_there = f"{what} moved there from {printable(name)}"
                why = "its folder is left alone" if row.listed else "the mailbox is no longer at the server"
                self.note(f"{printable(row.name)}: {moved_there}, and {why}: the server's {stays}")

    def _new_files(
        self,
        boxes: Iterable[Box],
        missing: Sequence[twoway.Missing],
        read: dict[tuple[MailboxName, MessageKey], tuple[Delivered, int]],
    ) -> list[twoway.NewFile]:
        """The files that no row knows; read only where their names do not tell what they are."""
        if not missing:
            return []
        names: dict[tuple[MessageKey, int], list[twoway.Missing]] = defaultdict(list)
        for entry in missing:
            names[entry.pair.key, entry.size].append(entry)
        found = []
        for box in boxes:
            for key, file in box.strangers.items():
                flags = self.home.flags_of_file(box.row, file)
                try:
                    size = os.stat(box.maildir.path_of(file), follow_symlinks=False).st_size
                except FileNotFoundError:
                    continue
                digest = None
                if not any(local.is_plausibly(box, file, entry) for entry in names.get((key, size), ())):
                    seen = self._inspect(box, key)
                    if seen is None:
                        continue
                    read[box.name, key] = seen
                    digest = seen[0].sha256
                found.append(twoway.NewFile(box.name, key, flags, size, digest))
        # A new name in the same mailbox is likelier than a move to another one, where there are both.
        at_home = {(entry.mailbox, entry.sha256) for entry in missing}
        return sorted(found, key=lambda file: (file.mailbox, file.sha256) not in at_home)

    def _renamed(self, box: Box, pair: Pair, file: twoway.NewFile) -> None:
        """The file has another name in the same mailbox, and perhaps other flags: the server does not know of names."""
        assert box.here is not None
        self.home.state.set_key(box.row.id, pair.uid, file.key)
        del box.strangers[file.key]
        flags, pair = file.flags, pair._replace(key=file.key)
        box.pairs[pair.uid] = pair
        box.here = box.here._replace(missing=box.here.missing - {pair.uid})
        if flags == pair.flags:
            return
        if pair.uid < 0:
            self.home.state.set_flags(box.row.id, [(pair.uid, flags)])
        else:
            box.here = box.here._replace(flags={**box.here.flags, pair.uid: flags})

    def _stays(self, box: Box, uid: Uid) -> None:
        """The file was moved out of our reach: that is no deletion, and the next run has to look for it again."""
        self._without(box, [uid])
        box.touched = True

    def _without(self, box: Box, uids: Iterable[Uid]) -> None:
        """These are not missing after all."""
        assert box.here is not None
        box.here = box.here._replace(missing=box.here.missing - set(uids))
        for uid in uids:
            if box.snapshot is None or (uid not in box.snapshot.changed and uid not in box.snapshot.gone):
                box.pairs.pop(uid, None)

    def _register(
        self,
        box: Box,
        keys: set[MessageKey],
        read: dict[tuple[MailboxName, MessageKey], tuple[Delivered, int]],
        *,
        perhaps_there: set[MessageKey],
    ) -> None:
        delivered: dict[MessageKey, Delivered] = {}
        dates: dict[MessageKey, int] = {}
        for key in keys:
            seen = read.get((box.name, key)) or self._inspect(box, key)
            if seen is not None:
                delivered[key], dates[key] = seen
        self.home.state.undefer(box.row.id, [f"file:{key}" for key in delivered])
        local.register(self.home, box, delivered, dates, perhaps_there)
        for key in keys:
            del box.strangers[key]

    def _inspect(self, box: Box, key: MessageKey) -> tuple[Delivered, int] | None:
        """What a new file is; one that cannot be read is set aside, and the rest goes on."""
        try:
            return local.inspect(box, box.strangers[key], key)
        except StoreError as error:
            self.home.state.defer(box.row.id, f"file:{key}", error.detail, time.time())
            box.unfinished = True
            return None

    def _rights(self, session: ImapSession, boxes: Iterable[Box]) -> None:
        """Asks what may be changed where something is to be changed, if the server can tell (RFC 4314)."""
        asked = {
            box.name: box
            for box in boxes
            if box.here is not None and not box.vanished and box.name not in self._not_there
            and (box.strangers or box.here.flags or box.here.missing)
        }  # fmt: skip
        for name, rights in imap_store.my_rights(session, asked).items():
            asked[name].rights = rights
            asked[name].row.read_only = not set(rights) & set("iwsted") or asked[name].pull_only

    def compare(self, box: Box) -> None:
        """What the mailbox needs."""
        state, row = self.home.state, box.row
        here = box.here or twoway.UNCHANGED
        known = state.count_present(row.id)
        retry = list(self.still_there(box))
        if box.another_folder or not self.home.trusted:
            retry += same_key.take_for_new(self.home, box, here.missing)
        if here.edited:
            self._edited(box, here.edited)
            if box.snapshot is None:
                box.pairs |= state.pairs_of(row.id, here.edited)
            if local.is_a_copy(box):
                older = same_key.take_for_new(self.home, box, here.edited)
                box.apart = frozenset(pair.key for pair in older.values())
                retry += older
        delta = twoway.compare(
            box.name,
            box.snapshot,
            box.pairs,
            here,
            known=known,
            retry=retry,
            exempt=bool(box.remote.attributes & EXEMPT),
            trusted=self.home.trusted,
            witness=not box.another_folder,
            expunge=self.account.expunge,
            unpaired=self.account.expunge and bool(state.known_messages(row.id, unpaired=True)),
        )
        delta.read_only = row.read_only
        back = [pair for pair in delta.removed if (box.name, pair.uid) in self._coming_back]
        if back:
            delta.removed = [pair for pair in delta.removed if pair not in back]
            delta.new = sorted({*delta.new, *(pair.uid for pair in back)}, reverse=True)
        delta.storable = storable_flags(row.permanent_flags)
        box.delta = delta

    def _edited(self, box: Box, uids: Iterable[Uid]) -> None:
        """Files with other content than what was stored: each gets a row of its own, and goes up; then the old one goes."""
        state = self.home.state
        known = {message.key for message in state.known_messages(box.row.id, unpaired=True)}
        pairs = state.pairs_of(box.row.id, uids)
        files = box.maildir.scan()
        delivered, dates = {}, {}
        for pair in pairs.values():
            file = files.get(pair.key)
            if file is None or pair.key in known:
                continue
            seen = local.inspect(box, file, pair.key)
            if seen is not None:
                delivered[pair.key], dates[pair.key] = seen
                box.strangers[pair.key] = file
        local.register(self.home, box, delivered, dates)
        for key in delivered:
            del box.strangers[key]
        self.again = True  # once the new one is known by its UID, the old one goes

    # -- planning ----------------------------------------------------------------------------------------------------

    def left(self, box: Box) -> bool:
        """Whether messages are gone from the mailbox on one side, which means that they may be in another."""
        delta = box.delta
        return isinstance(delta, twoway.Delta) and bool(delta.gone or delta.removed or delta.raised or delta.lost)

    def may_have_moved(self, box: Box) -> Iterable[Pair]:
        """Pairs gone from a mailbox at the server, or not come there: their files are here, or were moved here too."""
        # Of a mailbox whose folder is gone, the server is asked for nothing else than this.
        for move in self._local_moves:
            if move.source.mailbox == box.name and (box.name, move.source.pair.uid) in self._left:
                yield move.source.pair
        if not isinstance(box.delta, twoway.Delta):
            return
        yield from box.delta.gone
        yield from box.delta.raised
        yield from (pair for pair in box.delta.lost if (box.name, pair.uid) in self._orphans)
        if box.look is not None and not box.doubtful:
            # Moved to here, or so the server said; somebody else may have been quicker, and have moved it to another place.
            missing = box.here.missing if box.here is not None else frozenset()
            for pair in self.home.state.pairs_at(box.row.id, Stage.SENT).values():
                if (box.name, pair.uid) not in self._recognised and pair.uid not in missing:
                    yield pair

    def settled(self, box: Box, pair: Pair) -> None:
        """A pair that was gone is there again under another UID."""
        assert isinstance(box.delta, twoway.Delta)
        for found in (box.delta.gone, box.delta.raised, box.delta.lost):
            if pair in found:
                found.remove(pair)

    def plan(self, session: ImapSession, boxes: list[Box]) -> oneway.Plan:
        """The plan of the account."""
        state, account = self.home.state, self.account
        by_name = {box.name: box for box in boxes}
        for box in boxes:
            if box.name in self._not_there and box.delta is None:
                box.delta = twoway.Delta(box.name, 0)
        recognised: list[tuple[Recognise, Flags]] = []
        for box in boxes:
            recognised += self._with_flags(box, self.recognise(session, box))
        self._recognised = recognised_rows = {(action.mailbox, action.old_uid) for action, _ in recognised}
        for handle, (move, row) in list(self._orphans.items()):
            if (move.file.mailbox, row) in recognised_rows:
                del self._orphans[handle]
        for move, row in self._tentative:
            source = by_name[move.source.mailbox]
            if (move.file.mailbox, row) not in recognised_rows:
                state.forget(by_name[move.file.mailbox].row.id, [row])
                self._local_moves.append(move)
            elif isinstance(source.delta, twoway.Delta):
                # Copied already: what is left of the move is to delete the original.
                state.set_stage(source.row.id, [move.source.pair.uid], Stage.DELETING)
                state.set_key(source.row.id, move.source.pair.uid, NO_FILE)
                source.delta.removed.append(move.source.pair._replace(stage=Stage.DELETING))
        for move, row in self._either:
            # Where its file is now, the move has been made already; else it is looked for where it was, as before.
            was, now = (move.source.mailbox, move.source.pair.uid), (move.file.mailbox, row)
            name, uid = was if now in recognised_rows else now
            if (name, uid) not in recognised_rows:  # in both places it is two messages
                state.forget(by_name[name].row.id, [uid])
        self._left_meanwhile(session, boxes)
        back: list[Recognise] = []
        trash = self._trash(session, boxes)
        moves = [self._as_here(boxes, move, trash) for move in self.moves(session, boxes, back)]
        for action in back:
            orphan = self._orphans.pop((action.mailbox, action.old_uid), None)
            if orphan is None:
                recognised += self._with_flags(by_name[action.mailbox], [action])
            else:
                recognised.append((action, action.flags))
                self._follows(by_name, orphan, action)
        orphans = [self._orphans[m.mailbox, m.pair.uid] for m in moves if (m.mailbox, m.pair.uid) in self._orphans]
        for move, row in orphans:
            state.forget(by_name[move.file.mailbox].row.id, [row])
        taken = {(action.mailbox, action.old_uid) for action, _ in recognised}
        for name, pair in [(found.mailbox, found.pair) for found in moves if found.pair.uid < 0]:
            taken.add((name, pair.uid))
            state.undefer(by_name[name].row.id, [f"file:{pair.key}"])
        for box in boxes:
            if isinstance(box.delta, twoway.Delta):
                rows = {row for name, row in taken if name == box.name}
                self._unpaired(box, box.delta, rows, trash=trash not in {None, box.name})
        deltas = [box.delta for box in boxes if isinstance(box.delta, twoway.Delta)]
        plan = twoway.plan_account(
            deltas,
            moves=moves,
            local_moves=[*self._local_moves, *(move for move, _ in orphans)],
            copies=self._copies(by_name, deltas, taken),
            recognised=recognised,
            max_delete=account.max_delete,
            announced_here=self.announced(boxes, "announced"),
            announced_there=self.announced(boxes, "announced-there"),
            allowed=self.options.allow_mass_delete,
            trash=trash,
            expunge=account.expunge,
        )
        self.stopped(boxes, plan)
        return plan

    def _follows(self, by_name: Mapping[MailboxName, Box], orphan: tuple[twoway.LocalMove, Uid], found: Recognise) -> None:
        """Moved here, and at the server away and back: where it was, under another UID, it follows its file as any other does."""
        move, row = orphan
        self.home.state.forget(by_name[move.file.mailbox].row.id, [row])
        pair = move.source.pair._replace(uid=found.uid)
        self._local_moves.append(move._replace(source=move.source._replace(pair=pair)))
        delta = by_name[found.mailbox].delta
        assert isinstance(delta, twoway.Delta)
        delta.changes.append(twoway.Change(pair, move.file.flags, found.flags))

    def _left_meanwhile(self, session: ImapSession, boxes: Sequence[Box]) -> None:
        """Mailboxes are looked at one after the other: what was moved at the server meanwhile may be new in one of them already."""
        if not any(box.delta is not None and box.delta.new for box in boxes):
            return
        for box in boxes:
            uids = [move.source.pair.uid for move in self._local_moves if move.source.mailbox == box.name]
            if uids:
                there = imap_store.present(session, box.name, box.uidvalidity, uids)
                self._left |= {(box.name, uid) for uid in uids if uid not in there}

    def _with_flags(self, box: Box, actions: Iterable[Recognise]) -> list[tuple[Recognise, Flags]]:
        """Each with the flags of its file."""
        pairs = self.home.state.pairs_of(box.row.id, [action.old_uid for action in actions])
        here = box.here.flags if box.here is not None else {}
        return [(action, here.get(action.old_uid, pairs[action.old_uid].flags)) for action in actions]

    def _as_here(self, boxes: Iterable[Box], move: oneway.Move, trash: MailboxName | None) -> oneway.Move:
        """The move with what was changed here on the way. A mark for deletion has been heeded once it is in the trash."""
        box = next(box for box in boxes if box.name == move.mailbox)
        moved = [local for local, _ in self._orphans.values()] + self._local_moves
        flags = {(local.source.mailbox, local.source.pair.uid): local.file.flags for local in moved}
        here = flags.get((move.mailbox, move.pair.uid), (box.here or twoway.UNCHANGED).flags.get(move.pair.uid))
        if here is not None and self.account.expunge and move.to == trash:
            here -= {DELETED}
        if here is None or here == move.pair.flags:
            return move
        return move._replace(here=twoway.merge(move.pair.flags, here, move.flags))

    def _unpaired(self, box: Box, delta: twoway.Delta, recognised: set[Uid], *, trash: bool) -> None:
        missing = box.here.missing if box.here is not None else frozenset()
        # In the order in which they got their rows: that tells copies of one message apart where the server tells no UIDs.
        waiting = sorted(self.home.state.known_messages(box.row.id, unpaired=True), key=lambda found: -found.uid)
        doomed: set[Uid] = set()
        if self.account.expunge and self.home.trusted and not trash:
            pairs = self.home.state.pairs_of(box.row.id, [message.uid for message in waiting])
            doomed = {uid for uid, pair in pairs.items() if DELETED in pair.flags}
        for message in waiting:
            if message.uid in missing or message.uid in recognised:
                continue
            if message.stage != Stage.SENT and message.uid in doomed:
                if message.stage == Stage.NEW or not (box.doubtful or box.new):
                    delta.unsent.append(twoway.Unpaired(message.uid, message.key))
                else:
                    box.unfinished = True  # perhaps it is there after all: a later look tells
            elif box.pull_only and message.stage == Stage.KEPT:
                pass  # it came from there, and is like another, or has no Message-ID: nothing tells whether it is there still
            elif not message.size and message.stage != Stage.SENT:
                self._stays_empty(box, message)
            elif message.stage != Stage.SENT or self._never_came(box, message):
                delta.unpaired.append(twoway.Unpaired(message.uid, message.key))
        # They go up in the order in which they are recognised, so that copies alike in all but their flags keep these.
        delta.unpaired.sort(key=lambda entry: -entry.uid)

    def _stays_empty(self, box: Box, message: KnownMessage) -> None:
        """An empty file, as a delivery leaves it that met a full disk. No server takes it (RFC 9051, 6.3.12): it stays here."""
        state, ident = self.home.state, f"{EMPTY_FILE}{message.key}"
        file = box.maildir.locate([message.key]).get(message.key)
        with contextlib.suppress(FileNotFoundError):
            if file is not None and os.stat(box.maildir.path_of(file), follow_symlinks=False).st_size:
                state.forget(box.row.id, [message.uid])  # it has been written to since: the next look reads it anew
                state.undefer(box.row.id, [ident])
                box.unfinished = box.touched = self.again = True
                return
        if (box.row.id, ident) not in self.aside:
            self.aside.add((box.row.id, ident))
            state.undefer(box.row.id, [f"file:{message.key}"])
            state.defer(box.row.id, ident, "an empty file: there is nothing to upload, it stays here", time.time())
            self.note(f"{printable(box.name)}: {message.key} is empty, and stays here: no server takes an empty message")

    def _never_came(self, box: Box, message: KnownMessage) -> bool:
        """Whether a message that an earlier run sent is to be sent again: the server said that it took it, and does not have it.

        Once. What is lost a second time is set aside.
        """
        box.unfinished = True  # until it is seen there, or given up, the next run has to look again
        if (box.row.id, message.key) in self.sent or box.look is None or box.doubtful or self.options.dry_run:
            return False
        ident = f"file:{message.key}"
        known = (box.row.id, ident) in self.aside
        self.home.state.defer(box.row.id, ident, "the server took it, and does not show it", time.time())
        if known:
            return False
        self.aside.add((box.row.id, ident))
        self.home.state.set_stage(box.row.id, [message.uid], Stage.NEW)
        return True

    def _copies(
        self, by_name: dict[MailboxName, Box], deltas: Iterable[twoway.Delta], taken: set[tuple[MailboxName, Uid]]
    ) -> list[twoway.LocalCopy]:
        """Unpaired files whose content the server has somewhere: it is copied there, not sent."""
        state = self.home.state
        waiting: dict[bytes, list[tuple[MailboxName, Uid]]] = {}
        for delta in deltas:
            rows = {entry.uid for entry in delta.unpaired if (delta.mailbox, entry.uid) not in taken}
            if rows and not delta.read_only:
                for message in state.known_messages(by_name[delta.mailbox].row.id, unpaired=True):
                    if message.uid in rows and not (by_name[delta.mailbox].doubtful and message.stage == Stage.KEPT):
                        waiting.setdefault(message.sha256, []).append((delta.mailbox, message.uid))
        if not waiting:
            return []
        by_id = {box.row.id: box for box in by_name.values()}
        copies = []
        for source in state.with_digests(waiting.keys()):
            box = by_id.get(source.mailbox)
            if box is None or box.vanished or not box.uidvalidity:
                continue
            if _gone_there(box, source.uid):
                continue
            # UID COPY takes a UID once, however often it is named: a second copy in the same mailbox goes up.
            once: dict[MailboxName, Uid] = {}
            for to, row in sorted(waiting.get(source.sha256, ()), key=lambda entry: -entry[1]):
                once.setdefault(to, row)
            copies += [twoway.LocalCopy(box.name, source.uid, to, row) for to, row in once.items()]
            waiting[source.sha256] = [entry for entry in waiting.get(source.sha256, ()) if entry not in once.items()]
        return copies

    def _trash(self, session: ImapSession, boxes: Iterable[Box]) -> MailboxName | None:
        """Where deletions go at the server."""
        trash = self.account.trash
        if trash is not None and not trash.startswith("\\"):
            return MailboxName(trash)
        if trash is None and not quirk_gmail_archives(session):
            return None
        wanted = (trash or "\\Trash").lower()
        found = next((box.name for box in boxes if wanted in box.remote.attributes), None)
        if found is None and trash is not None:
            # A server that tells no special use: asked for a trash, nothing is expunged.
            return next((box.name for box in boxes if box.name.lower() == trash[1:].lower()), MailboxName(trash[1:]))
        return found


def quirk_gmail_archives(session: ImapSession) -> bool:
    """Gmail (X-GM-EXT-1) takes an EXPUNGE for "archive": only what is moved to its trash is deleted."""
    return "X-GM-EXT-1" in session.capabilities


def _gone_there(box: Box, uid: Uid) -> bool:
    """Whether a message has gone from the mailbox at the server."""
    return box.snapshot is not None and uid in box.snapshot.gone


def _has_new(box: Box) -> bool:
    """Whether the server has messages in the mailbox that the state does not know."""
    return box.snapshot is not None and any(uid not in box.pairs for uid in box.snapshot.changed)


def _flags_of_moved(file: Flags, base: Flags) -> Flags:
    """The flags of a file that was moved: its keyword letters mean something in the mailbox it comes from only."""
    system = file & (_KEYWORDLESS | {FORWARDED})
    return frozenset(system | {flag for flag in base if flag not in _KEYWORDLESS})
