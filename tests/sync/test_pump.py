"""Batches between connections and the disk: how much they hold, what waits, what an error and an early end leave."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing

import pytest

from fetchmail_py.errors import ConnectionLost, StoreError
from fetchmail_py.sync.pump import LOT_MESSAGES, LOT_OCTETS, WAITING_MESSAGES, WAITING_OCTETS, Pump

PATIENCE = 30
"""Seconds until a thread that should have got somewhere counts as stuck."""


def one(_: object) -> int:
    return 1


def nothing() -> None:
    """Nobody waits for a server here."""


def collect(pump: Pump[int], sources: list[Iterator[int]], into: list[int]) -> None:
    for batch in pump.run(sources):
        into += batch


def numbers(count: int, produced: list[int] | None = None) -> Iterator[int]:
    for number in range(count):
        if produced is not None:
            produced.append(number)
        yield number


def test_every_item_comes_once_and_in_order() -> None:
    pump: Pump[int] = Pump(one, nothing)

    assert [item for batch in pump.run([numbers(10_000)]) for item in batch] == list(range(10_000))
    assert pump.left == []


def test_what_came_while_the_disk_was_busy_is_the_next_batch() -> None:
    pump: Pump[int] = Pump(one, nothing)
    ended = threading.Event()

    def source() -> Iterator[int]:
        yield from numbers(4 * LOT_MESSAGES)
        ended.set()

    with closing(pump.run([source()])) as batches:
        first = next(batches)
        assert ended.wait(PATIENCE)
        rest = list(batches)

    assert len(first) >= LOT_MESSAGES
    # The last lot may still have been on its way.
    assert len(rest) <= 2
    assert first + [item for batch in rest for item in batch] == list(range(4 * LOT_MESSAGES))


@pytest.mark.parametrize(
    ("octets", "at_most"),
    [
        pytest.param(1, WAITING_MESSAGES + LOT_MESSAGES, id="messages"),
        pytest.param(LOT_OCTETS, WAITING_OCTETS // LOT_OCTETS + 1, id="octets"),
    ],
)
def test_a_fast_server_waits_for_a_slow_disk(octets: int, at_most: int) -> None:
    produced: list[int] = []
    stuck = threading.Event()

    def source() -> Iterator[int]:
        for number in numbers(10 * at_most, produced):
            if number >= at_most:
                stuck.set()
            yield number

    pump: Pump[int] = Pump(lambda _: octets, nothing)
    with closing(pump.run([source()])) as batches:
        first = next(batches)
        # Nobody takes anything now: the source gets as far as the bound, and one lot beyond it.
        assert stuck.wait(PATIENCE)
        batches.close()

    lot = LOT_MESSAGES if octets == 1 else 1
    assert len(produced) <= len(first) + at_most + lot
    assert first + pump.left == produced


def test_what_was_complete_comes_before_the_error() -> None:
    def source() -> Iterator[int]:
        yield from numbers(3)
        raise ConnectionLost("gone")

    pump: Pump[int] = Pump(one, nothing)
    got: list[int] = []
    with pytest.raises(ConnectionLost):
        collect(pump, [source()], got)

    assert got == [0, 1, 2]


def test_an_error_stops_the_other_sources_and_is_the_one_that_is_raised() -> None:
    given_up = threading.Event()
    times = []

    def give_up() -> None:
        times.append(1)
        given_up.set()

    def waits() -> Iterator[int]:
        yield 1
        assert given_up.wait(PATIENCE)
        raise ConnectionLost("aborted")

    def fails() -> Iterator[int]:
        yield 2
        raise StoreError("the disk is full", path="/tmp/x")

    pump: Pump[int] = Pump(one, give_up)
    got: list[int] = []
    with pytest.raises(StoreError):
        collect(pump, [waits(), fails()], got)

    assert sorted(got) == [1, 2]
    assert times == [1]


def test_a_defect_in_a_source_is_raised_before_any_lost_connection() -> None:
    def defect() -> Iterator[int]:
        yield 1 // 0

    def lost() -> Iterator[int]:
        yield 2
        raise ConnectionLost("gone")

    pump: Pump[int] = Pump(one, nothing)
    with pytest.raises(ZeroDivisionError):
        list(pump.run([lost(), defect()]))


def test_closing_it_early_ends_the_sources_and_keeps_what_they_had() -> None:
    given_up = threading.Event()
    closed = []

    def source() -> Iterator[int]:
        try:
            yield from numbers(LOT_MESSAGES)
            yield -1
            assert given_up.wait(PATIENCE)
            yield -2
        finally:
            closed.append(True)

    pump: Pump[int] = Pump(one, given_up.set)
    batches = pump.run([source()])
    first = next(batches)
    batches.close()

    assert closed == [True]
    assert [*first, *pump.left] in ([*range(LOT_MESSAGES), -1], [*range(LOT_MESSAGES), -1, -2])


def test_what_is_to_be_done_meanwhile_is_done_once_the_sources_are_at_work() -> None:
    begun = threading.Event()
    told = threading.Event()
    order = []

    def source() -> Iterator[int]:
        begun.set()
        assert told.wait(PATIENCE)
        order.append("answer")
        yield 1

    def meanwhile() -> None:
        assert begun.wait(PATIENCE)
        order.append("meanwhile")
        told.set()

    pump: Pump[int] = Pump(one, nothing)

    assert list(pump.run([source()], meanwhile)) == [[1]]
    assert order == ["meanwhile", "answer"]


def test_a_failure_meanwhile_stops_the_sources() -> None:
    given_up = threading.Event()

    def source() -> Iterator[int]:
        yield 1
        assert given_up.wait(PATIENCE)

    def meanwhile() -> None:
        raise StoreError("the disk is full", path="/tmp/x")

    pump: Pump[int] = Pump(one, given_up.set)
    with pytest.raises(StoreError):
        list(pump.run([source()], meanwhile))

    assert pump.left == [1]


def test_a_source_that_cannot_be_closed_does_not_keep_the_run_for_ever() -> None:
    given_up = threading.Event()

    def source() -> Iterator[int]:
        try:
            assert given_up.wait(PATIENCE)
            yield 1
        finally:
            raise StoreError("the disk is gone", path="/tmp/x")

    def fails() -> Iterator[int]:
        yield 2
        raise ConnectionLost("gone")

    pump: Pump[int] = Pump(one, given_up.set)
    got: list[int] = []
    ended: list[BaseException] = []

    def work() -> None:
        try:
            collect(pump, [source(), fails()], got)
        except StoreError as error:
            ended.append(error)

    working = threading.Thread(target=work, daemon=True)
    working.start()
    working.join(PATIENCE)

    assert [str(error) for error in ended] == ["the disk is gone"]
    assert sorted(got) == [1, 2]
