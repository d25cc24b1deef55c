"""Several mailboxes get other names at the server, which knows one RENAME at a time: the next one, whatever was done so far.

Names may be exchanged, or handed on in a chain; what lies below a mailbox goes along with it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from fetchmail_py.model import MailboxName

TEMPORARY = "-fetchmail-py"
"""Ends the name that a mailbox has while its old and its new name are exchanged."""


def next_rename(
    wanted: Mapping[MailboxName, MailboxName], taken: Collection[MailboxName], delimiter: str
) -> tuple[MailboxName, MailboxName] | None:
    """What to rename next, and to what; None where nothing is left, or where what is left cannot be done.

    `wanted` tells what mailboxes are to be called, by the name they have now; `taken` are all names in use.
    """
    todo = {old: new for old, new in wanted.items() if old != new}
    # What lies below another one that is to be renamed goes along with that.
    able = [
        old
        for old in sorted(todo)
        if not any(old.startswith(other + delimiter) or todo[old].startswith(other + delimiter) for other in todo)
    ]
    for old in able:
        if todo[old] not in taken:
            return old, todo[old]
    for old in able:
        if _in_a_circle(old, todo):
            return old, _free(old, taken)
    return None


def _in_a_circle(name: MailboxName, todo: Mapping[MailboxName, MailboxName]) -> bool:
    """Whether the names that are handed on end with its own: only then does a third name help."""
    seen = set()
    at = todo[name]
    while at != name:
        if at not in todo or at in seen:
            return False
        seen.add(at)
        at = todo[at]
    return True


def renamed(name: MailboxName, old: MailboxName, new: MailboxName, delimiter: str) -> MailboxName:
    """What a mailbox is called once `old` has become `new`."""
    if name == old or name.startswith(old + delimiter):
        return MailboxName(new + name[len(old) :])
    return name


def _free(name: MailboxName, taken: Collection[MailboxName]) -> MailboxName:
    found = f"{name}{TEMPORARY}"
    number = 1
    while found in taken:
        number += 1
        found = f"{name}{TEMPORARY}-{number}"
    return MailboxName(found)
