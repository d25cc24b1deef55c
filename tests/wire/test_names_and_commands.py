"""Mailbox names there and back, whatever a server calls them; commands nothing can break out of."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fetchmail_py.model import MailboxName
from fetchmail_py.wire.imap_command import Literal, astring, command
from fetchmail_py.wire.utf7 import decode_mailbox, encode_mailbox, printable


@pytest.mark.parametrize(
    ("wire", "name"),
    [
        (b"INBOX", "INBOX"),
        (b"inbox", "INBOX"),
        (b"Archive/2024", "Archive/2024"),
        (b"&AMQ-mter", "Ämter"),
        (b"~peter/mail/&U,BTFw-/&ZeVnLIqe-", "~peter/mail/台北/日本語"),
        (b"a&-b", "a&b"),
        (b"&2D3cHA-", "\U0001f41c"),
        (b"", ""),
    ],
)
def test_modified_utf7(wire: bytes, name: str) -> None:
    assert decode_mailbox(wire, utf8=False) == name
    if wire != b"inbox":
        assert encode_mailbox(MailboxName(name), utf8=False) == wire


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")), st.booleans())
def test_any_name_there_and_back(name: str, utf8: bool) -> None:
    if name.upper() != "INBOX":
        assert decode_mailbox(encode_mailbox(MailboxName(name), utf8=utf8), utf8=utf8) == name


@given(
    st.one_of(st.binary(), st.lists(st.sampled_from([b"&", b"-", b"A", b"U,BTFw", b"AGE", b"\xff", b"/"])).map(b"".join)),
    st.booleans(),
)
def test_any_octets_back_and_there(wire: bytes, utf8: bool) -> None:
    if wire.upper() != b"INBOX":
        assert encode_mailbox(decode_mailbox(wire, utf8=utf8), utf8=utf8) == wire


@pytest.mark.parametrize("wire", [b"&AGE-", b"&", b"a&b", b"&2D0-", b"\xc3\xa4", b"&AAA", b"&=-", b"a\x01b&-"])
def test_what_is_no_modified_utf7_is_carried_as_it_is(wire: bytes) -> None:
    name = decode_mailbox(wire, utf8=False)
    assert encode_mailbox(name, utf8=False) == wire
    assert printable(name).isprintable() or b"\x01" in wire


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"INBOX", b'"INBOX"'),
        (b"My Box", b'"My Box"'),
        (b'a"b\\c', b'"a\\"b\\\\c"'),
        (b"", b'""'),
        (b"a\r\nX LOGOUT", Literal(b"a\r\nX LOGOUT")),
        (b"\xc3\xa4", Literal(b"\xc3\xa4")),
        (b"x" * 1001, Literal(b"x" * 1001)),
    ],
)
def test_strings(data: bytes, expected: bytes | Literal) -> None:
    assert astring(data) == expected


def test_utf8_may_be_quoted_once_it_is_enabled() -> None:
    assert astring(b"\xc3\xa4", utf8=True) == b'"\xc3\xa4"'


def test_no_nul() -> None:
    with pytest.raises(ValueError, match="NUL"):
        astring(b"a\0b")


def test_nothing_breaks_out_of_a_command() -> None:
    for part in (b"NOOP\r\nX LOGOUT", b"a\nb", b"\r"):
        with pytest.raises(ValueError, match="line end"):
            command("F1", part)


@pytest.mark.parametrize(
    ("options", "pieces"),
    [
        ({}, [b"F1 LOGIN {3}\r\n", b"a\nb {2}\r\n", b"cd\r\n"]),
        ({"literal_plus": True}, [b"F1 LOGIN {3+}\r\na\nb {2+}\r\ncd\r\n"]),
        ({"literal_minus": True}, [b"F1 LOGIN {3+}\r\na\nb {2+}\r\ncd\r\n"]),
    ],
)
def test_literals(options: dict[str, bool], pieces: list[bytes]) -> None:
    assert command("F1", b"LOGIN ", Literal(b"a\nb"), b" ", Literal(b"cd"), **options) == pieces


def test_literal_minus_has_a_limit() -> None:
    pieces = command("F1", b"X ", Literal(b"a" * 4097), literal_minus=True)
    assert pieces == [b"F1 X {4097}\r\n", b"a" * 4097 + b"\r\n"]
