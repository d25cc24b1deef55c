"""The nouns: sets of UIDs that are never expanded, and flags in one spelling."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fetchmail_py.model import FLAG_TO_LETTER, LETTER_TO_FLAG, UID_MAX, MailboxName, RemoteMailbox, UidSet, count_of, flags_of

RANGES = st.lists(st.tuples(st.integers(1, 60), st.integers(0, 8)).map(lambda pair: (pair[0], sum(pair))), max_size=12)


@pytest.mark.parametrize(
    ("ranges", "text", "count"),
    [
        ([], "", 0),
        ([(5, 5)], "5", 1),
        ([(3, 4), (1, 2)], "1:4", 4),
        ([(1, 5), (2, 3), (7, 7)], "1:5,7", 6),
        ([(1, UID_MAX)], "1:4294967295", UID_MAX),
    ],
)
def test_uid_sets(ranges: list[tuple[int, int]], text: str, count: int) -> None:
    uids = UidSet(ranges)
    assert str(uids) == text
    assert len(uids) == count
    assert bool(uids) == (count > 0)
    assert (UID_MAX in uids) == (count == UID_MAX)


@given(RANGES, st.integers(0, 80))
def test_a_uid_set_is_a_set(ranges: list[tuple[int, int]], uid: int) -> None:
    members = {member for low, high in ranges for member in range(low, high + 1)}
    uids = UidSet(ranges)
    assert list(uids) == sorted(members)
    assert len(uids) == len(members)
    assert (uid in uids) == (uid in members)
    assert uids == UidSet.of(members)
    assert hash(uids) == hash(UidSet.of(sorted(members, reverse=True)))
    # In its shortest form: ranges neither overlap nor touch.
    assert all(high + 1 < low for (_, high), (low, _) in zip(uids.ranges, uids.ranges[1:], strict=False))


@given(RANGES, st.integers(1, 30))
def test_chunks_are_short_and_lose_nothing(ranges: list[tuple[int, int]], limit: int) -> None:
    uids = UidSet(ranges)
    chunks = list(uids.chunks(limit))
    assert ",".join(chunks) == str(uids)
    # A single range is never cut.
    assert all(len(chunk) <= limit or "," not in chunk for chunk in chunks)


@pytest.mark.parametrize(
    ("words", "flags"),
    [
        ("", set()),
        ("\\Seen \\SEEN \\seen", {"\\Seen"}),
        ("\\Recent \\recent", set()),
        ("\\deleted $forwarded $Junk $junk", {"\\Deleted", "$Forwarded", "$Junk", "$junk"}),
        ("Seen", {"Seen"}),
    ],
)
def test_flags_have_one_spelling(words: str, flags: set[str]) -> None:
    assert flags_of(words) == flags
    assert flags_of(words) is flags_of(words)


def test_letters_are_one_to_one() -> None:
    assert "".join(sorted(LETTER_TO_FLAG)) == "DFPRST"
    assert {FLAG_TO_LETTER[flag]: flag for flag in FLAG_TO_LETTER} == LETTER_TO_FLAG


@pytest.mark.parametrize(
    ("attributes", "selectable"),
    [(set(), True), ({"\\noselect"}, False), ({"\\nonexistent", "\\subscribed"}, False), ({"\\noinferiors"}, True)],
)
def test_which_mailboxes_hold_messages(attributes: set[str], *, selectable: bool) -> None:
    assert RemoteMailbox(MailboxName("x"), "/", frozenset(attributes)).selectable == selectable


@pytest.mark.parametrize(
    ("number", "noun", "text"),
    [(0, "message", "0 messages"), (1, "message", "1 message"), (2, "mailbox", "2 mailboxes"), (12345, "octet", "12,345 octets")],
)
def test_one_is_not_many(number: int, noun: str, text: str) -> None:
    assert count_of(number, noun) == text
