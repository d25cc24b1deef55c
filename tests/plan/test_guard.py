"""The deletion guard: which deletions need the user's word."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fetchmail_py.plan.guard import asks


@pytest.mark.parametrize(
    ("deletions", "known", "max_delete", "expected"),
    [
        # All of three or more.
        (0, 0, 0.5, False),
        (1, 1, 0.5, False),
        (2, 2, 0.5, False),
        (3, 3, 0.5, True),
        (3, 4, 0.5, False),
        (3, 3, 0.99, True),
        # More than 20 and more than the fraction.
        (20, 21, 0.5, False),
        (20, 20, 0.5, True),
        (21, 41, 0.5, True),
        (21, 42, 0.5, False),
        (22, 43, 0.5, True),
        (500, 1000, 0.5, False),
        (501, 1000, 0.5, True),
        (21, 1000, 0.0, True),
        (20, 1000, 0.0, False),
        # More than we knew of: still all of them.
        (5, 2, 0.5, True),
        # Off.
        (1000, 1000, 1.0, False),
        (1000, 1000, 7.0, False),
        # No number is no permission.
        (30, 1000, float("nan"), True),
    ],
)
def test_what_needs_a_word(deletions: int, known: int, max_delete: float, *, expected: bool) -> None:
    assert asks(deletions, known, max_delete) is expected


@given(st.integers(0, 200), st.integers(0, 200), st.floats(0, 0.99))
def test_deleting_more_never_asks_less(deletions: int, known: int, max_delete: float) -> None:
    if deletions < known and asks(deletions, known, max_delete):
        assert asks(deletions + 1, known, max_delete)
        assert asks(deletions, known, max_delete / 2)
