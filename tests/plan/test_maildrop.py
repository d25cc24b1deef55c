"""POP3: what a listing and what is stored make of each other."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fetchmail_py.identity import NO_IDENTITY
from fetchmail_py.model import MaildropEntry, MessageKey, Stage, StoredMessage
from fetchmail_py.plan.maildrop import MAX_UIDL, plan_maildrop, recognise

NOW = 1_000_000.0
DAY = 86_400.0
A, B = b"a" * 16, b"b" * 16


def entry(number: int, uidl: bytes | None, size: int = 100) -> MaildropEntry:
    return MaildropEntry(number, uidl, size)


def row(
    ident: int,
    uidl: bytes | None,
    size: int = 100,
    *,
    wire_size: int | None = None,
    identity: bytes = A,
    stored_at: float = NOW - DAY,
    stage: int = Stage.PAIRED,
) -> StoredMessage:
    wire = size if wire_size is None else wire_size
    return StoredMessage(ident, uidl, MessageKey(f"k{ident}"), size, wire, b"", identity, stored_at, stage)


def groups(
    entries: list[MaildropEntry], stored: list[StoredMessage], keep: float | None = 0.0, missing: tuple[int, ...] = ()
) -> dict[str, list[object]]:
    """What is not empty of the plan: entries by number, rows by id, pairs by both."""
    plan = plan_maildrop(entries, stored, keep=keep, now=NOW, missing=missing)
    found: dict[str, list[object]] = {
        "retrieve": [e.number for e in plan.retrieve],
        "delete": [(e.number, r.id) for e, r in plan.delete],
        "keep": [(e.number, r.id) for e, r in plan.keep],
        "ask": [e.number for e in plan.ask],
        "candidates": [r.id for r in plan.candidates],
        "by_content": [e.number for e in plan.by_content],
        "forget": [r.id for r in plan.forget],
    }
    return {name: values for name, values in found.items() if values}


CASES: dict[str, tuple[list[MaildropEntry], list[StoredMessage], dict[str, list[object]]]] = {
    "an empty maildrop": ([], [], {}),
    "new mail, oldest first": ([entry(1, b"x"), entry(2, b"y")], [], {"retrieve": [1, 2]}),
    "stored and still listed": ([entry(1, b"x")], [row(7, b"x")], {"delete": [(1, 7)]}),
    "stored, and the size was right only on the wire": (
        [entry(1, b"x", 104)], [row(7, b"x", 100, wire_size=104)], {"delete": [(1, 7)]},
    ),
    "without a line end at its end: listed without the one that is added": (
        [entry(1, b"x", 102)], [row(7, None, 100, wire_size=104)], {"ask": [1], "candidates": [7]},
    ),
    "the server tells no size": ([entry(1, b"x", 0)], [row(7, b"x")], {"delete": [(1, 7)]}),
    "no longer listed": ([entry(1, b"x", 50)], [row(7, b"y")], {"retrieve": [1], "forget": [7]}),
    "an arrival under way was never stored": ([entry(1, b"x")], [row(7, b"x", stage=Stage.ARRIVING)], {"retrieve": [1]}),
    # The UIDLs changed: the size is the same, so the header has to tell.
    "another UIDL and the same size": ([entry(1, b"new")], [row(7, b"old")], {"ask": [1], "candidates": [7]}),
    "another UIDL and another size": ([entry(1, b"new", 99)], [row(7, b"old")], {"retrieve": [1], "forget": [7]}),
    "only those of the same size are asked about": (
        [entry(1, b"n1", 10), entry(2, b"n2", 20), entry(3, b"n3", 30)],
        [row(7, b"o1", 10), row(8, b"o2", 20), row(9, b"o4", 40)],
        {"ask": [1, 2], "retrieve": [3], "candidates": [7, 8], "forget": [9]},
    ),
    # A UIDL used again for other mail, which would be lost if the UIDL alone were believed.
    "the same UIDL and another size": ([entry(1, b"x", 99)], [row(7, b"x")], {"ask": [1], "candidates": [7]}),
    "listed under its UIDL, no candidate for another": (
        [entry(1, b"x"), entry(2, b"y")], [row(7, b"x")], {"delete": [(1, 7)], "retrieve": [2]},
    ),
    # UIDLs that name nothing.
    "no UIDL": ([entry(1, None)], [row(7, None)], {"by_content": [1], "candidates": [7]}),
    "one UIDL for two messages": (
        [entry(1, b"x"), entry(2, b"x")], [row(7, b"x")], {"by_content": [1, 2], "candidates": [7]},
    ),
    "an empty one": ([entry(1, b"")], [], {"by_content": [1]}),
    "one that is too long": ([entry(1, b"x" * (MAX_UIDL + 1))], [], {"by_content": [1]}),
    "one that is long": ([entry(1, b"x" * MAX_UIDL)], [], {"retrieve": [1]}),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_a_listing_against_what_is_stored(case: str) -> None:
    entries, stored, expected = CASES[case]
    assert groups(entries, stored) == expected


def test_a_row_whose_file_is_missing_was_never_stored() -> None:
    assert groups([entry(1, b"x")], [row(7, b"x")], missing=(7,)) == {"retrieve": [1]}
    assert groups([], [row(7, b"x")], missing=(7,)) == {}


@pytest.mark.parametrize(
    ("keep", "age", "deleted"),
    [(0.0, 0.0, True), (DAY, DAY, True), (DAY, DAY - 1, False), (None, 1e9, False), (DAY, -5.0, False)],
)
def test_how_long_mail_is_kept(keep: float | None, age: float, *, deleted: bool) -> None:
    found = groups([entry(1, b"x")], [row(7, b"x", stored_at=NOW - age)], keep)
    assert found == ({"delete": [(1, 7)]} if deleted else {"keep": [(1, 7)]})


@pytest.mark.parametrize(
    ("asked", "rows", "found", "fetched"),
    [
        ([(entry(1, b"n"), A)], [row(7, b"o")], [(1, 7)], []),
        ([(entry(1, b"n"), B)], [row(7, b"o")], [], [1]),
        ([(entry(1, b"n", 50), A)], [row(7, b"o")], [], [1]),
        # The same UIDL and the same header, but another size: only the content can tell.
        ([(entry(1, b"o", 50), A)], [row(7, b"o")], [], [1]),
        ([(entry(1, b"n"), NO_IDENTITY)], [row(7, b"o", identity=NO_IDENTITY)], [], [1]),
        # Each row once.
        ([(entry(1, b"n"), A), (entry(2, b"m"), A)], [row(7, b"o")], [(1, 7)], [2]),
        ([(entry(1, b"n"), A), (entry(2, b"m"), A)], [row(7, b"o"), row(8, b"p")], [(1, 7), (2, 8)], []),
    ],
)
def test_the_header_tells(
    asked: list[tuple[MaildropEntry, bytes]],
    rows: list[StoredMessage],
    found: list[tuple[int, int]],
    fetched: list[int],
) -> None:
    recognised, fetch = recognise(asked, rows, NO_IDENTITY)
    assert [(r.entry.number, r.row.id) for r in recognised] == found
    assert [e.number for e in fetch] == fetched


UIDLS = st.sampled_from([b"a", b"b", b"c", b"", None])
SIZES = st.sampled_from([0, 10, 20])


@given(st.lists(st.tuples(UIDLS, SIZES), max_size=6), st.lists(st.tuples(UIDLS, SIZES, st.sampled_from(Stage)), max_size=5))
def test_every_message_has_one_fate_and_only_what_is_stored_is_deleted(
    listing: list[tuple[bytes | None, int]], rows: list[tuple[bytes | None, int, Stage]]
) -> None:
    entries = [entry(number, uidl, size) for number, (uidl, size) in enumerate(listing, 1)]
    stored = [row(ident, uidl, size, stage=stage) for ident, (uidl, size, stage) in enumerate(rows)]
    plan = plan_maildrop(entries, stored, keep=0.0, now=NOW)
    fates = [*plan.retrieve, *(e for e, _ in plan.delete), *(e for e, _ in plan.keep), *plan.ask, *plan.by_content]
    assert sorted(e.number for e in fates) == [e.number for e in entries]
    for listed, known in plan.delete:
        assert listed.uidl == known.uidl
        assert listed.uidl
        assert known.stage != Stage.ARRIVING
        assert listed.size in {0, known.listed_size}
    # What is to be forgotten is in no doubt.
    assert not {r.id for r in plan.forget} & {r.id for r in plan.candidates}
    assert not {r.id for r in plan.forget} & {r.id for _, r in plan.delete}
