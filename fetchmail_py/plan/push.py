"""What the two-way mode does at the server, as values: see `plan.actions`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from fetchmail_py.model import Flags, MailboxName, MessageKey, Uid, UidSet
from fetchmail_py.plan.actions import Action, messages


@dataclass(frozen=True, slots=True)
class CreateRemoteMailbox(Action):
    """A mailbox that came into being here is created at the server."""

    do: ClassVar[str] = "create-remote-mailbox"
    mailbox: MailboxName

    def __str__(self) -> str:
        return f"{self.mailbox}: create the mailbox at the server"


@dataclass(frozen=True, slots=True)
class RenameRemoteMailbox(Action):
    """A folder was renamed here: the mailbox follows."""

    do: ClassVar[str] = "rename-remote-mailbox"
    mailbox: MailboxName
    to: MailboxName

    def __str__(self) -> str:
        return f"{self.mailbox}: rename the mailbox at the server to {self.to}"


@dataclass(frozen=True, slots=True)
class MergeFlags(Action):
    """The flags of one message, brought together: `here` is what the file gets, `add` and `remove` what the server is told."""

    do: ClassVar[str] = "merge-flags"
    mailbox: MailboxName
    uid: Uid
    key: MessageKey
    here: Flags
    add: Flags
    remove: Flags
    agreed: Flags
    """What both sides have afterwards: the base of the next merge."""
    pull: bool
    """The file's flags change."""

    def __str__(self) -> str:
        parts = []
        if self.pull:
            parts.append(f"set the flags of UID {self.uid} here to ({' '.join(sorted(self.here))})")
        for word, flags in (("add", self.add), ("remove", self.remove)):
            if flags:
                parts.append(f"{word} ({' '.join(sorted(flags))}) at UID {self.uid} at the server")
        return f"{self.mailbox}: {', '.join(parts) or f'note the flags of UID {self.uid}'}"


@dataclass(frozen=True, slots=True)
class MoveRemote(Action):
    """Files were moved here to another mailbox: the messages follow at the server. `keys` are the files' names there."""

    do: ClassVar[str] = "move-remote"
    mailbox: MailboxName
    uids: tuple[Uid, ...]
    to: MailboxName
    keys: tuple[MessageKey, ...]
    flags: tuple[Flags, ...]
    """Which each file has, or gets where the server's were changed too."""

    def __str__(self) -> str:
        return f"{self.mailbox}: move {messages(len(self.uids))} at the server to {self.to} (UID {UidSet.of(self.uids)})"

    def as_dict(self) -> dict[str, object]:
        """The UIDs as a sequence-set."""
        uids = str(UidSet.of(self.uids))
        return {"do": self.do, "mailbox": self.mailbox, "uids": uids, "count": len(self.uids), "to": self.to}


@dataclass(frozen=True, slots=True)
class CopyRemote(Action):
    """Files here are copies of messages that the server has: they are copied there. `rows` are the copies' own rows."""

    do: ClassVar[str] = "copy-remote"
    mailbox: MailboxName
    uids: tuple[Uid, ...]
    to: MailboxName
    rows: tuple[Uid, ...]

    def __str__(self) -> str:
        return f"{self.mailbox}: copy {messages(len(self.uids))} at the server to {self.to} (UID {UidSet.of(self.uids)})"


@dataclass(frozen=True, slots=True)
class Upload(Action):
    """Messages that only this side has. `rows` are their numbers below zero in the state, `keys` their files."""

    do: ClassVar[str] = "upload"
    mailbox: MailboxName
    rows: tuple[Uid, ...]
    keys: tuple[MessageKey, ...]

    def __str__(self) -> str:
        return f"{self.mailbox}: upload {messages(len(self.rows))}"

    def as_dict(self) -> dict[str, object]:
        """The files' keys."""
        return {"do": self.do, "mailbox": self.mailbox, "keys": list(self.keys), "count": len(self.keys)}


@dataclass(frozen=True, slots=True)
class UploadAgain(Action):
    """Deleted at the server, changed here meanwhile: it goes up again."""

    do: ClassVar[str] = "upload-again"
    mailbox: MailboxName
    uid: Uid
    key: MessageKey

    def __str__(self) -> str:
        return f"{self.mailbox}: upload UID {self.uid} again: it was deleted at the server, and is wanted here"


@dataclass(frozen=True, slots=True)
class DeleteAtServer(Action):
    """Deleted here, or marked for it: deleted there too, by UID."""

    do: ClassVar[str] = "delete-remote"
    mailbox: MailboxName
    uids: tuple[Uid, ...]
    also_here: bool = False
    """The files are still here, and go once the server has deleted its own: they are marked \\Deleted."""

    def __str__(self) -> str:
        where = "on both sides" if self.also_here else "at the server"
        return f"{self.mailbox}: delete {messages(len(self.uids))} {where} (UID {UidSet.of(self.uids)})"

    def as_dict(self) -> dict[str, object]:
        """The UIDs as a sequence-set."""
        uids = str(UidSet.of(self.uids))
        return {"do": self.do, "mailbox": self.mailbox, "uids": uids, "count": len(self.uids), "also_here": self.also_here}


@dataclass(frozen=True, slots=True)
class TrashAtServer(Action):
    """Deleted here, or marked for it: moved to the trash there."""

    do: ClassVar[str] = "trash-remote"
    mailbox: MailboxName
    uids: tuple[Uid, ...]
    to: MailboxName
    also_here: bool = False
    """The files are still here, marked \\Deleted: they go once the server's are in the trash."""

    def __str__(self) -> str:
        return f"{self.mailbox}: move {messages(len(self.uids))} to {self.to} at the server (UID {UidSet.of(self.uids)})"

    def as_dict(self) -> dict[str, object]:
        """The UIDs as a sequence-set."""
        uids = str(UidSet.of(self.uids))
        return {
            "do": self.do, "mailbox": self.mailbox, "uids": uids, "count": len(self.uids), "to": self.to,
            "also_here": self.also_here,
        }  # fmt: skip
