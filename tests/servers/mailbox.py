"""What the test servers serve: one user's mailboxes, in memory, with everything tests want to change behind a client's back."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field


@dataclass(slots=True)
class Message:
    """One message; `data` is sent as it is."""

    uid: int
    data: bytes
    flags: set[str]
    internaldate: int
    modseq: int


@dataclass(slots=True)
class Mailbox:
    """One mailbox. `expunged` is what QRESYNC tells later: (uid, modseq)."""

    name: str
    uidvalidity: int
    mailbox_id: str
    special_use: str | None = None
    subscribed: bool = True
    uidnext: int = 1
    highestmodseq: int = 1
    messages: list[Message] = field(default_factory=list)
    expunged: list[tuple[int, int]] = field(default_factory=list)

    def by_uid(self, uid: int) -> Message | None:
        """The message, if it is there."""
        return next((message for message in self.messages if message.uid == uid), None)


class Store:
    """A user's mail. Every change is made under one lock; servers look at it under the same lock."""

    def __init__(self, user: str = "ann", password: str = "secret") -> None:
        self.user = user
        self.password = password
        self.lock = threading.RLock()
        self.mailboxes: dict[str, Mailbox] = {}
        self.levels: set[str] = set()
        """Names that are no mailboxes: LIST has them, since others lie below."""
        self._validity = 1000
        self.create("INBOX")

    def create(self, name: str, *, special_use: str | None = None) -> Mailbox:
        """A new, empty mailbox."""
        with self.lock:
            self._validity += 1
            box = Mailbox(name, self._validity, f"F{self._validity}", special_use)
            self.mailboxes[name] = box
            self.levels.discard(name)
            return box

    def rename(self, name: str, to: str) -> None:
        """The mailbox and what is below it get other names; messages, UIDs and UIDVALIDITY stay."""
        with self.lock:
            for old in list(self.mailboxes):
                if old == name or old.startswith(name + "/"):
                    box = self.mailboxes.pop(old)
                    box.name = to + old[len(name) :]
                    self.mailboxes[box.name] = box

    def delete(self, name: str) -> None:
        """The mailbox is gone, with all its messages; its name stays as a level where others lie below it (RFC 9051, 6.3.5)."""
        with self.lock:
            del self.mailboxes[name]
            if any(other.startswith(name + "/") for other in self.mailboxes):
                self.levels.add(name)

    def append(
        self, data: bytes, mailbox: str = "INBOX", flags: Iterable[str] = (), internaldate: int = 1_700_000_000
    ) -> int:
        """Adds a message; returns its UID."""
        with self.lock:
            box = self.mailboxes[mailbox]
            box.highestmodseq += 1
            message = Message(box.uidnext, data, set(flags), internaldate, box.highestmodseq)
            box.messages.append(message)
            box.uidnext += 1
            return message.uid

    def expunge(self, uids: Collection[int], mailbox: str = "INBOX") -> list[int]:
        """Removes messages; returns the sequence numbers as EXPUNGE tells them, each valid after those before."""
        with self.lock:
            box = self.mailboxes[mailbox]
            numbers = []
            for uid in sorted(uids):
                index = next((i for i, message in enumerate(box.messages) if message.uid == uid), None)
                if index is not None:
                    box.highestmodseq += 1
                    box.expunged.append((uid, box.highestmodseq))
                    del box.messages[index]
                    numbers.append(index + 1)
            return numbers

    def set_flags(self, uid: int, flags: Iterable[str], mailbox: str = "INBOX") -> None:
        """Replaces a message's flags."""
        with self.lock:
            box = self.mailboxes[mailbox]
            message = box.by_uid(uid)
            assert message is not None, f"no message {uid} in {mailbox}"
            box.highestmodseq += 1
            message.flags = set(flags)
            message.modseq = box.highestmodseq

    def copy(self, uid: int, mailbox: str, to: str) -> int:
        """A copy in another mailbox, with flags and date; returns its UID."""
        with self.lock:
            message = self.mailboxes[mailbox].by_uid(uid)
            assert message is not None, f"no message {uid} in {mailbox}"
            return self.append(message.data, to, message.flags, message.internaldate)

    def move(self, uid: int, mailbox: str, to: str) -> int:
        """The same, and gone from where it was."""
        with self.lock:
            new = self.copy(uid, mailbox, to)
            self.expunge([uid], mailbox)
            return new

    def new_uidvalidity(self, mailbox: str = "INBOX", reorder: Callable[[list[Message]], None] | None = None) -> None:
        """Other UIDs under another UIDVALIDITY, as after a server's index was lost."""
        with self.lock:
            box = self.mailboxes[mailbox]
            self._validity += 100
            box.uidvalidity = self._validity
            if reorder is not None:
                reorder(box.messages)
            for uid, message in enumerate(box.messages, start=1):
                message.uid = uid
            box.uidnext = len(box.messages) + 1
            box.expunged.clear()

    def contents(self, mailbox: str = "INBOX") -> dict[int, bytes]:
        """UID -> message."""
        with self.lock:
            return {message.uid: message.data for message in self.mailboxes[mailbox].messages}
