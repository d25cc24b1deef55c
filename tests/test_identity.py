"""The identity of a message: what changes it, and what a server may change without changing it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fetchmail_py.identity import FIELDS, NO_IDENTITY, SIZE, header_end, identity

MESSAGE = (
    b"Received: from a by b\r\nDate: Mon, 1 Jan 2024 00:00:00 +0000\r\nFrom: Ann <ann@example.org>\r\n"
    b"To: bob@example.org\r\nSubject: one\r\n two\r\nMessage-ID: <1@example.org>\r\nX-Other: x\r\n\r\nSubject: of the body\r\n"
)
REORDERED = (
    b"Subject: one two\r\nTo: bob@example.org\r\nMessage-ID: <1@example.org>\r\n"
    b"From: Ann <ann@example.org>\r\nDate: Mon, 1 Jan 2024 00:00:00 +0000\r\n\r\n"
)


@pytest.mark.parametrize(
    "same",
    [
        MESSAGE.replace(b"\r\n", b"\n"),
        MESSAGE.replace(b"one\r\n two", b"one two"),
        MESSAGE.replace(b"one\r\n two", b"one\r\n\t two  "),
        MESSAGE.replace(b"Subject: one", b"SUBJECT:one"),
        MESSAGE.replace(b"Received: from a by b\r\n", b""),
        MESSAGE.replace(b"X-Other: x\r\n", b""),
        MESSAGE.replace(b"of the body", b"of another body"),
        MESSAGE[: MESSAGE.index(b"\r\n\r\n") + 4],
        MESSAGE[: MESSAGE.index(b"\r\n\r\n") + 2],
        MESSAGE[: MESSAGE.index(b"\r\n\r\n")],
        # The answer to HEADER.FIELDS, in the order a server likes.
        REORDERED,
    ],
)
def test_what_servers_change_does_not_count(same: bytes) -> None:
    assert identity(same) == identity(MESSAGE)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"one", b"One"),
        (b"one\r\n two", b"onetwo"),
        (b"1@example.org", b"2@example.org"),
        (b"bob@", b"rob@"),
        (b"2024", b"2025"),
        (b"Ann", b"Anne"),
        (b"To: bob@example.org\r\n", b""),
        (b"To: bob@example.org\r\n", b"To: bob@example.org\r\nTo: carol@example.org\r\n"),
        (b"Subject: one\r\n two", b"Subject:"),
    ],
)
def test_what_a_person_would_call_another_message_is_one(old: bytes, new: bytes) -> None:
    other = MESSAGE.replace(old, new, 1)
    assert other != MESSAGE
    assert identity(other) != identity(MESSAGE)


# Two reports of one machine, perhaps.
NO_ID = b"From: root\r\nTo: root\r\nSubject: disk report\r\n"


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"\r\n",
        b"\n\nMessage-ID: <of the body>",
        b"X: y\r\n\r\nMessage-ID: <z>\r\n",
        b"Message-ID without colon\r\n\r\n",
        NO_ID,
        NO_ID + b"Message-ID: \r\n\r\n",
    ],
)
def test_a_message_without_a_message_id_is_like_no_other(message: bytes) -> None:
    assert identity(message) == NO_IDENTITY


@pytest.mark.parametrize(
    ("message", "end"),
    [
        (b"", 0),
        (b"\r\nbody", 0),
        (b"\nbody", 0),
        (b"A: b", 4),
        (b"A: b\r\n", 6),
        (b"A: b\n\nbody\r\n\r\n", 4),
        (b"A: b\r\n\r\nbody\n\n", 5),
        (b"A: b\n\r\nbody", 4),
        (b"A: b\r\n\nbody", 5),
    ],
)
def test_where_the_header_ends(message: bytes, end: int) -> None:
    assert header_end(message) == end


VALUES = st.text(st.characters(codec="utf-8", exclude_characters="\r\n"), max_size=12).map(str.encode)


@given(st.dictionaries(st.sampled_from(FIELDS), VALUES, min_size=1), st.randoms(use_true_random=False))
def test_order_case_and_line_ends_never_count(fields: dict[str, bytes], random: object) -> None:
    lines = [name.encode() + b": " + value for name, value in fields.items()]
    shuffled = list(lines)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    first = identity(b"\r\n".join(lines) + b"\r\n\r\nbody")
    again = identity(b"\n".join(line.replace(line.split(b":")[0], line.split(b":")[0].lower(), 1) for line in shuffled) + b"\n\n")
    assert first == again
    assert len(first) == SIZE


@given(st.binary(max_size=300))
def test_any_octets_have_an_identity_and_the_body_is_no_part_of_it(message: bytes) -> None:
    assert len(identity(message)) == SIZE
    assert identity(message[: header_end(message)]) == identity(message)
