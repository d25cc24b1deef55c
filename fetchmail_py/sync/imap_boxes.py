"""Which mailboxes a run covers, where they lie here, and how they relate to what we knew: new, renamed, vanished, the same."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from fetchmail_py.errors import ConfigError, SafetyStop, ServerRefused, UsageError
from fetchmail_py.identity import NO_IDENTITY, identity
from fetchmail_py.model import Look, MailboxName, MessageKey, Pair, RemoteMailbox, RemoteSnapshot, Uid, UidSet, count_of
from fetchmail_py.plan import patterns, twoway
from fetchmail_py.plan.oneway import Delta
from fetchmail_py.session.imap import ImapSession
from fetchmail_py.session.imap_fetch import identify
from fetchmail_py.store.layout import path_for
from fetchmail_py.store.maildir import LocalFile, Maildir, Signature
from fetchmail_py.store.state import MailboxRow
from fetchmail_py.sync.home import Home
from fetchmail_py.wire.utf7 import encode_mailbox, printable

_PLAIN = re.compile("[ -%'-~]*")
_LONE = re.compile("[\ud800-\udfff]")
PULL_ONLY = (
    "the server gives it no UIDVALIDITY, so that its UIDs mean nothing (RFC 9051, 2.3.1.1): new messages come in, recognised by "
    "content; nothing is deleted, and nothing goes up"
)
ODD_SHOWN = 5
"""Names that are shown of what is no message."""
NAMES_SHOWN = 20
"""Mailboxes that are shown where one of them may have been meant."""
CANDIDATES = 10
"""Mailboxes of one UIDVALIDITY that are asked whether they are one that was renamed."""
PROOFS = 3
"""Messages that must be the same for a mailbox under another name to count as renamed."""


class Box:
    """One mailbox in this run."""

    def __init__(self, remote: RemoteMailbox, row: MailboxRow, maildir: Maildir, *, new: bool = False) -> None:
        self.remote = remote
        self.row = row
        self.maildir = maildir
        self.new = new
        """There was no row: it is created here."""
        self.look: Look | None = None
        """None: not looked at, since the server has nothing new."""
        self.snapshot: RemoteSnapshot | None = None
        self.pairs: dict[Uid, Pair] = {}
        self.files: dict[MessageKey, LocalFile] | None = None
        """What lies here; None: not looked at, since nothing changed."""
        self.signature: Signature | None = None
        self.delta: Delta | twoway.Delta | None = None
        self.here: twoway.Here | None = None
        """Mode disconnected: what differs here; None: not looked at, since nothing changed."""
        self.strangers: dict[MessageKey, LocalFile] = {}
        """Mode disconnected: files that no row knows."""
        self.odd: list[str] = []
        """Links, pipes and directories among its messages, as "cur/name": left alone."""
        self.another_folder = False
        """Mode disconnected: its directory is not the one it was: what is missing in it was not deleted there."""
        self.apart: frozenset[MessageKey] = frozenset()
        """Mode disconnected: files here that are none of the server's messages, however alike."""
        self.vanished = False
        """Its directory was here and is gone, which counts in mode disconnected; or it is a link. The mailbox is left alone."""
        self.unpaired: dict[bytes, list[Uid]] = {}
        """Digest to rows without a UID: a download that turns out to be one of these is not stored twice."""
        self.unidentified: set[Uid] = set()
        """New at the server, and not known well enough to say that they are none of the messages here without a UID."""
        self.rights: str | None = None
        """What the user may do there, as MYRIGHTS tells it; None: not asked, or not told."""
        self.touched = False
        """This run changed something in its directory."""
        self.unfinished = False
        """Something of what was seen has not been carried out: the next run must see it again."""

    @property
    def name(self) -> MailboxName:
        """Its name at the server."""
        return self.row.name

    @property
    def doubtful(self) -> bool:
        """Whether the server may have messages here without our knowing: what is here may be there already."""
        return bool(self.unidentified) or (self.snapshot is not None and not self.snapshot.complete)

    @property
    def odd_words(self) -> str:
        """What there is to tell of what is no file."""
        names = ", ".join(sorted(self.odd)[:ODD_SHOWN]) + (", …" if len(self.odd) > ODD_SHOWN else "")
        what = "are no files, and were" if len(self.odd) > 1 else "is no file, and was"
        return f"{names} {what} left alone: a link, a pipe or a directory is no message"

    @property
    def pull_only(self) -> bool:
        """Whether the server gives it no UIDVALIDITY: its UIDs are good for this look alone."""
        return self.look is not None and not self.look.uidvalidity

    @property
    def uidvalidity(self) -> int:
        """As looked at, else as known."""
        return self.look.uidvalidity if self.look is not None else self.row.uidvalidity


class Renamed(NamedTuple):
    """A mailbox that the server has under another name now."""

    row: MailboxRow
    remote: RemoteMailbox


def check_same_account(
    home: Home, listed: Sequence[RemoteMailbox], session: ImapSession, *, fresh: bool
) -> None:
    """Raises SafetyStop where the state belongs to another server's or another user's mail.

    An equal UIDVALIDITY proves nothing, since some servers count from 1: messages must be the same. With `fresh`, everything here
    is matched with the server by content.
    """
    account = home.account
    now = f"{account.user}@{account.host}"
    before = home.state.get("server")
    if before == now:
        return
    rows = {row.name: row for row in home.state.mailboxes().values() if row.uidvalidity}
    if before is not None and rows and not _proven(home, rows, listed, session):
        if fresh:
            for row in rows.values():
                home.state.renumber(row.id)
                row.highestmodseq, row.settled, row.signature = 0, False, None
                home.state.save_mailbox(row)
            home.state.put("server", now)
            return
        raise SafetyStop(
            f"{home.root} holds the mail of {before}, and no mailbox of {now} is one of those",
            hint="give this account a maildir of its own; if the mail has moved to the new server, --fresh "
            "matches it by content and downloads only what is not here",
        )
    home.state.put("server", now)


def _proven(
    home: Home, rows: Mapping[MailboxName, MailboxRow], listed: Sequence[RemoteMailbox], session: ImapSession
) -> bool:
    """Whether some mailbox has messages that are the ones we know under their UIDs."""
    for box in patterns.in_order(listed):
        row = rows.get(box.name)
        if row is not None and row.uidvalidity == box.uidvalidity and _same_messages(home, row, box, session):
            return True
    return False


def _same_messages(home: Home, row: MailboxRow, box: RemoteMailbox, session: ImapSession) -> bool:
    """Whether the mailbox has some of the last messages of `row` under their UIDs, and none of them is another."""
    known = [message for message in home.state.known_messages(row.id) if message.uid > 0]
    like = {message.uid: message.identity for message in known if message.identity != NO_IDENTITY}
    # Without any Message-ID, size and date of arrival under the same UID have to do.
    like = like or {message.uid: _plain(message.wire_size, message.internaldate) for message in known if message.internaldate}
    proofs = {uid: like[uid] for uid in sorted(like)[-PROOFS:]}
    if not proofs:
        return False
    try:
        found = list(identify(session, box.name, row.uidvalidity, UidSet.of(proofs)) or ())
    except ServerRefused:
        return False
    return bool(found) and all(
        proofs[message.uid] in (identity(message.header), _plain(message.size, message.internaldate)) for message in found
    )


def _plain(size: int, internaldate: int | None) -> bytes:
    return b"%d octets of %d" % (size, internaldate or 0)


def _selectable(listed: Sequence[RemoteMailbox]) -> list[RemoteMailbox]:
    """What can hold messages, once: a server may list a mailbox twice, or INBOX in two spellings."""
    return list({box.name: box for box in reversed(listed) if box.selectable}.values())[::-1]


def renamed_there(
    home: Home, listed: Sequence[RemoteMailbox], session: ImapSession, note: Callable[[str], None]
) -> list[Renamed]:
    """The mailboxes that the server has under another name now; those that it has no more are told."""
    rows = home.state.mailboxes()
    # A name that is only a level of names now is that of a mailbox that was deleted: what lies below it keeps the name.
    there = {box.name: box for box in _selectable(listed)}
    covered = [box for box in there.values() if patterns.wanted(box, home.account.mailboxes)]
    doubtful = _numbered_alike(rows, there)
    left: dict[MailboxName, MailboxRow] = {}
    for row in rows.values():
        found = there.get(row.name)
        if found is not None and not row.listed:
            row.listed = True
            home.state.save_mailbox(row)
        # Another mailbox may have been made under the old name since, or have come there.
        if found is None or _is_another(row, found) or (row.name in doubtful and not _same_messages(home, row, found, session)):
            left[row.name] = row
    candidates = [box for box in covered if box.name not in rows or box.name in left]
    found_again: dict[MailboxName, Renamed] = {}
    for row in left.values():
        others = [box for box in candidates if box.name != row.name]
        to = _renamed_to(home, row, others, session) if row.listed else None
        if to is not None:
            found_again[row.name] = Renamed(row, to)
            candidates.remove(to)
    while True:
        # A name is free for another mailbox only where the one that had it is called otherwise now.
        held = [name for name, entry in found_again.items() if entry.remote.name in rows.keys() - found_again.keys()]
        if not held:
            break
        for name in held:
            del found_again[name]
    for row in left.values():
        if row.name not in there and row.name not in found_again and row.listed:
            row.listed = False
            home.state.save_mailbox(row)
            note(f"{printable(row.name)}: no longer at the server; what is here stays")
    return list(found_again.values())


def _is_another(row: MailboxRow, found: RemoteMailbox) -> bool:
    """Whether the server says that this is not the mailbox that had the name before."""
    if row.mailbox_id is not None and found.mailbox_id is not None:
        return row.mailbox_id != found.mailbox_id
    return found.uidvalidity not in {None, row.uidvalidity}


def _numbered_alike(
    rows: Mapping[MailboxName, MailboxRow], there: Mapping[MailboxName, RemoteMailbox]
) -> set[MailboxName]:
    """Mailboxes that share a UIDVALIDITY, where a UIDNEXT went back, which no mailbox's may: they may have been exchanged."""
    known = [
        (row, there[row.name]) for row in rows.values() if row.uidvalidity and row.name in there and row.mailbox_id is None
    ]
    count = Counter(row.uidvalidity for row, _ in known)
    went_back = {row.uidvalidity for row, found in known if found.uidnext is not None and found.uidnext < row.uidnext}
    return {row.name for row, _ in known if row.uidvalidity in went_back and count[row.uidvalidity] > 1}


def choose(home: Home, listed: Sequence[RemoteMailbox], only: Sequence[str] | None) -> list[Box]:
    """The mailboxes of this run in their order, with a row each."""
    account = home.account
    selectable = _selectable(listed)
    wanted = patterns.in_order(box for box in selectable if patterns.wanted(box, account.mailboxes))
    if only is not None:
        wanted = _only(wanted, selectable, only)
    elif not wanted:
        raise ConfigError(
            f"none of the server's {count_of(len(selectable), 'mailbox')} is one of `mailboxes`: {', '.join(account.mailboxes)}",
            key="mailboxes",
            hint=f"there are: {_shown(selectable)}",
        )
    rows = home.state.mailboxes()
    taken = {row.path for row in rows.values()}
    boxes: list[Box] = []
    for remote in wanted:
        known = rows.get(remote.name)
        if known is None:
            path = place(home, remote, taken)
            taken.add(path)
            known = home.state.add_mailbox(remote.name, remote.delimiter, path)
            known.mailbox_id = remote.mailbox_id
            boxes.append(Box(remote, known, home.maildir(known), new=True))
        else:
            boxes.append(Box(remote, known, home.maildir(known)))
    return boxes


def place(home: Home, remote: RemoteMailbox, taken: set[str]) -> str:
    """Where a mailbox lies below `maildir`: where another program has put it already, if it has."""
    account = home.account
    local = patterns.local_name(remote.name, remote.delimiter, account.map)

    def path_of(name: MailboxName) -> str:
        return path_for(name, remote.delimiter, layout=account.layout, taken=taken, fold_case=home.fold_case)

    path = path_of(local)
    if not _PLAIN.fullmatch(local) and not _LONE.search(local):
        # mbsync and Dovecot have the names as they are on the wire, in modified UTF-7.
        theirs = path_of(MailboxName(encode_mailbox(local, utf8=False).decode("ascii")))
        if not os.path.isdir(f"{home.root}/{path}/cur") and os.path.isdir(f"{home.root}/{theirs}/cur"):
            return theirs
    return path


def _shown(boxes: Sequence[RemoteMailbox]) -> str:
    """Names of mailboxes, as many as anybody reads."""
    names = ", ".join(printable(box.name) for box in boxes[:NAMES_SHOWN])
    return f"{names} and {len(boxes) - NAMES_SHOWN:,} more" if len(boxes) > NAMES_SHOWN else names


def can_rename(home: Home, source: Box, target: Box) -> bool:
    """Whether a rename can bring a file from one mailbox to another: both lie, or are to lie, on one device."""
    devices = {os.stat(box.maildir.path if box.maildir.exists() else home.root).st_dev for box in (source, target)}
    return len(devices) == 1


def _only(wanted: list[RemoteMailbox], selectable: Sequence[RemoteMailbox], only: Sequence[str]) -> list[RemoteMailbox]:
    names = {"INBOX" if name.upper() == "INBOX" else name for name in only}
    for name in sorted(names):
        if not any(box.name == name for box in selectable):
            raise UsageError(f"the server has no mailbox {name!r}", hint=f"there are: {_shown(selectable)}")
        if not any(box.name == name for box in wanted):
            raise ConfigError(f"the mailbox {name!r} is excluded by the account's `mailboxes`", key="mailboxes")
    return [box for box in wanted if box.name in names]


def _renamed_to(
    home: Home, row: MailboxRow, strangers: Sequence[RemoteMailbox], session: ImapSession
) -> RemoteMailbox | None:
    """The mailbox not known so far that `row` has become, beyond doubt (RFC 8474 MAILBOXID, or the same messages)."""
    by_id = [box for box in strangers if row.mailbox_id is not None and box.mailbox_id == row.mailbox_id]
    if len(by_id) == 1:
        return by_id[0]
    if not row.uidvalidity:
        return None
    same = [box for box in strangers if box.uidvalidity == row.uidvalidity and (box.uidnext or 0) >= row.uidnext]
    if len(same) == 1 and not same[0].messages and same[0].uidnext == row.uidnext and not home.state.known_messages(row.id):
        return same[0]  # empty as before: there is nothing that could prove it, and nothing that could be mixed up
    proven = [box for box in same[:CANDIDATES] if _same_messages(home, row, box, session)]
    return proven[0] if len(proven) == 1 and len(same) <= CANDIDATES else None
