"""Octets that are chosen to cost time or memory: a megabyte in every shape an expression could stumble over, and limits."""

from __future__ import annotations

import time
import tracemalloc

import pytest

from fetchmail_py.errors import ProtocolError
from fetchmail_py.wire import pop3
from fetchmail_py.wire.imap_response import Event, ResponseDecoder

MEGABYTE = 1_000_000
SECONDS = 20.0
"""What a megabyte may take on a slow machine; what grows with the square of the length takes hours."""


def events(octets: bytes, step: int = 256 * 1024) -> list[Event]:
    decoder = ResponseDecoder()
    found: list[Event] = []
    try:
        for at in range(0, len(octets), step):
            decoder.receive_data(octets[at : at + step])
            found += iter(decoder.next_event, None)
    except ProtocolError:
        pass
    return found


def filled(start: bytes, piece: bytes, end: bytes = b"") -> bytes:
    return start + piece * (MEGABYTE // len(piece)) + end + b"\r\n"


LINES = [
    filled(b"* OK [A", b" "),
    filled(b"* OK [", b" "),
    filled(b"* OK [", b"A"),
    filled(b"F1 OK [A ", b"] ", b"x"),
    filled(b"* OK [A ", b"[A"),
    filled(b"*", b" "),
    filled(b"", b"A"),
    filled(b"", b"A "),
    filled(b"* ", b"1"),
    filled(b"* 1 ", b" "),
    filled(b"* 1 FETCH (", b"A["),
    filled(b"* 1 FETCH (", b"A[ x "),
    filled(b"* 1 FETCH (", b"A[x] y "),
    filled(b"* 1 FETCH (", b"A<1"),
    filled(b"* 1 FETCH (", b"UID 1"),
    filled(b"* 1 FETCH (", b"UID 1 "),
    filled(b"* 1 FETCH (FLAGS (", b"a "),
    filled(b"* 1 FETCH (", b"FLAGS (a)"),
    filled(b"* 1 FETCH (INTERNALDATE \"", b" "),
    filled(b"* 1 FETCH (UID 1 BODY[] ", b"{1"),
    filled(b"* X ", b"{1", b"}"),
    filled(b"* X ", b"~", b"}"),
    filled(b"* X", b" BODY[]", b" {99999999999}"),
    filled(b'* LIST () "/" "', b"x"),
    filled(b'* LIST () "/" "', b"x", b'"'),
    filled(b'* LIST () "/" "', b'\\"'),
    filled(b'* LIST () "/" "', b'\\"', b'"'),
    filled(b"* LIST ", b"("),
    filled(b"* LIST (", b"() "),
    filled(b"* STATUS x (", b"A 1 "),
    filled(b"* SEARCH ", b"1 "),
    filled(b"* SEARCH ", b"9"),
    filled(b"* SEARCH 1", b" "),
    filled(b"* VANISHED ", b"9"),
    filled(b"* VANISHED 1:", b"9"),
    filled(b"* 1 FETCH (UID ", b"9"),
    filled(b"* STATUS x (MESSAGES ", b"9"),
    filled(b"* ", b"9", b" EXISTS"),
    filled(b"* VANISHED ", b"1,3:5,", b"9"),
    filled(b"* ESEARCH UID ALL ", b"1,", b"9"),
    filled(b"* ESEARCH ", b"ALL 1 "),
    filled(b"* CAPABILITY ", b"A "),
    filled(b"* NAMESPACE ", b"("),
    filled(b"", b"\r\n"),
    filled(b"", b"* X\r\n"),
]  # fmt: skip


@pytest.mark.parametrize("line", LINES, ids=[repr(line[:30]) for line in LINES])
def test_no_line_takes_longer_than_its_length_explains(line: bytes) -> None:
    began = time.process_time()
    events(line)
    assert time.process_time() - began < SECONDS


def test_a_line_that_comes_in_small_pieces_is_not_read_again_with_each() -> None:
    began = time.process_time()
    events(filled(b"* 1 FETCH (FLAGS (", b"a ") * 4, step=64)
    assert time.process_time() - began < 2 * SECONDS


@pytest.mark.parametrize("piece", [b"x", b'\\"'])
def test_a_string_needs_the_memory_of_a_string(piece: bytes) -> None:
    line = filled(b'* LIST () "/" "', piece, b'"')
    tracemalloc.start()
    try:
        assert len(events(line)) == 1
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 30 * MEGABYTE


POP3_LINES = [
    filled(b"+OK [A", b" "),
    filled(b"-ERR [", b"A"),
    filled(b"+OK ", b"<"),
    filled(b"+OK ", b"<a@"),
    filled(b"+OK <", b"a"),
    filled(b"+OK ", b"1 "),
    filled(b"1 ", b" "),
    filled(b"", b" "),
    filled(b"1", b"1"),
    filled(b"1 2", b" "),
]


@pytest.mark.parametrize("line", POP3_LINES, ids=[repr(line[:30]) for line in POP3_LINES])
def test_nor_does_one_of_pop3(line: bytes) -> None:
    text = line.strip()
    began = time.process_time()
    for read in (
        lambda: pop3.timestamp(pop3.parse_reply(text).text),
        lambda: pop3.parse_stat(pop3.parse_reply(text).text),
        lambda: pop3.parse_stat(text.decode()),
        lambda: pop3.parse_capabilities([text]),
        lambda: pop3.add_sizes([text], {}),
        lambda: pop3.add_unique_ids([text], {}),
    ):
        try:
            read()
        except ProtocolError:
            continue
    assert time.process_time() - began < SECONDS
