"""A POP3 account: download, then delete (RFC 1939; the offline model of RFC 1733).

DELE only marks, and QUIT may still fail: a message counts as deleted when a later listing no longer shows it. Until then its
row stays, so that it is never fetched a second time.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing

from fetchmail_py.errors import ConfigError, FetchmailError, SafetyStop, ServerBusy, ServerRefused, StoreError
from fetchmail_py.identity import NO_IDENTITY, identity
from fetchmail_py.model import NO_FLAGS, Delivered, MaildropEntry, MessageKey, Stage, StoredMessage, count_of
from fetchmail_py.plan import guard
from fetchmail_py.plan.maildrop import MAX_UIDL, Clock, MaildropPlan, plan_maildrop, recognise
from fetchmail_py.session.login import Login
from fetchmail_py.session.pop3 import Capabilities, NotRetrieved, Pop3Session, Retrieved
from fetchmail_py.store import content
from fetchmail_py.store.maildir import PublishError
from fetchmail_py.sync.arrivals import Arrivals, MaildirSink
from fetchmail_py.sync.context import RunContext
from fetchmail_py.sync.home import endpoint_of, line_ends_of

GRACE = 3.0
"""Seconds that a run broken off by a signal gives the server to end the message under way."""
MAILDROP = "maildrop"

Outcome = Retrieved | NotRetrieved


class Pop3Run:
    """One run of one POP3 account."""

    def __init__(self, context: RunContext) -> None:
        self.home = context.home
        self.account = self.home.account
        mechanism = self.home.state.get("mechanism") or ""
        self.login = Login(self.account.user, self.account.auth, context.secret, mechanism)
        self.options = context.options
        self.report = context.report
        self.note = context.note
        self.stop = context.stop
        self._connect = context.connect
        self._arrivals = Arrivals(self.account.name, self.report, context.on_event)
        self._maildir = self.home.inbox()
        self._sink = MaildirSink(self._maildir)
        self._by_digest: dict[bytes, list[StoredMessage]] = defaultdict(list)
        """Stored messages that a message without a UIDL of its own may turn out to be."""
        self._unique: set[bytes] = set()
        self._here: dict[MaildropEntry, int] = {}
        """Fetched, and found to be stored already: entry -> row."""
        self._arrived: dict[MessageKey, MaildropEntry] = {}
        self._by_uidl: dict[tuple[bytes, bytes], MaildropEntry] = {}
        """The first of those that share a UIDL and a digest."""
        self._twins: dict[MaildropEntry, MaildropEntry] = {}
        """Dropped, since they are octet for octet another message of this session with the same UIDL: that one."""
        self._set_aside: dict[str, int] = {}
        """Messages set aside by earlier runs, as `ident` names them, and how often they were tried."""
        self._clock = Clock(None)
        self._now = time.time()
        """What this machine's clock says; ages are told by it."""
        self._odd: list[Retrieved] = []
        """Stored, and of another size than the server had announced."""

    def run(self) -> None:
        """Does it. Raises FetchmailError."""
        with self.stop.heeded(self._connect) as connect:
            session = Pop3Session.open(
                endpoint_of(self.account), self.login, before_login=self._respect_login_delay, connect=connect
            )
        timers: list[threading.Timer] = []

        def wake() -> None:
            timer = threading.Timer(GRACE, session.abort)
            timer.daemon = True
            timers.append(timer)
            timer.start()

        remove = self.stop.add_waker(wake)
        try:
            self.home.state.put("last_login", repr(time.time()))
            if session.mechanism != self.login.likely:
                self.home.state.put("mechanism", session.mechanism)
            self._session(session)
        finally:
            remove()
            for timer in timers:
                timer.cancel()
            self._arrivals.close()
            session.close()

    def _respect_login_delay(self, capabilities: Capabilities) -> None:
        """LOGIN-DELAY (RFC 2449, 6.5): coming too early only makes some servers start counting again."""
        before = float(self.home.state.get("last_login") or 0)
        wait = before + (capabilities.login_delay or 0) - time.time()
        if 0 < wait <= (capabilities.login_delay or 0):
            raise ServerBusy(
                "login",
                "CAPA",
                f"LOGIN-DELAY {capabilities.login_delay}: the next login is allowed in {wait:.0f} seconds",
            )

    def _tell_of_expiry(self, capabilities: Capabilities) -> None:
        """EXPIRE 0 (RFC 2449, 6.7): said once, and once more if the server has had another policy meanwhile."""
        at_once = capabilities.expire is not None and capabilities.expire.split()[:1] == ["0"]
        told = self.home.state.get("told_of_expiry") is not None
        if at_once and not told:
            self.note("the server deletes mail at the end of the session that fetched it, whatever `keep` says (EXPIRE 0)")
        if at_once != told:
            self.home.state.put("told_of_expiry", "1" if at_once else None)

    def _session(self, session: Pop3Session) -> None:
        self._tell_of_expiry(session.capabilities)
        entries = session.listing()
        self.report.mailboxes = 1
        self._refuse_keep_without_uidl(entries)
        counts = Counter(entry.uidl for entry in entries)
        self._unique = {uidl for uidl, count in counts.items() if uidl and count == 1 and len(uidl) <= MAX_UIDL}
        self._set_aside = {row.ident: row.tries for row in self.home.state.deferred() if row.mailbox == 0}
        self._read_clock()
        missing = self._compare_with_files()
        plan = plan_maildrop(entries, self.home.state.maildrop(), keep=self.account.keep, now=self._now, missing=missing)
        due, fetch = self._ask(session, plan)
        due = self._guard_against_leaps(due, plan)
        if self.options.dry_run:
            self._show(due, fetch)
            session.quit()
            return
        if fetch or due or plan.forget:
            self.home.begin_effects()
        self.home.state.forget_maildrop([row.id for row in plan.forget])
        if fetch:
            self._retrieve(session, fetch)
        self.home.state.maildrop_arrived()
        self.home.commit()
        if self.stop.signal is not None:
            self._break_off(session)
        self._forget_deferred(entries)
        self._finish(session, due)

    def _refuse_keep_without_uidl(self, entries: Sequence[MaildropEntry]) -> None:
        if self.account.keep != 0 and any(entry.uidl is None for entry in entries):
            raise ConfigError(
                "the server has no UIDL: what stays there could not be told from new mail, and would come again and again",
                key="keep",
                hint='set keep = "0" to download and delete',
            )

    # -- what is known -----------------------------------------------------------------------------------------------

    def _compare_with_files(self) -> set[int]:
        """In a run that must not trust its state: files without a row get one, rows without a file are named."""
        state, maildir = self.home.state, self._maildir
        if self.home.trusted or not maildir.exists():
            return set()
        files = maildir.scan()
        rows = state.maildrop()
        known = {row.key for row in rows}
        found = []
        for key in sorted(set(files) - known):
            with contextlib.suppress(FileNotFoundError):
                seen = content.inspect(maildir.path_of(files[key]))
                wire_size, line_ends = line_ends_of(seen.size, seen.lf_count, has_cr=seen.has_cr)
                delivered = Delivered(key, wire_size, seen.size, seen.sha256, line_ends, seen.identity)
                found.append((None, seen.size, self._clock.stamp(time.time()), delivered))
        state.add_maildrop(found, stage=Stage.PAIRED)
        if not self.home.restored:
            return set()
        return {row.id for row in rows if row.key not in files}

    def _ask(
        self, session: Pop3Session, plan: MaildropPlan
    ) -> tuple[list[tuple[MaildropEntry, int]], list[MaildropEntry]]:
        """(what to delete with its rows, what to fetch), after the server was asked for the headers that are in doubt."""
        due = [(entry, row.id) for entry, row in plan.delete]
        asked = []
        for entry, header in session.top(plan.ask):
            asked.append((entry, NO_IDENTITY if header is None else identity(header)))
        found, fetch = recognise(asked, plan.candidates, NO_IDENTITY)
        self.home.state.set_uidl((match.row.id, match.entry.uidl) for match in found)
        due += [(match.entry, match.row.id) for match in found if self._is_due(match.row)]
        taken = {match.row.id for match in found}
        # What has no UIDL of its own, or whose header said nothing, may still be known by its content.
        self._by_digest.clear()
        for row in plan.candidates:
            if row.id not in taken:
                self._by_digest[row.sha256].append(row)
        wanted = sorted((*plan.retrieve, *fetch, *plan.by_content), key=lambda entry: entry.number)
        return (due if self.home.trusted else []), wanted

    def _is_due(self, row: StoredMessage) -> bool:
        keep = self.account.keep
        return keep is not None and self._now - row.stored_at >= keep

    # -- ages --------------------------------------------------------------------------------------------------------

    def _read_clock(self) -> None:
        """What the clock said in earlier runs, and says now. With `--allow-mass-delete` it is believed."""
        state = self.home.state
        last = state.get("clock") or state.get("last_sync")
        self._clock = Clock(None if last is None else float(last), float(state.get("longest_gap") or 0))
        if self.options.allow_mass_delete:
            self._clock = self._clock.at(self._now, sure=True)
        if self._clock.behind(self._now):
            if self.account.keep:
                self.note(
                    f"this machine's clock is behind that of the run on {_day(self._clock.last or 0)}: messages stay at the "
                    "server for longer (if it is right now, say so once with --allow-mass-delete)"
                )
        elif not self._clock.leaps(self._now):
            # Stored while the clock was ahead, they would stay at the server until it gets there.
            state.stored_by(self._now)

    def _guard_against_leaps(
        self, due: list[tuple[MaildropEntry, int]], plan: MaildropPlan
    ) -> list[tuple[MaildropEntry, int]]:
        """What is to be deleted for its age, unless the clock has leapt and made everything old at once."""
        state, clock = self.home.state, self._clock
        leaps = bool(self.account.keep) and clock.leaps(self._now)
        # What has come in since the leap makes the deletions no smaller.
        before = sum(row.stored_at <= (clock.last or 0) for _, row in (*plan.delete, *plan.keep))
        known = max(len(due), before)
        if leaps and guard.asks(len(due), known, self.account.max_delete):
            days = (self._now - (clock.last or 0)) / 86400
            passed = f"{days:,.0f} days have passed since the last run on {_day(clock.last or 0)}"
            self.report.stops.append(
                SafetyStop(
                    f"{len(due)} of {count_of(known, 'message')} at the server would be deleted for their age, since the clock "
                    f"says that {passed}; none of them was deleted",
                    hint=f"if {_day(self._now)} is the right date: fetchmail-py sync {self.account.name} --allow-mass-delete",
                    mailbox=MAILDROP,
                )
            )
            return []
        if not clock.behind(self._now) and (self.home.trusted or not leaps):
            clock = clock.at(self._now)
            state.put("clock", repr(clock.last))
            state.put("longest_gap", repr(clock.longest))
        return due

    def _show(self, due: list[tuple[MaildropEntry, int]], fetch: list[MaildropEntry]) -> None:
        from fetchmail_py.plan.actions import DeleteFromMaildrop, Retrieve  # noqa: PLC0415 - only a dry run needs them

        if fetch:
            self.report.plan.append(Retrieve(tuple(fetch)))
        delete = [entry for entry, _ in due]
        if self.account.keep == 0 and self.home.trusted:
            delete += fetch
        if delete:
            self.report.plan.append(DeleteFromMaildrop(tuple(sorted(delete, key=lambda entry: entry.number))))

    # -- fetching ----------------------------------------------------------------------------------------------------

    def _retrieve(self, session: Pop3Session, fetch: list[MaildropEntry]) -> None:
        from fetchmail_py.sync.pump import Pump  # noqa: PLC0415 - most runs find nothing new

        self._maildir.create()
        self.home.barrier.directories(())
        self._arrivals.expect(len(fetch))
        pump: Pump[Outcome] = Pump(_octets, session.abort)
        batches = pump.run([self._source(session, fetch)])
        with closing(batches):  # whatever happens here, nobody waits for us to take another batch
            for batch in batches:
                try:
                    self._store(batch)
                except StoreError:
                    session.abort()
                    batches.close()
                    self._drop((*batch, *pump.left))
                    raise
        self._tell_of_sizes()

    def _tell_of_sizes(self) -> None:
        if self._odd:
            first = self._odd[0]
            others = f", and {len(self._odd) - 1} more" if len(self._odd) > 1 else ""
            sizes = f"{first.delivered.wire_size} octets came where {first.entry.size} were announced"
            self.note(f"message {first.entry.number} is complete, but {sizes}{others}: the server's sizes are wrong")

    def _drop(self, outcomes: Iterable[Outcome]) -> None:
        """A disk that fails keeps nothing that is not recorded: what is, is settled by the next run."""
        self.home.state.rollback()
        recorded = {row.key for row in self.home.state.maildrop()}
        for outcome in outcomes:
            if isinstance(outcome, Retrieved) and outcome.delivered.key not in recorded:
                self._sink.discard(outcome.delivered)

    def _source(self, session: Pop3Session, fetch: list[MaildropEntry]) -> Iterator[Outcome]:
        # One that was set aside may end the session again: it comes after all others, and takes none with it.
        aside = [entry for entry in fetch if ident(entry) in self._set_aside] if self._set_aside else []
        first = [entry for entry in fetch if ident(entry) not in self._set_aside] if aside else fetch
        aside.sort(key=lambda entry: self._set_aside[ident(entry)])
        for entries in (first, *([entry] for entry in aside)):
            for outcome in session.retrieve(entries, self._sink, lambda: self.stop.signal is None):
                yield outcome
                if isinstance(outcome, Retrieved):
                    self._arrivals.received(outcome.delivered.wire_size, MAILDROP)

    def _store(self, batch: Sequence[Outcome]) -> None:
        """Makes a batch lasting: data, rows, names, directories, in that order."""
        state = self.home.state
        arrived: list[Retrieved] = []
        for outcome in batch:
            if isinstance(outcome, NotRetrieved):
                state.defer(0, ident(outcome.entry), outcome.reason, time.time())
            elif not self._is_twin(outcome) and not self._known_by_content(outcome):
                arrived.append(outcome)
        if not arrived:
            self.home.commit()
            return
        self.home.barrier.files([f"{self._maildir.tmp}/{outcome.delivered.key}" for outcome in arrived])
        now = self._clock.stamp(time.time())
        state.add_maildrop(
            (self._uidl(outcome.entry), outcome.entry.size, now, outcome.delivered) for outcome in arrived
        )
        self._no_longer_aside(arrived)
        self.home.commit()
        failure: PublishError | None = None
        try:
            directories = self._maildir.publish([(outcome.delivered, NO_FLAGS, "") for outcome in arrived])
        except PublishError as error:
            failure = error
            directories = error.directories
            lost = set(error.keys)
            arrived = [outcome for outcome in arrived if outcome.delivered.key not in lost]
            state.forget_maildrop([row.id for row in state.maildrop() if row.key in lost])
        self.home.barrier.directories(directories)
        state.maildrop_arrived()
        for outcome in arrived:
            self._arrived[outcome.delivered.key] = outcome.entry
            if _is_odd(outcome.entry.size, outcome.delivered.wire_size):
                self._odd.append(outcome)
            self._arrivals.stored(MAILDROP, self._maildir, outcome.delivered, NO_FLAGS, "", None)
        state.put("fetched_messages", str(state.number("fetched_messages") + len(arrived)))
        octets = sum(outcome.delivered.size for outcome in arrived)
        state.put("fetched_bytes", str(state.number("fetched_bytes") + octets))
        if failure is not None:
            self.home.commit()
            raise StoreError(failure.detail, path=failure.path, errno=failure.errno)

    def _uidl(self, entry: MaildropEntry) -> bytes | None:
        """The UIDL, where it names this message alone."""
        return entry.uidl if entry.uidl in self._unique else None

    def _is_twin(self, outcome: Retrieved) -> bool:
        """Whether it shares UIDL and every octet with one that came before: RFC 1939 lets a server give copies one UIDL."""
        entry = outcome.entry
        if not entry.uidl or entry.uidl in self._unique:
            return False
        first = self._by_uidl.setdefault((entry.uidl, outcome.delivered.sha256), entry)
        if first == entry:
            return False
        self._sink.discard(outcome.delivered)
        self._no_longer_aside([outcome])
        self._twins[entry] = first
        return True

    def _known_by_content(self, outcome: Retrieved) -> bool:
        """Whether exactly this message is stored already; then what came is dropped, and the row is that message's."""
        rows = self._by_digest.get(outcome.delivered.sha256)
        if not rows:
            return False
        row = rows.pop(0)
        self._sink.discard(outcome.delivered)
        self.home.state.set_uidl([(row.id, self._uidl(outcome.entry))])
        self._no_longer_aside([outcome])
        self._here[outcome.entry] = row.id
        return True

    def _no_longer_aside(self, arrived: Iterable[Retrieved]) -> None:
        """They came in after all. Nearly always nothing is set aside, and a question for each message would have its price."""
        if self._set_aside:
            names = {ident(outcome.entry) for outcome in arrived}
            self.home.state.undefer(0, sorted(names & self._set_aside.keys()))

    def _forget_deferred(self, entries: Sequence[MaildropEntry]) -> None:
        listed = {ident(entry) for entry in entries}
        gone = [row.ident for row in self.home.state.deferred() if row.mailbox == 0 and row.ident not in listed]
        self.home.state.undefer(0, gone)

    # -- deleting ----------------------------------------------------------------------------------------------------

    def _finish(self, session: Pop3Session, due: list[tuple[MaildropEntry, int]]) -> None:
        state = self.home.state
        left = [row.id for rows in self._by_digest.values() for row in rows]
        asked_all = not any(row.mailbox == 0 for row in state.deferred())
        if asked_all and self.home.trusted:
            # Whatever was listed has been identified: what is left of the candidates is no longer at the server.
            state.forget_maildrop(left)
        delete = dict(due)
        if self.account.keep == 0 and self.home.trusted:
            delete |= self._stored()
        if delete:
            self.home.begin_effects()
            state.set_maildrop_stage(delete.values(), Stage.DELETING)
        self.home.commit()
        accepted = 0
        refused: ServerRefused | None = None
        for entry, refusal in session.delete(sorted(delete, key=lambda entry: entry.number)):
            if refusal is None:
                accepted += 1
            else:
                # One that trying again does not help says more about the run than any number of those that it does.
                if refused is None or refused.retryable:
                    refused = refusal
                self.note(f"message {entry.number} was not deleted at the server: {refusal.words}")
        try:
            session.quit()
        except ServerRefused as error:
            # RFC 1939, 6: some of the messages may still be there. The next listing tells which.
            raise ServerBusy("QUIT", error.status, error.text, code=error.code) from error
        self.report.deleted_remote += accepted
        if refused is not None:
            self.report.error = refused

    def _stored(self) -> dict[MaildropEntry, int]:
        """What came in during this session and is stored, or turned out to be stored: entry -> row."""
        arrived = {row.key: row.id for row in self.home.state.maildrop() if row.stage == Stage.PAIRED}
        stored = self._here | {entry: arrived[key] for key, entry in self._arrived.items() if key in arrived}
        return stored | {twin: stored[first] for twin, first in self._twins.items() if first in stored}

    def _break_off(self, session: Pop3Session) -> None:
        """A signal: what is stored stays stored, nothing is deleted that was not meant to be (RFC 1939, RSET)."""
        with contextlib.suppress(FetchmailError):
            session.reset()
            session.quit()
        self.stop.check()


def ident(entry: MaildropEntry) -> str:
    """How a message is named to people, and among those set aside."""
    return f"message {entry.number}" if entry.uidl is None else entry.uidl.decode("utf-8", "backslashreplace")


def _day(seconds: float) -> str:
    return time.strftime("%Y-%m-%d", time.localtime(seconds))


def _is_odd(announced: int, came: int) -> bool:
    """Whether it is off by more than 10 %. A server that says 0 has no sizes, and may add a line end to a message without one."""
    return announced > 0 and abs(came - announced) > max(2, announced / 10)


def _octets(outcome: Outcome) -> int:
    return outcome.delivered.wire_size if isinstance(outcome, Retrieved) else 0
