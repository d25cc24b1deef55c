"""Sender and subject as a list shows them: decoded, of any mail whatever, and without a word from the library."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fetchmail_py.message import Summary, summary_of, summary_of_file


@pytest.mark.parametrize(
    ("header", "sender", "subject"),
    [
        (b"From: Ann <ann@example.org>\nSubject: hello\n", "Ann", "hello"),
        (b"From: ann@example.org\nSubject: hello\n", "ann@example.org", "hello"),
        (b"From: =?utf-8?q?J=C3=BCrgen?= <j@x>\nSubject: =?utf-8?B?w7xiZXI=?=\n", "Jürgen", "über"),
        (b"subject: a long\n\tand folded\n  one\nFROM: Ann <a@x>\n", "Ann", "a long and folded one"),
        (b"From: Ann <a@x>\r\nSubject: ends in CRLF\r\n\r\nSubject: body\r\n", "Ann", "ends in CRLF"),
        (b"Subject: first\nSubject: second\n", "", "first"),
        (b"Subject: gr\xc3\xbc\xc3\x9fe\n", "", "grüße"),
        (b"Subject: gr\xfc\xdfe\n", "", "grüße"),
        (b"To: b@x\n", "", ""),
        (b"", "", ""),
        (b"\nSubject: body\n", "", ""),
        (b"Content-Type: text/html; charset=no-such\nSubject: shown all the same\n", "", "shown all the same"),
    ],
)
def test_summary(header: bytes, sender: str, subject: str) -> None:
    assert summary_of(header + b"\nbody\n") == Summary(sender, subject)


def test_the_library_keeps_quiet(capfd: pytest.CaptureFixture[str]) -> None:
    summary_of(b"Content-Type: \x1b[2Jmixed\nSubject: =?utf-8?b?\x1b[2J?= =?utf-16?q?=00?=\nFrom: =?utf-8?B?w=?=\n\n")
    assert capfd.readouterr() == ("", "")


PIECES = st.sampled_from(
    [b"From: ", b"Subject: ", b"=?utf-8?b?", b"=?utf-16?q?=00?=", b"=?utf-7?q?+2AA-?=", b"=?x?b?", b"?=", b"<", b">", b"@", b",",
     b'"', b"\n", b"\n ", b"\0", b"\xff", b"\xed\xa0\x80", b"ann", b"\x1b[2J", b"Content-Type: multipart/mixed\n"]
)  # fmt: skip


@given(st.lists(PIECES, max_size=30).map(b"".join) | st.binary(max_size=200))
def test_any_mail_has_one(data: bytes) -> None:
    for text in summary_of(data):
        assert "\n" not in text
        assert "\r" not in text


def test_a_stored_message_is_found_where_a_mail_reader_put_it(tmp_path: Path) -> None:
    for subdir in ("new", "cur"):
        (tmp_path / subdir).mkdir()
    delivered = tmp_path / "new/1700000000.M1P2.host"
    delivered.write_bytes(b"Subject: hello\n\n")
    assert summary_of_file(str(delivered)) == Summary("", "hello")
    delivered.rename(tmp_path / "cur/1700000000.M1P2.host:2,S")
    assert summary_of_file(str(delivered)) == Summary("", "hello")
    (tmp_path / "cur/1700000000.M1P2.host:2,S").unlink()
    assert summary_of_file(str(delivered)) is None
    (tmp_path / "cur").rmdir()
    assert summary_of_file(str(delivered)) is None
