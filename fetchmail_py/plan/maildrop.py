"""POP3: what to fetch, what to delete, what is known already (RFC 1939). The offline model: download, then delete."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from typing import NamedTuple

from fetchmail_py.model import MaildropEntry, Stage, StoredMessage

MAX_UIDL = 512
"""RFC 1939 allows 70 octets; servers exceed it. Longer than this identifies nothing."""


class MaildropPlan(NamedTuple):
    """What one session does, before any question by TOP is answered."""

    retrieve: tuple[MaildropEntry, ...]
    """Unknown messages, oldest first."""
    delete: tuple[tuple[MaildropEntry, StoredMessage], ...]
    """Stored, listed, and no longer to be kept."""
    keep: tuple[tuple[MaildropEntry, StoredMessage], ...]
    """Stored, listed, and to be kept for now."""
    ask: tuple[MaildropEntry, ...]
    """Unknown by UIDL, but as large as a stored message whose UIDL is no longer listed, or known by UIDL with another size:
    the header tells whether it is that one. Part of neither `retrieve` nor `delete`."""
    candidates: tuple[StoredMessage, ...]
    """Stored messages that one of `ask` or of `by_content` may be."""
    by_content: tuple[MaildropEntry, ...]
    """Without a UIDL of their own: fetched, and recognised by their digest where one of `candidates` has it."""
    forget: tuple[StoredMessage, ...]
    """No longer listed and not asked about: the deletion is confirmed, or another client deleted it."""


def plan_maildrop(
    entries: Sequence[MaildropEntry],
    stored: Sequence[StoredMessage],
    *,
    keep: float | None,
    now: float,
    missing: Collection[int] = (),
) -> MaildropPlan:
    """Compares a listing with what is stored.

    `keep` is how long a stored message stays at the server, in seconds; 0 deletes at once, None never. `missing` are rows
    whose file is not here although the state says so (a restored state): as if they had never been stored.
    """
    rows = [row for row in stored if row.id not in missing and row.stage != Stage.ARRIVING]
    by_uidl: dict[bytes, list[StoredMessage]] = defaultdict(list)
    for row in rows:
        if row.uidl is not None:
            by_uidl[row.uidl].append(row)
    counts = Counter(entry.uidl for entry in entries)
    retrieve: list[MaildropEntry] = []
    delete: list[tuple[MaildropEntry, StoredMessage]] = []
    kept: list[tuple[MaildropEntry, StoredMessage]] = []
    unsure: list[MaildropEntry] = []
    by_content: list[MaildropEntry] = []
    doubtful: dict[int, StoredMessage] = {}
    listed: set[int] = set()
    for entry in entries:
        if entry.uidl is None or counts[entry.uidl] > 1 or len(entry.uidl) > MAX_UIDL or not entry.uidl:
            by_content.append(entry)
            continue
        known = by_uidl.get(entry.uidl, [])
        same = [row for row in known if entry.size in _sizes(row) or not entry.size]
        if same and same[0].stage == Stage.DELETING:
            # Told to be deleted, and listed again: either it was not, or the server has given its UIDL to another message
            # (RFC 1939 allows that). The header tells; else the content.
            doubtful[same[0].id] = same[0]
            unsure.append(entry)
        elif same:
            row = same[0]
            listed.add(row.id)
            (delete if _is_due(row, keep, now) else kept).append((entry, row))
        elif known:
            # A UIDL used again for other mail, or a server that counts octets differently today: the header tells.
            doubtful[known[0].id] = known[0]
            unsure.append(entry)
        else:
            unsure.append(entry)
    unlisted = [row for row in rows if row.id not in listed and row.id not in doubtful]
    sizes = {size for row in (*unlisted, *doubtful.values()) for size in _sizes(row)}
    doubted = {row.uidl for row in doubtful.values()}
    ask = [entry for entry in unsure if entry.size in sizes or entry.uidl in doubted]
    asked = {entry.number for entry in ask}
    retrieve = [entry for entry in unsure if entry.number not in asked]
    candidates: list[StoredMessage] = list(doubtful.values())
    forget: list[StoredMessage] = []
    ask_sizes = {entry.size for entry in ask}
    for row in unlisted:
        if by_content or not ask_sizes.isdisjoint(_sizes(row)):
            candidates.append(row)
        else:
            forget.append(row)
    return MaildropPlan(
        tuple(retrieve), tuple(delete), tuple(kept), tuple(ask), tuple(candidates), tuple(by_content), tuple(forget)
    )


def _sizes(row: StoredMessage) -> set[int]:
    """The sizes with which a message may be listed. Dovecot leaves out the line end that it adds where a message has none at its
    end; after a lost state, only the file tells how many octets there were."""
    return {row.listed_size, row.wire_size, row.wire_size - 2}


def _is_due(row: StoredMessage, keep: float | None, now: float) -> bool:
    return keep is not None and now - row.stored_at >= keep


JUMP = 2 * 24 * 3600.0
"""Seconds between two runs that no clock need explain."""
LONGEST = 31 * 24 * 3600.0
"""No longer time between two runs counts as usual, whatever happened before."""
FADES = 10
"""How many times as long a time is remembered as usual: a holiday not for ever, a weekend until the next one."""


class Clock(NamedTuple):
    """What is known of this machine's clock: ages are told by it, and it may jump (a dead battery, a wrong time server)."""

    last: float | None
    """Its newest time (POSIX) that was taken for true; None: none yet."""
    longest: float = 0.0
    """The longest time between two runs lately, in seconds."""

    def behind(self, now: float) -> bool:
        """Whether it says that the last run is yet to come, or that it was wrong then."""
        return self.last is not None and now < self.last - JUMP

    def leaps(self, now: float) -> bool:
        """Whether it says that more time has passed since the last run than usually does."""
        return self.last is not None and now - self.last > max(JUMP, 2 * self.longest)

    def at(self, now: float, *, sure: bool = False) -> Clock:
        """The same once `now` is taken for true. A leap is no usual time, unless the user is `sure` of it: one that found
        nothing to delete would make the next one usual."""
        passed = 0.0 if self.last is None else max(0.0, now - self.last)
        usual = 0.0 if self.leaps(now) and not sure else passed
        return Clock(now, min(LONGEST, max(self.longest - usual / FADES, usual)))

    def stamp(self, now: float) -> float:
        """The time to record for what is stored now: never one that makes it look older than it is."""
        return now if self.last is None else max(now, self.last)


class Recognised(NamedTuple):
    """A listed message that is a stored one under another UIDL."""

    entry: MaildropEntry
    row: StoredMessage


def recognise(
    asked: Sequence[tuple[MaildropEntry, bytes]], candidates: Sequence[StoredMessage], no_identity: bytes
) -> tuple[list[Recognised], list[MaildropEntry]]:
    """Which of the `asked` (entry, identity of its header) are stored, and which must be fetched; each row at most once."""
    free: dict[bytes, list[StoredMessage]] = defaultdict(list)
    for row in candidates:
        free[row.identity].append(row)
    found: list[Recognised] = []
    fetch: list[MaildropEntry] = []
    for entry, identity in asked:
        rows = free.get(identity, []) if identity != no_identity else []
        match = next((row for row in rows if entry.size in _sizes(row)), None)
        if match is None:
            fetch.append(entry)
        else:
            rows.remove(match)
            found.append(Recognised(entry, match))
    return found, fetch
