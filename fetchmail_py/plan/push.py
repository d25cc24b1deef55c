"""What the two-way mode does at the server, as values: see `plan.actions`."""

from __future__ import annotations

from typing import NamedTuple

from fetchmail_py.model import Flags, MailboxName, MessageKey, Uid, UidSet
from fetchmail_py.plan.actions import as_json, messages


class CreateRemoteMailbox(NamedTuple):
    """A mailbox that came into being here is created at the server."""

    mailbox: MailboxName

    def __str__(self) -> str:
        return f"{self.mailbox}: create the mailbox at the server"

    def as_dict(self) -> dict[str, object]:
        """The action as JSON values."""
        return as_json("create-remote-mailbox", self)


class RenameRemoteMailbox(NamedTuple):
    """A folder was renamed here: the mailbox follows."""

    mailbox: MailboxName
    to: MailboxName

    def __str__(self) -> str:
        return f"{self.mailbox}: rename the mailbox at the server to {self.to}"

    def as_dict(self) -> dict[str, object]:
        """The action as JSON values."""
        return as_json("rename-remote-mailbox", self)


class MergeFlags(NamedTuple):
    """The flags of one message, brought together: `here` is what the file gets, `add` and `remove` what the server is told."""

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

    def as_dict(self) -> dict[str, object]:
        """The action as JSON values."""
        return as_json("merge-flags", self)


class MoveRemote(NamedTuple):
    """Files were moved here to another mailbox: the messages follow at the server. `keys` are the files' names there."""

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
        return {"do": "move-remote", "mailbox": self.mailbox, "uids": uids, "count": len(self.uids), "to": self.to}


class CopyRemote(NamedTuple):
    """Files here are copies of messages that the server has: they are copied there. `rows` are the copies' own rows."""

    mailbox: MailboxName
    uids: tuple[Uid, ...]
    to: MailboxName
    rows: tuple[Uid, ...]

    def __str__(self) -> str:
        return f"{self.mailbox}: copy {messages(len(self.uids))} at the server to {self.to} (UID {UidSet.of(self.uids)})"

    def as_dict(self) -> dict[str, object]:
        """The action as JSON values."""
        return as_json("copy-remote", self)


class Upload(NamedTuple):
    """Messages that only this side has. `rows` are their numbers below zero in the state, `keys` their files."""

    mailbox: MailboxName
    rows: tuple[Uid, ...]
    keys: tuple[MessageKey, ...]

    def __str__(self) -> str:
        return f"{self.mailbox}: upload {messages(len(self.rows))}"

    def as_dict(self) -> dict[str, object]:
        """The files' keys."""
        return {"do": "upload", "mailbox": self.mailbox, "keys": list(self.keys), "count": len(self.keys)}


class UploadAgain(NamedTuple):
    """Deleted at the server, changed here meanwhile: it goes up again."""

    mailbox: MailboxName
    uid: Uid
    key: MessageKey

    def __str__(self) -> str:
        return f"{self.mailbox}: upload UID {self.uid} again: it was deleted at the server, and is wanted here"

    def as_dict(self) -> dict[str, object]:
        """The action as JSON values."""
        return as_json("upload-again", self)


class DeleteAtServer(NamedTuple):
    """Deleted here, or marked for it: deleted there too, by UID."""

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
        return {"do": "delete-remote", "mailbox": self.mailbox, "uids": uids, "count": len(self.uids), "also_here": self.also_here}


class TrashAtServer(NamedTuple):
    """Deleted here, or marked for it: moved to the trash there."""

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
            "do": "trash-remote", "mailbox": self.mailbox, "uids": uids, "count": len(self.uids), "to": self.to,
            "also_here": self.also_here,
        }  # fmt: skip
