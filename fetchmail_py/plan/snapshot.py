"""From what a session saw of a mailbox, and what we knew, to a `RemoteSnapshot`: the place where silence is told from deletion."""

from __future__ import annotations

from collections.abc import Collection

from fetchmail_py.model import NO_FLAGS, Coverage, Look, RemoteMessage, RemoteSnapshot, Uid


def from_changes(
    look: Look, known_count: int, known_changed: Collection[Uid], known_vanished: Collection[Uid]
) -> RemoteSnapshot:
    """A snapshot from a look at changes: work per change, none per message.

    `known_count` is how many messages we believed to be at the server, `known_changed` and `known_vanished` those of them
    that `look.messages` and `look.vanished` name. A UID both vanished and listed is there.
    """
    new = sum(1 for uid in look.messages if uid not in known_changed)
    gone = frozenset(uid for uid in known_vanished if uid not in look.messages)
    return _snapshot(look, look.messages, gone, complete=known_count - len(gone) + new == look.exists)


def from_listing(look: Look, known: Collection[Uid]) -> RemoteSnapshot:
    """A snapshot from a look at everything: a full listing, or changes with the set of all UIDs beside them (`present`)."""
    messages = look.messages
    if look.coverage is Coverage.ALL or look.present is None:
        complete = look.coverage is Coverage.ALL and len(messages) == look.exists
        gone = (uid for uid in known if uid not in messages)
    else:
        present = look.present
        complete = len(present) == look.exists and all(uid in present for uid in messages)
        if complete:
            # What is there, but neither known nor among the changes, was left out of them: it is new all the same.
            left_out = (uid for uid in map(Uid, present) if uid not in known and uid not in messages)
            messages = messages | {uid: RemoteMessage(uid, NO_FLAGS) for uid in left_out}
        gone = (uid for uid in known if uid not in present)
    return _snapshot(look, messages, frozenset(gone) if complete else frozenset(), complete=complete)


def _snapshot(look: Look, changed: dict[Uid, RemoteMessage], gone: frozenset[Uid], *, complete: bool) -> RemoteSnapshot:
    return RemoteSnapshot(
        name=look.name,
        uidvalidity=look.uidvalidity,
        uidnext=look.uidnext,
        exists=look.exists,
        highestmodseq=look.highestmodseq,
        changed=changed,
        gone=gone if complete else frozenset(),
        complete=complete,
        read_only=look.read_only,
    )
