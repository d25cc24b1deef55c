"""Which unpaired messages of two sides are the same."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fetchmail_py.identity import NO_IDENTITY
from fetchmail_py.plan.matching import LocalCandidate, RemoteCandidate, match

A, B = b"a" * 16, b"b" * 16
Local = LocalCandidate[str]
Remote = RemoteCandidate[int]


@pytest.mark.parametrize(
    ("local", "remote", "pairs"),
    [
        ([], [], []),
        ([Local("x", (10,), A)], [Remote(1, 10, A)], [("x", 1)]),
        ([Local("x", (10,), A)], [Remote(1, 11, A)], []),
        ([Local("x", (10,), A)], [Remote(1, 10, B)], []),
        # A file with bare LF may have come either way.
        ([Local("x", (10, 12), A)], [Remote(1, 12, A)], [("x", 1)]),
        ([Local("x", (10, 12), A)], [Remote(1, 10, A), Remote(2, 12, A)], [("x", 1)]),
        # Without an identifying field only the whole content can tell.
        ([Local("x", (10,), NO_IDENTITY)], [Remote(1, 10, NO_IDENTITY)], []),
        # Copies of one message pair in order.
        ([Local("y", (10,), A, 2), Local("x", (10,), A, 1)], [Remote(9, 10, A, 9), Remote(8, 10, A, 8)], [("x", 8), ("y", 9)]),
        ([Local("x", (10,), A)], [Remote(1, 10, A, 1), Remote(2, 10, A, 2)], [("x", 1)]),
        ([Local("x", (10,), A, 1), Local("y", (10,), A, 2)], [Remote(1, 10, A)], [("x", 1)]),
    ],
)
def test_matching(local: list[Local], remote: list[Remote], pairs: list[tuple[str, int]]) -> None:
    assert sorted(match(local, remote).pairs) == pairs


def test_unequal_numbers_of_likes_are_told() -> None:
    local = [Local(name, (10,), A, order) for order, name in enumerate("xy")]
    found = match(local, [Remote(uid, 10, A, uid) for uid in (1, 2, 3)])
    assert found.ambiguous == (1, 2, 3)
    assert len(found.pairs) == 2


IDENTITIES = st.sampled_from([A, B, NO_IDENTITY])
SIZES = st.integers(1, 4)


@given(
    st.lists(st.tuples(st.lists(SIZES, min_size=1, max_size=2), IDENTITIES), max_size=8),
    st.lists(st.tuples(SIZES, IDENTITIES), max_size=8),
    st.randoms(use_true_random=False),
)
def test_every_message_at_most_once_and_only_its_like(
    here: list[tuple[list[int], bytes]], there: list[tuple[int, bytes]], random: object
) -> None:
    local = [LocalCandidate(number, tuple(sizes), identity, number) for number, (sizes, identity) in enumerate(here)]
    remote = [RemoteCandidate(number, size, identity, number) for number, (size, identity) in enumerate(there)]
    found = match(local, remote)
    assert len({mine for mine, _ in found.pairs}) == len({theirs for _, theirs in found.pairs}) == len(found.pairs)
    for mine, theirs in found.pairs:
        assert local[mine].identity == remote[theirs].identity != NO_IDENTITY
        assert remote[theirs].size in local[mine].sizes
    shuffled_here, shuffled_there = list(local), list(remote)
    random.shuffle(shuffled_here)  # type: ignore[attr-defined]
    random.shuffle(shuffled_there)  # type: ignore[attr-defined]
    assert match(shuffled_here, shuffled_there) == found
