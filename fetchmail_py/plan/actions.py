"""What a run will do, as values: `str()` is the dry-run line, `as_dict()` the JSON. An action never acts by itself."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import ClassVar

from fetchmail_py.model import Flags, MailboxName, MaildropEntry, MessageKey, Uid, UidSet


def messages(count: int) -> str:
    """A count of messages in words."""
    return f"{count} message" if count == 1 else f"{count} messages"


def _shown(value: object) -> object:
    match value:
        case frozenset():
            return sorted(value)
        case tuple():
            return [_shown(item) for item in value]
        case MaildropEntry():
            return value.number
        case bytes():
            return value.decode("ascii", "backslashreplace")
        case _:
            return value


@dataclass(frozen=True, slots=True)
class Action:
    """Base of all actions."""

    do: ClassVar[str] = ""

    def as_dict(self) -> dict[str, object]:
        """The action as JSON values."""
        return {"do": self.do} | {field.name: _shown(getattr(self, field.name)) for field in fields(self)}


@dataclass(frozen=True, slots=True)
class CreateMailbox(Action):
    """A mailbox of the server comes into being here."""

    do: ClassVar[str] = "create-local-mailbox"
    mailbox: MailboxName

    def __str__(self) -> str:
        return f"{self.mailbox}: create the mailbox here"


@dataclass(frozen=True, slots=True)
class RenameMailbox(Action):
    """A mailbox was renamed at the server: its folder and its state follow."""

    do: ClassVar[str] = "rename-local-mailbox"
    mailbox: MailboxName
    to: MailboxName

    def __str__(self) -> str:
        return f"{self.mailbox}: rename the mailbox here to {self.to}"


@dataclass(frozen=True, slots=True)
class Download(Action):
    """Messages to fetch, in the order in which they are wanted."""

    do: ClassVar[str] = "download"
    mailbox: MailboxName
    uids: tuple[Uid, ...]

    def __str__(self) -> str:
        return f"{self.mailbox}: download {messages(len(self.uids))} (UID {UidSet.of(self.uids)})"

    def as_dict(self) -> dict[str, object]:
        """The UIDs as a sequence-set: there may be a million."""
        return {"do": self.do, "mailbox": self.mailbox, "uids": str(UidSet.of(self.uids)), "count": len(self.uids)}


@dataclass(frozen=True, slots=True)
class Recognise(Action):
    """A message that is here already is the one the server now lists under `uid`: nothing is transferred."""

    do: ClassVar[str] = "recognise"
    mailbox: MailboxName
    old_uid: Uid
    uid: Uid
    flags: Flags

    def __str__(self) -> str:
        return f"{self.mailbox}: recognise UID {self.uid} as a message that is here"


@dataclass(frozen=True, slots=True)
class MoveLocal(Action):
    """A message was moved at the server: its file follows."""

    do: ClassVar[str] = "move-local"
    mailbox: MailboxName
    uid: Uid
    key: MessageKey
    to: MailboxName
    to_uid: Uid
    flags: Flags
    found_in: MailboxName | None = None
    """Where the file is, if not in `mailbox`: it was moved here too."""
    here: Flags | None = None
    """The file's flags, if they are not `flags`, which both sides agree on."""

    def __str__(self) -> str:
        return f"{self.mailbox}: move UID {self.uid} here to {self.to}"


@dataclass(frozen=True, slots=True)
class SetLocalFlags(Action):
    """The local file gets exactly these flags."""

    do: ClassVar[str] = "set-local-flags"
    mailbox: MailboxName
    uid: Uid
    key: MessageKey
    flags: Flags

    def __str__(self) -> str:
        return f"{self.mailbox}: set the flags of UID {self.uid} here to ({' '.join(sorted(self.flags))})"


@dataclass(frozen=True, slots=True)
class DeleteLocal(Action):
    """The server deleted it: the file goes too."""

    do: ClassVar[str] = "delete-local"
    mailbox: MailboxName
    uid: Uid
    key: MessageKey

    def __str__(self) -> str:
        return f"{self.mailbox}: delete UID {self.uid} here"


@dataclass(frozen=True, slots=True)
class Keep(Action):
    """The server deleted them; they stay here."""

    do: ClassVar[str] = "keep"
    mailbox: MailboxName
    uids: tuple[Uid, ...]

    def __str__(self) -> str:
        return f"{self.mailbox}: keep {messages(len(self.uids))} here that the server deleted (UID {UidSet.of(self.uids)})"

    def as_dict(self) -> dict[str, object]:
        """The UIDs as a sequence-set."""
        return {"do": self.do, "mailbox": self.mailbox, "uids": str(UidSet.of(self.uids)), "count": len(self.uids)}


@dataclass(frozen=True, slots=True)
class Forget(Action):
    """Neither side has them any more, or the server has confirmed a deletion of ours: only the state changes."""

    do: ClassVar[str] = "forget"
    mailbox: MailboxName
    uids: tuple[Uid, ...]

    def __str__(self) -> str:
        return f"{self.mailbox}: forget {messages(len(self.uids))} gone from the server (UID {UidSet.of(self.uids)})"

    def as_dict(self) -> dict[str, object]:
        """The UIDs as a sequence-set."""
        return {"do": self.do, "mailbox": self.mailbox, "uids": str(UidSet.of(self.uids)), "count": len(self.uids)}


@dataclass(frozen=True, slots=True)
class DeleteRemote(Action):
    """Stored here: delete them at the server, by UID. After a `Download` in the same plan that means: once stored."""

    do: ClassVar[str] = "delete-remote"
    mailbox: MailboxName
    uids: tuple[Uid, ...]

    def __str__(self) -> str:
        return f"{self.mailbox}: delete {messages(len(self.uids))} at the server, once stored (UID {UidSet.of(self.uids)})"

    def as_dict(self) -> dict[str, object]:
        """The UIDs as a sequence-set."""
        return {"do": self.do, "mailbox": self.mailbox, "uids": str(UidSet.of(self.uids)), "count": len(self.uids)}


@dataclass(frozen=True, slots=True)
class Retrieve(Action):
    """POP3: messages to fetch."""

    do: ClassVar[str] = "retrieve"
    entries: tuple[MaildropEntry, ...]

    def __str__(self) -> str:
        octets = sum(entry.size for entry in self.entries)
        return f"maildrop: download {messages(len(self.entries))} ({octets} octets)"

    def as_dict(self) -> dict[str, object]:
        """The message numbers of this session and the UIDLs."""
        uidls = [None if entry.uidl is None else _shown(entry.uidl) for entry in self.entries]
        return {"do": self.do, "count": len(self.entries), "uidls": uidls}


@dataclass(frozen=True, slots=True)
class DeleteFromMaildrop(Action):
    """POP3: stored messages to delete, now or as soon as they are stored."""

    do: ClassVar[str] = "delete-from-maildrop"
    entries: tuple[MaildropEntry, ...]

    def __str__(self) -> str:
        return f"maildrop: delete {messages(len(self.entries))} at the server, once stored"

    def as_dict(self) -> dict[str, object]:
        """The message numbers of this session and the UIDLs."""
        uidls = [None if entry.uidl is None else _shown(entry.uidl) for entry in self.entries]
        return {"do": self.do, "count": len(self.entries), "uidls": uidls}
