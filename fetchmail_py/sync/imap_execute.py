"""Carrying out the plan of an IMAP account: recognise, move, download in durable batches, flags, deletions last.

Order inside a batch (README, Safety): data on stable storage, rows committed, names published, directories on stable
storage. Only then may anything be deleted at the server.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from functools import partial

from fetchmail_py.errors import AuthenticationFailed, ConnectionLost, ProtocolError, ServerRefused, ServerUnreachable, StoreError
from fetchmail_py.model import DELETED, NO_FLAGS, Flags, MailboxName, Stage, Uid, UidValidity
from fetchmail_py.plan import oneway, twoway
from fetchmail_py.plan.actions import (
    Action,
    DeleteLocal,
    DeleteRemote,
    Download,
    Forget,
    Keep,
    MoveLocal,
    Recognise,
    SetLocalFlags,
)
from fetchmail_py.session import imap_look
from fetchmail_py.session.imap import ImapSession
from fetchmail_py.session.imap_fetch import Fetched, Fetcher, FetchRequest, MailboxFailed, NotFetched
from fetchmail_py.store.maildir import PublishError
from fetchmail_py.sync.arrivals import Arrivals, MaildirSink
from fetchmail_py.sync.imap_boxes import Box
from fetchmail_py.sync.imap_deletions import Deletions
from fetchmail_py.sync.imap_work import ImapAccount, Work

WINDOW = 256
"""Messages asked for with one FETCH: as many as a batch holds."""
FAR = 0.010
"""Seconds of round trip from which more than one connection pays by default."""
COMPRESS_FROM = 0.080
"""Seconds of round trip from which COMPRESS=DEFLATE is tried by default: far is not slow, but slow is mostly far."""
CONNECTIONS = 3
DELETE_AT_ONCE = 1000
"""Messages that are deleted at the server between two commits."""

_ALL_FLAG_LETTERS = "DFPRST"

Outcome = Fetched | NotFetched | MailboxFailed


class Execution(Work):
    """One plan, carried out once."""

    def __init__(self, run: ImapAccount, session: ImapSession, boxes: Sequence[Box], plan: oneway.Plan) -> None:
        super().__init__(run, session, boxes)
        self._plan = plan
        self._arrivals = Arrivals(run.account.name, run.report, run.on_event)
        self._sessions: list[ImapSession] = [session]
        self._given_up = False
        self._lock = threading.Lock()
        self._two_way = run.account.mode == twoway.DISCONNECTED
        self._deletions = Deletions(self)

    def run(self) -> None:
        """Everything the plan has, then what is now true of each mailbox."""
        new = [box for box in self.boxes.values() if box.new]
        if new or self._plan.actions:
            self.home.begin_effects()
        growing = {action.mailbox for action in self._plan.actions if isinstance(action, Download)}
        for box in self.boxes.values():
            if box.new or box.name in growing:
                self.create(box)
        self.home.barrier.directories(())
        self._deletions.begin(self._plan.actions)
        try:
            for action in self._of(Recognise):
                self._recognise(action)
            self.home.save_keywords()
            self.home.commit()
            self.move([move for move in self._of(MoveLocal) if isinstance(move, MoveLocal)])
            push = None
            meanwhile: Callable[[], None] = _nothing
            if self._two_way:
                from fetchmail_py.sync.imap_push import Push  # noqa: PLC0415 - the one-way modes push nothing

                push = Push(self, self._deletions)
                push.moves(self._plan.actions)
                meanwhile = partial(push.flags_here, self._plan.actions)
            downloads = list(self._of(Download))
            if downloads:
                self._download(downloads, meanwhile)
            self.run_of.stop.check()
            if push is not None:
                push.uploads(self._plan.actions)
                self.run_of.stop.check()
                push.flags(self._plan.actions)
            self._local(self._plan.actions)
            self.run_of.stop.check()
            if push is not None:
                push.deletions(self._plan.actions)
            for delete in self._of(DeleteRemote):
                self._delete_at_server(delete)
            self._deletions.tell()
        finally:
            self._arrivals.close()
        for box in self.boxes.values():
            self._record(box)
        self.home.commit()

    def _of(self, kind: type[Action]) -> Iterator[Action]:
        return (action for action in self._plan.actions if type(action) is kind)

    # -- what is here already ----------------------------------------------------------------------------------------

    def _recognise(self, action: Action) -> None:
        assert isinstance(action, Recognise)
        box = self.boxes[action.mailbox]
        before = self.state.pairs_of(box.row.id, [action.old_uid])[action.old_uid]
        self.no_longer_aside(box, before.key, action.uid)
        if self._two_way:
            self._perhaps_marked(before.flags | action.flags)
            # What both have: whatever one side has beyond that came later, as far as anybody knows, and goes to the other.
            self.state.rebind(box.row.id, action.old_uid, box.row.id, action.uid, before.flags & action.flags)
            box.touched = box.touched or before.flags != action.flags  # to be compared again, if this run does not get to it
            return
        self.state.rebind(box.row.id, action.old_uid, box.row.id, action.uid, action.flags)
        if before.flags != action.flags:
            self.set_flags(box, before, action.flags)

    def _perhaps_marked(self, flags: Flags) -> None:
        """With `expunge`: what is marked on both sides when it is recognised shows in a full look only, which the next one is."""
        if DELETED in flags and self.run_of.account.expunge:
            self.state.put("expunge", None)

    def _local(self, actions: Iterable[Action]) -> None:
        """Flags, deletions here, and what only the state has to know."""
        for action in actions:
            match action:
                case SetLocalFlags():
                    box = self.boxes[action.mailbox]
                    pair = self.state.pairs_of(box.row.id, [action.uid]).get(action.uid)
                    if pair is not None:
                        if self.set_flags(box, pair, action.flags):
                            self.report.flags_pulled += 1
                        self.state.set_flags(box.row.id, [(action.uid, action.flags)])
                case DeleteLocal():
                    box = self.boxes[action.mailbox]
                    pair = self.state.pairs_of(box.row.id, [action.uid]).get(action.uid)
                    file = self.find(box, action.key, pair)
                    if file is not None:
                        self.remove(box, action.uid, action.key, file)
                    box.touched = True
                    self.state.undefer(box.row.id, [f"file:{action.key}"] if action.uid < 0 else ())
                    self.state.forget(box.row.id, [action.uid])
                    self.state.put(f"announced:{box.row.id}", None)
                case Keep():
                    self.state.set_stage(self.boxes[action.mailbox].row.id, action.uids, Stage.KEPT)
                case Forget():
                    self.state.forget(self.boxes[action.mailbox].row.id, action.uids)
                case _:
                    pass
        # The names first: a row must never say what the directory does not have.
        self.home.barrier.directories(())
        self.home.commit()

    # -- downloads ---------------------------------------------------------------------------------------------------

    def _download(self, downloads: Sequence[Action], meanwhile: Callable[[], None]) -> None:
        """Fetches, and does in the `meanwhile` what needs no connection: over a far link the first answer takes its time."""
        from fetchmail_py.sync.pump import Pump  # noqa: PLC0415 - most runs find nothing new

        requests = list(self._requests(downloads))
        total = sum(len(request.uids) for request in requests)
        self._arrivals.expect(total)
        account = self.run_of.account
        far = self.session.transport.round_trip
        if account.compress is None and far >= COMPRESS_FROM and total > WINDOW:
            self.session.compress()
        connections = account.connections or (CONNECTIONS if far >= FAR and len(requests) > CONNECTIONS else 1)
        shared = iter(requests)
        sources = [self._source(self.session, shared)]
        sources += [self._further(shared) for _ in range(min(connections, len(requests)) - 1)]
        pump: Pump[Outcome] = Pump(_octets, self._give_up)
        batches = pump.run(sources, meanwhile)
        with closing(batches):  # whatever happens here, nobody waits for us to take another batch
            for batch in batches:
                try:
                    self._store(batch)
                except StoreError:
                    self._give_up()
                    batches.close()
                    self._drop((*batch, *pump.left))
                    raise
        self.state.arrived()
        self.home.commit()

    def _drop(self, outcomes: Iterable[Outcome]) -> None:
        """A disk that fails keeps nothing that is not recorded: what is, is settled by the next run."""
        self.state.rollback()
        recorded = {key for _, _, key, _ in self.state.arriving()}
        for outcome in outcomes:
            if isinstance(outcome, Fetched) and outcome.delivered.key not in recorded:
                MaildirSink(self.boxes[outcome.mailbox].maildir).discard(outcome.delivered)

    def _requests(self, downloads: Sequence[Action]) -> Iterator[FetchRequest]:
        for action in downloads:
            assert isinstance(action, Download)
            box = self.boxes[action.mailbox]
            validity = UidValidity(box.uidvalidity)
            for start in range(0, len(action.uids), WINDOW):
                yield FetchRequest(box.name, validity, action.uids[start : start + WINDOW])

    def _further(self, requests: Iterator[FetchRequest]) -> Iterator[Outcome]:
        """One more connection, opened in its own thread while the first is at work. A server that allows none is no error."""
        try:
            session = self.run_of.connect()
        except (ServerRefused, ServerUnreachable, ConnectionLost, AuthenticationFailed):
            return
        with self._lock:
            self._sessions.append(session)
            late = self._given_up
        remove = self.run_of.stop.add_waker(session.abort)
        try:
            if late:
                return
            try:
                imap_look.settle(session, imap_look.introduce(session))
                if self.session.compressed:
                    session.compress()
            except (ServerRefused, ConnectionLost):
                return
            yield from self._source(session, requests)
            session.logout()
        finally:
            remove()
            session.close()

    def _give_up(self) -> None:
        with self._lock:
            self._given_up = True
            sessions = list(self._sessions)
        for session in sessions:
            session.abort()

    def _source(self, session: ImapSession, requests: Iterator[FetchRequest]) -> Iterator[Outcome]:
        sinks: dict[MailboxName, MaildirSink] = {}

        def sink_of(name: MailboxName) -> MaildirSink:
            if name not in sinks:
                sinks[name] = MaildirSink(self.boxes[name].maildir)
            return sinks[name]

        def mine() -> Iterator[FetchRequest]:
            while True:
                with self._lock:
                    request = next(requests, None)
                if request is None:
                    return
                yield request

        stop = self.run_of.stop
        for outcome in Fetcher(session, sink_of, lambda: stop.signal is None).run(mine()):
            if type(outcome) is Fetched and outcome.flags is None:
                outcome = outcome._replace(flags=self._flags_as_looked(outcome.mailbox, outcome.uid))  # noqa: PLW2901
            yield outcome
            if type(outcome) is Fetched:
                self._arrivals.received(outcome.delivered.wire_size, outcome.mailbox)

    def _flags_as_looked(self, mailbox: MailboxName, uid: Uid) -> Flags:
        """The flags of a message whose FETCH answer told none: some servers send them in a response of their own."""
        look = self.boxes[mailbox].look
        return look.messages[uid].flags if look is not None and uid in look.messages else NO_FLAGS

    def _store(self, batch: Sequence[Outcome]) -> None:
        """Makes a batch lasting."""
        arrived: dict[MailboxName, list[Fetched]] = {}
        for outcome in batch:
            if isinstance(outcome, Fetched):
                arrived.setdefault(outcome.mailbox, []).append(outcome)
            elif isinstance(outcome, NotFetched):
                self._set_aside(outcome)
            else:
                box = self.boxes[outcome.mailbox]
                if outcome.error is not None:
                    self.run_of.fail(box, outcome.error)
                else:
                    self._renumbered(box)
        for name, messages in arrived.items():
            self.boxes[name].unidentified.difference_update(message.uid for message in messages)
            arrived[name] = [message for message in messages if not self._known_by_content(self.boxes[name], message)]
        paths = [
            f"{self.boxes[name].maildir.tmp}/{message.delivered.key}" for name, messages in arrived.items() for message in messages
        ]
        if not paths:
            self.home.commit()
            return
        self.home.barrier.files(paths)
        for name, messages in arrived.items():
            box = self.boxes[name]
            rows = [(m.uid, m.flags or NO_FLAGS, m.internaldate, m.delivered) for m in messages]
            self.state.add_arriving(box.row.id, rows)
            self.state.undefer(box.row.id, [str(m.uid) for m in messages])
        letters = {
            name: [self.home.keyword_letters(self.boxes[name].row, m.flags or NO_FLAGS) for m in messages]
            for name, messages in arrived.items()
        }
        self.home.save_keywords()
        self.home.commit()
        self._publish(arrived, letters)
        self.state.arrived()
        if self.run_of.account.mode == oneway.OFFLINE:
            self.fetched.update((name, message.uid) for name, messages in arrived.items() for message in messages)
            # The rows go once the server has deleted the messages: the count must not.
            self.state.put("fetched_messages", str(self.state.number("fetched_messages") + len(paths)))

    def _publish(self, arrived: dict[MailboxName, list[Fetched]], letters: dict[MailboxName, list[str]]) -> None:
        directories: list[str] = []
        failure: PublishError | None = None
        for name, messages in arrived.items():
            box = self.boxes[name]
            box.touched = True
            try:
                directories += box.maildir.publish(
                    [(m.delivered, m.flags or NO_FLAGS, words) for m, words in zip(messages, letters[name], strict=True)]
                )
            except PublishError as error:
                directories += error.directories
                failure = failure or error
                lost = set(error.keys)
                self.state.forget(box.row.id, [m.uid for m in messages if m.delivered.key in lost])
                arrived[name] = [m for m in messages if m.delivered.key not in lost]
        self.home.barrier.directories(directories)
        for name, messages in arrived.items():
            box = self.boxes[name]
            for message, words in zip(messages, letters[name], strict=False):
                flags = message.flags or NO_FLAGS
                if self._two_way and self.trashed.is_one(box, message.uid, message.delivered.sha256):
                    continue
                self._arrivals.stored(box.name, box.maildir, message.delivered, flags, words, message.internaldate)
        if failure is not None:
            self.state.arrived()
            self.home.commit()
            raise StoreError(failure.detail, path=failure.path, errno=failure.errno)

    def _known_by_content(self, box: Box, message: Fetched) -> bool:
        """Whether the message is one that lies here without a UID: then the download is dropped and that one gets it."""
        uids = box.unpaired.get(message.delivered.sha256) if box.unpaired else None
        before = None
        while uids and before is None:
            # A row has several digests where another program may have added to it: it may be taken already.
            old = uids.pop(0)
            before = self.state.pairs_of(box.row.id, [old]).get(old)
        if before is None:
            return False
        MaildirSink(box.maildir).discard(message.delivered)
        flags = message.flags or NO_FLAGS
        self.state.rebind(box.row.id, old, box.row.id, message.uid, flags)
        self.state.undefer(box.row.id, [str(message.uid)])
        if self._two_way:
            self._perhaps_marked(flags | before.flags)
            self.set_flags(box, before, flags | before.flags)
            # Nothing tells which side changed: nothing is taken away, and what only the file has goes up.
            self.run_of.again = self.run_of.again or not before.flags <= flags
        elif before.flags != flags:
            self.set_flags(box, before, flags)
        return True

    def _renumbered(self, box: Box) -> None:
        """Its UIDVALIDITY has changed since it was looked at: it is looked at again, once."""
        box.unfinished = self.run_of.again = True
        if box.name in self.run_of.renumbered_again:
            self.run_of.fail(box, ProtocolError("its UIDVALIDITY changes at each look: its UIDs mean nothing"))
        self.run_of.renumbered_again.add(box.name)

    def _set_aside(self, outcome: NotFetched) -> None:
        box = self.boxes[outcome.mailbox]
        box.unfinished = True
        if outcome.gone:
            box.unidentified.discard(outcome.uid)
            self.state.undefer(box.row.id, [str(outcome.uid)])
        else:
            self.state.defer(box.row.id, str(outcome.uid), outcome.reason, time.time())

    # -- deletions at the server -------------------------------------------------------------------------------------

    def _delete_at_server(self, action: Action) -> None:
        """Mode offline: what is stored here, on stable storage and recorded, is deleted there by its UID."""
        assert isinstance(action, DeleteRemote)
        box = self.boxes[action.mailbox]
        pairs = self.state.pairs_of(box.row.id, action.uids)
        stored = [uid for uid in action.uids if uid in pairs and pairs[uid].stage in {Stage.PAIRED, Stage.DELETING}]
        stored = self.without_others(box, self._deletions.untried(box, stored))
        for start in range(0, len(stored), DELETE_AT_ONCE):
            self.run_of.stop.check()
            uids = tuple(stored[start : start + DELETE_AT_ONCE])
            self.state.set_stage(box.row.id, uids, Stage.DELETING)
            self.home.commit()
            try:
                deleted = self._deletions.delete(box, uids)
            except ServerRefused as error:
                self.run_of.fail(box, error)
                return
            self.report.deleted_remote += len(deleted.uids)
            if deleted.read_only:
                self.run_of.fail(box, ServerRefused("SELECT", "OK", deleted.reason or "", code="READ-ONLY"))
                return
            if not deleted.uids:
                return  # nor will the rest

    # -- the end -----------------------------------------------------------------------------------------------------

    def _record(self, box: Box) -> None:
        """What the next run may take for granted: only what was seen and has been carried out."""
        row, look = box.row, box.look
        if look is not None and not box.unfinished:
            self.trashed.seen(box)
        row.mailbox_id = box.remote.mailbox_id
        if self._two_way and not box.vanished and (row.inode is None or box.signature is not None or box.touched or box.new):
            row.inode, row.born = box.maildir.inode(), box.maildir.born()
        if look is not None:
            row.last_sync = time.time()
            if not box.unfinished:
                row.last_error = None
                row.uidnext, row.messages, row.highestmodseq = look.uidnext, look.exists, look.highestmodseq
            offline = self.run_of.account.mode == oneway.OFFLINE
            row.settled = not box.unfinished and not (offline and look.exists)
        elif box.unfinished:
            row.settled = False
        if box.touched or box.unfinished:
            row.signature = None
        elif box.signature is not None:
            row.signature = (box.signature.new_mtime_ns, box.signature.cur_mtime_ns, box.signature.looked_at_ns)
        if look is not None or box.signature is not None or box.touched or box.unfinished or box.new:
            self.state.save_mailbox(row)


def _nothing() -> None:
    """What there is to do meanwhile in a one-way mode."""


def _octets(outcome: Outcome) -> int:
    return outcome.delivered.wire_size if isinstance(outcome, Fetched) else 0


