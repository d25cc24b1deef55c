"""RENAMEs one after the other, whatever is to be called what: each name is free when it is given, and nothing is left behind."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fetchmail_py.model import MailboxName
from fetchmail_py.plan.renames import TEMPORARY, next_rename, renamed


def carried_out(wanted: dict[str, str], others: tuple[str, ...] = ()) -> tuple[dict[str, str], list[tuple[str, str]]]:
    """What each is called in the end, and the steps."""
    now = {name: name for name in (*wanted, *others)}
    steps: list[tuple[str, str]] = []
    while True:
        todo = {MailboxName(now[name]): MailboxName(new) for name, new in wanted.items()}
        step = next_rename(todo, [MailboxName(name) for name in now.values()], "/")
        if step is None:
            return now, steps
        assert step[1] not in now.values()
        steps.append((str(step[0]), str(step[1])))
        assert len(steps) < 20
        now = {name: renamed(MailboxName(current), *step, "/") for name, current in now.items()}


@pytest.mark.parametrize("order", list(permutations("ABCD")))
def test_every_order_of_four(order: tuple[str, ...]) -> None:
    wanted = dict(zip("ABCD", order, strict=True))
    now, _ = carried_out(wanted)
    assert now == wanted


def test_a_chain_needs_no_other_name() -> None:
    now, steps = carried_out({"A": "B", "B": "C"})
    assert now == {"A": "B", "B": "C"}
    assert steps == [("B", "C"), ("A", "B")]


def test_what_is_below_goes_along() -> None:
    wanted = {"A": "B", "B": "A", "A/x": "B/x", "B/y": "A/z"}
    now, steps = carried_out(wanted)
    assert now == wanted
    assert len(steps) == 4


def test_a_name_that_is_in_use_is_not_given() -> None:
    assert carried_out({"A": "B"}, ("B",)) == ({"A": "A", "B": "B"}, [])
    now, steps = carried_out({"A": "B", "B": "A"}, (f"A{TEMPORARY}",))
    assert now == {"A": "B", "B": "A", f"A{TEMPORARY}": f"A{TEMPORARY}"}
    assert steps[0] == ("A", f"A{TEMPORARY}-2")


def test_a_third_name_is_for_circles_only() -> None:
    """With it, what stands before a name in use would get one after the other, for ever."""
    assert carried_out({"A": "B", "B": "C"}, ("C",))[1] == []
    assert carried_out({f"A{TEMPORARY}": "B", "B": "A"}, ("A",))[1] == []


@given(st.permutations("ABCD"), st.sets(st.sampled_from("ABCD")), st.sets(st.sampled_from("ABCDE")))
def test_it_comes_to_an_end(order: Sequence[str], wished: set[str], others: set[str]) -> None:
    """Whatever is wished, and whatever has these names already."""
    wanted = {old: new for old, new in zip("ABCD", order, strict=True) if old in wished}
    now, _ = carried_out(wanted, tuple(others - wanted.keys()))
    assert not [name for name in now.values() if TEMPORARY in name]


def test_below_itself_is_left() -> None:
    assert carried_out({"A": "A/x", "A/x": "A"})[1] == []
