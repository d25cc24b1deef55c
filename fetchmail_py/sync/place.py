"""Whether what lies at an account's `maildir` is what was there before: a run, `check` and `status` decide it in the same way."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator
from typing import NamedTuple

from fetchmail_py.config import Account
from fetchmail_py.errors import SafetyStop, StoreError
from fetchmail_py.model import count_of
from fetchmail_py.plan import guard
from fetchmail_py.store.durable import Barrier
from fetchmail_py.store.maildir import Maildir, split_name
from fetchmail_py.store.memory import Remembered
from fetchmail_py.store.state import FILE_NAME, MailboxRow, StateDb

_NAMESAKE = (
    "another configuration has an account of the same name: give one of the two another name, or another XDG_STATE_HOME"
)
LEVELS = "levels"
"""The fact that names folders which have no mailbox: the server has their names as levels only, and refuses to make one."""


def gone(root: str, remembered: Remembered | None) -> SafetyStop | None:
    """The stop for a Maildir that had mail when it was last seen, and is not there, or has neither state nor mail.

    Raises StoreError where it cannot be read.
    """
    if remembered is None or not remembered.messages:
        return None
    if not os.path.isdir(root):
        what = "is not there"
    elif not has_state(root) and not has_mail(root):
        what = "has neither state nor mail"
    else:
        return None
    seen = time.strftime("%Y-%m-%d %H:%M", time.localtime(remembered.last_seen))
    known = count_of(remembered.messages, "message")
    if remembered.maildir != root:
        return SafetyStop(
            f"{root} {what}, but this account had {known} when it was last seen on {seen}, then in {remembered.maildir}",
            hint=f"if `maildir` was changed, move the mail from there, or download everything again with --fresh; else {_NAMESAKE}",
        )
    return SafetyStop(
        f"{root} {what}, but it had {known} when it was last seen on {seen}",
        hint="mount the disk or restore the folder; or download everything again with --fresh",
    )


def namesake(root: str, remembered: Remembered | None) -> str | None:
    """What there is to say where that which is remembered is of another Maildir: the account's name is the key to it."""
    if remembered is None or remembered.maildir == root:
        return None
    return f"what is remembered under this account's name is of {remembered.maildir}: unless the mail was moved, {_NAMESAKE}"


def nearest(root: str) -> str:
    """The directory, or the nearest above it that is there. Raises StoreError where there is something else in its way."""
    existing = root
    while not os.path.isdir(existing):
        if os.path.islink(existing):
            raise StoreError(
                f"{existing} is a link to no directory", path=existing, errno=errno.ENOTDIR,
                hint="mount the disk that it leads to, or correct the link or `maildir`",
            )  # fmt: skip
        if os.path.lexists(existing):
            raise StoreError(
                f"{existing} is not a directory", path=existing, errno=errno.ENOTDIR,
                hint="move it out of the way, or choose another `maildir`",
            )  # fmt: skip
        existing = os.path.dirname(existing)
    return existing


def may(path: str, what: int) -> bool:
    """`os.access` for the user whose rights count."""
    return os.access(path, what, effective_ids=os.access in os.supports_effective_ids)


def forbidden(path: str) -> StoreError:
    """A place that belongs to somebody else, or whose permissions are wrong."""
    owner = os.stat(path).st_uid
    if owner == os.geteuid():
        return StoreError(f"{path} cannot be read and written", path=path, hint=f"chmod u+rwX {path}")
    theirs, who = user_name(owner), f"{user_name(os.geteuid())}, who runs this, can not read and write it"
    return StoreError(
        f"{path} belongs to {theirs}, and {who}", path=path, hint=f"run it as {theirs}, or choose another `maildir`"
    )


def user_name(number: int) -> str:
    """Who has that number."""
    import pwd  # noqa: PLC0415 - only an error needs it

    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return f"user {number}"


def with_rights(root: str, error: StoreError) -> StoreError:
    """The error, or a better one where whoever runs this may not use the place."""
    if error.errno in {errno.EACCES, errno.EPERM}:
        there = nearest(root)
        if not may(there, os.R_OK | os.W_OK | os.X_OK):
            return forbidden(there)
    return error


def has_state(root: str) -> bool:
    """Whether there is a state; one that may not be looked at is no missing one. Raises StoreError."""
    path = f"{root}/{FILE_NAME}"
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise StoreError.from_os_error(error, "looking for the state", path) from error
    return True


def has_mail(root: str) -> bool:
    """Whether there is a message in any Maildir at or below the root. Raises StoreError."""
    try:
        return any(True for _ in _mail(root))
    except OSError as error:
        raise StoreError.from_os_error(error, "looking for mail") from error


def _mail(root: str) -> Iterator[str]:
    """Directories at and below the root that are Maildirs with a message in them."""

    def unreadable(error: OSError) -> None:
        # What lies below the root may be another's: lost+found, say.
        if error.filename == root and not isinstance(error, FileNotFoundError):
            raise error

    seen: set[tuple[int, int]] = set()
    for directory, subdirectories, _ in os.walk(root, followlinks=True, onerror=unreadable):
        found = os.stat(directory)
        if (found.st_dev, found.st_ino) in seen:
            subdirectories.clear()  # a link back to where we have been
            continue
        seen.add((found.st_dev, found.st_ino))
        if "cur" in subdirectories and "new" in subdirectories:
            for subdir in ("new", "cur"):
                with os.scandir(f"{directory}/{subdir}") as entries:
                    if any(not entry.name.startswith(".") for entry in entries):
                        yield directory
                        break
            for subdir in ("cur", "new", "tmp"):
                if subdir in subdirectories:
                    subdirectories.remove(subdir)


def is_another_copy(state: StateDb, remembered: Remembered) -> bool:
    """Whether the state is not the one that the last run left: it, or the Maildir, was restored from a copy, or is another's."""
    # The number is in the state first: a run that was cut in between is no other.
    run, store_id = state.number("run"), state.get("store_id")
    if store_id is None:
        return False  # no run has come so far that there would be anything to compare
    return remembered.store_id != store_id or remembered.run not in {run - 1, run}


def of_another(account: Account, state: StateDb) -> SafetyStop | None:
    """The stop for a state that belongs to an account of the other protocol, or to another maildrop.

    IMAP finds out by itself whose mail it is (`imap_boxes.check_same_account`): its messages have UIDs.
    """
    is_pop3 = account.protocol == "pop3"
    imap, drop = state.get("server"), state.get("maildrop_of")
    other = imap if is_pop3 else drop
    if other is None and is_pop3 and drop not in {None, f"{account.user}@{account.host}"} and state.number("fetched_messages"):
        other = drop
    if other is None:
        return None
    return SafetyStop(
        f"{account.maildir} holds the mail of {other}, fetched by {'IMAP' if other == imap else 'POP3'}",
        hint="give this account a maildir of its own; if it is the same mail under another name, say so with --fresh",
    )


def linked(root: str, path: str) -> StoreError | None:
    """What is wrong with a mailbox whose folder is reached through a symbolic link below the account's `maildir`, or has one in it.

    A mailbox's path never leaves the Maildir: what a link points to may be anybody's.
    """
    folder = root
    way = []
    for level in path.split("/") if path else ():
        folder = f"{folder}/{level}"
        way.append(folder)
    way += [f"{folder}/{part}" for part in ("cur", "new", "tmp")]
    link = next((place for place in way if os.path.islink(place)), None)
    if link is None:
        return None
    return StoreError(
        f"{link} is a symbolic link, and none is followed: nothing was done in this mailbox, on either side",
        path=link,
        hint="put the folder itself there (a disk can be mounted on it), or leave the mailbox out with `mailboxes`",
    )


class Lost(NamedTuple):
    """A mailbox of the two-way mode whose folder is not what it was."""

    text: str
    stop: SafetyStop | None
    """None: it is gone, which stops nothing. It may have been renamed, which the next run finds out."""


def lost_folder(root: str, account: str, state: StateDb, row: MailboxRow, barrier: Barrier) -> Lost | None:
    """What the next run in mode disconnected would say of a mailbox's folder, as far as this side alone tells."""
    known = state.count_present(row.id)
    maildir = Maildir(f"{root}/{row.path}" if row.path else root, barrier)
    if not row.listed or not known:
        return None
    link = linked(root, row.path)
    if link is not None:
        return Lost(link.detail, None)
    if not maildir.has_a_part():
        return Lost("its folder is not where it was: if it was not renamed, --fresh downloads it again", None)
    if not maildir.exists() or row.inode is None:
        return None
    if maildir.inode() == row.inode and row.born in {None, maildir.born()}:
        return None
    there = {split_name(os.fsdecode(name))[0].encode("utf-8", "surrogatepass") for names in maildir.names() for name in names}
    missing = sum(uid > 0 and key not in there for uid, key, _, _ in state.rows(row.id))
    if not is_another(missing, known):
        return None
    stop = made_anew(account, missing, known)
    return Lost(stop.detail, stop)


def is_another(missing: int, known: int) -> bool:
    """Whether a folder that was made anew lacks so much that it is another; else it is a copy, and what it lacks is fetched."""
    return missing > 0 and (missing >= known or (missing >= guard.FEW and 2 * missing > known))


def made_anew(account: str, missing: int, known: int) -> SafetyStop:
    """The stop for such a folder."""
    return SafetyStop(
        f"its folder was made anew and lacks {missing} of its {count_of(known, 'message')}; nothing was deleted at the server",
        hint=f"to download them again: fetchmail-py sync {account} --fresh; if they are to be deleted: --allow-mass-delete",
    )
