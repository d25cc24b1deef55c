"""What a run will do, as values: `str()` is the dry-run line, `as_dict()` the JSON. An action never acts by itself."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from fetchmail_py.model import Flags, MailboxName, MaildropEntry, MessageKey, Uid, UidSet


def messages(count: int) -> str:
    """A count of messages in words."""
    return f"{count} message" if count == 1 else f"{count} messages"


def _shown(value: object) -> object:
    match value:
        case frozenset():
            return sorted(value)
        case MaildropEntry():
            return value.number
        case tuple():
            return [_shown(item) for item in value]
        case bytes():
            return value.decode("ascii", "backslashreplace")
        case _:
            return value


class Action(Protocol):
    """What all actions can do. Each is a named tuple: the class of a frozen dataclass costs a millisecond of every start."""

    def as_dict(self) -> dict[str, object]:
        """The action as JSON values."""
        ...


class _Fields(Protocol):
    def _asdict(self) -> dict[str, object]: ...


def as_json(do: str, action: _Fields) -> dict[str, object]:
    """An action's fields behind its name."""
    return {"do": do} | {name: _shown(value) for name, value in action._asdict().items()}


class CreateMailbox(NamedTuple):
    """A mailbox of the server comes into being here."""

    mailbox: MailboxName

    def __str__(self) -> str:
        return f"{self.mailbox}: create the mailbox here"

    def as_dict(self) -> dict[str, object]:
        """The action as JSON values."""
        return as_json("create-local-mailbox", self)


class RenameMailbox(NamedTuple):
    """A mailbox was renamed at the server: its folder and its state follow."""

    mailbox: MailboxName
    to: MailboxName

    def __str__(self) -> str:
        return f"{self.mailbox}: rename the mailbox here to {self.to}"

    def as_dict(self) -> dict[str, object]:
        """The action as JSON values."""
        return as_json("rename-local-mailbox", self)


class Download(NamedTuple):
    """Messages to fetch, in the order in which they are wanted."""

    mailbox: MailboxName
    uids: tuple[Uid, ...]

    def __str__(self) -> str:
        return f"{self.mailbox}: download {messages(len(self.uids))} (UID {UidSet.of(self.uids)})"

    def as_dict(self) -> dict[str, object]:
        """The UIDs as a sequence-set: there may be a million."""
        return {"do": "download", "mailbox": self.mailbox, "uids": str(UidSet.of(self.uids)), "count": len(self.uids)}


class Recognise(NamedTuple):
    """A message that is here already is the one the server now lists under `uid`: nothing is transferred."""

    mailbox: MailboxName
    old_uid: Uid
    uid: Uid
    flags: Flags

    def __str__(self) -> str:
        return f"{self.mailbox}: recognise UID {self.uid} as a message that is here"

    def as_dict(self) -> dict[str, object]:
        """The action as JSON values."""
        return as_json("recognise", self)


class MoveLocal(NamedTuple):
    """A message was moved at the server: its file follows."""

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

    def as_dict(self) -> dict[str, object]:
        """The action as JSON values."""
        return as_json("move-local", self)


class SetLocalFlags(NamedTuple):
    """The local file gets exactly these flags."""

    mailbox: MailboxName
    uid: Uid
    key: MessageKey
    flags: Flags

    def __str__(self) -> str:
        return f"{self.mailbox}: set the flags of UID {self.uid} here to ({' '.join(sorted(self.flags))})"

    def as_dict(self) -> dict[str, object]:
        """The action as JSON values."""
        return as_json("set-local-flags", self)


class DeleteLocal(NamedTuple):
    """The server deleted it: the file goes too."""

    mailbox: MailboxName
    uid: Uid
    key: MessageKey

    def __str__(self) -> str:
        return f"{self.mailbox}: delete UID {self.uid} here"

    def as_dict(self) -> dict[str, object]:
        """The action as JSON values."""
        return as_json("delete-local", self)


class Keep(NamedTuple):
    """The server deleted them; they stay here."""

    mailbox: MailboxName
    uids: tuple[Uid, ...]

    def __str__(self) -> str:
        return f"{self.mailbox}: keep {messages(len(self.uids))} here that the server deleted (UID {UidSet.of(self.uids)})"

    def as_dict(self) -> dict[str, object]:
        """The UIDs as a sequence-set."""
        return {"do": "keep", "mailbox": self.mailbox, "uids": str(UidSet.of(self.uids)), "count": len(self.uids)}


class Forget(NamedTuple):
    """Neither side has them any more, or the server has confirmed a deletion of ours: only the state changes."""

    mailbox: MailboxName
    uids: tuple[Uid, ...]

    def __str__(self) -> str:
        return f"{self.mailbox}: forget {messages(len(self.uids))} gone from the server (UID {UidSet.of(self.uids)})"

    def as_dict(self) -> dict[str, object]:
        """The UIDs as a sequence-set."""
        return {"do": "forget", "mailbox": self.mailbox, "uids": str(UidSet.of(self.uids)), "count": len(self.uids)}


class DeleteRemote(NamedTuple):
    """Stored here: delete them at the server, by UID. After a `Download` in the same plan that means: once stored."""

    mailbox: MailboxName
    uids: tuple[Uid, ...]

    def __str__(self) -> str:
        return f"{self.mailbox}: delete {messages(len(self.uids))} at the server, once stored (UID {UidSet.of(self.uids)})"

    def as_dict(self) -> dict[str, object]:
        """The UIDs as a sequence-set."""
        return {"do": "delete-remote", "mailbox": self.mailbox, "uids": str(UidSet.of(self.uids)), "count": len(self.uids)}


class Retrieve(NamedTuple):
    """POP3: messages to fetch."""

    entries: tuple[MaildropEntry, ...]

    def __str__(self) -> str:
        octets = sum(entry.size for entry in self.entries)
        return f"maildrop: download {messages(len(self.entries))} ({octets} octets)"

    def as_dict(self) -> dict[str, object]:
        """The message numbers of this session and the UIDLs."""
        uidls = [None if entry.uidl is None else _shown(entry.uidl) for entry in self.entries]
        return {"do": "retrieve", "count": len(self.entries), "uidls": uidls}


class DeleteFromMaildrop(NamedTuple):
    """POP3: stored messages to delete, now or as soon as they are stored."""

    entries: tuple[MaildropEntry, ...]

    def __str__(self) -> str:
        return f"maildrop: delete {messages(len(self.entries))} at the server, once stored"

    def as_dict(self) -> dict[str, object]:
        """The message numbers of this session and the UIDLs."""
        uidls = [None if entry.uidl is None else _shown(entry.uidl) for entry in self.entries]
        return {"do": "delete-from-maildrop", "count": len(self.entries), "uidls": uidls}
