"""From a look to a snapshot: what is not mentioned is not deleted."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fetchmail_py.model import NO_FLAGS, Coverage, Look, MailboxName, RemoteMessage, Uid, UidSet, UidValidity
from fetchmail_py.plan.snapshot import from_changes, from_listing


def look(
    listed: list[int],
    exists: int,
    *,
    coverage: Coverage = Coverage.ALL,
    vanished: list[int] | None = None,
    present: list[int] | None = None,
) -> Look:
    return Look(
        MailboxName("INBOX"),
        UidValidity(7),
        100,
        exists,
        5,
        coverage,
        {Uid(uid): RemoteMessage(Uid(uid), NO_FLAGS) for uid in listed},
        UidSet.of(vanished or []),
        None if present is None else UidSet.of(present),
        read_only=True,
    )


def changes(listed: list[int], exists: int, **more: list[int]) -> Look:
    return look(listed, exists, coverage=Coverage.CHANGES, **more)


@pytest.mark.parametrize(
    ("seen", "known", "changed", "gone", "complete"),
    [
        # Everything was listed.
        (look([1, 2, 3], 3), [1, 2], [1, 2, 3], [], True),
        (look([2], 1), [1, 2], [2], [1], True),
        (look([], 0), [1, 2], [], [1, 2], True),
        # The list is shorter, or longer, than the server says: nothing counts as deleted.
        (look([2], 2), [1, 2], [2], [], False),
        (look([], 5), [1, 2], [], [], False),
        (look([2, 3], 1), [1, 2], [2, 3], [], False),
        # Changes, and every UID beside them.
        (changes([2], 2, present=[2, 3]), [1, 2, 3], [2], [1], True),
        (changes([], 0, present=[]), [1], [], [1], True),
        # UIDs that are neither known nor among the changes are new all the same.
        (changes([], 3, present=[1, 2, 3]), [1, 2], [3], [], True),
        # UIDs that do not add up tell nothing.
        (changes([2], 3, present=[2, 3]), [1, 2, 3], [2], [], False),
        (changes([], 2, present=[]), [1, 2], [], [], False),
        # A UID that the listing has and the UIDs have not: which of them is right, nobody knows.
        (changes([1], 1, present=[2]), [1], [1], [], False),
        # Changes alone never tell of deletions here.
        (changes([2], 1), [1, 2], [2], [], False),
    ],
)
def test_listings(seen: Look, known: list[int], changed: list[int], gone: list[int], *, complete: bool) -> None:
    snapshot = from_listing(seen, [Uid(uid) for uid in known])
    assert sorted(snapshot.changed) == changed
    assert sorted(snapshot.gone) == gone
    assert snapshot.complete is complete
    assert (snapshot.name, snapshot.uidvalidity, snapshot.uidnext, snapshot.highestmodseq) == ("INBOX", 7, 100, 5)
    assert (snapshot.exists, snapshot.read_only) == (seen.exists, True)


@pytest.mark.parametrize(
    ("seen", "count", "known_changed", "known_vanished", "gone", "complete"),
    [
        (changes([], 3), 3, [], [], [], True),
        (changes([4], 4), 3, [], [], [], True),
        (changes([2], 3), 3, [2], [], [], True),
        (changes([], 2, vanished=[1]), 3, [], [1], [1], True),
        (changes([4], 3, vanished=[1]), 3, [], [1], [1], True),
        # What vanished was never known here.
        (changes([], 3, vanished=[50]), 3, [], [], [], True),
        # A UID both vanished and listed is there.
        (changes([1], 3, vanished=[1]), 3, [1], [1], [], True),
        # Fewer messages than we know of, and no word of a deletion: nothing counts as deleted.
        (changes([], 2), 3, [], [], [], False),
        (changes([], 3, vanished=[1]), 3, [], [1], [], False),
        (changes([], 4), 3, [], [], [], False),
    ],
)
def test_changes(
    seen: Look, count: int, known_changed: list[int], known_vanished: list[int], gone: list[int], *, complete: bool
) -> None:
    snapshot = from_changes(seen, count, [Uid(uid) for uid in known_changed], [Uid(uid) for uid in known_vanished])
    assert sorted(snapshot.changed) == sorted(seen.messages)
    assert sorted(snapshot.gone) == gone
    assert snapshot.complete is complete


UIDS = st.sets(st.integers(1, 12))


@given(known=UIDS, there=UIDS)
def test_however_the_server_is_asked_the_same_is_seen(known: set[int], there: set[int]) -> None:
    full = from_listing(look(sorted(there), len(there)), {Uid(uid) for uid in known})
    with_uids = from_listing(changes(sorted(there - known), len(there), present=sorted(there)), {Uid(uid) for uid in known})
    gone = frozenset(Uid(uid) for uid in known - there)
    only = from_changes(changes(sorted(there - known), len(there), vanished=sorted(gone)), len(known), (), gone)
    assert full.complete
    assert with_uids.complete
    assert only.complete
    assert full.gone == with_uids.gone == only.gone == gone
    assert set(full.changed) - known == set(with_uids.changed) == set(only.changed) == there - known


FEW = st.sets(st.integers(1, 3))


@given(known=FEW, listed=FEW, vanished=FEW, present=st.none() | FEW, exists=st.integers(0, 3))
def test_nothing_goes_that_the_server_has_not_said_is_gone(
    known: set[int], listed: set[int], vanished: set[int], present: set[int] | None, exists: int
) -> None:
    for coverage in Coverage:
        seen = look(
            sorted(listed), exists, coverage=coverage, vanished=sorted(vanished),
            present=None if present is None else sorted(present),
        )  # fmt: skip
        snapshot = from_listing(seen, {Uid(uid) for uid in known})
        assert not snapshot.gone & listed
        assert snapshot.gone <= known
        assert snapshot.complete or not snapshot.gone
        # What is left of what we knew, with what is new, is as many as the server says.
        if snapshot.complete:
            assert len((known - snapshot.gone) | set(snapshot.changed)) == exists
